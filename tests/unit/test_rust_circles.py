"""`tools/layout/circles.py`: the check of the Rust crates for circles of files and for type names that occur twice."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
CHECK = ROOT / "tools" / "layout" / "circles.py"


def check(folder: Path) -> tuple[int, str]:
    done = subprocess.run(
        [sys.executable, str(CHECK), str(folder)], capture_output=True, text=True, timeout=60, check=False
    )
    return done.returncode, done.stderr


def crate(folder: Path, **files: str) -> Path:
    """A crate of these files; `a__b` stands for a/b.rs."""
    for name, text in files.items():
        path = folder / "src" / (name.replace("__", "/") + ".rs")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    return folder


def test_files_that_need_one_another_are_named_with_their_lines(tmp_path: Path) -> None:
    files = crate(
        tmp_path,
        lib="mod a;\nmod b;\nmod c;\n",
        a="use crate::{\n    b::B,\n};\npub struct A(B);\n",
        b="pub struct B;\nfn c() -> crate::c::C { crate::c::C }\n",
        c="pub struct C;\nuse super::a::A as Other;\n",
    )
    code, found = check(files)
    assert code == 1
    assert "these 3 files need one another" in found
    assert f"{tmp_path}/src/a.rs:1: b::B  → {tmp_path}/src/b.rs" in found
    assert f"{tmp_path}/src/b.rs:2: c::C  → {tmp_path}/src/c.rs" in found
    assert f"{tmp_path}/src/c.rs:2: a::A  → {tmp_path}/src/a.rs" in found


@pytest.mark.parametrize(
    "child",
    [
        "use super::Item;\n",
        "use crate::folder::Item;\n",
        "fn f(item: &super::Item) {}\n",
        "mod inner {\n    use super::super::Item;\n}\n",
    ],
)
def test_a_parent_that_passes_on_a_child_which_needs_the_parent_is_a_circle(tmp_path: Path, child: str) -> None:
    parent = "mod child;\npub use child::Other;\npub struct Item;\n"
    code, found = check(crate(tmp_path, lib="mod folder;\n", folder__mod=parent, folder__child=child))
    assert code == 1
    assert "these 2 files need one another" in found


@pytest.mark.parametrize(
    ("parent", "child"),
    [
        pytest.param("mod child;\npub struct Item;\n", "use super::Item;\n", id="a declaration is no need"),
        pytest.param("mod child;\nuse child::Other;\n", "// super::Item\n/* crate::folder::Item */\n", id="comments"),
        pytest.param("mod child;\nuse child::Other;\n", 'const A: &str = "super::Item // \\" super::B";\n', id="text"),
        pytest.param(
            "mod child;\nuse child::Other;\npub struct Item;\n",
            "#[cfg(test)]\nmod tests {\n    use crate::folder::Item;\n    fn f() {}\n}\n",
            id="tests",
        ),
        pytest.param(
            "mod child;\nuse child::Other;\n", "mod inner {\n    use super::Other;\n}\n", id="a module inside"
        ),
        pytest.param(
            "mod child;\nmod other;\npub use child::Child;\npub use other::Item;\n",
            "use super::Item;\npub struct Child(Item);\n",
            id="a name that is passed on leads to its file",
        ),
    ],
)
def test_files_without_a_circle_pass(tmp_path: Path, parent: str, child: str) -> None:
    other = "pub struct Item;\n"
    files = crate(tmp_path, lib="mod folder;\n", folder__mod=parent, folder__child=child, folder__other=other)
    if "mod other" not in parent:
        (files / "src/folder/other.rs").unlink()
    assert check(files) == (0, "")


def test_a_repeated_type_name_is_reported(tmp_path: Path) -> None:
    files = crate(
        tmp_path,
        lib="mod a;\nmod b;\n",
        a="pub struct Twice;\nimpl Iterator for A {\n    type Item = u8;\n}\n",
        b="enum Twice { A }\nimpl Iterator for B {\n    type Item = u8;\n}\n",
    )
    code, found = check(files)
    assert code == 1
    assert found == f"{tmp_path}: Twice is defined 2 times: {tmp_path}/src/a.rs:1, {tmp_path}/src/b.rs:1\n"


def test_a_type_may_occur_once_per_configuration_and_for_tests(tmp_path: Path) -> None:
    files = crate(
        tmp_path,
        lib="mod a;\nmod b;\n",
        a='#[cfg(unix)]\nstruct One;\n\n#[cfg(not(unix))]\nstruct One;\n\n#[cfg(feature = "x")]\n'
        'mod x {\n    pub struct Two;\n}\n\n#[cfg(not(feature = "x"))]\nmod y {\n    pub struct Two;\n}\n',
        b="#[cfg(test)]\nmod tests {\n    struct One;\n    struct Two;\n}\n",
    )
    assert check(files) == (0, "")


@pytest.mark.parametrize("name", ["core", "python"])
def test_the_crates_have_none(name: str) -> None:
    assert check(ROOT / "rust" / name) == (0, "")
