"""EVENTS messages: round trips, and DecodeError for everything else."""

from __future__ import annotations

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mcast.errors import DecodeError
from mcast.wire.events import decode_events_untrusted, pack_events
from mcast.wire.frame import CHAIN_ZERO, make_frame
from mcast.wire.records import RecordKind, encode_record
from mcast.wire.splitter import Splitter
from mcast.wire.stream import StreamKind


def test_events_round_trip_and_bad_ones_are_refused() -> None:
    frame = make_frame(1, 1, 1, 0, 5, CHAIN_ZERO, encode_record(RecordKind.COMMANDS, 1, 5, 1, 1, b"\x91\xa1x"))
    outcomes = [(1, b"abc"), (2, b"")]
    ((kind, payload),) = Splitter().feed(pack_events(outcomes, [frame]))
    assert kind == StreamKind.EVENTS and decode_events_untrusted(payload) == (outcomes, [frame])
    assert decode_events_untrusted(bytes(4)) == ([], [])
    for end in range(len(payload)):
        if end != len(payload) - frame.size:  # the same without its frame
            with pytest.raises(DecodeError):
                decode_events_untrusted(payload[:end])


@given(st.binary(max_size=300))
def test_garbage_events_decode_or_raise_decode_error(payload: bytes) -> None:
    with contextlib.suppress(DecodeError):
        decode_events_untrusted(payload)
