"""Check the Rust crates: no circle of files that need one another, and no type name twice in a crate.

    python tools/layout/circles.py rust/core rust/python    these crates; exits 1 and names what it finds

A file needs another one if it names an item of it: in a `use`, or by a path that begins with `crate`, `super`, `self` or
a child module. A `mod` declaration is no need, but a `pub use` of a child's item is one. A name that a file passes on
(`pub use`) leads to the file that defines it. Tests (`#[cfg(test)]`) and comments do not count. Methods are not followed:
a call of a method does not name its file.
"""

from __future__ import annotations

import re
import sys
from collections import defaultdict
from collections.abc import Iterator, Sequence
from pathlib import Path

Module = tuple[str, ...]
Edges = dict[Module, dict[Module, list[str]]]

# In this order: a quote in a comment begins no string, and two slashes in a string no comment.
TOKENS = re.compile(
    r"""//[^\n]*|/\*.*?\*/|b?r(#*)".*?"\1|b?"(?:\\.|[^"\\])*"|b?'(?:\\(?:x..|u\{\w+\}|.)|[^'\\])'""", re.DOTALL
)
PATH = re.compile(r"(?<![\w:$])(?:\$?crate|super|self|[a-z_]\w*)(?:::\w+)+")
USE = re.compile(r"(?P<pub>\bpub(?:\([^)]*\))?\s+)?\buse\s+(?P<tree>[^;]+);")
TYPE = re.compile(r"\b(?:struct|enum|trait|union|type)\s+([A-Z]\w*)")
INLINE = re.compile(r"\bmod \w+\s*\{")
CFG = re.compile(r"#!?\[cfg\b")


def blanked(text: str) -> str:
    """The text with comments and literals as spaces; lines stay where they are."""
    return TOKENS.sub(lambda found: re.sub(r"[^\n]", " ", found[0]), text)


def end_of_item(text: str, start: int) -> int:
    """The position behind the item that begins at `start`: its `;`, or the brace that closes it."""
    depth = 0
    for at in range(start, len(text)):
        if text[at] in "([{":
            depth += 1
        elif text[at] in ")]}":
            depth -= 1
            if depth == 0 and text[at] == "}":
                return at + 1
        elif text[at] == ";" and depth == 0:
            return at + 1
    return len(text)


def without(text: str, attribute: re.Pattern[str]) -> str:
    """The text without the items that have this attribute."""
    while found := attribute.search(text):
        end = end_of_item(text, found.end())
        text = text[: found.start()] + re.sub(r"[^\n]", " ", text[found.start() : end]) + text[end:]
    return text


TEST_ITEM = re.compile(r"#\[cfg\((?:test|all\(test\b[^\]]*)\)?\]")


def leaves(tree: str) -> Iterator[list[str]]:
    """The paths of a use tree: `a::{b, c::d as e}` → a::b, a::c::d."""
    tree = tree.strip()
    prefix, brace, rest = tree.partition("{")
    if not brace:
        path = re.sub(r"\s+as\s+\w+$", "", tree)
        yield [part.strip() for part in path.split("::")]
        return
    head = [part.strip() for part in prefix.split("::") if part.strip()]
    depth, item = 0, ""
    for letter in rest[: rest.rindex("}")] + ",":
        depth += (letter == "{") - (letter == "}")
        if letter == "," and depth == 0:
            if item.strip():
                for path in leaves(item):
                    yield head if path == ["self"] else head + path
            item = ""
        else:
            item += letter


