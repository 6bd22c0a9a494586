"""Bytes <-> fields for control messages: one bounds-checked cursor, and a layout read off each message's annotations.

A message is a frozen, slotted dataclass whose fields are annotated with the types below. Its bytes are its fields in
order, network order, nothing between them. A tuple is annotated with the most items it may have and stands as a count
(2 bytes) and its items; text and blobs as a size (2 bytes) and their bytes. Decoding raises DecodeError and nothing
else, refuses trailing bytes, and takes only what encoding gives: one value, one byte string.

A message with a method `problem() -> str` is asked after decoding; words there mean refusal.
"""

from __future__ import annotations

import dataclasses
import struct
from collections.abc import Callable
from itertools import groupby
from operator import attrgetter
from typing import Annotated, Any, Final, get_args, get_origin, get_type_hints

from mcast.errors import DecodeError
from mcast.limits import EPOCH_MAX, FRAME_BODY_BYTES_MAX, NAME_BYTES_MAX, SEQ_MAX

U32 = Annotated[int, struct.Struct("!I")]
U64 = Annotated[int, struct.Struct("!Q")]
Seq = Annotated[int, struct.Struct("!Q"), SEQ_MAX]
Epoch = Annotated[int, struct.Struct("!Q"), EPOCH_MAX]
Flag = Annotated[bool, struct.Struct("!B"), 1]
Bytes16 = Annotated[bytes, struct.Struct("!16s")]
Text = str
Blob = bytes
Data = bytes | bytearray | memoryview

_COUNT: Final = struct.Struct("!H")


class Reader:
    """A cursor over untrusted bytes; every overrun is a DecodeError."""

    __slots__ = ("_at", "_data")

    def __init__(self, data: Data) -> None:
        self._data = data
        self._at = 0

    def take(self, size: int) -> bytes:
        """The next `size` bytes."""
        end = self._at + size
        if end > len(self._data):
            raise DecodeError("short message", f"{len(self._data) - self._at} of {size} bytes")
        taken = bytes(self._data[self._at : end])
        self._at = end
        return taken

    def unpack(self, layout: struct.Struct) -> tuple[Any, ...]:
        """The next fields of a struct."""
        at, end = self._at, self._at + layout.size
        if end > len(self._data):
            raise DecodeError("short message", f"{len(self._data) - at} of {layout.size} bytes")
        self._at = end
        return layout.unpack_from(self._data, at)

    def end(self) -> None:
        """Raise DecodeError if bytes are left."""
        if self._at != len(self._data):
            raise DecodeError("trailing bytes", str(len(self._data) - self._at))


@dataclasses.dataclass(frozen=True, slots=True)
class _Codec:
    encode: Callable[[Any], bytes]
    decode: Callable[[Reader], Any]
    decode_untrusted: Callable[[Data], Any]
    """What a value's bytes, and nothing more, say. Raises DecodeError."""


def _codec(encode: Callable[[Any], bytes], decode: Callable[[Reader], Any]) -> _Codec:
    def decode_untrusted(data: Data) -> Any:
        reader = Reader(data)
        value = decode(reader)
        reader.end()
        return value

    return _Codec(encode, decode, decode_untrusted)


def _sized(limit: int) -> _Codec:
    def encode(data: bytes) -> bytes:
        assert len(data) <= limit, f"{len(data)} bytes in a field of at most {limit}"
        return _COUNT.pack(len(data)) + data

    def decode(reader: Reader) -> bytes:
        (size,) = reader.unpack(_COUNT)
        if size > limit:
            raise DecodeError("field too long", f"{size} of at most {limit} bytes")
        return reader.take(size)

    return _codec(encode, decode)


def _text() -> _Codec:
    sized = _sized(NAME_BYTES_MAX)

    def decode(reader: Reader) -> str:
        try:
            return str(sized.decode(reader), "utf-8")
        except UnicodeDecodeError as error:
            raise DecodeError("bad text", error.reason) from None

    return _codec(lambda text: sized.encode(text.encode()), decode)


def _many(item: _Codec, limit: int) -> _Codec:
    def encode(items: tuple[Any, ...]) -> bytes:
        assert len(items) <= limit, f"{len(items)} items in a field of at most {limit}"
        return _COUNT.pack(len(items)) + b"".join(map(item.encode, items))

    def decode(reader: Reader) -> tuple[Any, ...]:
        (count,) = reader.unpack(_COUNT)
        if count > limit:
            raise DecodeError("field too long", f"{count} of at most {limit} items")
        return tuple([item.decode(reader) for _ in range(count)])

    return _codec(encode, decode)


