"""What commands and outcomes are made of: msgpack without extension types, timestamps excepted."""

from __future__ import annotations

from typing import Any, Final, NoReturn

import msgpack

ATOMS: Final = frozenset({int, str, bool, type(None), float, bytes})
"""Types of values that hold no others."""
LISTS: Final = frozenset({list})
FIXARRAY_MAX: Final = 15  # items of an array whose header takes one byte; up to 65,535 it takes three


_unpackb: Final = msgpack.unpackb


def _no_extension(code: int, _data: bytes) -> NoReturn:
    raise ValueError(f"extension type {code}")


def unpack(packed: bytes | memoryview) -> Any:
    """The one value in these bytes. Raises what `msgpack.unpackb` raises, ValueError for an extension type."""
    return _unpackb(packed, strict_map_key=False, ext_hook=_no_extension)  # in less time than a `partial` of it takes


def unpack_few(packed: bytes | memoryview, items: int) -> Any:
    """As `unpack`; ValueError for a container of more than so many items, before room for them is made."""
    return _unpackb(packed, strict_map_key=False, ext_hook=_no_extension, max_array_len=items, max_map_len=items)
