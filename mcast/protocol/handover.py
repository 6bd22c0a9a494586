"""Handing the role over: nothing more is numbered, and the successor is appointed once it holds the whole log."""

from __future__ import annotations

from collections.abc import Mapping

from mcast.limits import HANDOVER_S, READ_RETRY_S
from mcast.protocol.core import Core
from mcast.protocol.numbering import Numbering
from mcast.protocol.quorum import Progress
from mcast.protocol.states import Role
from mcast.wire.messages import Handover

NOT_THE_SEQUENCER = "this node is not the sequencer"


class HandingOver:
    """Of one epoch that this node leads. Times in seconds of the protocol's clock."""

    def __init__(self, core: Core, progress: Mapping[int, Progress], numbering: Numbering) -> None:
        self.core = core
        self.successor: tuple[int, float] | None = None
        """The node that is to take over, and when it is given up; None while nobody is."""
        self._progress = progress
        self._numbering = numbering
        self._appointed_at = float("-inf")
        """When a successor was last sent a HANDOVER."""

    def begin(self, to: int, now: float) -> str | None:
        """Begin to hand the role to a voter; what stands in the way, or None."""
        core = self.core
        if core.role is not Role.SEQUENCER:
            return NOT_THE_SEQUENCER
        if self.successor is not None:
            return "a handover is under way"
        progress = self._progress.get(to)
        if to == core.me or progress is None or not progress.counted:
            return "the successor must be another member that acknowledges"
        if progress.heard < self._alive_since(now):
            return "the successor was not heard lately"
        self.successor = (to, now + HANDOVER_S)
        self._numbering.is_paused = True
        self.go_on(now)
        return None

    def go_on(self, now: float) -> None:
        """Appoint the successor as soon as it holds the whole log; nothing is numbered meanwhile."""
        if self.successor is None:
            return
        to, until = self.successor
        progress = self._progress.get(to)
        if now >= until or progress is None or not progress.counted:
            self.successor = None
            self._numbering.is_paused = False
            self._numbering.number(now)
        elif progress.seq == self.core.log.last_seq and now >= self._appointed_at + READ_RETRY_S:
            self._appointed_at = now
            self.core.send(to, Handover(self.core.promised))

    def best(self, now: float) -> int | None:
        """The other voter best placed to take over: heard lately, its log the furthest."""
        core = self.core
        voters = core.voters()
        fit = [
            (progress.seq, node)
            for node, progress in self._progress.items()
            if progress.counted and node in voters and node != core.me and progress.heard >= self._alive_since(now)
        ]
        return max(fit)[1] if fit else None

    def deadline(self) -> float:
        """When the successor is to be appointed again, or given up; until it holds the whole log its acks decide."""
        if self.successor is None:
            return float("inf")
        to, until = self.successor
        progress = self._progress.get(to)
        if progress is None or progress.seq != self.core.log.last_seq:
            return until
        return min(until, self._appointed_at + READ_RETRY_S)

    def _alive_since(self, now: float) -> float:
        """The time since when every living replica has acknowledged."""
        return now - 3 * self.core.settings.heartbeat_max_s
