"""TCP messages: round trips, bounds, and DecodeError for everything else."""

from __future__ import annotations

import contextlib
from typing import Any

import msgpack
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mcast.errors import DecodeError
from mcast.limits import TCP_MESSAGE_BYTES_MAX
from mcast.wire.frame import CHAIN_ZERO, make_frame
from mcast.wire.records import RecordKind, encode_record
from mcast.wire.splitter import Splitter
from mcast.wire.stream import (
    PAYLOAD_BYTES_MAX,
    VERSION,
    Answer,
    Ask,
    Failure,
    Fault,
    Fetch,
    FetchEnd,
    FetchGone,
    FetchHistory,
    ForwardRefused,
    HandoverRequest,
    Hello,
    Opened,
    Ping,
    Pong,
    Query,
    QueryRefused,
    Report,
    StreamKind,
    StreamMessage,
    Subscribe,
    Welcome,
    decode_frames_untrusted,
    decode_stream_untrusted,
    pack_frames,
    pack_message,
    pack_raw,
)

NONCE = bytes(range(16))
RAW_KINDS = {
    StreamKind.SUBMIT, StreamKind.FORWARD, StreamKind.RESULT, StreamKind.FRAMES, StreamKind.EVENTS, StreamKind.DATAGRAM,
    StreamKind.HISTORY,
}  # fmt: skip
WRONG: list[Any] = [-1, 2**64 - 1, True, [[]], "x" * 5_000]
MESSAGES: list[tuple[StreamKind, StreamMessage]] = [
    (StreamKind.HELLO, Hello(VERSION, "lab", "peer", "n1", NONCE)),
    (StreamKind.WELCOME, Welcome("n1", "lab", 1_300, {"set": (2, 2)}, {"get": (1, 1)}, NONCE, NONCE, 65_536)),
    (StreamKind.OPENED, Opened(NONCE, 5, 2)),
    (StreamKind.QUERY, Query(1, "get", ["k", None, 1.5], "session", 10, None, 3, 5_000.0)),
    (StreamKind.ANSWER, Answer(1, {"a": [1]}, 10, 2, 0, 1.5, "n1", "any")),
    (StreamKind.QUERY_REFUSED, QueryRefused(1, "why", None, "not yet")),
    (StreamKind.STATUS, Ask(1)),
    (StreamKind.GAPS, Ask(2)),
    (StreamKind.DESCRIBE, Ask(3)),
    (StreamKind.FAULT, Fault(1, "loss=5%")),
    (StreamKind.REPORT, Report(1, {"id": "n1"})),
    (StreamKind.ERROR, Failure(0, "why")),
    (StreamKind.FORWARD_REFUSED, ForwardRefused(3, "")),
    (StreamKind.FETCH, Fetch(7, 1 << 20)),
    (StreamKind.FETCH_END, FetchEnd(9)),
    (StreamKind.GONE, FetchGone(4)),
    (StreamKind.PING, Ping(1)),
    (StreamKind.PONG, Pong(1, 250)),
    (StreamKind.HANDOVER, HandoverRequest(1, "n2")),
    (StreamKind.SUBSCRIBE, Subscribe(1)),
    (StreamKind.FETCH_HISTORY, FetchHistory(3, 9, NONCE)),
    (StreamKind.HINDERED, Failure(1, "n2 cannot reach n1")),
    (StreamKind.HANDOVER, HandoverRequest(1, "n2")),
]


def split(data: bytes) -> list[tuple[int, bytes]]:
    return Splitter().feed(data)


@pytest.mark.parametrize(("kind", "message"), MESSAGES, ids=lambda value: getattr(value, "name", ""))
def test_round_trip(kind: StreamKind, message: StreamMessage) -> None:
    ((found, payload),) = split(pack_message(kind, message))
    assert found == kind
    decoded = decode_stream_untrusted(found, payload)
    assert decoded == message and type(decoded) is type(message)


def test_every_kind_has_a_form() -> None:
    assert {kind for kind, _ in MESSAGES} | RAW_KINDS == set(StreamKind)
    for kind in RAW_KINDS:
        with pytest.raises(DecodeError, match="unknown message kind"):
            decode_stream_untrusted(kind, b"\x90")


@pytest.mark.parametrize(("kind", "message"), MESSAGES, ids=lambda value: getattr(value, "name", ""))
def test_fields_missing_added_or_of_another_type_are_refused(kind: StreamKind, message: StreamMessage) -> None:
    fields = msgpack.unpackb(msgpack.packb(message), strict_map_key=False)
    bad: list[Any] = [fields[:-1], [*fields, 1], dict(enumerate(fields)), None, 7, fields[0], []]
    for index in range(len(fields)):
        if (kind, index) not in ((StreamKind.ANSWER, 1), (StreamKind.QUERY, 2)):  # a value, and arguments: anything
            bad += [[*fields[:index], wrong, *fields[index + 1 :]] for wrong in WRONG]
    for one in bad:
        with pytest.raises(DecodeError):
            decode_stream_untrusted(kind, msgpack.packb(one))


@given(st.sampled_from(sorted(StreamKind)), st.binary(max_size=300))
def test_garbage_decodes_or_raises_decode_error(kind: int, payload: bytes) -> None:
    with contextlib.suppress(DecodeError):
        decode_stream_untrusted(kind, payload)


@given(st.sampled_from(MESSAGES), st.integers(0, 10**6), st.integers(1, 255))
def test_a_flipped_byte_decodes_or_raises_decode_error(
    item: tuple[StreamKind, StreamMessage], at: int, flip: int
) -> None:
    payload = bytearray(msgpack.packb(item[1]))
    payload[at % len(payload)] ^= flip
    with contextlib.suppress(DecodeError):
        decode_stream_untrusted(item[0], bytes(payload))


def test_small_messages_may_not_be_large_nor_deep() -> None:
    with pytest.raises(DecodeError, match="too long"):
        decode_stream_untrusted(StreamKind.PING, bytes(PAYLOAD_BYTES_MAX + 1))
    with pytest.raises(DecodeError, match="not msgpack"):
        decode_stream_untrusted(StreamKind.QUERY, b"\x91" * 60_000)
    with pytest.raises(DecodeError, match="too many values"):
        decode_stream_untrusted(StreamKind.QUERY, b"\x91" * 100_000)
    with pytest.raises(DecodeError, match="not msgpack"):
        decode_stream_untrusted(StreamKind.QUERY, b"\xdd\xff\xff\xff\xff")


def test_a_message_beyond_the_bound_is_not_packed() -> None:
    with pytest.raises(ValueError, match="at most"):
        pack_raw(StreamKind.SUBMIT, bytes(TCP_MESSAGE_BYTES_MAX))
    with pytest.raises(TypeError):
        pack_message(StreamKind.REPORT, Report(1, {"x": object()}))


def record(request: int) -> bytes:
    return encode_record(RecordKind.COMMANDS, 1, 5, request, 1, b"\x91\xa1x")


def test_frames_round_trip_and_bad_ones_are_refused() -> None:
    first = make_frame(1, 1, 1, 0, 5, CHAIN_ZERO, record(1))
    second = make_frame(1, 2, 1, 1, 6, first.chain, record(2))
    ((kind, payload),) = split(pack_frames([first, second]))
    assert kind == StreamKind.FRAMES and decode_frames_untrusted(payload) == [first, second]
    for bad in (payload[:-1], payload + b"x", payload[1:]):
        with pytest.raises(DecodeError):
            decode_frames_untrusted(bad)
