"""The order in which a burst reaches the replica."""

from __future__ import annotations

from mcast.protocol.arrivals import Arrival, ordered_by_epoch
from mcast.wire.envelope import CONTROL, STREAM, Envelope
from mcast.wire.frame import CHAIN_ZERO, Frame, make_frame
from mcast.wire.messages import Busy, Message

FRAMES = [make_frame(1, seq, 1, 0, seq, CHAIN_ZERO, b"record") for seq in (1, 2)]


def arrival(promised: int, message: Frame | Message) -> Arrival:
    channel = STREAM if type(message) is Frame else CONTROL
    return Envelope(0, channel, 0, 0, 0, bytes(16), 1, promised), message


def test_a_known_epochs_frames_stay_before_its_messages() -> None:
    arrivals = [arrival(3, FRAMES[0]), arrival(3, Busy(1, 0))]
    assert ordered_by_epoch(arrivals, 3, sequencer_known=True) is arrivals


def test_a_new_epochs_messages_go_before_its_frames_and_older_ones_before_both() -> None:
    old = [arrival(3, FRAMES[0]), arrival(3, Busy(3, 0))]
    new = [arrival(4, FRAMES[1]), arrival(4, Busy(4, 0))]
    ordered = ordered_by_epoch([new[0], old[0], old[1], new[1]], 3, sequencer_known=True)
    assert ordered == [old[0], old[1], new[1], new[0]]


def test_a_voter_that_has_not_heard_its_new_sequencer_judges_messages_first() -> None:
    arrivals = [arrival(4, FRAMES[0]), arrival(4, Busy(4, 0))]
    assert ordered_by_epoch(arrivals, 4, sequencer_known=False) == arrivals[::-1]
