"""Reads of a simulated cluster: asked at random nodes, and judged against what had truly been committed.

A linearizable read must see all that was committed anywhere when it was asked for: more than what had been
acknowledged, and so also whatever another read has seen. A node's proof of its state's age must never be younger than
the truth. And a node that has applied what a client was last told must know what the client did.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from random import Random
from typing import Final, NamedTuple

from mcast.protocol.effects import ReadReady
from mcast.sim.client import SimClient
from mcast.sim.invariants import Violation
from mcast.sim.node import SimNode
from mcast.sim.world import World

PATIENCE_S: Final = 0.25  # then a read is asked anew: a question may have named a tail that never commits
APPLY_S: Final = 0.002  # between two looks at whether a node has applied what a read waits for
LINEARIZABLE_SHARE: Final = 0.5


class Asked(NamedTuple):
    """A linearizable read on its way: all up to event `floor` was committed, and `client` told of `number`, before."""

    node: SimNode
    life: int
    at: float
    floor: int
    era: int
    client: SimClient | None
    number: int


class SimReader:
    """Asks now and then, `pause_s` seconds apart on average, until `stop`. `clients` may change meanwhile."""

    def __init__(self, world: World, clients: Sequence[SimClient], random: Random, pause_s: float) -> None:
        self.answered = 0
        self._world = world
        self._clients = clients
        self._random = random
        self._pause_s = pause_s
        self._asked: dict[tuple[int, int, int], Asked] = {}
        self._early: dict[int, ReadReady] = {}
        """What became ready of a node while it was asked, by token."""
        self._stopped = False

    def begin(self) -> None:
        """Start asking."""
        self._world.loop.call_later(self._random.random() * self._pause_s, self._work)

    def stop(self) -> None:
        """Ask no more by oneself."""
        self._stopped = True

    def what_is_awaited(self) -> str:
        """Whose linearizable read still waits, in words; nothing when none does at a living node."""
        for one in self._asked.values():
            if one.node.up and one.node.life == one.life and not one.node.paused:
                return f"a read asked of {one.node.name} at {one.at:.3f} s waits"
        return ""

    def on_read_ready(self, node: SimNode, ready: ReadReady) -> None:
        """A node learned what its reads have to wait for."""
        for token in ready.tokens:
            asked = self._asked.get((node.index, node.life, token))
            if asked is None:  # answered while it is asked, or a suspect's own question
                self._early[token] = ready
                continue
            floor = self._floor(asked)
            if ready.commit < floor:
                raise Violation(f"{node.name} would read at event {ready.commit}, {floor} having been committed before")
            self._answer((node.index, node.life, token), ready.commit, self._world.loop.now + PATIENCE_S)

    def ask(self, node: SimNode, again: Asked | None = None) -> None:
        """One linearizable read at a node that is up; perhaps one that got no answer, `again`."""
        client = self._client()
        number = client.newest if client else 0
        checker = self._world.checker
        asked = Asked(node, node.life, self._world.loop.now, checker.last, checker.era, client, number)
        if again is not None:
            asked = again
        self._early.clear()
        life, token = node.life, node.driver.ask_read()
        if token is not None:
            self._asked[node.index, life, token] = asked
            if token in self._early and node.life == life:
                self.on_read_ready(node, replace(self._early.pop(token), tokens=(token,)))

    def look(self, node: SimNode) -> None:
        """A bounded and a session read at a node that is up, served at once or not at all."""
        replica, applied, checker = node.replica, node.engine.applied_seq, self._world.checker
        age_s = replica.staleness(node.now, applied)
        if age_s is not None:
            self._world.marks["bounded read"] += 1
            checker.on_age_claim(node.book, applied, age_s)
        proof = replica.proof(node.now)
        if proof is not None:
            checker.on_proof_claim(node.book, *proof)
        client = self._client()
        if client is not None and applied >= client.newest_seq:
            self._world.marks["session read"] += 1
            self._see(node, client, client.newest)

    def _client(self) -> SimClient | None:
        return self._clients[int(self._random.random() * len(self._clients))] if self._clients else None

    def _work(self) -> None:
        if self._stopped:
            return
        self._world.loop.call_later(self._random.expovariate(1.0) * self._pause_s, self._work)
        node = self._world.nodes[int(self._random.random() * len(self._world.nodes))]
        if not node.up or node.paused:
            return
        if self._random.random() < LINEARIZABLE_SHARE:
            self.ask(node)
        else:
            self.look(node)

    def _floor(self, asked: Asked) -> int:
        checker = self._world.checker
        return asked.floor if asked.era == checker.era else min(asked.floor, checker.survived)

    def _answer(self, key: tuple[int, int, int], commit: int, until: float) -> None:
        asked = self._asked[key]
        node = asked.node
        if not node.up or node.life != asked.life:
            del self._asked[key]
        elif node.engine.applied_seq < commit:
            if self._world.loop.now < until:
                self._world.loop.call_later(APPLY_S, self._answer, key, commit, until)
                return
            del self._asked[key]
            self._world.marks["asked again"] += 1
            self.ask(node, asked)
        else:
            del self._asked[key]
            self.answered += 1
            self._world.marks["linearizable read"] += 1
            if asked.client is not None and not asked.client.gone:
                self._see(node, asked.client, asked.number)

    def _see(self, node: SimNode, client: SimClient, number: int) -> None:
        seen = node.recorder.executed.get(client.index, 0)
        if seen < number:
            raise Violation(f"a read at {node.name} saw {seen} commands of client {client.index}, not {number}")
