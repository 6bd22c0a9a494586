"""What a burst of datagrams brings the replica, and in which order it takes it."""

from __future__ import annotations

from collections.abc import Sequence

from mcast.wire.envelope import Envelope
from mcast.wire.frame import Frame, FrameRun
from mcast.wire.messages import Message

Arrival = tuple[Envelope, Frame | FrameRun | Message]
"""A proven datagram: its envelope, and the message, the frame, or the run of frames that came together."""


def ordered_by_epoch(arrivals: Sequence[Arrival], promised: int, *, sequencer_known: bool) -> Sequence[Arrival]:
    """The same arrivals; of an epoch not known yet, messages before frames.

    A link hands out the stream first. But a new epoch begins with a heartbeat, on another socket, and without it none
    of its frames can be judged.
    """
    if sequencer_known and max([envelope.promised for envelope, _ in arrivals]) <= promised:
        return arrivals
    known = promised if sequencer_known else promised - 1
    return sorted(arrivals, key=lambda arrival: _rank(arrival, known))


def _rank(arrival: Arrival, known: int) -> tuple[int, bool]:
    envelope, message = arrival
    return envelope.promised, envelope.promised > known and type(message) in (Frame, list)
