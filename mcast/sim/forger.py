"""A forger: sends one datagram under a promise that no node gave."""

from __future__ import annotations

from mcast.limits import EPOCH_MAX
from mcast.seal.datagram import Sealer
from mcast.sim.network import Datagram
from mcast.sim.node import SimNode
from mcast.wire.envelope import UNICAST
from mcast.wire.messages import Kind, Stale, encode_message


def forge(node: SimNode, promised: int = EPOCH_MAX) -> None:
    """A node hears another one speak under this promise."""
    world = node.world
    source = next(other for other in world.nodes if other is not node)
    sealer = Sealer(None, node.settings.cluster, source.name, bytes(15) + b"\x02")
    data = sealer.seal(Kind.STALE, UNICAST, promised, b"", encode_message(Stale(1)), node.hash)
    world.network.unicast(source.index, node.index, [Datagram(data, Kind.STALE, None)])
