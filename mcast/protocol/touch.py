"""Whether this node is in touch with a majority; and what it does when it is not.

A confirmed round, a proof of the own state's age or a quorum's read say so. A node that had none of them for a while is
isolated: its state may be older than anybody can tell. It then asks every other node over TCP, again and again, what is
known there: that learns of commits and epochs that no datagram told of, and opens a connection by which the sequencer
can reach it.
"""

from __future__ import annotations

from mcast.limits import ISOLATED_S, KNOCK_S
from mcast.protocol.core import Core
from mcast.protocol.effects import Relay
from mcast.protocol.states import Role
from mcast.wire.envelope import Envelope, name_hash
from mcast.wire.messages import Knock, News


class Touch:
    """Every node's; the sequencer's own rounds are its proof."""

    def __init__(self, core: Core, now: float) -> None:
        self._core = core
        core.in_touch = now
        self.limit_s = max(ISOLATED_S, 2 * core.settings.election_timeout_s[1])
        """Out of touch for longer than this, a node is isolated."""
        self._due = now
        self._nonce = 0

    def is_isolated(self, now: float) -> bool:
        """Whether nothing has proven for too long that this node is in touch with a majority."""
        return now >= self._core.in_touch + self.limit_s

    def tick(self, now: float) -> None:
        """While isolated: ask every other node what it knows."""
        core = self._core
        if now < self.deadline():
            return
        self._due = now + KNOCK_S
        if not core.promised:
            return  # no cluster is known here yet: its founder, or its sequencer, looks for this node
        self._nonce = core.random.getrandbits(63)
        members = [name_hash(node) for node, _ in core.settings.members]
        for node in dict.fromkeys([*core.voters(), *members, *core.settings.observers]):
            if node != core.me:
                core.effects.append(Relay(node, Knock(self._nonce)))

    def deadline(self) -> float:
        """When `tick` has work next."""
        return max(self._due, self._core.in_touch + self.limit_s)

    def on_knock(self, envelope: Envelope, knock: Knock) -> None:
        """A node that is out of touch asks what is known here."""
        core = self._core
        chain = core.log.chain_at(core.commit_seq)
        if core.role is not Role.EMPTY and chain is not None:
            core.send(
                envelope.sender, News(knock.nonce, core.cluster_uuid, core.sequencer or 0, core.commit_seq, chain)
            )

    def answers(self, news: News) -> bool:
        """Whether these news were asked for."""
        return news.nonce == self._nonce and self._nonce > 0
