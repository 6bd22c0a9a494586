"""How old can this replica's state be? A proof that needs no synchronised clocks.

An ACK carries the replica's own stamp; a later heartbeat echoes it together with the commit C that the sequencer knew
then. Once a majority has answered that heartbeat's round, no newer reign can have begun before it, so C was the
cluster's commit after the stamp was taken: whoever has applied C holds a state no older than now - stamp. A sequencer
that has not yet committed an event of its own epoch may know less than its predecessor had committed, so its
heartbeats prove nothing.
"""

from __future__ import annotations

from collections import deque

from mcast.wire.messages import Heartbeat

_ROUNDS_MAX = 64


class Staleness:
    """The newest proof: all committed up to `commit` when the own clock stood at `stamp` ns."""

    def __init__(self, proven: bool = True) -> None:
        self._proven = proven
        self.commit = 0
        self.stamp = 0
        self._open: deque[tuple[int, int, int]] = deque(maxlen=_ROUNDS_MAX)
        self._confirmed = 0

    def reset(self) -> None:
        """A new epoch: its rounds are other rounds. A proof once held stays true, and grows old."""
        self._open.clear()
        self._confirmed = 0

    def heard(self, beat: Heartbeat, me: int) -> None:
        """A heartbeat opened a round, and says which rounds are confirmed."""
        begun = bool(beat.history) and beat.commit >= beat.history[-1].first
        if not self._proven:
            self.stamp, self.commit = max(self.stamp, own_stamp(beat, me)), beat.commit
            return
        own = own_stamp(beat, me)
        if own and begun:
            self._open.append((beat.round, own, beat.commit))
        self.confirmed(beat.confirmed)

    def confirmed(self, round_number: int) -> None:
        """A majority has answered all rounds up to this one."""
        self._confirmed = max(self._confirmed, round_number)
        while self._open and self._open[0][0] <= self._confirmed:
            _, stamp, commit = self._open.popleft()
            if stamp > self.stamp:
                self.stamp, self.commit = stamp, commit

    def age_s(self, now: float, applied: int) -> float | None:
        """How old the state at event `applied` can be at most; None without a proof."""
        if not self.stamp or applied < self.commit:
            return None
        return max(now - self.stamp / 1e9, 0.0)


def own_stamp(beat: Heartbeat, me: int) -> int:
    """This replica's own stamp as the heartbeat echoes it; 0 where it does not."""
    return next((peer.stamp for peer in beat.peers if peer.node == me), 0)
