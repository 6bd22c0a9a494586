"""What the nodes of a simulated cluster share: time, network, checker, chance."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from random import Random
from typing import TYPE_CHECKING

from mcast.errors import DecodeError
from mcast.machine.api import StateMachine
from mcast.seal.datagram import Opener
from mcast.sim.invariants import Checker
from mcast.sim.loop import Loop
from mcast.sim.network import Datagram, Network
from mcast.sim.words import Words
from mcast.wire.envelope import Envelope, name_hash
from mcast.wire.frame import Frame, FrameRun
from mcast.wire.groups import RecordGroup
from mcast.wire.messages import Kind, Message

if TYPE_CHECKING:
    from mcast.sim.node import SimNode


@dataclass(slots=True)
class DiskSpeed:
    """Seconds a job takes: between the two, drawn anew for each."""

    least_s: float
    most_s: float


class World:
    """What all nodes of a run share."""

    def __init__(self, loop: Loop, network: Network, checker: Checker, random: Random, names: Sequence[str]) -> None:
        self.loop = loop
        self.network = network
        self.checker = checker
        self.random = random
        self.names = list(names)
        self.index = {name_hash(name): index for index, name in enumerate(names)}
        self.opener = Opener(None, "sim", list(self.index), 0)
        self.nodes: list[SimNode] = []
        self.marks: Counter[str] = Counter()
        """How often rare things happened; a swarm must reach them all."""
        self.words = Words({name_hash(name): name for name in names})
        self.lies = False
        """Whether somebody forges what no node of the group says."""
        self.machine: Callable[[], StateMachine] | None = None
        """Makes what the nodes run; None: a Recorder."""

    def hand_in(self, node: SimNode, groups: Sequence[RecordGroup]) -> None:
        """Groups have reached their client's gateway: it numbers them, or sends them on to the sequencer it knows."""
        if node.replica.is_sequencer:
            node.submit(groups)
            return
        sequencer = node.replica.sequencer
        target = self.index.get(sequencer) if sequencer is not None else None
        if target is not None and target != node.index:
            taker = self.nodes[target]

            def on_forwarded() -> None:
                if not taker.paused and taker.replica.is_sequencer:
                    taker.submit(groups, elsewhere=True)

            self.network.send_tcp(node.index, target, on_forwarded, lambda: None)

    def open(self, datagram: Datagram) -> tuple[Envelope, Frame | Message] | str:
        """A datagram's (envelope, body), or the reason why it is refused; opened once for all receivers."""
        if datagram.opened is None:
            try:
                datagram.opened = self.opener.open_untrusted(datagram.data)
            except DecodeError as error:
                datagram.opened = error.reason
        return datagram.opened


def in_runs(opened: list[tuple[Envelope, Frame | Message]]) -> list[tuple[Envelope, Frame | FrameRun | Message]]:
    """The same arrivals, frames of consecutive DATA datagrams together, as a node's transport has them."""
    joined: list[tuple[Envelope, Frame | FrameRun | Message]] = []
    for envelope, message in opened:
        if joined and type(message) is Frame and joined[-1][0].kind == envelope.kind == Kind.DATA:
            first, before = joined[-1]
            run = before if type(before) is list else [before] if type(before) is Frame else []
            if envelope == first._replace(counter=first.counter + len(run)):
                joined[-1] = first, [*run, message]
                continue
        joined.append((envelope, message))
    return joined
