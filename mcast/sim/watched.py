"""A replica with the checker looking on: what it is told, what it asks for, and how it treats what is fenced off."""

from __future__ import annotations

from collections.abc import Sequence
from random import Random
from typing import TYPE_CHECKING, Final

from mcast.protocol.arrivals import Arrival
from mcast.protocol.effects import Effect, Notice
from mcast.protocol.recovered import Recovered
from mcast.protocol.replica import Replica

if TYPE_CHECKING:
    from mcast.sim.node import SimNode

DUE_MAX: Final = 64  # times a replica is asked for what is due, before something that is not


class WatchedReplica(Replica):
    """One life's replica. Nothing about it differs; datagrams below its promise reach it one by one."""

    def __init__(self, node: SimNode, recovered: Recovered, random: Random) -> None:
        self._node = node
        self._taken: list[Effect] = []
        """Effects that were looked at, and are still to be carried out."""
        super().__init__(node.settings, recovered, random, node.now)

    def receive(self, arrivals: Sequence[Arrival], now: float, *, relayed: bool = False) -> None:
        """See Replica.receive."""
        node = self._node
        if node.world.loop.lines is not None:
            for envelope, body in arrivals:
                node.say(node.world.words.arrival(envelope.kind, envelope.sender, envelope.promised, body))
        if any(envelope.promised < self.promised for envelope, _ in arrivals):
            arrivals = self._fence(arrivals, now)
        super().receive(arrivals, now, relayed=relayed)

    def take_effects(self) -> list[Effect]:
        """See Replica.take_effects."""
        effects, self._taken = self._taken + super().take_effects(), []
        self._node.note_commit()
        if self._node.world.loop.lines is not None:
            for effect in effects:
                self._node.say(self._node.world.words.effect(effect))
        return effects

    def take_notices(self) -> list[Notice]:
        """See Replica.take_notices."""
        notices = super().take_notices()
        if self._node.world.loop.lines is not None:
            for notice in notices:
                self._node.say(self._node.world.words.notice(notice))
        return notices

    def _fence(self, arrivals: Sequence[Arrival], now: float) -> list[Arrival]:
        """Take what lies below the promise one by one: it may be answered, and move nothing; returns the rest."""
        for _ in range(DUE_MAX):  # what is due anyway is no answer; one read served may begin the next
            super().receive([], now)
            due = super().take_effects()
            self._taken += due
            if not due:
                break
        rest = []
        for arrival in arrivals:
            if arrival[0].promised >= self.promised:
                rest.append(arrival)
                continue
            super().receive([arrival], now)
            effects = super().take_effects()
            self._node.world.checker.on_fenced(self._node.book, effects)
            self._taken += effects
        return rest
