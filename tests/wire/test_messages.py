from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mcast.errors import DecodeError
from mcast.limits import EPOCH_MAX, MEMBERS_MAX, NAK_RANGES_MAX, NAME_BYTES_MAX, NODES_MAX, SEQ_MAX
from mcast.wire.messages import (
    Configuration,
    EpochStart,
    Genesis,
    Heartbeat,
    Kind,
    Member,
    Nak,
    PeerState,
    PreVote,
    Range,
    Stale,
    Vote,
    decode_epoch_start_untrusted,
    decode_genesis_untrusted,
    decode_message_untrusted,
    encode_message,
    kind_of,
    type_of,
)
from tests.wire.strategies import messages

HEARTBEAT = Heartbeat(3, bytes(16), 9, bytes(16), 8, bytes(16), 4, 3, 0, 9, (), ())
every_kind = pytest.mark.parametrize("kind", type_of)


@every_kind
@given(st.data())
def test_a_message_comes_back(kind: int, data: st.DataObject) -> None:
    message = data.draw(messages(type_of[kind]))
    encoded = encode_message(message)
    assert decode_message_untrusted(kind, encoded) == message
    assert decode_message_untrusted(kind, memoryview(encoded)) == message


@every_kind
@given(st.data())
def test_truncated_or_lengthened_messages_are_refused(kind: int, data: st.DataObject) -> None:
    encoded = encode_message(data.draw(messages(type_of[kind])))
    for other in (encoded[: data.draw(st.integers(0, len(encoded) - 1))], encoded + b"\0"):
        with pytest.raises(DecodeError):
            decode_message_untrusted(kind, other)


@given(st.integers(0, 255), st.binary(max_size=300))
def test_any_bytes_decode_to_what_encodes_to_them_or_are_refused(kind: int, data: bytes) -> None:
    check_canonical(kind, data)


@every_kind
@given(st.data())
def test_flipped_bits_decode_to_what_encodes_to_them_or_are_refused(kind: int, data: st.DataObject) -> None:
    flipped = bytearray(encode_message(data.draw(messages(type_of[kind]))))
    for _ in range(data.draw(st.integers(1, 3))):
        flipped[data.draw(st.integers(0, len(flipped) - 1))] ^= 1 << data.draw(st.integers(0, 7))
    check_canonical(kind, bytes(flipped))


def check_canonical(kind: int, data: bytes) -> None:
    """Whatever is taken has one byte string only."""
    try:
        message = decode_message_untrusted(kind, data)
    except DecodeError:
        return
    assert encode_message(message) == data


@given(messages(Genesis), messages(EpochStart))
def test_payloads_of_internal_events_come_back(genesis: Genesis, start: EpochStart) -> None:
    assert decode_genesis_untrusted(encode_message(genesis)) == genesis
    assert decode_epoch_start_untrusted(encode_message(start)) == start


@given(st.binary(max_size=200))
def test_any_bytes_as_internal_payloads_are_refused_or_taken(data: bytes) -> None:
    for decode in (decode_genesis_untrusted, decode_epoch_start_untrusted):
        try:
            payload: Any = decode(data)
        except DecodeError:
            continue
        assert encode_message(payload) == data


def test_every_kind_but_the_frames_has_a_message() -> None:
    assert set(type_of) == set(Kind) - {Kind.DATA, Kind.REPAIR}
    assert kind_of == {message: kind for kind, message in type_of.items()}


@pytest.mark.parametrize("kind", [0, Kind.DATA, Kind.REPAIR, max(Kind) + 1, 255])
def test_other_kinds_are_unknown(kind: int) -> None:
    with pytest.raises(DecodeError) as caught:
        decode_message_untrusted(kind, bytes(100))
    assert caught.value.reason == "unknown kind"


@pytest.mark.parametrize(
    "message",
    [
        Stale(EPOCH_MAX + 1),
        replace(HEARTBEAT, high=SEQ_MAX + 1),
        replace(HEARTBEAT, peers=(PeerState(1, SEQ_MAX + 1, 0),)),
        Nak(1, (Range(5, 4),), 7),
        Nak(1, (Range(0, 4),), 7),
    ],
)
def test_fields_outside_their_bounds_are_refused(message: Any) -> None:
    with pytest.raises(DecodeError) as caught:
        decode_message_untrusted(kind_of[type(message)], encode_message(message))
    assert caught.value.reason == "bad field"


@pytest.mark.parametrize("message", [PreVote(1, bytes(16), True, 7, 8), Vote(1, bytes(16), True, 8)])
def test_a_flag_is_zero_or_one(message: PreVote | Vote) -> None:
    encoded = bytearray(encode_message(message))
    decoded = decode_message_untrusted(kind_of[type(message)], encoded)
    assert decoded.granted is True
    encoded[24] = 2
    with pytest.raises(DecodeError):
        decode_message_untrusted(kind_of[type(message)], encoded)


@pytest.mark.parametrize(
    ("message", "item", "limit", "at"),
    [
        (Nak(1, (Range(1, 2),), 7), bytes([0] * 7 + [1]) * 2, NAK_RANGES_MAX, 8),
        (replace(HEARTBEAT, peers=(PeerState(1, 1, 1),)), bytes(24), NODES_MAX, -26),
    ],
)
def test_tuples_are_bounded_before_they_are_read(message: Any, item: bytes, limit: int, at: int) -> None:
    encoded = encode_message(message)
    start, end = encoded[:at], encoded[at % len(encoded) + 2 + len(item) :]
    kind = kind_of[type(message)]
    decode_message_untrusted(kind, start + limit.to_bytes(2, "big") + item * limit + end)
    with pytest.raises(DecodeError) as caught:
        decode_message_untrusted(kind, start + (limit + 1).to_bytes(2, "big") + item * (limit + 1) + end)
    assert caught.value.reason == "field too long"


def test_names_are_bounded_and_are_text() -> None:
    member = Member("x" * NAME_BYTES_MAX, bytes(16), "127.0.0.1:1")
    start = EpochStart("n1", Configuration(1, (member,) * MEMBERS_MAX))
    encoded = encode_message(start)
    assert decode_epoch_start_untrusted(encoded) == start
    with pytest.raises(DecodeError) as caught:
        decode_epoch_start_untrusted((NAME_BYTES_MAX + 1).to_bytes(2, "big") + bytes(1_000))
    assert caught.value.reason == "field too long"
    with pytest.raises(DecodeError) as caught:
        decode_epoch_start_untrusted(encoded.replace(b"n1", b"\xff\xfe", 1))
    assert caught.value.reason == "bad text"


def test_own_bytes_beyond_a_bound_are_a_bug() -> None:
    with pytest.raises(AssertionError):
        encode_message(EpochStart("x" * (NAME_BYTES_MAX + 1), Configuration(1, ())))
    with pytest.raises(AssertionError):
        encode_message(Nak(1, (Range(1, 2),) * (NAK_RANGES_MAX + 1), 7))
