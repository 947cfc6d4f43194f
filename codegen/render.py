"""Python source for Kafka's messages: one immutable class per struct, with `write` and `read` for all its versions.

The generated code is straight-line: a condition appears only where a struct's versions differ.
"""

import keyword
from collections.abc import Iterator

from codegen.definitions import Field, Message, Struct, Versions, snake_case

# Kafka's type → (Python type, its default, the method's name on Reader, the same on Writer, bytes on the wire).
# Sizes are minima; those of strings and bytes depend on the version and are computed below.
_PRIMITIVES = {
    "bool": ("bool", "False", "boolean", "boolean", 1),
    "int8": ("int", "0", "int8", "int8", 1),
    "int16": ("int", "0", "int16", "int16", 2),
    "uint16": ("int", "0", "uint16", "uint16", 2),
    "int32": ("int", "0", "int32", "int32", 4),
    "uint32": ("int", "0", "uint32", "uint32", 4),
    "int64": ("int", "0", "int64", "int64", 8),
    "float64": ("float", "0.0", "float64", "float64", 8),
    "uuid": ("UUID", "ZERO_UUID", "uuid", "uuid", 16),
    "string": ("str", '""', "string", "string", 0),
    "bytes": ("bytes", 'b""', "data", "data", 0),
    # Views of the received bytes, because record batches can be megabytes.
    "records": ("Buffer", "None", "records", "data", 0),
}
_VARIABLE_SIZE = {"string": 2, "bytes": 4, "records": 4}  # where not flexible; 1 where flexible
_TAKEN = {"cls", "self", "reader", "writer", "version", "flexible", "tagged", "tag", "field", "length"}


def python_name(field: Field) -> str:
    name = snake_case(field.name)
    return f"{name}_" if keyword.iskeyword(name) or name in _TAKEN else name


def python_type(field: Field) -> str:
    inner = field.type if field.struct else _PRIMITIVES[field.type][0]
    whole = f"tuple[{inner}, ...]" if field.is_array else inner
    return f"{whole} | None" if _may_be_none(field) else whole


def _may_be_none(field: Field) -> bool:
    return not field.nullable.empty or default_value(field) == "None"


def default_value(field: Field) -> str:
    """The field's default as Python source."""
    if field.default == "null":
        return "None"
    if field.is_array:
        return "()"
    if field.struct:
        return f"{field.type}()"
    if not field.default:
        return _PRIMITIVES[field.type][1]
    if field.type == "bool":
        return field.default.capitalize()
    if field.type == "string":
        return repr(field.default)
    if field.type == "float64":
        return repr(float(field.default))
    return str(int(field.default, 0))


def _differs_from_default(field: Field) -> str:
    value, default = f"self.{python_name(field)}", default_value(field)
    if default == "None":
        return f"{value} is not None"
    if default in ("True", "False"):
        return value if default == "False" else f"not {value}"
    return f"{value} != {default}"


def _condition(versions: Versions, around: Versions) -> str | None:
    """The test that is true in `versions`, given that only those `around` occur; None if no test is needed."""
    if versions.covers(around):
        return None
    if versions.low <= around.low:
        return f"version <= {versions.high}"
    if versions.high >= around.high:
        return f"version >= {versions.low}"
    return f"{versions.low} <= version <= {versions.high}"


def _negated(versions: Versions, around: Versions) -> str:
    if versions.high >= around.high:
        return f"version < {versions.low}"
    if versions.low <= around.low:
        return f"version > {versions.high}"
    return f"not {versions.low} <= version <= {versions.high}"


def _flexible(flexible: Versions, around: Versions) -> str:
    """The argument `flexible` of a method of Reader or Writer."""
    if (flexible & around).empty:
        return "flexible=False"
    return "flexible=True" if flexible.covers(around) else "flexible"


