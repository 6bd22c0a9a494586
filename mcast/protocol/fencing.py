"""Fencing: no datagram is obeyed that was sent under a lower promise than this node's, nor under a higher one before
that has become this node's own, durably.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Final

from mcast.limits import HELD_DATAGRAMS_MAX, STALE_INTERVAL_S
from mcast.protocol.arrivals import Arrival
from mcast.protocol.climb import Climb
from mcast.protocol.core import Core
from mcast.protocol.election import Election
from mcast.protocol.runs import singly
from mcast.wire.envelope import Envelope
from mcast.wire.frame import Frame, FrameRun
from mcast.wire.messages import Message, Stale, VoteRequest

_STALE_PEERS_MAX: Final = 1_024


class Fencing:
    """Judges envelopes whose promise differs. `on_promised` runs when a higher one is durable here."""

    def __init__(self, core: Core, election: Election, now: float, on_promised: Callable[[float], None]) -> None:
        self.core = core
        self.held: list[Arrival] = []
        """What was sent under the promise that is being written; it is received once that is durable."""
        self._election = election
        self._on_promised = on_promised
        self._climb = Climb(now, bounded=core.rules.epoch_jump_bounded)
        self._stale_sent: dict[int, float] = {}
        """Node -> when it was last told that its promise is stale, in seconds of the protocol's clock."""

    def may_pass(self, envelope: Envelope, message: Frame | FrameRun | Message, now: float) -> bool:
        """Judge an envelope whose promise differs from ours; True when it may be processed now."""
        core = self.core
        if envelope.promised < core.promised:
            if not core.rules.fencing:
                return True
            core.counts["stale epoch"] += 1
            if now - self._stale_sent.get(envelope.sender, -1.0) >= STALE_INTERVAL_S:
                if len(self._stale_sent) > _STALE_PEERS_MAX:
                    self._stale_sent.clear()
                self._stale_sent[envelope.sender] = now
                core.send(envelope.sender, Stale(envelope.promised))
            return False
        if envelope.promised > core.planned_meta.promised:
            promised = self._climb.next_promise(envelope.promised, core.planned_meta.promised, now)
            if promised < envelope.promised:
                core.counts["far epoch"] += 1
                if promised == core.planned_meta.promised:
                    return False
            self.held = []
            meta = replace(core.planned_meta, promised=promised)
            if type(message) is VoteRequest and self._election.may_vote_at_once(message, meta.promised):
                meta = replace(meta, voted_epoch=message.epoch, voted_for=envelope.sender)
            core.write_meta(meta, self._on_promised, now, durable=core.rules.promise_durable)
            if core.promised == envelope.promised:
                return True
        if envelope.promised == core.planned_meta.promised:
            room = HELD_DATAGRAMS_MAX - len(self.held)
            self.held += singly(envelope, message)[:room] if type(message) is list else [(envelope, message)][:room]
        return False
