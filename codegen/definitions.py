"""Kafka's message definitions: their source, and their content as plain data.

They are the JSON files (with comments) below `common/message` in the kafka-clients jar, Apache-2.0. Names, types,
versions and defaults are taken from them; their prose is not copied.
"""

import json
import re
import subprocess
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

ARTIFACT = "org.apache.kafka:kafka-clients"
VERSION = "4.4.0"
# The plugin's version is pinned, so that the command always does the same.
_MAVEN_GOAL = "org.apache.maven.plugins:maven-dependency-plugin:3.8.1:copy"

_LAST_VERSION = 32767  # versions are 16-bit; "3+" means up to here


def snake_case(name: str) -> str:
    """TimeoutMs → timeout_ms."""
    return re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", name).lower()


@dataclass(frozen=True)
class Versions:
    """An inclusive range of versions; empty if `low > high`."""

    low: int
    high: int

    @classmethod
    def parse(cls, text: str | None) -> "Versions":
        """From the notation of the definitions: "3", "3+", "3-5" or "none"."""
        if text is None or text == "none":
            return cls(0, -1)
        if text.endswith("+"):
            return cls(int(text[:-1]), _LAST_VERSION)
        low, _, high = text.partition("-")
        return cls(int(low), int(high or low))

    def __contains__(self, version: int) -> bool:
        return self.low <= version <= self.high

    def __and__(self, other: "Versions") -> "Versions":
        return Versions(max(self.low, other.low), min(self.high, other.high))

    @property
    def empty(self) -> bool:
        return self.low > self.high

    def covers(self, other: "Versions") -> bool:
        """Whether it contains each version of `other`."""
        return self.low <= other.low and other.high <= self.high


@dataclass(frozen=True)
class Field:
    name: str
    type: str  # without the [] of an array
    is_array: bool
    versions: Versions
    nullable: Versions
    flexible: Versions
    tag: int | None
    ignorable: bool
    default: str | None  # as in the definition; None if it has none
    struct: "Struct | None"


@dataclass(frozen=True)
class Struct:
    name: str
    versions: Versions  # the versions in which it can occur
    fields: tuple[Field, ...]

    def inner(self) -> "Iterator[Struct]":
        """The structs that this one uses, each before its user, then this one."""
        for field in self.fields:
            if field.struct is not None:
                yield from field.struct.inner()
        yield self


@dataclass(frozen=True)
class Message:
    kind: str  # request, response or header
    api_key: int
    flexible: Versions
    latest_version_unstable: bool
    body: Struct

    @cached_property
    def structs(self) -> list[Struct]:
        """All structs, each before its users; the message itself last."""
        unique: dict[str, Struct] = {}
        for struct in self.body.inner():
            if unique.setdefault(struct.name, struct) != struct:
                raise ValueError(f"{self.body.name}: two different structs are called {struct.name}")
        return list(unique.values())


def fetch_jar(folder: Path) -> Path:
    """The jar with the definitions, in `folder`; fetched with Maven the first time."""
    jar = folder / f"{ARTIFACT.split(':')[1]}-{VERSION}.jar"
    if not jar.exists():
        folder.mkdir(parents=True, exist_ok=True)
        command = ["mvn", "-q", "-B", _MAVEN_GOAL, f"-Dartifact={ARTIFACT}:{VERSION}", f"-DoutputDirectory={folder}"]
        subprocess.run(command, check=True)
    return jar


def read_message(jar: zipfile.ZipFile, name: str) -> Message:
    """The definition called `name`, for example ProduceRequest."""
    text = jar.read(f"common/message/{name}.json").decode()
    return parse_message(text)


def parse_message(text: str) -> Message:
    """The message that a definition describes: JSON with whole-line comments."""
    return _message(json.loads(re.sub(r"^\s*//.*$", "", text, flags=re.MULTILINE)))


def _message(definition: dict[str, Any]) -> Message:
    valid = Versions.parse(definition["validVersions"])
    flexible = Versions.parse(definition["flexibleVersions"])
    # A common struct can be used in several places: it has versions of its own, not those of a place.
    common = {
        struct["name"]: struct | {"versions": Versions.parse(struct["versions"]) & valid}
        for struct in definition.get("commonStructs", ())
    }
    return Message(
        kind=definition["type"],
        api_key=definition.get("apiKey", -1),
        flexible=flexible,
        latest_version_unstable=definition.get("latestVersionUnstable", False),
        body=_struct(definition["name"], definition["fields"], valid, flexible, common),
    )


def _struct(name: str, fields: list[Any], versions: Versions, flexible: Versions, common: dict[str, Any]) -> Struct:
    read = (_field(field, versions, flexible, common) for field in fields)
    return Struct(name, versions, tuple(field for field in read if not field.versions.empty))


def _field(definition: dict[str, Any], around: Versions, flexible: Versions, common: dict[str, Any]) -> Field:
    kind = definition["type"].removeprefix("[]")
    versions = Versions.parse(definition["versions"])
    tagged = Versions.parse(definition.get("taggedVersions"))
    if not tagged.empty and tagged != versions:
        raise ValueError(f"{definition['name']} is tagged in some of its versions only: not supported")
    if "flexibleVersions" in definition:
        flexible = Versions.parse(definition["flexibleVersions"])
    versions &= around
    struct = None
    if kind in common:
        struct = _struct(kind, common[kind]["fields"], common[kind]["versions"], flexible, common)
    elif "fields" in definition:
        struct = _struct(kind, definition["fields"], versions, flexible, common)
    if struct and not tagged.empty and "nullableVersions" in definition and definition["type"] == kind:
        raise ValueError(f"{definition['name']} is a tagged struct that may be null: not supported")
    default = definition.get("default")
    return Field(
        name=definition["name"],
        type=kind,
        is_array=definition["type"].startswith("[]"),
        versions=versions,
        nullable=Versions.parse(definition.get("nullableVersions")) & versions,
        flexible=flexible,
        tag=None if tagged.empty else definition["tag"],
        ignorable=definition.get("ignorable", False),
        default=None if default is None else str(default),
        struct=struct,
    )