def _smallest(field: Field, version: int) -> int:
    """The least number of bytes of one element of the field's type."""
    if field.struct:
        own = [inner for inner in field.struct.fields if version in inner.versions and inner.tag is None]
        tags = 1 if version in field.flexible else 0
        return tags + sum(_smallest_whole(inner, version) for inner in own)
    if field.type in _VARIABLE_SIZE:
        return 1 if version in field.flexible else _VARIABLE_SIZE[field.type]
    return _PRIMITIVES[field.type][4]


def _smallest_whole(field: Field, version: int) -> int:
    if field.is_array:
        return 1 if version in field.flexible else 4
    if field.struct and version in field.nullable:
        return 1
    return _smallest(field, version)


def _element_size(field: Field) -> int:
    """The least number of bytes of an array's element, in any version; it limits the allocation of `read`."""
    size = min(_smallest(field, version) for version in range(field.versions.low, field.versions.high + 1))
    if size < 1:
        raise ValueError(f"an element of {field.name} can be empty: its number would not be bounded by its size")
    return size


class StructSource:
    """The source of one struct."""

    def __init__(self, struct: Struct, message: Message) -> None:
        self._struct = struct
        self._message = message
        self._plain = [field for field in struct.fields if field.tag is None]
        self._tagged = sorted((field for field in struct.fields if field.tag is not None), key=lambda f: f.tag or 0)
        self._flexible = _flexible(message.flexible, struct.versions)

    def lines(self) -> Iterator[str]:
        struct, message = self._struct, self._message
        if struct is message.body:
            base = {"request": "Request", "response": "Response", "header": "Message"}[message.kind]
            yield f"class {struct.name}({base}):"
            yield f'    """Versions {struct.versions.low} to {struct.versions.high}."""'
            yield f"    API_KEY: ClassVar[int] = {message.api_key}"
            yield f"    MIN_VERSION: ClassVar[int] = {struct.versions.low}"
            yield f"    MAX_VERSION: ClassVar[int] = {struct.versions.high}"
            yield f"    FLEXIBLE_FROM: ClassVar[int] = {flexible_from(message)}"
            yield ""
        else:
            yield f"class {struct.name}(Struct):"
            yield f'    """Part of {message.body.name}, versions {struct.versions.low} to {struct.versions.high}."""'
            yield ""
        names = [python_name(field) for field in struct.fields]
        yield f"    __slots__ = ({''.join(f'{name!r}, ' for name in names)})"
        yield from (f"    {python_name(field)}: {python_type(field)}" for field in struct.fields)
        if names:
            parameters = (
                f"{python_name(field)}: {python_type(field)} = {default_value(field)}" for field in struct.fields
            )
            yield f"    def __init__(self, *, {', '.join(parameters)}) -> None:"
            yield f"        self._fill({', '.join(names)})"
        yield from (f"    {line}" for line in self._write())
        yield from (f"    {line}" for line in self._read())

    def _uses_flexible(self) -> bool:
        around = self._struct.versions
        return self._flexible == "flexible" or any(
            _flexible(field.flexible, around & field.versions) == "flexible" for field in self._struct.fields
        )

    # write

    def _write(self) -> Iterator[str]:
        yield "def write(self, writer: Writer, version: int) -> None:"
        if self._uses_flexible():
            yield f"    flexible = version >= {flexible_from(self._message)}"
        for field in self._struct.fields:
            yield from (f"    {line}" for line in self._write_field(field))
        yield from (f"    {line}" for line in self._write_tags())

    def _write_field(self, field: Field) -> Iterator[str]:
        condition = _condition(field.versions, self._struct.versions)
        if field.tag is not None:
            # Its value is written with the tagged fields at the end.
            if condition and not field.ignorable:
                below = f"version < {field.versions.low}"
                yield f"if {below} and {_differs_from_default(field)}:"
                yield f"    raise {self._error('unsupported_field', field)}"
            return
        value = list(self._write_nullable(field, "writer"))
        if condition is None:
            yield from value
            return
        yield f"if {condition}:"
        yield from (f"    {line}" for line in value)
        if not field.ignorable:
            yield f"elif {_differs_from_default(field)}:"
            yield f"    raise {self._error('unsupported_field', field)}"

    def _error(self, name: str, field: Field) -> str:
        return f'{name}("{self._struct.name}.{python_name(field)}", version)'

    def _write_nullable(self, field: Field, writer: str) -> Iterator[str]:
        """Write the field in a version that has it."""
        value = f"self.{python_name(field)}"
        nullable = _condition(field.nullable, field.versions) if not field.nullable.empty else "never"
        if not _may_be_none(field):
            yield from self._write_value(field, value, writer)
        elif nullable is None and not field.is_array and not field.struct:
            yield from self._write_value(field, value, writer, "nullable_")
        else:
            yield f"if {value} is None:"
            if nullable == "never":
                yield f"    raise {self._error('null_field', field)}"
            else:
                if nullable is not None:
                    yield f"    if {_negated(field.nullable, field.versions)}:"
                    yield f"        raise {self._error('null_field', field)}"
                yield f"    {self._write_null(field, writer)}"
            yield "else:"
            if field.struct and not field.is_array and nullable != "never":
                if nullable is not None:
                    yield f"    if {nullable}:"
                yield f"    {'' if nullable is None else '    '}{writer}.presence(True)"
            yield from (f"    {line}" for line in self._write_value(field, value, writer))

    def _write_null(self, field: Field, writer: str) -> str:
        flexible = _flexible(field.flexible, field.versions & self._struct.versions)
        if field.struct and not field.is_array:
            return f"{writer}.presence(False)"
        if field.type == "string" and not field.is_array:
            return f"{writer}.nullable_string(None, {flexible})"
        return f"{writer}.null({flexible})"

    def _write_value(self, field: Field, value: str, writer: str, prefix: str = "") -> Iterator[str]:
        flexible = _flexible(field.flexible, field.versions & self._struct.versions)
        if field.is_array:
            yield f"{writer}.array_length(len({value}), {flexible})"
            # Named after the type: two loops in one function would otherwise need two types for one name.
            element = snake_case(field.type) if field.struct else f"{field.type}_value"
            yield f"for {element} in {value}:"
            yield f"    {self._write_element(field, element, writer, flexible)}"
        else:
            yield self._write_element(field, value, writer, flexible, prefix)

    def _write_element(self, field: Field, value: str, writer: str, flexible: str, prefix: str = "") -> str:
        if field.struct:
            return f"{value}.write({writer}, version)"
        method = prefix + _PRIMITIVES[field.type][3]
        return (
            f"{writer}.{method}({value}, {flexible})" if field.type in _VARIABLE_SIZE else f"{writer}.{method}({value})"
        )

    def _write_tags(self) -> Iterator[str]:
        if self._flexible == "flexible=False":
            return
        indent = ""
        if self._flexible == "flexible":
            yield "if flexible:"
            indent = "    "
        if not self._tagged:
            yield f"{indent}writer.tagged_fields()"
            return
        around = self._struct.versions & self._message.flexible
        yield f"{indent}tagged: list[tuple[int, Writer]] = []"
        for field in self._tagged:
            condition = _condition(field.versions, around)
            yield f"{indent}if {f'{condition} and ' if condition else ''}{_differs_from_default(field)}:"
            yield f"{indent}    field = Writer()"
            yield from (f"{indent}    {line}" for line in self._write_nullable(field, "field"))
            yield f"{indent}    tagged.append(({field.tag}, field))"
        yield f"{indent}writer.tagged_fields(tagged)"

    # read

    def _read(self) -> Iterator[str]:
        yield "@classmethod"
        yield "def read(cls, reader: Reader, version: int) -> Self:"
        if self._uses_flexible():
            yield f"    flexible = version >= {flexible_from(self._message)}"
        for field in self._plain:
            value = self._read_nullable(field, "reader")
            if condition := _condition(field.versions, self._struct.versions):
                value = f"{value} if {condition} else {default_value(field)}"
            yield f"    {python_name(field)} = {value}"
        yield from (f"    {line}" for line in self._read_tags())
        yield f"    return cls({', '.join(f'{python_name(f)}={python_name(f)}' for f in self._struct.fields)})"

    def _read_nullable(self, field: Field, reader: str) -> str:
        """The expression that reads the field in a version that has it."""
        if field.nullable.empty:
            return self._read_value(field, reader)
        nullable = self._read_value(field, reader, "nullable_")
        condition = _condition(field.nullable, field.versions)
        return f"({nullable} if {condition} else {self._read_value(field, reader)})" if condition else nullable

    def _read_value(self, field: Field, reader: str, prefix: str = "") -> str:
        flexible = _flexible(field.flexible, field.versions & self._struct.versions)
        if field.is_array:
            element = self._read_element(field, reader, flexible)
            length = f"{reader}.{prefix}array_length({flexible}, element_size={_element_size(field)})"
            if prefix:
                return f"(None if (length := {length}) is None else tuple([{element} for _ in range(length)]))"
            return f"tuple([{element} for _ in range({length})])"
        if field.struct and prefix:
            return f"({self._read_element(field, reader, flexible)} if {reader}.is_present() else None)"
        return self._read_element(field, reader, flexible, prefix)

    def _read_element(self, field: Field, reader: str, flexible: str, prefix: str = "") -> str:
        if field.struct:
            return f"{field.type}.read({reader}, version)"
        method = prefix + _PRIMITIVES[field.type][2]
        return f"{reader}.{method}({flexible})" if field.type in _VARIABLE_SIZE else f"{reader}.{method}()"

    def _read_tags(self) -> Iterator[str]:
        for field in self._tagged:
            yield f"{python_name(field)}: {python_type(field)} = {default_value(field)}"
        if self._flexible == "flexible=False":
            return
        indent = ""
        if self._flexible == "flexible":
            yield "if flexible:"
            indent = "    "
        if not self._tagged:
            yield f"{indent}reader.skip_tagged_fields()"
            return
        around = self._struct.versions & self._message.flexible
        yield f"{indent}for tag, field in reader.tagged_fields():"
        for index, field in enumerate(self._tagged):
            condition = _condition(field.versions, around)
            yield (
                f"{indent}    {'elif' if index else 'if'} tag == {field.tag}{f' and {condition}' if condition else ''}:"
            )
            yield f"{indent}        {python_name(field)} = {self._read_nullable(field, 'field')}"
        yield f"{indent}    else:"
        yield f"{indent}        continue"
        yield f'{indent}    field.end(f"tagged field {{tag}} of {self._struct.name}")'


