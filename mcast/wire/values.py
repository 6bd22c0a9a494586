"""How many values packed bytes hold, counted without building any: what is small on the wire may be large in memory.

An empty list takes one byte packed and sixty unpacked, and a head of five bytes can announce four billion items, for
which room is made before they are missed. Most bytes need no counting: n of them hold n values at most, and to announce
much more than there is takes many heads of large containers.

Values are passed over in runs, by a regular expression, for that is what Python has at the speed of C.
"""

from __future__ import annotations

import re
from struct import Struct
from typing import Final

from mcast.errors import DecodeError

SMALL_BYTES: Final = 256  # of packed values: whatever they announce, room for it is made in less than 0.1 ms
LARGE_HEADS_MAX: Final = 16  # that may be heads of large containers, in bytes that are not looked at further
STEPS_MAX: Final = 16_384  # long strings passed over; honest bytes of 4 MiB do not hold more
LARGE_MIN: Final = 16  # items of a container that takes a large head, as packers choose it
_RUN_MAX: Final = 4_096  # values matched at a time

_FIXARRAYS: Final = range(0x91, 0xA0)
_FIXMAPS: Final = range(0x81, 0x90)
_ONE_BYTE: Final = bytes([*range(0x81), 0x90, 0xA0, 0xC0, 0xC1, 0xC2, 0xC3, *range(0xE0, 0x100)])
_SIZED: Final = {
    1: b"\xcc\xd0", 2: b"\xcd\xd1\xd4", 4: b"\xca\xce\xd2", 8: b"\xcb\xcf\xd3", 3: b"\xd5", 5: b"\xd6", 9: b"\xd7",
    17: b"\xd8",
}  # fmt: skip
"""Heads of numbers and of the smaller extensions, by how many bytes follow."""
_LARGE: Final = b"\xdc\xdd\xde\xdf"
_LENGTH: Final = {
    **dict.fromkeys((0xC4, 0xC7, 0xD9), Struct("!B")), **dict.fromkeys((0xC5, 0xC8, 0xDA, 0xDC, 0xDE), Struct("!H")),
    **dict.fromkeys((0xC6, 0xC9, 0xDB, 0xDD, 0xDF), Struct("!I")),
}  # fmt: skip
_EXTENSIONS: Final = frozenset({0xC7, 0xC8, 0xC9})
_WEIGHTS: Final = bytes([(head & 0x0F) << (head in _FIXMAPS) if 0x80 < head < 0xA0 else 0 for head in range(256)])
"""How many items the head of a small container announces."""


def _but(heads: bytes | range) -> bytes:
    return bytes(sorted(set(range(256)) - set(heads)))


def _set(heads: bytes | range) -> bytes:
    return b"[" + b"".join(b"\\x%02x" % head for head in heads) + b"]"


def _short_strings() -> bytes:
    """Those with a length of one byte, their lengths told apart in two steps."""
    blocks = []
    for block in range(0, 256, 16):
        lengths = [b"\\x%02x.{%d}" % (length, length) for length in range(block, block + 16)]
        blocks.append(b"(?=%s)(?:%s)" % (_set(range(block, block + 16)), b"|".join(lengths)))
    return _set(b"\xc4\xd9") + b"(?:%s)" % b"|".join(blocks)


_NOT_LARGE: Final = _but(_LARGE)
_NOT_SMALL: Final = _but(bytes([*_FIXARRAYS, *_FIXMAPS]))
_SEVERAL_BYTES: Final = b"|".join([
    *(_set(heads) + b".{%d}" % size for size, heads in _SIZED.items()),
    *(b"\\x%02x.{%d}" % (0xA0 | size, size) for size in range(1, 32)),
    _short_strings(),
])  # fmt: skip
_STRINGS: Final = re.compile(_SEVERAL_BYTES, re.DOTALL)
_SINGLE: Final = _set(_ONE_BYTE + bytes([*_FIXARRAYS, *_FIXMAPS]))
_RUN: Final = re.compile(b"(?:%s++|%s){1,%d}+" % (_SINGLE, _SEVERAL_BYTES, _RUN_MAX), re.DOTALL)


def bound_values_untrusted(packed: bytes | memoryview, most: int) -> None:
    """Raise DecodeError if packed values hold, or announce, more than `most` others, or more than there are bytes.

    That they can be unpacked is not checked.
    """
    if len(packed) <= SMALL_BYTES:
        return
    packed = bytes(packed)
    if len(packed) <= most and (
        not (b"\xdc" in packed or b"\xdd" in packed or b"\xde" in packed or b"\xdf" in packed)
        or len(packed.translate(None, _NOT_LARGE)) <= LARGE_HEADS_MAX
    ):
        return
    most = min(most, len(packed))
    if _exceed(packed, most, exactly=False) and _exceed(packed, most, exactly=True):
        raise DecodeError("too many values", f"more than {most}, or than there can be in {len(packed)} bytes")


def _exceed(packed: bytes, most: int, *, exactly: bool) -> bool:
    """Whether containers announce more than `most` items; what cannot be unpacked at all does not.

    If not `exactly`, letters that look like heads of small containers count as those, which is quicker to see.
    """
    at, end, announced, passed, run = 0, len(packed), 0, 0, _RUN.match
    for _ in range(STEPS_MAX + most // LARGE_MIN):
        while (found := run(packed, at)) is not None:
            values = packed[at : found.end()]
            heads = _STRINGS.sub(b"", values) if exactly else values
            announced += sum(heads.translate(_WEIGHTS, _NOT_SMALL))
            at = found.end()
            if announced > most or at == end:
                return announced > most
            if passed > announced + most:
                return False  # more than were announced: they belong to nothing
            passed += _RUN_MAX
        passed = max(passed - _RUN_MAX, 0)  # only a run that another one follows is that long
        head, at = packed[at], at + 1
        length = _LENGTH.get(head)
        if length is None or at + length.size > end:
            return False
        (size,) = length.unpack_from(packed, at)
        at += length.size
        if head not in _LARGE:
            at += size + (head in _EXTENSIONS)
        else:
            announced += size if head < _LARGE[2] else 2 * size
        if announced > most or at >= end:
            return announced > most
    return True
