"""Records: one client's consecutive commands, packed; and the fabric's own internal events.

    offset  size  field
         0     1  kind
         1     3  reserved, zero
         4     4  count: events in the record, at least 1
         8     8  session: the id its OPEN was given; 0 in OPEN and internal records
        16     8  request: number of the record's first command in its session, from 1
        24     8  lowest: lowest request number whose outcome the client still waits for; never above `request`
        32     4  length: of the payload in bytes
        36     -  payload

The sequencer copies records and never decodes a payload. Payloads: COMMANDS, `count` msgpack arrays
`[name, arg, ...]`; FRAGMENT, index u32, total u32 and a slice of one such array (count 1, every fragment under the same
request number); OPEN, a 16-byte nonce; NOOP and CLOSE, nothing; GENESIS, CONFIG, EPOCH_START and RECOVERY, see
`messages`.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from enum import IntEnum
from functools import partial
from typing import Final, NamedTuple

from mcast.errors import DecodeError
from mcast.limits import COMMAND_BYTES_MAX, SEQ_MAX

_LAYOUT: Final = struct.Struct("!IIQQQI")  # kind and reserved as one word
_FRAGMENT: Final = struct.Struct("!II")
_COUNT: Final = struct.Struct("!I").unpack_from
RECORD_HEADER_BYTES: Final = _LAYOUT.size
FRAGMENT_HEADER_BYTES: Final = _FRAGMENT.size
NONCE_BYTES: Final = 16
KIND_BITS: Final = 24  # by which the first word holds the kind; nothing else may be in it
VIEW_BYTES: Final = 8_192  # of a payload: less is copied in less time than it takes to make a view of it
unpack_record_head: Final = _LAYOUT.unpack_from
"""(buffer, at): kind and reserved as one word, count, session, request, lowest, length; unchecked."""


class RecordKind(IntEnum):
    """What a record holds. From GENESIS on: written by the fabric itself, never by a client."""

    COMMANDS = 1
    FRAGMENT = 2
    NOOP = 3
    OPEN = 4
    CLOSE = 5
    GENESIS = 16
    EPOCH_START = 17
    CONFIG = 18
    RECOVERY = 19


CLIENT_KINDS: Final = frozenset(
    {RecordKind.COMMANDS, RecordKind.FRAGMENT, RecordKind.NOOP, RecordKind.OPEN, RecordKind.CLOSE}
)


class Record(NamedTuple):
    """One decoded record header; `payload` is a view of the bytes it came from."""

    kind: int
    count: int  # type: ignore[assignment] # a field hides tuple.count, which a record has no use for
    session: int
    request: int
    lowest: int
    payload: memoryview


def encode_record(  # noqa: PLR0913 - one argument a header field
    kind: RecordKind, count: int, session: int, request: int, lowest: int, payload: bytes
) -> bytes:
    """One record's bytes."""
    return _LAYOUT.pack(kind << KIND_BITS, count, session, request, lowest, len(payload)) + payload


def record_count(record: bytes) -> int:
    """How many events an encoded record holds."""
    return _COUNT(record, 4)[0]  # type: ignore[no-any-return]


def decode_records_untrusted(body: bytes | memoryview) -> Iterator[Record]:
    """Every record of a frame's body, in order.

    Raises:
        DecodeError: an unknown kind, a length beyond the body, a count that does not fit the kind, or numbers outside
            their bounds. Records before the bad one have been given by then.
    """
    records, flaw = _scan(body)
    yield from records
    if flaw is not None:
        raise flaw


def list_records_untrusted(body: bytes | memoryview) -> list[Record]:
    """As `decode_records_untrusted`, but all of them or nothing."""
    records, flaw = _scan(body)
    if flaw is not None:
        raise flaw
    return records