def flexible_from(message: Message) -> int:
    return 32767 if message.flexible.empty else message.flexible.low


_PRIMITIVE_NAMES = ("Buffer", "ZERO_UUID", "Reader", "Writer", "null_field", "unsupported_field")
_MESSAGE_NAMES = ("Message", "Request", "Response", "Struct")


def render_module(messages: list[Message], heading: str) -> str:
    """The source of one file, not yet formatted."""
    classes: dict[str, Message] = {}
    body: list[str] = []
    for message in messages:
        for struct in message.structs:
            if struct.name in classes:
                raise ValueError(f"{struct.name} is in {classes[struct.name].body.name} and in {message.body.name}")
            classes[struct.name] = message
            body += ["", "", *StructSource(struct, message).lines()]
    text = "\n".join(body)
    lines = [heading, "", "from __future__ import annotations", "", "from typing import ClassVar, Self"]
    if "UUID" in text.replace("ZERO_UUID", ""):
        lines.append("from uuid import UUID")
    lines.append("")
    bases = [name for name in _MESSAGE_NAMES if f"({name}):" in text]
    lines.append(f"from penstock.protocol.message import {', '.join(bases)}")
    used = sorted((name for name in _PRIMITIVE_NAMES if name in text), key=lambda name: (name != name.upper(), name))
    lines.append(f"from penstock.protocol.primitives import {', '.join(used)}")
    return "\n".join(lines) + text + "\n"
