"""One encoding for each plain value: equal states give equal bytes, in any process, whatever the order of insertion.

The bytes are msgpack, decodable as such, with these choices: dicts sorted by key (by text when all keys are str, else
by encoded key), tuples as extension 1 (a packed list), integers beyond 64 bits as extension 2 (signed, big-endian),
every NaN the same, msgpack timestamps as they are. Sets have no order and are refused.
"""

from __future__ import annotations

from hashlib import blake2b
from typing import Any, Final

import msgpack

DIGEST_BYTES: Final = 16
DEPTH_MAX: Final = 200  # levels of nesting; an author's state, deeper than any command
_TUPLE: Final = 1
_BIG_INT: Final = 2
_NAN: Final = float("nan")
_ATOMS: Final = frozenset({str, bytes, bool, type(None), msgpack.Timestamp})
_SMALL: Final = range(-(1 << 63), 1 << 64)


def encode_canonical(value: Any) -> bytes:
    """The value's only encoding.

    Raises:
        TypeError: something in it is not plain data (None, bool, int, float, str, bytes, list, tuple, dict).
        ValueError: nested deeper than DEPTH_MAX.
    """
    packed: bytes = msgpack.packb(_plain(value, 0))
    return packed


def decode_canonical(data: bytes) -> Any:
    """The value that `encode_canonical` gave these bytes for.

    Raises:
        ValueError: not such bytes.
    """
    try:
        return msgpack.unpackb(data, ext_hook=_extension, strict_map_key=False)
    except (TypeError, msgpack.UnpackException) as error:
        raise ValueError(f"not a canonical encoding: {error}") from None


def digest(value: Any) -> bytes:
    """BLAKE2b-128 of the canonical encoding. Raises what `encode_canonical` raises."""
    return blake2b(encode_canonical(value), digest_size=DIGEST_BYTES).digest()


def _plain(value: Any, depth: int) -> Any:
    kind = type(value)
    if kind in _ATOMS:
        return value
    if kind is int:
        if value in _SMALL:
            return value
        return msgpack.ExtType(_BIG_INT, value.to_bytes(value.bit_length() // 8 + 1, "big", signed=True))
    if kind is float:
        return value if value == value else _NAN
    if depth >= DEPTH_MAX:
        raise ValueError(f"nested deeper than {DEPTH_MAX}")
    if kind is dict:
        if set(map(type, value)) == {str}:
            return {key: _plain(value[key], depth + 1) for key in sorted(value)}
        return {_plain(key, depth + 1): _plain(value[key], depth + 1) for key in sorted(value, key=encode_canonical)}
    if kind is list or kind is tuple:
        plain = value if _ATOMS.issuperset(map(type, value)) else [_plain(item, depth + 1) for item in value]
        return plain if kind is list else msgpack.ExtType(_TUPLE, msgpack.packb(plain))
    raise TypeError(f"{kind.__name__} is not plain data: None, bool, int, float, str, bytes, list, tuple, dict are")


def _extension(code: int, data: bytes) -> Any:
    if code == _TUPLE:
        return tuple(decode_canonical(data))
    if code == _BIG_INT:
        return int.from_bytes(data, "big", signed=True)
    raise ValueError(f"unknown extension {code}")