class Crate:
    """The files of one crate, as modules."""

    def __init__(self, folder: Path) -> None:
        self.source = folder / "src"
        self.files: dict[Module, Path] = {}
        for path in sorted(self.source.rglob("*.rs")):
            parts = path.relative_to(self.source).with_suffix("").parts
            self.files[parts[:-1] if parts[-1] in ("mod", "lib") else parts] = path
        self.texts = {
            module: without(blanked(path.read_text(encoding="utf-8")), TEST_ITEM) for module, path in self.files.items()
        }
        for module in [module for module in self.files if self.is_for_tests(module)]:
            del self.files[module], self.texts[module]
        self.passed_on = {module: dict(self.reexports(module)) for module in self.files}

    def is_for_tests(self, module: Module) -> bool:
        """Its `mod` declaration stands under `#[cfg(test)]`, and so was blanked."""
        parent = self.texts.get(module[:-1])
        return bool(module) and parent is not None and not re.search(rf"\bmod {module[-1]}\s*;", parent)

    def reexports(self, module: Module) -> Iterator[tuple[str, Module]]:
        for found in USE.finditer(self.texts[module]):
            if found["pub"]:
                for path in leaves(found["tree"]):
                    if target := self.absolute(module, path):
                        yield path[-1], target

    def absolute(self, module: Module, path: list[str]) -> Module | None:
        """The path from the crate's root; None: it leads out of the crate."""
        if path[0] in ("crate", "$crate"):
            return tuple(path[1:])
        if path[0] == "self":
            return module + tuple(path[1:])
        if path[0] == "super":
            ups = next((at for at, part in enumerate(path) if part != "super"), len(path))
            return (module[:-ups] if ups <= len(module) else ()) + tuple(path[ups:])
        return module + tuple(path) if (*module, path[0]) in self.files else None

    def file_of(self, path: Module) -> Module:
        """The module whose file defines the item; names that are passed on are followed."""
        known = max((path[:end] for end in range(len(path) + 1) if path[:end] in self.files), key=len)
        rest = path[len(known) :]
        if rest and (target := self.passed_on[known].get(rest[0])) and target != path:
            return self.file_of(target + rest[1:])
        return known

    def mentions(self, module: Module) -> Iterator[tuple[int, Module]]:
        """(line, path from the root) of each item that the file names."""
        text = self.texts[module]
        inner = [(found.end(), end_of_item(text, found.start())) for found in INLINE.finditer(text)]

        def named(path: list[str], at: int) -> Iterator[tuple[int, Module]]:
            # In a module inside the file the first `super` is the file itself.
            for begin, end in inner:
                if begin <= at < end and path[0] == "super":
                    path = path[1:] if path[1:2] == ["super"] else ["self", *path[1:]]
            if target := self.absolute(module, path):
                yield text.count("\n", 0, at) + 1, target

        for found in USE.finditer(text):
            for path in leaves(found["tree"]):
                yield from named(path, found.start("tree"))
        for found in PATH.finditer(USE.sub(lambda use: re.sub(r"[^\n]", " ", use[0]), text)):
            yield from named(found[0].split("::"), found.start())

    def edges(self) -> Edges:
        """Module → module that it needs → the lines that say so."""
        edges: Edges = {module: defaultdict(list) for module in self.files}
        for module in self.files:
            for line, path in self.mentions(module):
                target = self.file_of(path)
                if target != module:
                    edges[module][target].append(f"{self.files[module]}:{line}: {'::'.join(path)}")
        return edges


def circles(edges: Edges) -> list[list[Module]]:
    """Groups of modules that all need one another, over others or not (Tarjan)."""
    order: dict[Module, int] = {}
    low: dict[Module, int] = {}
    stack: list[Module] = []
    found: list[list[Module]] = []

    def visit(module: Module) -> None:
        order[module] = low[module] = len(order)
        stack.append(module)
        for target in edges[module]:
            if target not in order:
                visit(target)
                low[module] = min(low[module], low[target])
            elif target in stack:
                low[module] = min(low[module], order[target])
        if low[module] == order[module]:
            at = stack.index(module)
            group, stack[at:] = stack[at:], []
            if len(group) > 1:
                found.append(sorted(group))

    for module in edges:
        if module not in order:
            visit(module)
    return found


def twins(crate: Crate) -> Iterator[str]:
    """Type names that are defined twice. Two in one file are one type if each is for another configuration."""
    places: dict[str, list[tuple[Module, int, bool]]] = defaultdict(list)
    for module, text in crate.texts.items():
        for found in TYPE.finditer(text):
            before = text[: found.start()]
            if (
                text[before.rfind("\n") + 1 : found.start()].strip() not in ("", "pub")
                and "pub" not in (text[before.rfind("\n") + 1 : found.start()])
            ):
                continue
            indented = text[before.rfind("\n") + 1] == " "
            if found[0].startswith("type") and indented:
                continue  # an associated type
            configured = indented or CFG.search(before.rsplit("\n\n", 1)[-1]) is not None
            places[found[1]].append((module, text.count("\n", 0, found.start()) + 1, configured))
    for name, where in sorted(places.items()):
        one_file = len({module for module, _, _ in where}) == 1
        if len(where) > 1 and not (one_file and all(configured for _, _, configured in where)):
            yield f"{name} is defined {len(where)} times: " + ", ".join(
                f"{crate.files[module]}:{line}" for module, line, _ in where
            )


def report(folder: Path) -> list[str]:
    """The violations in a crate, a line each."""
    crate = Crate(folder)
    edges = crate.edges()
    lines = []
    for group in circles(edges):
        lines.append(f"{folder}: these {len(group)} files need one another:")
        for module in group:
            for target in sorted(set(edges[module]) & set(group)):
                lines += [f"  {line}  → {crate.files[target]}" for line in edges[module][target]]
    return lines + [f"{folder}: {line}" for line in twins(crate)]


def main(folders: Sequence[str]) -> int:
    """See the module."""
    lines = [line for folder in folders for line in report(Path(folder))]
    print("".join(f"{line}\n" for line in lines), end="", file=sys.stderr)
    return 1 if lines else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
