"""The documents name files, folders and headings that exist."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
DOCUMENTS = [
    *ROOT.glob("*.md"),
    *(ROOT / "docs").glob("*.md"),
    ROOT / "tests" / "README.md",
    ROOT / "tests" / "PEERS.md",
    ROOT / "bench" / "README.md",
]
TOP = "src|rust|tests|tools|docs|codegen|bench|requirements"


def text_of(document: Path) -> str:
    return document.read_text(encoding="utf-8")


def anchors(document: Path) -> set[str]:
    """The anchors of a document's headings, as GitHub makes them."""
    headings = re.findall(r"^#+ (.+)$", text_of(document), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda document: str(document.relative_to(ROOT)))
def test_every_path_exists(document: Path) -> None:
    """Paths from the root, in backticks. Words in capitals stand for a name, as in `handlers/NAME.py`."""
    paths = re.findall(rf"`((?:{TOP})/[^`\s:]*)", text_of(document))
    missing = [path for path in paths if not re.search(r"\b[A-Z]{4,}\b(?!\.md)", path) and not any(ROOT.glob(path))]
    assert missing == []


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda document: str(document.relative_to(ROOT)))
def test_every_link_leads_somewhere(document: Path) -> None:
    for target in re.findall(r"\]\(([^)\s]+)\)", text_of(document)):
        if target.startswith("http"):
            continue
        path, _, anchor = target.partition("#")
        file = (document.parent / path) if path else document
        assert file.exists(), target
        assert not anchor or anchor in anchors(file), target


def test_every_make_target_exists() -> None:
    targets = set(re.findall(r"^([a-z-]+):", text_of(ROOT / "Makefile"), re.MULTILINE))
    named = {name for document in DOCUMENTS for name in re.findall(r"`make\s+([a-z-]+)", text_of(document))}
    assert named <= targets
