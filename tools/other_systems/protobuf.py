"""As much of protobuf's encoding as etcd's puts, watches and status need: varints and length-prefixed fields."""

from __future__ import annotations

from collections.abc import Iterator


def varint(value: int) -> bytes:
    """An unsigned number."""
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


def number(field: int, value: int) -> bytes:
    """A field that is a number."""
    return varint(field << 3) + varint(value)


def blob(field: int, value: bytes) -> bytes:
    """A field that is bytes, text or a message."""
    return varint(field << 3 | 2) + varint(len(value)) + value


def fields(data: bytes) -> Iterator[tuple[int, int | bytes]]:
    """Number and value of each field of a message. Raises ValueError for what is none."""
    at = 0
    while at < len(data):
        key, at = _varint(data, at)
        value, at = _varint(data, at)
        if key & 7 == 2:
            end = at + value
            if end > len(data):
                raise ValueError("a field is cut off")
            yield key >> 3, data[at:end]
            at = end
        elif key & 7 == 0:
            yield key >> 3, value
        else:
            raise ValueError(f"a field of kind {key & 7}")


def _varint(data: bytes, at: int) -> tuple[int, int]:
    value = shift = 0
    while at < len(data):
        byte = data[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, at
        shift += 7
    raise ValueError("a number is cut off")
