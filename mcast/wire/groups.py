"""Commands on their way over TCP, and what became of them: many in one message.

SUBMIT and FORWARD are runs of groups. A group is numbered contiguously in one epoch: a single record, or all fragments
of one command in order. RESULT is a run of results, each

    offset  size  field
         0     8  session
         8     8  request: number of the record's first command
        16     4  events: how many commands the record held
        20     8  seq
        28     8  epoch
        36     1  status
        37     4  length: of the outcomes in bytes
        41     -  outcomes

Several share a message as far as RUN_BYTES_MAX goes, so that whoever sends a burst pays for one message, and whoever
reads it is not kept from its first part for long. A larger one is alone in its message.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Iterator, Sequence
from functools import partial
from typing import Final, NamedTuple

import msgpack

from mcast.errors import DecodeError
from mcast.limits import ALIKE_EVENTS_MAX, COMMAND_VALUES_MAX, EPOCH_MAX, MTU_MIN, RUN_BYTES_MAX, SEQ_MAX
from mcast.wire.records import (
    CLIENT_KINDS,
    COMMANDS_WORD,
    FRAGMENT_HEADER_BYTES,
    KIND_BITS,
    NONCE_BYTES,
    RECORD_HEADER_BYTES,
    Record,
    RecordKind,
    decode_fragment_untrusted,
    list_records_untrusted,
    unpack_record_head,
)
from mcast.wire.stream import Status, StreamKind, pack_head
from mcast.wire.values import bound_values_untrusted

_RESULT: Final = struct.Struct("!QQIQQBI")
RESULT_HEAD_BYTES: Final = _RESULT.size
_COMMANDS: Final = int(RecordKind.COMMANDS)
_FRAGMENT: Final = int(RecordKind.FRAGMENT)
_FRAGMENT_BYTES_MIN: Final = MTU_MIN // 2  # at the smallest MTU all but a command's last fragment are larger
_STATUS_MAX: Final = int(max(Status))
_ALIKE: Final = int(Status.ALIKE)

RecordGroup = tuple[bytes, ...]
"""The encoded records of one group."""


class Submitted(NamedTuple):
    """A group, and what the head of its first record says."""

    kind: int
    session: int
    request: int
    group: RecordGroup


class Result(NamedTuple):
    """What became of one record of `events` commands.

    `seq` is its first event's (a fragmented command's last); `outcomes` is msgpack [[value, ...], {index: [kind,
    text]}] with kind 1 rejected, 2 failed. When OUT_OF_ORDER, `seq` is the request number that is missing.
    """

    session: int
    request: int
    events: int
    seq: int
    epoch: int
    status: int
    outcomes: bytes


_submitted: Final = partial(tuple.__new__, Submitted)  # as Submitted(...), in half the time
_as_result: Final = partial(tuple.__new__, Result)


def pack_run(kind: StreamKind, items: Sequence[bytes]) -> list[bytes]:
    """The parts of the messages that carry these groups or results, in order, to be written one after the other.

    Raises:
        ValueError: an item beyond TCP_MESSAGE_BYTES_MAX.
    """
    total = sum(map(len, items))
    if total <= RUN_BYTES_MAX or len(items) == 1:
        return [pack_head(kind, total), *items] if items else []
    parts: list[bytes] = []
    first = size = 0
    for index, item in enumerate(items):
        if index > first and size + len(item) > RUN_BYTES_MAX:
            parts += [pack_head(kind, size), *items[first:index]]
            first, size = index, 0
        size += len(item)
    return [*parts, pack_head(kind, size), *items[first:]]


def decode_groups_untrusted(payload: bytes, payload_max: int, values_max: int = COMMAND_VALUES_MAX) -> list[Submitted]:
    """The groups of one SUBMIT or FORWARD.

    Raises:
        DecodeError: bad records, a kind no client may write, a record's payload beyond `payload_max`, an incomplete
            command, one of more than `values_max` values, no group, or several beyond RUN_BYTES_MAX.
    """
    submitted: list[Submitted] = []
    at, end = 0, len(payload)
    if end > RUN_BYTES_MAX:
        _check_single(payload)
        submitted = _decode_any(payload, payload_max, values_max)
        if len(submitted) > 1:
            raise DecodeError("bad group", f"{len(submitted)} groups in {end} bytes")
        return submitted
    usual_max = min(payload_max, values_max)  # so few bytes hold no more values
    while at < end - RECORD_HEADER_BYTES:
        word, count, session, request, lowest, length = unpack_record_head(payload, at)
        after = at + RECORD_HEADER_BYTES + length
        if not (
            word == COMMANDS_WORD and 0 < count <= length <= usual_max and after <= end
            and 0 < session <= SEQ_MAX and 0 < request <= SEQ_MAX - count and lowest <= request
        ):  # fmt: skip
            break
        submitted.append(_submitted((_COMMANDS, session, request, (payload[at:after],))))
        at = after
    # Commands that fit a record are the rule. Whatever holds something else is judged anew, as a whole.
    return submitted if at == end and submitted else _decode_any(payload, payload_max, values_max)


def _check_single(payload: bytes) -> None:
    """Raise DecodeError unless this large payload begins like a single group: before all of it is looked at."""
    end = len(payload)
    word, *_, length = unpack_record_head(payload)
    if word == _FRAGMENT << KIND_BITS:
        if decode_fragment_untrusted(memoryview(payload)[RECORD_HEADER_BYTES:])[1] > end // _FRAGMENT_BYTES_MIN + 1:
            raise DecodeError("bad group", f"fragments too small in {end} bytes")
    elif RECORD_HEADER_BYTES + length != end:
        raise DecodeError("bad group", f"several groups in {end} bytes")


def _decode_any(payload: bytes, payload_max: int, values_max: int) -> list[Submitted]:
    records = list_records_untrusted(payload)
    if not records:
        raise DecodeError("empty group")
    submitted: list[Submitted] = []
    index = at = 0
    while index < len(records):
        first = records[index]
        total = decode_fragment_untrusted(first.payload)[1] if first.kind == _FRAGMENT else 1
        command = records[index : index + total]
        _check_group(command, total, payload_max)
        _check_values(command, values_max)
        group = []
        for record in command:
            after = at + RECORD_HEADER_BYTES + len(record.payload)
            group.append(payload[at:after])
            at = after
        submitted.append(Submitted(first.kind, first.session, first.request, tuple(group)))
        index += total
    return submitted


def _check_group(records: list[Record], total: int, payload_max: int) -> None:
    """Raise DecodeError unless these are one record that a client may write, or all `total` fragments of a command."""
    first = records[0]
    for index, record in enumerate(records):
        if record.kind not in CLIENT_KINDS or len(record.payload) > payload_max:
            raise DecodeError("bad group", f"record kind {record.kind}, {len(record.payload)} bytes")
        if (record.kind, record.session, record.request, record.lowest) != (
            first.kind, first.session, first.request, first.lowest,
        ):  # fmt: skip
            raise DecodeError("bad group", "fragments of different commands")
        if record.kind == _FRAGMENT:
            number, of, _ = decode_fragment_untrusted(record.payload)
            if (number, of) != (index, total):
                raise DecodeError("bad group", f"fragment {number} of {of} at {index} of {total}")
    if len(records) != total:
        raise DecodeError("bad group", f"{len(records)} of {total} fragments")
    if first.kind == RecordKind.OPEN:
        if first.session or first.request or len(first.payload) != NONCE_BYTES:
            raise DecodeError("bad group", "OPEN has no session, no request and a 16-byte nonce")
    elif not first.session or not first.request or first.session > SEQ_MAX or first.lowest > first.request:
        raise DecodeError("bad group", f"session {first.session}, request {first.request}, lowest {first.lowest}")


def _check_values(records: list[Record], values_max: int) -> None:
    """Raise DecodeError if a command of this group holds more values; whether it unpacks is not checked."""
    first = records[0]
    if sum([len(record.payload) for record in records]) <= values_max:
        return
    if first.kind == _FRAGMENT:
        bound_values_untrusted(b"".join([record.payload[FRAGMENT_HEADER_BYTES:] for record in records]), values_max)
    elif first.kind == _COMMANDS:
        packed = bytes(first.payload)
        try:
            bound_values_untrusted(packed, values_max)
        except DecodeError:
            for command in _each_command(packed, first.count):
                bound_values_untrusted(command, values_max)


def _each_command(packed: bytes, count: int) -> Iterator[bytes]:
    """The bytes of each command of a record; what is no value stands as one with all behind it."""
    unpacker, at = msgpack.Unpacker(max_buffer_size=len(packed)), 0
    unpacker.feed(packed)
    for _ in range(count - 1):
        try:
            unpacker.skip()
        except (ValueError, msgpack.UnpackException):
            break
        yield packed[at : unpacker.tell()]
        at = unpacker.tell()
    yield packed[at:]


def encode_result(  # noqa: PLR0913 - one argument a field
    session: int, request: int, events: int, seq: int, epoch: int, status: int, outcomes: bytes
) -> bytes:
    """One result's bytes, for `pack_run`."""
    return _RESULT.pack(session, request, events, seq, epoch, status, len(outcomes)) + outcomes


