"""Reading and writing the primitive types of Kafka's wire protocol.

Source of the encodings: Kafka's protocol guide ("Protocol Primitive Types") and KIP-482 (compact types, tagged fields).

Bytes that are read come from the network and are not trusted: every length is compared with the bytes that remain
before memory is allocated for it, and malformed bytes raise `ProtocolError` and no other error.
"""

import struct
import uuid
from collections.abc import Iterator, Sequence
from typing import Final, TypeAlias

Buffer: TypeAlias = bytes | bytearray | memoryview
"""Types of encoded bytes; memoryviews must be contiguous."""

ZERO_UUID: Final = uuid.UUID(int=0)
"""Kafka's "no id": uuids are never null on the wire."""

# Java refuses longer strings in both the plain and the compact form (the plain one has a signed 16-bit length).
MAX_STRING_BYTES: Final = 0x7FFF

# Java's limits since 4.4, too. Decoded values are far larger than their bytes: these limits alone do not bound memory.
MAX_ARRAY_LENGTH: Final = 1_000_000
MAX_TAGGED_FIELDS: Final = 10_000

_MAX_INT32: Final = 0x7FFF_FFFF
_INT64_MASK: Final = 0xFFFF_FFFF_FFFF_FFFF

_INT8: Final = struct.Struct(">b")
_INT16: Final = struct.Struct(">h")
_UINT16: Final = struct.Struct(">H")
_INT32: Final = struct.Struct(">i")
_UINT32: Final = struct.Struct(">I")
_INT64: Final = struct.Struct(">q")
_FLOAT64: Final = struct.Struct(">d")


class ProtocolError(ValueError):
    """Bytes that violate the protocol, or a value that the protocol (or that version) cannot encode."""


def unsupported_field(field: str, version: int) -> ProtocolError:
    """The error for a value that is not the default, in a field that `version` lacks and that may not be dropped."""
    return ProtocolError(f"{field} is set to a value other than its default, and version {version} cannot carry it")


def null_field(field: str, version: int) -> ProtocolError:
    """The error for None in a field that is not nullable in `version`."""
    return ProtocolError(f"{field} is None, and it is not nullable in version {version}")


