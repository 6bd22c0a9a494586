"""Plain values as bytes: canonically for digests, and in the dicts' own order for snapshots.

Both are msgpack with these choices: tuples as extension 1 (a packed list), integers beyond 64 bits as extension 2
(signed, big-endian), every NaN the same, msgpack timestamps as they are. Sets have no order and are refused. Canonical
besides: dicts sorted by key (by text when all keys are str, else by encoded key), so that equal states give equal bytes
in any process. A snapshot must keep the order: a handler that iterates over a dict would else see another one after it.
"""

from __future__ import annotations

from hashlib import blake2b
from typing import Any, Final

import msgpack

DIGEST_BYTES: Final = 16
DEPTH_MAX: Final = 128  # levels of nesting; an author's state, twice as deep as any command
_TUPLE: Final = 1
_BIG_INT: Final = 2
_NAN: Final = float("nan")
_ATOMS: Final = frozenset({str, bytes, bool, type(None), msgpack.Timestamp})
_SMALL: Final = range(-(1 << 63), 1 << 64)


def encode_canonical(value: Any) -> bytes:
    """The value's only encoding, whatever the order in which its dicts were filled.

    Raises:
        TypeError: something in it is not plain data (None, bool, int, float, str, bytes, list, tuple, dict).
        ValueError: nested deeper than DEPTH_MAX.
    """
    packed: bytes = msgpack.packb(canonical(value))
    return packed


def encode_ordered(value: Any) -> bytes:
    """The value with its dicts in their own order. Raises what `encode_canonical` raises."""
    packed: bytes = msgpack.packb(_plain(value, 0, in_order=True))
    return packed


def decode_plain(data: bytes) -> Any:
    """The value that `encode_canonical` or `encode_ordered` gave these bytes for.

    Raises:
        ValueError: not such bytes.
    """
    try:
        return msgpack.unpackb(data, ext_hook=_extension, strict_map_key=False)
    except (TypeError, msgpack.UnpackException) as error:
        raise ValueError(f"not an encoded value: {error}") from None


def canonical(value: Any) -> Any:
    """An equal value in the form that msgpack packs canonically. Raises what `encode_canonical` raises."""
    return _plain(value, 0, in_order=False)


def digest(value: Any) -> bytes:
    """BLAKE2b-128 of the canonical encoding. Raises what `encode_canonical` raises."""
    return blake2b(encode_canonical(value), digest_size=DIGEST_BYTES).digest()


def _plain(value: Any, depth: int, *, in_order: bool) -> Any:
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
    deeper = depth + 1
    if kind is dict:
        if set(map(type, value)) == {str}:
            keys = value if in_order else sorted(value)
            return {key: _plain(value[key], deeper, in_order=in_order) for key in keys}
        keys = value if in_order else sorted(value, key=encode_canonical)
        return {_plain(key, deeper, in_order=in_order): _plain(value[key], deeper, in_order=in_order) for key in keys}
    if kind is list or kind is tuple:
        known = _ATOMS.issuperset(map(type, value))
        plain = value if known else [_plain(item, deeper, in_order=in_order) for item in value]
        return plain if kind is list else msgpack.ExtType(_TUPLE, msgpack.packb(plain))
    raise TypeError(f"{kind.__name__} is not plain data: None, bool, int, float, str, bytes, list, tuple, dict are")


def _extension(code: int, data: bytes) -> Any:
    if code == _TUPLE:
        return tuple(decode_plain(data))
    if code == _BIG_INT:
        return int.from_bytes(data, "big", signed=True)
    raise ValueError(f"unknown extension {code}")