def _fixed(names: list[str], hints: list[Any]) -> _Codec:
    """A run of fixed-size fields as one struct; encodes and decodes a tuple of their values."""
    whole, limits, flags = _struct(hints)

    def decode(reader: Reader) -> tuple[Any, ...]:
        values = reader.unpack(whole)
        for at, limit in limits:
            if values[at] > limit:
                raise _beyond(names[at], values[at], limit)
        return _with_flags(values, flags) if flags else values

    return _codec(lambda values: whole.pack(*values), decode)


def _struct(hints: list[Any]) -> tuple[struct.Struct, list[tuple[int, int]], list[int]]:
    """Fixed-size fields as one struct; where in it which limits hold, and which are flags."""
    arguments = [get_args(hint) for hint in hints]
    whole = struct.Struct("!" + "".join(layout.format.lstrip("!") for _, layout, *_ in arguments))
    limits = [(at, limit[0]) for at, (_, _, *limit) in enumerate(arguments) if limit]
    return whole, limits, [at for at, (kind, *_) in enumerate(arguments) if kind is bool]


def _beyond(name: str, value: int, limit: int) -> DecodeError:
    return DecodeError("bad field", f"{name} {value}, at most {limit}")


def _with_flags(values: tuple[Any, ...], flags: list[int]) -> tuple[Any, ...]:
    return tuple([bool(value) if at in flags else value for at, value in enumerate(values)])


def _variable(hint: Any) -> _Codec:
    if hint is str:
        return _text()
    if hint is bytes:
        return _sized(FRAME_BODY_BYTES_MAX)
    if get_origin(hint) is Annotated:
        items, limit = get_args(hint)
        return _many(codec_for(get_args(items)[0]), limit)
    return codec_for(hint)


def _is_fixed(hint: Any) -> bool:
    return get_origin(hint) is Annotated and isinstance(get_args(hint)[1], struct.Struct)


def _single(message: type, names: list[str], hints: list[Any]) -> _Codec:
    """The codec of a message that is nothing but one struct, as those are that come most often."""
    values_of, whole, limits, flags = attrgetter(*names), *_struct(hints)

    def make(values: tuple[Any, ...]) -> Any:
        for at, limit in limits:
            if values[at] > limit:
                raise _beyond(names[at], values[at], limit)
        return message(*(_with_flags(values, flags) if flags else values))

    def decode_untrusted(data: Data) -> Any:
        if len(data) != whole.size:
            reason = "short message" if len(data) < whole.size else "trailing bytes"
            raise DecodeError(reason, f"{len(data)} of {whole.size} bytes")
        return make(whole.unpack(data))

    return _Codec(
        lambda value: whole.pack(*values_of(value)), lambda reader: make(reader.unpack(whole)), decode_untrusted
    )


def codec_for(message: type) -> _Codec:
    """The codec of a dataclass, from its annotations: runs of fixed-size fields become one struct each."""
    hints = get_type_hints(message, include_extras=True)
    fields = [field.name for field in dataclasses.fields(message)]
    parts: list[tuple[bool, list[str], _Codec]] = []
    for fixed, group in groupby(fields, key=lambda name: _is_fixed(hints[name])):
        names = list(group)
        if fixed:
            parts.append((True, names, _fixed(names, [hints[name] for name in names])))
        else:
            parts.extend((False, [name], _variable(hints[name])) for name in names)
    problem: Callable[[Any], str] | None = getattr(message, "problem", None)
    if len(parts) == 1 and parts[0][0] and len(fields) > 1 and problem is None:
        return _single(message, fields, [hints[name] for name in fields])

    def encode(value: Any) -> bytes:
        return b"".join([
            codec.encode([getattr(value, name) for name in names] if run else getattr(value, names[0]))
            for run, names, codec in parts
        ])  # fmt: skip

    def decode(reader: Reader) -> Any:
        values: list[Any] = []
        for run, _, codec in parts:
            if run:
                values += codec.decode(reader)
            else:
                values.append(codec.decode(reader))
        decoded = message(*values)
        if problem is not None and (words := problem(decoded)):
            raise DecodeError("bad field", words)
        return decoded

    return _codec(encode, decode)