class Reader:
    """Reads primitive values from a buffer, which is neither copied nor changed.

    `flexible` chooses between the plain and the compact encoding (KIP-482) of lengths.
    """

    __slots__ = ("_end", "_position", "_view")

    def __init__(self, buffer: Buffer) -> None:
        """Starts at the beginning of `buffer`."""
        view = memoryview(buffer)
        self._view = view if view.format == "B" and view.ndim == 1 else view.cast("B")
        self._position = 0
        self._end = self._view.nbytes

    @property
    def position(self) -> int:
        """How many bytes have been read."""
        return self._position

    @property
    def remaining(self) -> int:
        """How many bytes are left."""
        return self._end - self._position

    def end(self, what: str) -> None:
        """Raise `ProtocolError` if bytes are left after `what`."""
        if self._position != self._end:
            raise ProtocolError(f"{self._end - self._position} bytes are left over after {what}")

    def raw(self, size: int) -> memoryview:
        """The next `size` bytes, as a view of the buffer."""
        return self._view[self._advance(size) : self._position]

    def _advance(self, size: int) -> int:
        """Skip `size` bytes and return their position."""
        start = self._position
        if size < 0 or size > self._end - start:
            raise ProtocolError(f"{size} bytes are announced at byte {start}, {self._end - start} are left")
        self._position = start + size
        return start

    # Fixed width, big-endian.

    def boolean(self) -> bool:
        """One byte; as in Java, anything but zero is true."""
        return self._view[self._advance(1)] != 0

    def int8(self) -> int:
        """A signed byte."""
        value: int = _INT8.unpack_from(self._view, self._advance(1))[0]
        return value

    def int16(self) -> int:
        """A signed 16-bit integer."""
        value: int = _INT16.unpack_from(self._view, self._advance(2))[0]
        return value

    def uint16(self) -> int:
        """An unsigned 16-bit integer."""
        value: int = _UINT16.unpack_from(self._view, self._advance(2))[0]
        return value

    def int32(self) -> int:
        """A signed 32-bit integer."""
        value: int = _INT32.unpack_from(self._view, self._advance(4))[0]
        return value

    def uint32(self) -> int:
        """An unsigned 32-bit integer."""
        value: int = _UINT32.unpack_from(self._view, self._advance(4))[0]
        return value

    def int64(self) -> int:
        """A signed 64-bit integer."""
        value: int = _INT64.unpack_from(self._view, self._advance(8))[0]
        return value

    def float64(self) -> float:
        """A double-precision IEEE 754 number."""
        value: float = _FLOAT64.unpack_from(self._view, self._advance(8))[0]
        return value

    def uuid(self) -> uuid.UUID:
        """Sixteen bytes."""
        return uuid.UUID(bytes=bytes(self.raw(16)))

    # Variable width: seven bits per byte, the lowest first.

    def unsigned_varint(self) -> int:
        """An unsigned integer of at most 32 bits."""
        return self._varint(5, 0xFFFF_FFFF)

    def varint(self) -> int:
        """A zigzag-encoded signed integer of at most 32 bits."""
        value = self._varint(5, 0xFFFF_FFFF)
        return (value >> 1) ^ -(value & 1)

    def varlong(self) -> int:
        """A zigzag-encoded signed integer of at most 64 bits."""
        value = self._varint(10, _INT64_MASK)
        return (value >> 1) ^ -(value & 1)

    def _varint(self, max_bytes: int, max_value: int) -> int:
        view = self._view
        start = self._position
        if start < self._end and view[start] < 0x80:  # most values are small
            self._position = start + 1
            return view[start]
        value = 0
        for index in range(min(max_bytes, self._end - start)):
            byte = view[start + index]
            value |= (byte & 0x7F) << (7 * index)
            if byte < 0x80:
                if value > max_value:
                    raise ProtocolError(f"the variable-length integer at byte {start} is too large")
                self._position = start + index + 1
                return value
        raise ProtocolError(f"the variable-length integer at byte {start} does not end where it should")

    # Strings and bytes.

    def string(self, flexible: bool) -> str:
        """A UTF-8 string that is not null."""
        value = self.nullable_string(flexible)
        if value is None:
            raise ProtocolError(f"a string that is not nullable is null, before byte {self._position}")
        return value

    def nullable_string(self, flexible: bool) -> str | None:
        """A UTF-8 string or null."""
        size = self.unsigned_varint() - 1 if flexible else self.int16()
        if size < 0:
            self._check_null(size)
            return None
        if size > MAX_STRING_BYTES:
            raise ProtocolError(f"a string of {size} bytes is longer than {MAX_STRING_BYTES}")
        start = self._advance(size)
        try:
            return str(self._view[start : self._position], "utf-8")
        except UnicodeDecodeError as error:
            raise ProtocolError(f"the string at byte {start} is not UTF-8: {error.reason}") from None

    def data(self, flexible: bool) -> bytes:
        """Bytes that are not null, copied."""
        return bytes(self.records(flexible))

    def nullable_data(self, flexible: bool) -> bytes | None:
        """Bytes or null, copied."""
        view = self.nullable_records(flexible)
        return None if view is None else bytes(view)

    def records(self, flexible: bool) -> memoryview:
        """Record batches (or any bytes) that are not null, as a view of the buffer."""
        view = self.nullable_records(flexible)
        if view is None:
            raise ProtocolError(f"bytes that are not nullable are null, before byte {self._position}")
        return view

    def nullable_records(self, flexible: bool) -> memoryview | None:
        """Record batches (or any bytes) or null, as a view of the buffer: they can be megabytes."""
        size = self.unsigned_varint() - 1 if flexible else self.int32()
        if size < 0:
            self._check_null(size)
            return None
        return self.raw(size)

    def _check_null(self, size: int) -> None:
        if size != -1:
            raise ProtocolError(f"{size} is not a length, before byte {self._position}")

    # Arrays, tagged fields and nullable structs.

    def array_length(self, flexible: bool, element_size: int) -> int:
        """The number of elements in an array that is not null; each takes at least `element_size` bytes."""
        length = self.nullable_array_length(flexible, element_size)
        if length is None:
            raise ProtocolError(f"an array that is not nullable is null, before byte {self._position}")
        return length

    def nullable_array_length(self, flexible: bool, element_size: int) -> int | None:
        """The number of elements, or None for null; each takes at least `element_size` bytes (at least 1).

        The caller may allocate for that number: more elements than the remaining bytes can hold raise `ProtocolError`.
        """
        length = self.unsigned_varint() - 1 if flexible else self.int32()
        if length < 0:
            self._check_null(length)
            return None
        if length > MAX_ARRAY_LENGTH or length * element_size > self._end - self._position:
            raise ProtocolError(
                f"an array of {length} elements is announced, {self._end - self._position} bytes are left"
            )
        return length

    def is_present(self) -> bool:
        """The byte before a nullable struct: -1 for null."""
        return self.int8() >= 0

    def tagged_fields(self) -> "Iterator[tuple[int, Reader]]":
        """The tagged fields at the end of a flexible struct: tag, and a reader confined to the field's bytes."""
        for _ in range(self._tagged_field_count()):
            tag = self.unsigned_varint()
            yield tag, Reader(self.raw(self.unsigned_varint()))

    def skip_tagged_fields(self) -> None:
        """Skip the tagged fields at the end of a flexible struct that has no known ones."""
        for _ in range(self._tagged_field_count()):
            self.unsigned_varint()
            self._advance(self.unsigned_varint())

    def _tagged_field_count(self) -> int:
        count = self.unsigned_varint()
        # Each takes at least its tag and its size.
        if count > MAX_TAGGED_FIELDS or count * 2 > self._end - self._position:
            raise ProtocolError(f"{count} tagged fields are announced, {self._end - self._position} bytes are left")
        return count


