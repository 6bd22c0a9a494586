"""Messages of a byte stream, however it arrives; and lengths that no honest side sends."""

from __future__ import annotations

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mcast.errors import DecodeError
from mcast.limits import TCP_MESSAGE_BYTES_MAX
from mcast.wire.splitter import Splitter
from mcast.wire.stream import StreamKind, pack_raw


@given(st.lists(st.binary(max_size=50), max_size=20), st.lists(st.integers(1, 40), min_size=1, max_size=200))
def test_splitting_does_not_depend_on_how_bytes_arrive(payloads: list[bytes], cuts: list[int]) -> None:
    data = b"".join(pack_raw(StreamKind.SUBMIT, payload) for payload in payloads)
    splitter, reused = Splitter(), memoryview(bytearray(40))
    found: list[tuple[int, bytes]] = []
    at = turn = 0
    while at < len(data):
        step = min(cuts[turn % len(cuts)], len(data) - at)
        reused[:step] = data[at : at + step]
        found += splitter.feed(reused[:step])
        at, turn = at + step, turn + 1
    assert found == [(StreamKind.SUBMIT, payload) for payload in payloads]


@pytest.mark.parametrize("length", [0, TCP_MESSAGE_BYTES_MAX + 1, 2**32 - 1])
def test_a_length_out_of_bounds_ends_the_stream_before_anything_is_buffered(length: int) -> None:
    with pytest.raises(DecodeError, match="length"):
        Splitter().feed(struct.pack("!I", length))


def test_a_first_message_is_bounded_more_tightly_until_its_sender_is_known() -> None:
    splitter = Splitter(100)
    with pytest.raises(DecodeError):
        splitter.feed(struct.pack("!I", 101))
    splitter = Splitter(100)
    splitter.allow_whole_messages()
    assert splitter.feed(struct.pack("!I", TCP_MESSAGE_BYTES_MAX)) == []


@pytest.mark.parametrize("length", [0, 11, 2**32 - 1])
@pytest.mark.parametrize("cut", [1, 2, 3])
def test_a_length_out_of_bounds_is_refused_however_its_bytes_arrive(cut: int, length: int) -> None:
    head, splitter = struct.pack("!I", length), Splitter(10)
    assert splitter.feed(head[:cut]) == []
    with pytest.raises(DecodeError, match="bad message length"):
        splitter.feed(head[cut:])
