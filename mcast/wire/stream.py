"""Messages between clients, gateways and peers on a TCP connection.

    offset  size  field
         0     4  length: of kind and payload together, in bytes
         4     1  kind
         5     -  payload

Payloads are msgpack arrays, the fields below in order, except SUBMIT, FORWARD and RESULT (see `groups`), FRAMES
(concatenated frames), EVENTS (outcomes and frames, see `events`), HISTORY (see `epochs`) and DATAGRAM (one, whole). A
connection begins with HELLO and WELCOME. PING may be sent at any time after that and is answered by PONG.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Sequence
from enum import IntEnum
from typing import Any, Final, Literal, NamedTuple, overload

import msgpack

from mcast.errors import DecodeError
from mcast.limits import (
    ARITY_MAX,
    EPOCH_MAX,
    NAME_BYTES_MAX,
    QUERY_VALUES_MAX,
    SEQ_MAX,
    TCP_MESSAGE_BYTES_MAX,
    VALUES_MAX,
)
from mcast.wire.frame import FRAME_HEADER_BYTES, Frame, decode_frame_untrusted
from mcast.wire.values import bound_values_untrusted

VERSION: Final = 1
UNFOUNDED: Final = bytes(16)
TEXT_BYTES_MAX: Final = 4_096  # bytes of an error's or refusal's words; no honest one is longer
NAMES_MAX: Final = 4_096  # commands or queries of one machine
NUMBER_END: Final = 1e15  # milliseconds and the like are below
PAYLOAD_BYTES_MAX: Final = 16 << 10  # bytes of most messages: msgpack may unpack to sixty times its size

LENGTH: Final = struct.Struct("!I")
_HEAD: Final = struct.Struct("!IB")
HEAD_BYTES: Final = _HEAD.size


class StreamKind(IntEnum):
    """The `kind` of a TCP message."""

    HELLO = 1
    WELCOME = 2
    SUBMIT = 3
    OPENED = 4
    RESULT = 5
    QUERY = 6
    ANSWER = 7
    QUERY_REFUSED = 8
    STATUS = 9
    GAPS = 10
    FAULT = 11
    REPORT = 12
    ERROR = 13
    FORWARD = 14
    FORWARD_REFUSED = 15
    FETCH = 16
    FRAMES = 17
    FETCH_END = 18
    GONE = 19
    PING = 20
    PONG = 21
    HANDOVER = 22
    SUBSCRIBE = 23
    EVENTS = 24
    DATAGRAM = 25
    FETCH_HISTORY = 26
    HISTORY = 27
    HINDERED = 28
    DESCRIBE = 29


class Status(IntEnum):
    """The fate of a record (RESULT's `status`)."""

    APPLIED = 0
    REUSED = 1
    """Its request number was used before, by other content."""
    OUTCOME_GONE = 2
    """It was applied once; the outcome is no longer kept."""
    OUT_OF_ORDER = 3
    """An earlier request is missing; no effect."""
    EXPIRED = 4
    """The session is not known (any more); no effect."""
    ALIKE = 5
    """As APPLIED, of several records with consecutive requests and events: every command returned nothing."""


class Hello(NamedTuple):
    """Opens a connection. `role` is "client" or "peer"; `node` is the peer's id, or ""."""

    version: int
    cluster: str
    role: str
    node: str
    incarnation: bytes


class Welcome(NamedTuple):
    """Answers HELLO. `commands` and `queries` map a name to its least and greatest number of arguments.

    `cluster_uuid` is GENESIS' random name of the cluster, UNFOUNDED before that is known. A command holds at most
    `values_max` values.
    """

    node: str
    cluster: str
    record_max: int
    commands: dict[str, tuple[int, int]]
    queries: dict[str, tuple[int, int]]
    incarnation: bytes
    cluster_uuid: bytes
    values_max: int


class Opened(NamedTuple):
    """The OPEN record with this nonce was applied: the session's id and the epoch that numbered it."""

    nonce: bytes
    session: int
    epoch: int


class Query(NamedTuple):
    """Ask the machine, at one of the consistency LEVELS.

    `max_ms` and `max_lag` may be None; nobody waits for the answer after `timeout_ms`.
    """

    id: int
    name: str
    args: list[Any]
    level: str
    min_seq: int
    max_ms: float | None
    max_lag: int | None
    timeout_ms: float


class Answer(NamedTuple):
    """A query's answer and the event number it holds at."""

    id: int
    value: Any
    seq: int
    epoch: int
    lag_events: int
    lag_ms: float | None
    node: str
    level: str


class QueryRefused(NamedTuple):
    """No answer, why, and who may do better. `kind`: "refused", "not yet"; "rejected", "failed": the handler raised."""

    id: int
    reason: str
    try_node: str | None
    kind: str


class Ask(NamedTuple):
    """STATUS, GAPS and DESCRIBE."""

    id: int


class Fault(NamedTuple):
    """Inject these faults from now on ("loss=5%", "clear")."""

    id: int
    spec: str


class HandoverRequest(NamedTuple):
    """To the sequencer's node: give your role to the node with the id `to`."""

    id: int
    to: str


class Report(NamedTuple):
    """The answer to STATUS, GAPS, DESCRIBE, FAULT and HANDOVER."""

    id: int
    report: dict[str, Any]


class Failure(NamedTuple):
    """ERROR: request `id` failed; 0 means the connection itself, which is closed after it. HINDERED: after a PONG."""

    id: int
    text: str


class ForwardRefused(NamedTuple):
    """The node is not the sequencer and took none of the groups sent since; `sequencer` is whom it follows, or ""."""

    epoch: int
    sequencer: str


class Fetch(NamedTuple):
    """Send journalled frames from the one holding event `first` on, about `max_bytes` of them."""

    first: int
    max_bytes: int


class FetchEnd(NamedTuple):
    """All asked for, or all there is, was sent; `next_seq` comes next."""

    next_seq: int


class FetchGone(NamedTuple):
    """Events before `low_water` are not kept here."""

    low_water: int


class FetchHistory(NamedTuple):
    """Send the page of your epoch history that precedes this epoch: epoch, first event, chain before it."""

    epoch: int
    first: int
    chain_before: bytes


class Subscribe(NamedTuple):
    """Send all applied events from number `first` on, now and later, as EVENTS; at most one a connection."""

    first: int


class Ping(NamedTuple):
    """Answered at once by PONG."""

    id: int


class Pong(NamedTuple):
    """Answers PING; `alone_ms` ago this node last knew itself in touch with a majority of the cluster."""

    id: int
    alone_ms: int


StreamMessage = (
    Hello | Welcome | Opened | Query | Answer | QueryRefused | Ask | Fault | Report | Failure | ForwardRefused
    | Fetch | FetchEnd | FetchGone | Ping | Pong | HandoverRequest | Subscribe | FetchHistory
)  # fmt: skip


def pack_message(kind: StreamKind, message: StreamMessage) -> bytes:
    """A whole TCP message.

    Raises:
        ValueError, TypeError, OverflowError: a value inside that msgpack cannot pack, or a message beyond its bound.
    """
    return pack_raw(kind, msgpack.packb(message))


def pack_raw(kind: StreamKind, payload: bytes) -> bytes:
    """A whole TCP message around encoded records or frames. Raises ValueError beyond TCP_MESSAGE_BYTES_MAX."""
    return pack_head(kind, len(payload)) + payload


def pack_head(kind: StreamKind, length: int) -> bytes:
    """What goes before a payload of `length` bytes. Raises ValueError beyond TCP_MESSAGE_BYTES_MAX."""
    if length >= TCP_MESSAGE_BYTES_MAX:
        raise ValueError(f"message of {length} bytes; at most {TCP_MESSAGE_BYTES_MAX}")
    return _HEAD.pack(1 + length, kind)


@overload
def decode_stream_untrusted(kind: Literal[StreamKind.HELLO], payload: bytes) -> Hello: ...
@overload
def decode_stream_untrusted(kind: Literal[StreamKind.WELCOME], payload: bytes) -> Welcome: ...
@overload
def decode_stream_untrusted(kind: Literal[StreamKind.FETCH], payload: bytes) -> Fetch: ...
@overload
def decode_stream_untrusted(kind: Literal[StreamKind.FETCH_HISTORY], payload: bytes) -> FetchHistory: ...
@overload
def decode_stream_untrusted(kind: Literal[StreamKind.QUERY], payload: bytes) -> Query: ...
@overload
def decode_stream_untrusted(kind: int, payload: bytes) -> StreamMessage: ...
def decode_stream_untrusted(kind: int, payload: bytes) -> StreamMessage:
    """The message in a payload: one of the classes above, by kind.

    Raises:
        DecodeError: an unknown or raw kind, bytes that are not msgpack, or fields of the wrong number, type or size.
    """
    message, checks = _CHECKS.get(kind, (None, ()))
    if message is None:
        raise DecodeError("unknown message kind", str(kind))
    if len(payload) > _PAYLOAD_BYTES_MAX.get(kind, PAYLOAD_BYTES_MAX):
        raise DecodeError("message too long", f"{message.__name__} of {len(payload)} bytes")
    try:
        if kind in _VALUES_MAX:
            bound_values_untrusted(payload, _VALUES_MAX[kind])
            fields = msgpack.unpackb(payload, strict_map_key=False)
        else:
            fields = msgpack.unpackb(payload, max_array_len=_FIELDS_MAX, max_map_len=0)
    except (ValueError, TypeError, OverflowError, msgpack.UnpackException) as error:
        raise DecodeError("not msgpack", type(error).__name__) from None
    except RecursionError:
        raise DecodeError("not msgpack", "nested too deeply") from None
    if type(fields) is not list or len(fields) != len(checks):
        raise DecodeError("bad message", f"{message.__name__} takes {len(checks)} fields")
    for at, check in enumerate(checks):
        if not check(fields[at]):
            raise DecodeError("bad field", f"{message.__name__}.{message._fields[at]}")
    if message is Welcome:
        fields[3], fields[4] = _arities(fields[3]), _arities(fields[4])
    made: StreamMessage = message._make(fields)
    return made


def decode_frames_untrusted(payload: bytes) -> list[Frame]:
    """The frames of one FRAMES message.

    Raises:
        DecodeError: as `decode_frame_untrusted`. Chains are not checked here: that needs the log.
    """
    frames: list[Frame] = []
    at, end = 0, len(payload)
    while at < end:
        frame = decode_frame_untrusted(payload, at)
        frames.append(frame)
        at += FRAME_HEADER_BYTES + len(frame.body)
    return frames


def pack_frames(frames: Sequence[Frame]) -> bytes:
    """One FRAMES message."""
    return pack_raw(StreamKind.FRAMES, b"".join([part for frame in frames for part in (frame.head, frame.body)]))


_Check = Callable[[Any], bool]


def _integer(limit: int) -> _Check:
    return lambda value: type(value) is int and 0 <= value <= limit


def _text(limit: int) -> _Check:
    return lambda value: type(value) is str and len(value) <= limit and len(value.encode("utf-8", "replace")) <= limit


def _optional(check: _Check) -> _Check:
    return lambda value: value is None or check(value)


def _is_number(value: Any) -> bool:
    return type(value) in (int, float) and 0 <= value < NUMBER_END


def _is_arity_table(value: Any) -> bool:
    return (
        type(value) is dict
        and len(value) <= NAMES_MAX
        and all(
            _NAME(name) and type(pair) is list and len(pair) == 2 and _ARITY(pair[0]) and _ARITY(pair[1])
            for name, pair in value.items()
        )
    )


def _arities(table: dict[str, list[int]]) -> dict[str, tuple[int, int]]:
    return {name: (least, most) for name, (least, most) in table.items()}


def _size(size: int) -> _Check:
    return lambda value: type(value) is bytes and len(value) == size


_ID: Final = _integer(SEQ_MAX)
_SEQ: Final = _integer(SEQ_MAX)
_EPOCH: Final = _integer(EPOCH_MAX)
_COUNT: Final = _integer(1 << 32)
_ARITY: Final = _integer(1 << 16)  # a machine may take any number; a query's own bound is ARITY_MAX
_NAME: Final = _text(NAME_BYTES_MAX)
_WORDS: Final = _text(TEXT_BYTES_MAX)
_BYTES16: Final = _size(16)  # an incarnation, a nonce or a cluster's uuid


def _is_any(value: Any) -> bool:
    return True


_PAYLOAD_BYTES_MAX: Final[dict[int, int]] = {
    StreamKind.WELCOME: 1 << 20, StreamKind.QUERY: 1 << 20,
    StreamKind.ANSWER: TCP_MESSAGE_BYTES_MAX, StreamKind.REPORT: TCP_MESSAGE_BYTES_MAX,
}  # fmt: skip

_FIELDS_MAX: Final = 16
_VALUES_MAX: Final[dict[int, int]] = {
    StreamKind.WELCOME: QUERY_VALUES_MAX, StreamKind.QUERY: QUERY_VALUES_MAX, StreamKind.ANSWER: VALUES_MAX,
    StreamKind.REPORT: VALUES_MAX,
}  # fmt: skip
"""Of those whose fields hold others: of a few bytes room for very many values is made if these are announced."""

_CHECKS: Final[dict[int, tuple[Any, tuple[_Check, ...]]]] = {
    StreamKind.HELLO: (Hello, (_COUNT, _NAME, lambda value: value in ("client", "peer"), _NAME, _BYTES16)),
    StreamKind.WELCOME: (
        Welcome, (_NAME, _NAME, _integer(1 << 20), _is_arity_table, _is_arity_table, _BYTES16, _BYTES16, _COUNT),
    ),
    StreamKind.OPENED: (Opened, (_BYTES16, _SEQ, _EPOCH)),
    StreamKind.QUERY: (
        Query,
        (
            _ID, _NAME, lambda value: type(value) is list and len(value) <= ARITY_MAX, _NAME, _SEQ,
            _optional(_is_number), _optional(_SEQ), _is_number,
        ),
    ),
    StreamKind.ANSWER: (Answer, (_ID, _is_any, _SEQ, _EPOCH, _SEQ, _optional(_is_number), _NAME, _NAME)),
    StreamKind.QUERY_REFUSED: (QueryRefused, (_ID, _WORDS, _optional(_NAME), _NAME)),
    StreamKind.STATUS: (Ask, (_ID,)),
    StreamKind.GAPS: (Ask, (_ID,)),
    StreamKind.DESCRIBE: (Ask, (_ID,)),
    StreamKind.FAULT: (Fault, (_ID, _WORDS)),
    StreamKind.REPORT: (Report, (_ID, lambda value: type(value) is dict)),
    StreamKind.ERROR: (Failure, (_ID, _WORDS)),
    StreamKind.FORWARD_REFUSED: (ForwardRefused, (_EPOCH, _NAME)),
    StreamKind.FETCH: (Fetch, (_SEQ, _COUNT)),
    StreamKind.FETCH_END: (FetchEnd, (_SEQ,)),
    StreamKind.GONE: (FetchGone, (_SEQ,)),
    StreamKind.PING: (Ping, (_ID,)),
    StreamKind.PONG: (Pong, (_ID, _integer(SEQ_MAX))),
    StreamKind.HINDERED: (Failure, (_ID, _WORDS)),
    StreamKind.HANDOVER: (HandoverRequest, (_ID, _NAME)),
    StreamKind.SUBSCRIBE: (Subscribe, (_SEQ,)),
    StreamKind.FETCH_HISTORY: (FetchHistory, (_EPOCH, _SEQ, _BYTES16)),
}  # fmt: skip
