"""A voter that has just started prefers the best log of those who are there.

A data directory that went back in time as a whole, a copy that was put back, looks like one that never went further:
nothing in it tells. But what its node acknowledged before, others acknowledged too, and while one of them is there, its
log reaches further. So a process that has just begun asks the other voters where their logs end. It neither votes for a
log that ends before the best of them, nor stands with one, as long as that one goes on answering: who has it is to be
elected. A log that is only longer, and holds nothing acknowledged, does no harm: it is elected like any other.

Who heard this node itself acknowledge knows more: that its log lacks what it acknowledged, or its promise what it once
obeyed. A log is never cut below what was acknowledged in the same epoch, nor does a promise go back; so that proves the
directory an older one. It says so in its answer, and this node is a suspect from then on (see `log_recovery`), across
restarts too, until its log is known whole.

This ends when the log has reached all that the present epoch is known to hold, and after CAUTION_S at the latest:
whoever answers may be unable to lead. It refuses votes and gives none, so it is no danger; where nobody answers it
changes nothing. But a suspect remains one.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from mcast.limits import CAUTION_ASK_S, CAUTION_S
from mcast.protocol.core import Core
from mcast.protocol.effects import LogDoubted
from mcast.protocol.reading import is_answer
from mcast.wire.envelope import Envelope
from mcast.wire.messages import Standing, Survey

_ABSENT_S: Final = 2 * CAUTION_ASK_S  # after a start; a voter that has not answered by then counts as absent


class Caution:
    """A process's first seconds. `high_seq` tells the highest event known to exist."""

    def __init__(
        self, core: Core, now: float, high_seq: Callable[[], int], on_doubt: Callable[[LogDoubted, float], None]
    ) -> None:
        self._core = core
        self._high_seq = high_seq
        self._on_doubt = on_doubt
        self._began = core.promised, core.log.last_seq
        self._until = now + CAUTION_S
        self._due = now if core.rules.best_log_preferred and core.log.last_seq and core.promised else float("inf")
        self._nonce = 0
        self._asks = 0
        self._absent_at = now + _ABSENT_S
        self._patient = False
        """Whether it is too early to count a voter that has not answered as absent."""
        self._ends: dict[int, tuple[int, int]] = {}
        """Voter -> where its log ends (epoch, seq), of those who answered the last question or the one before it."""
        self._earlier: dict[int, tuple[int, int]] = {}
        """... and of those who answered the one before it."""

    def tick(self, now: float) -> None:
        """Ask anew."""
        core = self._core
        if now < self._due:
            return
        caught_up = core.reconciled and core.log.last_seq >= self._high_seq()
        if core.leads_epoch or core.suspect or caught_up or now >= self._until:
            self._due = float("inf")
            self._asks, self._patient = 0, False
            self._ends = self._earlier = {}
            return
        self._due = now + CAUTION_ASK_S
        self._earlier, self._ends = self._ends, {}
        self._asks += 1
        self._patient = now < self._absent_at
        self._nonce = core.random.getrandbits(63)
        core.call(Survey(self._nonce), sorted(self._silent()), self._asks)

    def deadline(self) -> float:
        """When `tick` has work next."""
        return self._due

    def on_standing(self, envelope: Envelope, position: Standing, now: float) -> None:
        """A node says where its log ends; a suspect can't be elected, so no vote waits for it."""
        core, sender = self._core, envelope.sender
        if not self._asks or not is_answer(core, position, self._nonce):
            return
        heard = position.heard_epoch, position.heard_seq
        lacks = heard > max(self._began, core.acknowledged) and position.heard_id == core.meta.storage_id
        if lacks and core.rules.doubt_when_told and not core.suspect:
            self._on_doubt(LogDoubted(sender, *heard, self._began[1]), now)
        if core.is_voter(sender, position.storage_id):
            if position.suspect:
                self._ends[sender] = (0, 0)
            else:
                self._ends[sender] = (position.last_epoch, position.last_seq)

    def allows_vote(self, last_epoch: int, last_seq: int) -> bool:
        """Whether this node may vote for a log that ends there, or stand with it."""
        if self._patient and self._silent():
            return False
        return (last_epoch, last_seq) >= max([*self._earlier.values(), *self._ends.values()], default=(0, 0))

    def _silent(self) -> set[int]:
        return self._core.voters().keys() - self._earlier.keys() - self._ends.keys() - {self._core.me}
