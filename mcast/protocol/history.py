"""The epoch history: which epoch numbered what, as the current sequencer's log has it.

It is Raft's log matching in a list. An epoch has one sequencer, which gives each number one content; so two logs that
hold the same epoch, begun at the same event on the same chain, are equal up to where the first of them leaves that
epoch.
"""

from __future__ import annotations

from mcast.wire.epochs import Epochs
from mcast.wire.frame import Frame


class History:
    """Which epoch numbered what, as one epoch's sequencer says. `epochs` may lack the oldest ones.

    A sequencer's is the list of its own log, which grows; no other part may change it.
    """

    def __init__(self, epoch: int, epochs: Epochs) -> None:
        self.epoch = epoch
        self.epochs = epochs

    @property
    def is_complete(self) -> bool:
        """Whether it reaches back to event 1."""
        return self.covers(1)

    def assigns(self, frame: Frame) -> bool:
        """Whether the frame's whole range belongs to its entry epoch."""
        return self.epochs.epoch_of(frame.first, frame.first + frame.count - 1) == frame.epoch

    def common_point(self, own: Epochs, own_last: int) -> int | None:
        """The last event that a log with the epochs `own` and its end at `own_last` shares with this history.

        None when that needs older epochs than are known here. It costs what is newer in `own` than what is shared.
        """
        shared = own.newest_common(self.epochs)
        if shared is None:
            if not len(own):
                return own_last
            return own.firsts[0] - 1 if self.covers(own.firsts[0]) else None
        mine, theirs = shared
        end = own.firsts[mine + 1] - 1 if mine + 1 < len(own) else own_last
        return min(end, self.epochs.firsts[theirs + 1] - 1) if theirs + 1 < len(self.epochs) else end

    def covers(self, seq: int) -> bool:
        """Whether the epoch of event `seq` is known here."""
        firsts = self.epochs.firsts
        return bool(firsts) and firsts[0] <= seq
