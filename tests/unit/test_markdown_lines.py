"""`tools/layout/lines.py`: the check of the length of Markdown lines."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

CHECK = Path(__file__).parents[2] / "tools" / "layout" / "lines.py"


def check(*files: Path) -> tuple[int, str]:
    done = subprocess.run(
        [sys.executable, str(CHECK), *map(str, files)], capture_output=True, text=True, timeout=60, check=False
    )
    return done.returncode, done.stderr


def test_a_line_of_120_characters_passes_and_a_longer_one_is_named(tmp_path: Path) -> None:
    good, bad = tmp_path / "good.md", tmp_path / "bad.md"
    good.write_text("short\n" + "×" * 120 + "\n", encoding="utf-8")
    bad.write_text("short\n" + "x" * 121 + "\n", encoding="utf-8")
    assert check(good) == (0, "")
    assert check(good, bad) == (1, f"{bad}:2: 121 characters, at most 120\n")


def test_without_arguments_the_files_of_the_repository_are_checked() -> None:
    assert check() == (0, "")