def encode_results(results: Iterable[tuple[int, int, int, int, int, int, bytes]]) -> list[bytes]:
    """The bytes of results (the fields of each, in order), for `pack_run`; those that are ALIKE become one."""
    packed: list[bytes] = []
    alike: tuple[int, int, int, int, int] | None = None
    for session, request, events, seq, epoch, status, outcomes in results:
        if alike is not None:
            of, first, count, at, entry_epoch = alike
            if (
                status == _ALIKE and of == session and first + count == request and at + count == seq
                and entry_epoch == epoch and count + events <= ALIKE_EVENTS_MAX
            ):  # fmt: skip
                alike = of, first, count + events, at, entry_epoch
                continue
            packed.append(encode_result(*alike, _ALIKE, b""))
            alike = None
        if status == _ALIKE:
            alike = session, request, events, seq, epoch
        else:
            packed.append(encode_result(session, request, events, seq, epoch, status, outcomes))
    if alike is not None:
        packed.append(encode_result(*alike, _ALIKE, b""))
    return packed


def decode_results_untrusted(payload: bytes) -> list[Result]:
    """The results of one RESULT.

    Raises:
        DecodeError: a length beyond the payload, or a number outside its bounds.
    """
    results: list[Result] = []
    at, end = 0, len(payload)
    while at < end:
        if end - at < RESULT_HEAD_BYTES:
            raise DecodeError("short result", f"{end - at} of {RESULT_HEAD_BYTES} bytes")
        session, request, events, seq, epoch, status, length = _RESULT.unpack_from(payload, at)
        at += RESULT_HEAD_BYTES
        if length > end - at:
            raise DecodeError("short result", f"outcomes {end - at} of {length} bytes")
        if session > SEQ_MAX or request > SEQ_MAX or seq > SEQ_MAX or epoch > EPOCH_MAX or status > _STATUS_MAX:
            raise DecodeError("bad result", f"session {session}, request {request}, seq {seq}, status {status}")
        if status == _ALIKE and (length or events > ALIKE_EVENTS_MAX):
            raise DecodeError("bad result", f"{events} commands alike, outcomes of {length} bytes")
        results.append(_as_result((session, request, events, seq, epoch, status, payload[at : at + length])))
        at += length
    return results
