"""A stage for directed scenarios: a small cluster in calm weather, and hands on its links, disks and processes.

Rules with rare counter-examples are not left to luck: a scenario plays the counter-example step by step. With the rule
on it must end whole; with the rule off it must not.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from typing import Final, NamedTuple

from mcast.limits import HEARTBEAT_HISTORY
from mcast.protocol.rules import Rules
from mcast.sim.cluster import SimCluster
from mcast.sim.forger import Forger
from mcast.sim.invariants import Violation
from mcast.sim.network import Datagram, Weather
from mcast.sim.node import DiskSpeed, SimNode
from mcast.sim.plan import draw_plan
from mcast.wire.envelope import name_hash
from mcast.wire.frame import Frame
from mcast.wire.messages import FRAME_KINDS, Message
from mcast.wire.records import RecordKind, encode_record

PATIENCE_S: Final = 5.0  # virtual seconds that an awaited state may take


class Stage:
    """Nodes n1, n2, ...; n1 founds and leads first. Every call raises Violation when a promise is broken in it."""

    def __init__(
        self, rules: Rules, lines: list[str] | None, *, members: int, delay_s: float, sync: str = "always"
    ) -> None:
        plan = replace(
            draw_plan(1),
            members=members,
            observers=0,
            sealed=False,
            handler_s=0.0,
            sync=sync,
            frame_body_max=1_300,
            heartbeat_epochs=HEARTBEAT_HISTORY,
            heartbeat_max_s=0.02,
            election_timeout_s=(0.12, 0.24),
            weather=Weather(delay_s=delay_s, jitter_s=0.0),
            disk=DiskSpeed(0.000_2, 0.000_2),
            clients=0,
            faults=(),
            deaf=(),
        )
        self.cluster = SimCluster(plan, rules, lines)
        self.network = self.cluster.network
        self.nodes = self.cluster.nodes
        self._numbered = 0
        self.cluster.start()

    def node(self, name: str) -> SimNode:
        """The node of this name."""
        return next(node for node in self.nodes if node.name == name)

    def say(self, text: str) -> None:
        """Name the next step in the log."""
        self.cluster.loop.say(f"-- {text}")

    def run(self, seconds: float) -> None:
        """Let time pass."""
        self.cluster.loop.run(self.cluster.loop.now + seconds)

    def wait_until(self, what: str, holds: Callable[[], bool], within_s: float = PATIENCE_S) -> None:
        """Let time pass until something holds; a Violation when it does not within that time."""
        if not self.cluster.loop.run(self.cluster.loop.now + within_s, holds, 0.000_5):
            raise Violation(f"waited {within_s} s in vain until {what}")

    def read(self, node: SimNode) -> None:
        """Ask a node for a linearizable read; once it could answer, it must not be with an old state."""
        self.cluster.reader.ask(node)

    def look(self, node: SimNode) -> None:
        """Judge what a node says now of its state's age."""
        self.cluster.reader.look(node)

    def wait_for_bootstrap(self, by: str = "n1") -> SimNode:
        """Wait until n1 leads and all others follow; returns n1."""
        first = self.node(by)
        self.wait_until(f"{by} leads", lambda: first.up and first.replica.is_sequencer)
        self.wait_until("all hold its first event", lambda: self._equal(self.nodes))
        return first

    def wait_for_sequencer(self, among: Sequence[str]) -> SimNode:
        """Wait until one of these leads, and its first event has reached the others of them; returns it."""
        nodes = [self.node(name) for name in among]
        self.wait_until(
            f"one of {', '.join(among)} leads", lambda: any(node.up and node.replica.is_sequencer for node in nodes)
        )
        leading = [node for node in nodes if node.up and node.replica.is_sequencer]
        sequencer = max(leading, key=lambda node: node.replica.promised)
        self.wait_until("its followers have its log", lambda: self._equal(nodes))
        return sequencer

    def number(self, node: SimNode, events: int, size: int = 0) -> int:
        """Have a sequencer number events of no consequence, each in a frame of its own; returns its log's end.

        `size` is that of each, in bytes, beyond what there must be.
        """
        for _ in range(events):
            self._numbered += 1
            record = encode_record(RecordKind.NOOP, 1, 1 << 40, self._numbered, self._numbered, bytes(size))
            if not node.submit([(record,)]):
                raise Violation(f"{node.name} was to number an event, but is not the sequencer")
            node.end_turn()
        return node.replica.last_seq

    def see_death(self, of: SimNode, names: Sequence[str]) -> None:
        """These nodes' connections to another one close, and a new one is refused."""
        for name in names:
            node = self.node(name)
            node.driver.tell(partial(node.replica.on_peer_died, name_hash(of.name)))

    def cut(self, *names: str) -> None:
        """Separate these nodes from the others, and keep those that were cut off before."""
        self.say(f"{', '.join(names)} cut off")
        self.network.isolate([self.node(name).index for name in names])

    def block(self, source: str, *targets: str) -> None:
        """Drop all datagrams from `source` to the targets."""
        self.network.blocked |= {(self.node(source).index, self.node(target).index) for target in targets}

    def join(self) -> None:
        """Every link works again."""
        self.say("all links work again")
        self.network.blocked.clear()
        self.network.gate = None
        self.network.tcp_open = True

    def drop(self, dropped: Callable[[str, str, Datagram], bool]) -> None:
        """Lose the datagrams that `dropped(from, to, datagram)` picks, until `join`."""
        names = [node.name for node in self.nodes]
        self.network.gate = lambda source, target, datagram: not dropped(names[source], names[target], datagram)

    def drop_frames_of(self, *names: str, to: Sequence[str] = ()) -> None:
        """Lose DATA and REPAIR of these nodes, to all others or to some; everything else passes."""
        targets = to or [node.name for node in self.nodes]
        self.drop(
            lambda source, target, datagram: source in names and target in targets and datagram.kind in FRAME_KINDS
        )

    def inject(self, source: str, target: str, body: Frame | Message, promised: int | None = None) -> None:
        """Deliver a message, or a frame as a repair, to `target` in the name of `source`."""
        sender, receiver = self.node(source), self.node(target)
        epoch = sender.replica.promised if promised is None else promised
        datagram = Forger(sender).make(body, epoch, name_hash(target))
        receiver.meet(sender)  # who has heard of it before
        self.network.unicast(sender.index, receiver.index, [datagram])

    def heal(self) -> None:
        """Heal everything; the cluster must get over it."""
        self.join()
        for node in self.nodes:
            node.release()
        self.cluster.heal()
        self.wait_until("all is whole again", self.cluster.is_whole)

    def _equal(self, nodes: Sequence[SimNode]) -> bool:
        last = {node.replica.last_seq for node in nodes if node.up}
        return len(last) == 1 and all(node.replica.commit_seq in last for node in nodes if node.up)


class Scene(NamedTuple):
    """A counter-example: `play` it on a stage of `members` nodes with this one-way delay."""

    play: Callable[[Stage], None]
    members: int = 3
    delay_s: float = 0.000_5
    sync: str = "always"


def has_committed_all(node: SimNode) -> bool:
    """Whether a node knows its whole log committed."""
    return node.replica.commit_seq == node.replica.last_seq
