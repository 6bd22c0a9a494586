"""A forger: sends datagrams in the name of a process that is alive, under any promise."""

from __future__ import annotations

from mcast.limits import EPOCH_MAX
from mcast.seal.datagram import Sealer
from mcast.sim.network import Datagram
from mcast.sim.node import SimNode
from mcast.wire.envelope import UNICAST
from mcast.wire.frame import Frame
from mcast.wire.messages import Kind, Message, Stale, encode_message, kind_of


class Forger(Sealer):
    """Seals in the name of a node's process, whose incarnation stands in all that it sends.

    Its counters are far from the true ones: the forger does not know these either.
    """

    def __init__(self, source: SimNode) -> None:
        super().__init__(source.world.ring, source.settings.cluster, source.name, source.network.incarnation)
        random = source.world.random
        self._sent = [1 + random.getrandbits(60) for _ in self._sent]

    def make(self, body: Frame | Message, promised: int, to: int) -> Datagram:
        """A message, or a frame as a repair, for one node."""
        if isinstance(body, Frame):
            return Datagram(self.seal(Kind.REPAIR, UNICAST, promised, body.head, body.body, to), Kind.REPAIR, None)
        kind = kind_of[type(body)]
        return Datagram(self.seal(kind, UNICAST, promised, b"", encode_message(body), to), kind, None)


def forge(node: SimNode, promised: int = EPOCH_MAX) -> None:
    """A node hears another one speak under this promise."""
    world = node.world
    source = next(other for other in world.nodes if other is not node and other.life)
    world.network.unicast(source.index, node.index, [Forger(source).make(Stale(1), promised, node.hash)])
