"""All generated messages and their possible values, from the description that codegen writes beside this file."""

import importlib
import json
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple
from uuid import UUID

from hypothesis import strategies as st

from penstock.protocol.message import Message
from penstock.protocol.messages import index

Field = dict[str, Any]


class MessageVersion(NamedTuple):
    """One message in one version: the unit of most tests."""

    name: str
    api_key: int
    kind: str
    version: int

    def __str__(self) -> str:
        return f"{self.name}-{self.version}"

    @property
    def module(self) -> ModuleType:
        name = "headers" if self.kind == "header" else index.APIS[self.api_key].module
        return importlib.import_module(f"penstock.protocol.messages.{name}")

    @property
    def type(self) -> type[Message]:
        found: type[Message] = getattr(self.module, self.name)
        return found

    @property
    def fields(self) -> list[Field]:
        return _BY_NAME[self.name]["fields"]


DESCRIPTIONS: list[dict[str, Any]] = json.loads((Path(__file__).parent / "schema.json").read_text())
_BY_NAME = {description["name"]: description for description in DESCRIPTIONS}

MESSAGE_VERSIONS = [
    MessageVersion(it["name"], it["api_key"], it["kind"], version)
    for it in DESCRIPTIONS
    for version in range(it["versions"][0], it["versions"][1] + 1)
]


def is_in(versions: list[int] | None, version: int) -> bool:
    return versions is not None and versions[0] <= version <= versions[1]


def present(fields: list[Field], version: int) -> Iterator[Field]:
    return (field for field in fields if is_in(field["versions"], version))


def _integers(bits: int, signed: bool = True) -> st.SearchStrategy[int]:
    low, high = (-(1 << bits - 1), (1 << bits - 1) - 1) if signed else (0, (1 << bits) - 1)
    return st.sampled_from([0, 1, -1 if signed else 2, low, high]) | st.integers(low, high)


_PRIMITIVES: dict[str, st.SearchStrategy[Any]] = {
    "bool": st.booleans(),
    "int8": _integers(8),
    "int16": _integers(16),
    "uint16": _integers(16, signed=False),
    "int32": _integers(32),
    "uint32": _integers(32, signed=False),
    "int64": _integers(64),
    "float64": st.floats(allow_nan=False),
    "string": st.text(max_size=12) | st.just("x" * 300),
    "bytes": st.binary(max_size=12) | st.just(b"x" * 300),
    "records": st.binary(max_size=12) | st.just(b"x" * 300),
    "uuid": st.builds(lambda value: UUID(int=value), st.integers(0, (1 << 128) - 1)),
}

Override = Callable[[Field], st.SearchStrategy[Any] | None]


def _nothing(_: Field) -> None:
    return None


@cache
def values(of: MessageVersion, override: Override = _nothing) -> st.SearchStrategy[Message]:
    """Messages of `of`'s version; `override` may give the strategy of a primitive field."""
    return _struct(of.module, of.name, of.fields, of.version, override)


def _struct(module: ModuleType, name: str, fields: list[Field], version: int, override: Override) -> Any:
    arguments = {it["name"]: _field(module, it, version, override) for it in present(fields, version)}
    return st.builds(getattr(module, name), **arguments)


def _field(module: ModuleType, field: Field, version: int, override: Override) -> st.SearchStrategy[Any]:
    if "fields" in field:
        strategy = _struct(module, field["type"], field["fields"], version, override)
    else:
        overriding = override(field)
        strategy = _PRIMITIVES[field["type"]] if overriding is None else overriding
    if field["array"]:
        strategy = st.lists(strategy, max_size=3).map(tuple)
    return st.none() | strategy if is_in(field["nullable"], version) else strategy
