"""The measured rows, in a JSON file that is rewritten after each row: an interrupted benchmark continues."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

Done = dict[str, Any]


def fingerprint(of: Any) -> str:
    """A short digest of any JSON value (other values count by their repr)."""
    text = json.dumps(of, sort_keys=True, default=repr)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def code_version(root: Path, parts: Sequence[str]) -> str:
    """A digest of the source files below these paths: figures of other code are not valid for this code."""
    digest = hashlib.sha256()
    for part in parts:
        path = root / part
        for file in sorted(path.rglob("*")) if path.is_dir() else [path]:
            if file.is_file() and file.suffix in {".py", ".rs", ".toml", ".lock", ".java", ".go", ".sum", ".mod"}:
                digest.update(str(file.relative_to(root)).encode() + b"\0" + file.read_bytes())
    return digest.hexdigest()[:16]


class Results:
    """The rows measured so far. Each has a key (code, machine, row, tools): a row with another key is ignored."""

    def __init__(self, file: Path) -> None:
        self._file = file
        self._rows: dict[str, Done] = {}
        if file.exists():
            try:
                self._rows = {done["row"]: done for done in json.loads(file.read_text())["rows"]}
            except (ValueError, KeyError, TypeError) as error:
                raise SystemExit(
                    f"{file} is no result of this benchmark ({error}): move it away, or name another"
                ) from None

    def find(self, name: str, key: Mapping[str, str]) -> Done | None:
        """The row, if it was measured under this key, and no contestant failed in it."""
        done = self._rows.get(name)
        return done if done is not None and done.get("key") == key and not done["failed"] else None

    def add(self, done: Done, about: Mapping[str, Any]) -> None:
        """Store a row and write the file at once; it is replaced as a whole, so that no reader sees half of it."""
        self._rows[done["row"]] = done
        self._file.parent.mkdir(parents=True, exist_ok=True)
        partial = self._file.with_suffix(".partial")
        partial.write_text(
            json.dumps({**about, "rows": list(self._rows.values())}, indent=1, ensure_ascii=False) + "\n"
        )
        os.replace(partial, self._file)
