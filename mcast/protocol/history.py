"""The epoch history: which reign numbered what, as the current sequencer's log has it.

It is Raft's log matching in a list. A reign has one sequencer, which gives each number one content; so two logs that
hold the same reign, begun at the same event on the same chain, are equal up to where the first of them leaves that
reign.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence

from mcast.wire.frame import Frame
from mcast.wire.messages import Reign


class History:
    """The law of one epoch. `reigns` may start midway: then what lies before the first of them is unknown."""

    def __init__(self, epoch: int, reigns: Sequence[Reign]) -> None:
        self.epoch = epoch
        self.reigns = tuple(reigns)
        self._firsts = [reign.first for reign in self.reigns]

    @property
    def complete(self) -> bool:
        """Whether it reaches back to event 1."""
        return bool(self.reigns) and self.reigns[0].first == 1

    def assigns(self, frame: Frame) -> bool:
        """Whether the frame's whole range belongs to the reign of its entry epoch."""
        index = bisect_right(self._firsts, frame.first) - 1
        if index < 0 or self.reigns[index].epoch != frame.epoch:
            return False
        return index + 1 == len(self._firsts) or frame.first + frame.count <= self._firsts[index + 1]

    def common_point(self, own: Sequence[Reign], own_last: int) -> int | None:
        """The last event that a log with the reigns `own` and its end at `own_last` shares with this history.

        None when that needs older reigns than are known here.
        """
        theirs = {reign.epoch: index for index, reign in enumerate(self.reigns)}
        own_end = own_last
        for reign in reversed(own):
            index = theirs.get(reign.epoch)
            if index is not None and self.reigns[index] == reign:
                is_newest = index + 1 == len(self.reigns)
                return own_end if is_newest else min(own_end, self.reigns[index + 1].first - 1)
            own_end = reign.first - 1
        return own_end if self.complete or not own else None

    def covers(self, seq: int) -> bool:
        """Whether the reign of event `seq` is known here."""
        return bool(self.reigns) and self.reigns[0].first <= seq