def sole_commands_untrusted(body: bytes) -> tuple[int, int, int, int, int, bytes | memoryview] | None:
    """The fields of the record, where a body is exactly one good record of COMMANDS.

    None says nothing about the body: `list_records_untrusted` does.
    """
    if len(body) < RECORD_HEADER_BYTES:
        return None
    word, count, session, request, lowest, length = _LAYOUT.unpack_from(body)
    if (
        word == COMMANDS_WORD
        and 0 < count <= length == len(body) - RECORD_HEADER_BYTES
        and lowest <= request <= SEQ_MAX - count
        and session <= SEQ_MAX
    ):
        payload = body[RECORD_HEADER_BYTES:] if length < VIEW_BYTES else memoryview(body)[RECORD_HEADER_BYTES:]
        return _COMMANDS, count, session, request, lowest, payload
    return None


def _scan(body: bytes | memoryview) -> tuple[list[Record], DecodeError | None]:
    """The good records at the body's beginning, and what is wrong with the next one, if any."""
    records: list[Record] = []
    view = memoryview(body)
    at, end = 0, len(view)
    while at < end:
        if end - at < RECORD_HEADER_BYTES:
            return records, DecodeError("short record", f"{end - at} of {RECORD_HEADER_BYTES} bytes")
        word, count, session, request, lowest, length = _LAYOUT.unpack_from(view, at)
        at += RECORD_HEADER_BYTES
        if length > end - at:
            return records, DecodeError("short record", f"payload {end - at} of {length} bytes")
        if word not in _WORDS or not count or (count > 1 and word != COMMANDS_WORD):
            detail = f"kind {word >> KIND_BITS}, count {count}, reserved {word.to_bytes(4, 'big')[1:].hex()}"
            return records, DecodeError("bad record", detail)
        if session > SEQ_MAX or request + count > SEQ_MAX or lowest > request:
            return records, DecodeError("bad record", f"session {session}, request {request}, lowest {lowest}")
        if word == COMMANDS_WORD and count > length:
            return records, DecodeError("bad record", f"{count} commands in {length} bytes")
        records.append(_record((word >> KIND_BITS, count, session, request, lowest, view[at : at + length])))
        at += length
    return records, None


_record: Final = partial(tuple.__new__, Record)  # as Record(...), in half the time
_WORDS: Final = frozenset(kind << KIND_BITS for kind in RecordKind)
_COMMANDS: Final = int(RecordKind.COMMANDS)
COMMANDS_WORD: Final = _COMMANDS << KIND_BITS
pack_commands_head: Final = partial(_LAYOUT.pack, COMMANDS_WORD)
"""(count, session, request, lowest, length): the header of a record of COMMANDS, to stand before its payload."""


def split_fragments(session: int, request: int, lowest: int, command: bytes, record_max: int) -> list[bytes]:
    """Cut one packed command into FRAGMENT records of at most `record_max` bytes each."""
    room = record_max - RECORD_HEADER_BYTES - FRAGMENT_HEADER_BYTES
    assert room > 0, "record_max leaves no room for a fragment"
    total = -(-len(command) // room)
    return [
        encode_record(
            RecordKind.FRAGMENT,
            1,
            session,
            request,
            lowest,
            _FRAGMENT.pack(index, total) + command[index * room : (index + 1) * room],
        )
        for index in range(total)
    ]


def decode_fragment_untrusted(payload: memoryview) -> tuple[int, int, memoryview]:
    """A FRAGMENT's index, total and slice.

    Raises:
        DecodeError: too short, or numbers that no command of at most COMMAND_BYTES_MAX gives.
    """
    if len(payload) <= FRAGMENT_HEADER_BYTES:
        raise DecodeError("short fragment", f"{len(payload)} bytes")
    index, total = _FRAGMENT.unpack_from(payload)
    if index >= total or total > COMMAND_BYTES_MAX:
        raise DecodeError("bad fragment", f"{index} of {total}")
    return index, total, payload[FRAGMENT_HEADER_BYTES:]