class Writer:
    """Appends primitive values to a growing buffer; the counterpart of `Reader`.

    A value out of range raises `ProtocolError`; the buffer must not be used after that.
    """

    __slots__ = ("buffer",)

    def __init__(self) -> None:
        """Starts empty."""
        self.buffer = bytearray()

    def getvalue(self) -> bytes:
        """A copy of what was written."""
        return bytes(self.buffer)

    def raw(self, data: Buffer) -> None:
        """Bytes, unchanged."""
        self.buffer += data

    # Fixed width, big-endian.

    def boolean(self, value: bool) -> None:
        """One byte, 1 or 0."""
        self.buffer.append(1 if value else 0)

    def int8(self, value: int) -> None:
        """A signed byte."""
        self._pack(_INT8, value)

    def int16(self, value: int) -> None:
        """A signed 16-bit integer."""
        self._pack(_INT16, value)

    def uint16(self, value: int) -> None:
        """An unsigned 16-bit integer."""
        self._pack(_UINT16, value)

    def int32(self, value: int) -> None:
        """A signed 32-bit integer."""
        self._pack(_INT32, value)

    def uint32(self, value: int) -> None:
        """An unsigned 32-bit integer."""
        self._pack(_UINT32, value)

    def int64(self, value: int) -> None:
        """A signed 64-bit integer."""
        self._pack(_INT64, value)

    def float64(self, value: float) -> None:
        """A double-precision IEEE 754 number."""
        self._pack(_FLOAT64, value)

    def _pack(self, layout: struct.Struct, value: float) -> None:
        try:
            self.buffer += layout.pack(value)
        except struct.error as error:
            raise ProtocolError(f"{value!r} does not fit: {error}") from None

    def uuid(self, value: uuid.UUID) -> None:
        """Sixteen bytes."""
        self.buffer += value.bytes

    # Variable width: seven bits per byte, the lowest first.

    def unsigned_varint(self, value: int) -> None:
        """An unsigned integer of at most 32 bits."""
        if not 0 <= value <= 0xFFFF_FFFF:
            raise ProtocolError(f"{value} is not an unsigned 32-bit integer")
        self._varint(value)

    def varint(self, value: int) -> None:
        """A zigzag-encoded signed integer of at most 32 bits."""
        if not -0x8000_0000 <= value <= _MAX_INT32:
            raise ProtocolError(f"{value} is not a 32-bit integer")
        self._varint((value << 1) ^ (value >> 31))

    def varlong(self, value: int) -> None:
        """A zigzag-encoded signed integer of at most 64 bits."""
        if not -(1 << 63) <= value < 1 << 63:
            raise ProtocolError(f"{value} is not a 64-bit integer")
        self._varint((value << 1) ^ (value >> 63))

    def _varint(self, value: int) -> None:
        buffer = self.buffer
        while value > 0x7F:
            buffer.append((value & 0x7F) | 0x80)
            value >>= 7
        buffer.append(value)

    # Strings and bytes.

    def string(self, value: str, flexible: bool) -> None:
        """A UTF-8 string."""
        try:
            encoded = value.encode("utf-8")
        except UnicodeEncodeError as error:
            raise ProtocolError(f"{value!r} cannot be encoded as UTF-8: {error.reason}") from None
        if len(encoded) > MAX_STRING_BYTES:
            raise ProtocolError(f"a string of {len(encoded)} bytes is longer than {MAX_STRING_BYTES}")
        if flexible:
            self._varint(len(encoded) + 1)
        else:
            self.int16(len(encoded))
        self.buffer += encoded

    def nullable_string(self, value: str | None, flexible: bool) -> None:
        """A UTF-8 string or null."""
        if value is not None:
            self.string(value, flexible)
        elif flexible:
            self._varint(0)
        else:
            self.int16(-1)

    def data(self, value: Buffer, flexible: bool) -> None:
        """Bytes, record batches among them."""
        self._length(memoryview(value).nbytes, flexible)
        self.buffer += value

    def nullable_data(self, value: Buffer | None, flexible: bool) -> None:
        """Bytes, record batches among them, or null."""
        if value is None:
            self.null(flexible)
        else:
            self.data(value, flexible)

    # Arrays, tagged fields and nullable structs.

    def array_length(self, length: int, flexible: bool) -> None:
        """The number of elements that the caller writes next."""
        self._length(length, flexible)

    def null(self, flexible: bool) -> None:
        """Null in place of an array or of bytes."""
        if flexible:
            self._varint(0)
        else:
            self.int32(-1)

    def _length(self, length: int, flexible: bool) -> None:
        if length > _MAX_INT32 - 1:
            raise ProtocolError(f"a length of {length} is more than the protocol can carry")
        if flexible:
            self._varint(length + 1)
        else:
            self.int32(length)

    def presence(self, present: bool) -> None:
        """The byte before a nullable struct."""
        self.int8(1 if present else -1)

    def tagged_fields(self, fields: "Sequence[tuple[int, Writer]]" = ()) -> None:
        """The tagged fields that end a flexible struct, in ascending order of their tags."""
        self._varint(len(fields))
        for tag, field in fields:
            self._varint(tag)
            self._varint(len(field.buffer))
            self.buffer += field.buffer
