"""What the nodes of a simulated cluster share: time, network, checker, chance."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from random import Random
from typing import TYPE_CHECKING, Any, Final

from mcast.errors import DecodeError
from mcast.machine.api import StateMachine
from mcast.seal.datagram import Opener
from mcast.seal.keys import KeyRing
from mcast.sim.invariants import Checker
from mcast.sim.loop import Loop
from mcast.sim.network import Datagram, Network
from mcast.sim.words import Words
from mcast.wire.envelope import Envelope, name_hash
from mcast.wire.frame import Frame
from mcast.wire.groups import RecordGroup
from mcast.wire.messages import Message

if TYPE_CHECKING:
    from mcast.sim.node import SimNode

OPENED_MAX: Final = 1_024  # datagrams kept opened


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
        self.ring: KeyRing | None = None
        """What seals all datagrams; None: they are not sealed."""
        self.opened: dict[bytes | memoryview, tuple[Envelope, Any]] = {}
        """The newest datagrams for all, opened: that is the same work with the same outcome for every receiver."""
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

    def note_opened(self, data: bytes, opened: tuple[Envelope, Any]) -> None:
        """Keep for others what one node has opened."""
        if len(self.opened) >= OPENED_MAX:
            self.opened.clear()
        self.opened[data] = opened

    def open(self, datagram: Datagram) -> tuple[Envelope, Frame | Message] | str:
        """A datagram's (envelope, body), or the reason why it is refused: for who listens in."""
        try:
            return Opener(self.ring, "sim", list(self.index), 0).open_untrusted(datagram.data)
        except DecodeError as error:
            return error.reason
