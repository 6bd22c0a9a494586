"""Commands out of a record's payload: bounded in size, nesting and types, decoded whole or not at all."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from contextlib import suppress
from itertools import chain
from operator import add
from typing import Any, Final

import msgpack

from mcast.errors import DecodeError
from mcast.limits import COMMAND_BYTES_MAX, COMMAND_DEPTH_MAX, VALUES_MAX
from mcast.machine.plain import ATOMS, FIXARRAY_MAX, LISTS, unpack, unpack_few
from mcast.wire.values import SMALL_BYTES, bound_values_untrusted

_ARRAY: Final = struct.Struct("!BI")
_ARRAY_32: Final = 0xDD
_CONTAINERS: Final = frozenset({*range(0x80, 0xA0), *range(0xDC, 0xE0)})
_NOT_CONTAINERS: Final = bytes(sorted(set(range(256)) - _CONTAINERS))
_ARRAYS: Final = bytes([*range(0x90, 0xA0), 0xDC, 0xDD])
_EXTENSIONS: Final = frozenset({0xC7, 0xC8, 0xC9, *range(0xD4, 0xD9)})
_NEITHER: Final = bytes(sorted(set(range(256)) - _CONTAINERS - _EXTENSIONS))
FEW: Final = 64  # items of a container for which room is made uncounted; a thousand inside each other cost 0.1 ms
LARGE_BYTES: Final = 200  # of a command: beyond, to look at what it holds is cheaper than to look at its bytes
_SMALL_ARRAY: Final = [bytes([0x90 | count]) for count in range(FIXARRAY_MAX + 1)]
"""The headers of arrays of so many items."""
_NOT_MSGPACK: Final = (ValueError, TypeError, msgpack.UnpackException)


def encode_command(name: str, *arguments: Any) -> bytes:
    """One command's bytes, as a client packs it.

    Raises:
        TypeError, ValueError, OverflowError: an argument that msgpack has no form for.
    """
    packed: bytes = msgpack.packb([name, *arguments])
    return packed


def decode_commands_untrusted(payload: bytes | memoryview, count: int) -> list[Any]:
    """Exactly `count` values, each meant to be a fresh list [name, argument, ...]; that is not checked here.

    Raises:
        DecodeError: too long, not that many msgpack values, or more than VALUES_MAX with those that they hold, nested
            too deeply, or with an extension type.
    """
    if len(payload) > COMMAND_BYTES_MAX:
        raise DecodeError("command too long", f"{len(payload)} of at most {COMMAND_BYTES_MAX} bytes")
    if count == 1:
        try:
            command: Any = _unpack_bounded(payload, 1)
        except _NOT_MSGPACK as error:
            raise DecodeError("bad command", type(error).__name__) from None
        if not (command.__class__ is list and ATOMS.issuperset(map(type, command))):
            _check_depth([command])
        return [command]
    data = b"".join((_ARRAY.pack(_ARRAY_32, count), payload))
    try:
        commands: list[Any] = _unpack_bounded(data, count)
    except _NOT_MSGPACK as error:
        raise DecodeError("bad command", type(error).__name__) from None
    # Cheap and almost always enough: of lists, no value can be nested deeper than there are other container headers in
    # the bytes. If commands are large, looking at what they hold is cheaper.
    if not LISTS.issuperset(map(type, commands)):
        shallow = False
    elif len(data) > count * LARGE_BYTES:
        shallow = ATOMS.issuperset(map(type, chain.from_iterable(commands)))
    else:
        shallow = _container_headers(data) <= count + COMMAND_DEPTH_MAX
    if not shallow:
        _check_depth(commands)
    return commands


def decode_small_records_untrusted(payloads: Sequence[bytes], counts: Sequence[int]) -> list[Any] | None:
    """The commands, in order, of records with at most FIXARRAY_MAX each, as `decode_commands_untrusted` gives them.

    None says nothing about them: they are to be decoded one record at a time.
    """
    try:
        decode = unpack if max(map(len, payloads)) <= SMALL_BYTES else _unpack_bounded
        if max(counts) == 1:
            commands = list(map(decode, payloads))
        else:
            arrays = map(add, map(_SMALL_ARRAY.__getitem__, counts), payloads)
            commands = list(chain.from_iterable(map(decode, arrays)))
    except (*_NOT_MSGPACK, DecodeError):
        return None
    if not LISTS.issuperset(map(type, commands)):
        return None
    return commands if ATOMS.issuperset(map(type, chain.from_iterable(commands))) or not _too_deep(commands) else None


def _unpack_bounded(packed: bytes | memoryview, items: int = FIXARRAY_MAX) -> Any:
    """As `unpack`, but room for containers larger than FEW, and than `items`, is made only once all have been counted.

    Raises DecodeError besides: too many values.
    """
    if len(packed) <= SMALL_BYTES:
        return unpack(packed)
    if len(packed) <= VALUES_MAX:  # else even small ones may be too many
        with suppress(ValueError):  # a larger one, among other things
            return unpack_few(packed, max(items, FEW))
    bound_values_untrusted(packed, VALUES_MAX)
    return unpack(packed)


def looks_decodable(packed: bytes, count: int) -> bool:
    """Whether the bytes of `count` commands, as a client packed them, show that `why_undecodable` is None.

    They do if they hold no byte that may be the header of a map, whose keys may be lists, or of an extension, and if
    the headers of arrays besides the commands' own are too few for an array nested too deeply.
    """
    headers = packed.translate(None, _NEITHER)
    return len(headers) - count < COMMAND_DEPTH_MAX and not headers.translate(None, _ARRAYS)


def why_undecodable(packed: bytes, count: int) -> str | None:
    """Why replicas would not take these commands as a client packed them; None if they would."""
    try:
        commands = [unpack(packed)] if count == 1 else unpack(b"".join((_ARRAY.pack(_ARRAY_32, count), packed)))
    except TypeError:
        return "a key of a dict must not hold others, as a tuple does"
    except (ValueError, msgpack.UnpackException) as error:
        return str(error)
    too_deep = _container_headers(packed) - count >= COMMAND_DEPTH_MAX and _too_deep(commands)
    return f"nested deeper than {COMMAND_DEPTH_MAX} levels" if too_deep else None


def _container_headers(packed: bytes) -> int:
    """How many bytes of it may be headers of containers: no value in it is nested more deeply than that."""
    return len(packed.translate(None, _NOT_CONTAINERS))


def _check_depth(commands: list[Any]) -> None:
    if _too_deep(commands):
        raise DecodeError("bad command", f"nested deeper than {COMMAND_DEPTH_MAX} levels")


def _too_deep(values: list[Any]) -> bool:
    level: list[Any] = values
    for _ in range(COMMAND_DEPTH_MAX + 1):
        if ATOMS.issuperset(map(type, level)):
            return False
        deeper: list[Any] = []
        for value in level:
            if value.__class__ is list:
                deeper += value
            elif value.__class__ is dict:
                deeper += value.values()
        if not deeper:
            return False
        level = deeper
    return True
