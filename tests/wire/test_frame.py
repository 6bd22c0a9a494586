import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mcast.errors import DecodeError
from mcast.limits import EPOCH_MAX, FRAME_BODY_BYTES_MAX, SEQ_MAX
from mcast.wire.frame import (
    CHAIN_ZERO,
    FRAME_HEADER_BYTES,
    TIME_MAX_NS,
    Frame,
    chain_after,
    decode_frame_untrusted,
    follows,
    make_frame,
)
from tests.wire.strategies import frames

HEADER = struct.Struct("!QQIIQQ16s")


@given(frames, st.binary(max_size=20))
def test_a_frame_comes_back_at_any_offset_whatever_follows(frame: Frame, around: bytes) -> None:
    data = frame.head + frame.body
    assert frame.size == len(data)
    assert decode_frame_untrusted(around + data + around, len(around)) == frame
    assert decode_frame_untrusted(memoryview(data)) == frame


@given(st.binary(max_size=150))
def test_any_bytes_decode_to_what_encodes_to_them_or_are_refused(data: bytes) -> None:
    try:
        frame = decode_frame_untrusted(data)
    except DecodeError:
        return
    assert data.startswith(frame.head + frame.body)


@given(frames, st.data())
def test_truncated_frames_are_refused(frame: Frame, draw: st.DataObject) -> None:
    data = frame.head + frame.body
    with pytest.raises(DecodeError):
        decode_frame_untrusted(data[: draw.draw(st.integers(0, len(data) - 1))])


@given(frames, st.binary(min_size=16, max_size=16), st.data())
def test_the_chain_notices_every_flipped_bit(frame: Frame, before: bytes, draw: st.DataObject) -> None:
    linked = make_frame(frame.epoch, frame.first, frame.count, frame.commit, frame.time, before, frame.body)
    assert follows(linked, before)
    assert chain_after(before, linked.head, linked.body) == linked.chain
    data = bytearray(linked.head + linked.body)
    data[draw.draw(st.integers(0, len(data) - 1))] ^= 1 << draw.draw(st.integers(0, 7))
    try:
        damaged = decode_frame_untrusted(data)
    except DecodeError:
        return
    assert not follows(damaged, before)


@pytest.mark.parametrize(
    ("epoch", "first", "count", "length", "commit", "time"),
    [
        (EPOCH_MAX + 1, 5, 1, 4, 0, 0),
        (1, 0, 1, 4, 0, 0),
        (1, 5, 0, 4, 0, 0),
        (1, 5, 5, 4, 0, 0),
        (1, 5, 1, 0, 0, 0),
        (1, 5, 1, FRAME_BODY_BYTES_MAX + 1, 0, 0),
        (1, 5, 1, 4, 5, 0),
        (1, 5, 1, 4, 0, TIME_MAX_NS + 1),
        (1, SEQ_MAX, 1, 4, 0, 0),
        (1, SEQ_MAX - 3, 4, 4, 0, 0),
        (1, 2**64 - 1, 1, 4, 0, 0),
    ],
)
def test_fields_outside_their_bounds_are_refused(
    epoch: int, first: int, count: int, length: int, commit: int, time: int
) -> None:
    data = HEADER.pack(epoch, first, count, length, commit, time, CHAIN_ZERO) + bytes(min(length, 100_000))
    with pytest.raises(DecodeError) as caught:
        decode_frame_untrusted(data)
    assert caught.value.reason == "bad frame header"


def test_the_last_event_of_a_frame() -> None:
    frame = make_frame(1, 10, 3, 0, 0, CHAIN_ZERO, b"abc")
    assert frame.last == 12 and len(frame.head) == FRAME_HEADER_BYTES
