"""How old can this replica's state be? Proofs that need no synchronised clocks.

An ACK carries the replica's own stamp; a later heartbeat echoes it together with the commit C that the sequencer knew
then. Once a majority has answered that heartbeat's round, no newer epoch can have begun before it, so C was the
cluster's commit after the stamp was taken: whoever has applied C holds a state no older than now - stamp. The sequencer
proves the same to itself by the beginning of each round. One that has not yet committed an event of its own epoch may
know less than its predecessor had committed, so its rounds prove nothing.
"""

from __future__ import annotations

from collections import deque
from typing import Final

from mcast.wire.messages import Heartbeat

_STAMPS_MAX: Final = 1_024  # own acknowledgements remembered: an echo is a heartbeat old at most
_ROUNDS_MAX: Final = 64
_PROOFS_MAX: Final = 64
_APART_NS: Final = 10_000_000  # between proofs that are kept, besides the newest: together they reach back 0.6 s


class Proofs:
    """Pairs (commit, stamp): all that was committed when the own clock stood at `stamp` ns is at or below `commit`.

    Besides the newest some older ones are kept: a replica that has not applied the newest one's commit yet still knows
    how old it is. A proof once held stays true, and grows old.
    """

    def __init__(self) -> None:
        self._held: deque[tuple[int, int]] = deque(maxlen=_PROOFS_MAX)

    @property
    def commit(self) -> int:
        """The newest proof's commit; 0 without one."""
        return self._held[-1][0] if self._held else 0

    @property
    def stamp(self) -> int:
        """The newest proof's stamp in ns; 0 without one."""
        return self._held[-1][1] if self._held else 0

    def add(self, commit: int, stamp: int) -> None:
        """Add a proof; one that is older than the newest changes nothing."""
        held = self._held
        if not stamp or stamp <= self.stamp:
            return
        if held and (held[-1][0] >= commit or (len(held) > 1 and stamp - held[-2][1] < _APART_NS)):
            commit = max(commit, held.pop()[0])
        held.append((commit, stamp))

    def age_s(self, now: float, applied: int) -> float | None:
        """How old the state at event `applied` can be at most; None without a proof."""
        for commit, stamp in reversed(self._held):
            if commit <= applied:
                return max(now - stamp / 1e9, 0.0)
        return None


class Staleness:
    """A follower's proofs, from the heartbeats it hears."""

    def __init__(self, proven: bool = True, proofs: Proofs | None = None) -> None:
        self.proofs = proofs if proofs is not None else Proofs()
        self._proven = proven
        self._open: deque[tuple[int, int, int]] = deque(maxlen=_ROUNDS_MAX)
        self._sent: dict[int, None] = {}

    def note_stamp(self, stamp: int) -> None:
        """An acknowledgement carries this stamp. Only such echoes count: an earlier boot's clock was another one."""
        self._sent[stamp] = None
        if len(self._sent) > _STAMPS_MAX:
            del self._sent[next(iter(self._sent))]

    def reset(self) -> None:
        """A new epoch: its rounds are other rounds."""
        self._open.clear()

    def on_heartbeat(self, beat: Heartbeat, me: int) -> None:
        """A heartbeat opened a round, and says which rounds are confirmed."""
        begun = bool(beat.history) and beat.commit >= beat.history[-1].first
        own = own_stamp(beat, me)
        if own not in self._sent:
            own = 0
        if not self._proven:
            self.proofs.add(beat.commit, own)
            return
        if own and begun:
            while self._open and self._open[-1][0] >= beat.round:  # late, or never begun: nothing may wait behind it
                self._open.pop()
            self._open.append((beat.round, own, beat.commit))
        self.on_round_confirmed(beat.confirmed)

    def on_round_confirmed(self, round_number: int) -> None:
        """A majority has answered all rounds up to this one."""
        while self._open and self._open[0][0] <= round_number:
            _, stamp, commit = self._open.popleft()
            self.proofs.add(commit, stamp)

    def age_s(self, now: float, applied: int) -> float | None:
        """How old the state at event `applied` can be at most; None without a proof."""
        return self.proofs.age_s(now, applied)


def own_stamp(beat: Heartbeat, me: int) -> int:
    """This replica's own stamp as the heartbeat echoes it; 0 where it does not."""
    return next((peer.stamp for peer in beat.peers if peer.node == me), 0)
