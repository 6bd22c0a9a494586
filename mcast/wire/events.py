"""EVENTS: what a subscriber is sent. Length of the outcomes u32, outcomes, frames.

Outcomes are, for each record that had an effect, its `seq` as in RESULT (u64), their length (u32) and the packed bytes.
Those of a frame's records come with it or before it. A record without outcomes had no effect.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from typing import Final

from mcast.errors import DecodeError
from mcast.limits import SEQ_MAX
from mcast.wire.frame import Frame
from mcast.wire.stream import StreamKind, decode_frames_untrusted, pack_raw

OUTCOMES_HEAD: Final = struct.Struct("!QI")
_LENGTH: Final = struct.Struct("!I")


Executed = Sequence[tuple[int, bytes]]
"""The records of a frame, or of several, that had an effect: `seq` and packed outcomes of each."""


def pack_events(executed: Executed, frames: Sequence[Frame]) -> bytes:
    """One EVENTS message.

    Raises:
        ValueError: beyond TCP_MESSAGE_BYTES_MAX.
    """
    pack = OUTCOMES_HEAD.pack
    outcomes = b"".join([part for seq, packed in executed for part in (pack(seq, len(packed)), packed)])
    parts = [part for frame in frames for part in (frame.head, frame.body)]
    return pack_raw(StreamKind.EVENTS, b"".join((_LENGTH.pack(len(outcomes)), outcomes, *parts)))


def decode_events_untrusted(payload: bytes) -> tuple[list[tuple[int, bytes]], list[Frame]]:
    """The outcomes, each with its `seq`, and the frames of one EVENTS message.

    Raises:
        DecodeError: lengths beyond the payload, or as `decode_frame_untrusted`.
    """
    if len(payload) < _LENGTH.size:
        raise DecodeError("short message", f"{len(payload)} bytes")
    end = _LENGTH.size + _LENGTH.unpack_from(payload)[0]
    if end > len(payload):
        raise DecodeError("short message", f"outcomes end at {end} of {len(payload)} bytes")
    outcomes: list[tuple[int, bytes]] = []
    at = _LENGTH.size
    while at < end:
        if end - at < OUTCOMES_HEAD.size:
            raise DecodeError("bad outcomes", f"{end - at} bytes left")
        seq, length = OUTCOMES_HEAD.unpack_from(payload, at)
        at += OUTCOMES_HEAD.size
        if not 0 < seq <= SEQ_MAX or length > end - at:
            raise DecodeError("bad outcomes", f"event {seq}, {length} of {end - at} bytes")
        outcomes.append((seq, payload[at : at + length]))
        at += length
    return outcomes, decode_frames_untrusted(payload[end:])
