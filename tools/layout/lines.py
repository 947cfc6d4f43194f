"""Check that no line of Markdown is longer than 120 characters: `make check` runs it, and the pre-commit hook.

    python tools/layout/lines.py              every .md file that Git knows
    python tools/layout/lines.py README.md    these files

Exits 1 and names each line that is longer.
"""

import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

MAX = 120
ROOT = Path(__file__).resolve().parents[2]


def tracked() -> list[Path]:
    """The Markdown files of the repository, also those that are not committed yet."""
    command = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard", "*.md"]
    listed = subprocess.run(command, cwd=ROOT, capture_output=True, check=True).stdout.decode()
    return [path for name in listed.split("\0") if name and (path := ROOT / name).exists()]


def long_lines(path: Path) -> Iterator[str]:
    """`file:line: length` for each line that is longer than `MAX` characters."""
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), start=1):
        if len(line) > MAX:
            yield f"{path}:{number}: {len(line)} characters, at most {MAX}"


def main(names: Sequence[str]) -> int:
    """See the module."""
    files = [Path(name) for name in names] or tracked()
    found = [line for path in files for line in long_lines(path)]
    print("".join(f"{line}\n" for line in found), end="", file=sys.stderr)
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
