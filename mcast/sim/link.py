"""A simulated node's sockets: what the network brought waits here, and what is sent goes there as one burst."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Final

from mcast.net.link import LinkCounters, PeerAddress
from mcast.sim.network import Datagram, Delivery
from mcast.wire.envelope import STREAM, Envelope, decode_envelope_untrusted

if TYPE_CHECKING:
    from mcast.sim.node import SimNode

SOCKET_BURSTS_MAX: Final = 256  # bursts a paused node's socket buffer holds
BURST_DATAGRAMS_MAX: Final = 512  # received at a time
RECEIVE_WINDOW_BYTES: Final = 1 << 20


class SimLink:
    """One life's sockets; see `net.link.DatagramLink`. Peers' addresses are (name, index among the nodes)."""

    def __init__(self, node: SimNode) -> None:
        self.counters = LinkCounters()
        self.receive_window = RECEIVE_WINDOW_BYTES
        self.spoiled: set[bytes] = set()
        """Datagrams of the newest burst that a fault has touched: only those may be refused for what they hold."""
        self._node = node
        self._waiting: list[Delivery] = []
        self._bursts = 0

    @property
    def has_more(self) -> bool:
        """See DatagramLink.has_more."""
        return bool(self._waiting)

    def put(self, burst: Sequence[Delivery]) -> None:
        """A burst reaches the socket; one that is full drops it."""
        if self._bursts < SOCKET_BURSTS_MAX:
            self._bursts += 1
            self._waiting += burst

    def attach(self, loop: asyncio.AbstractEventLoop, readable: Callable[[], None]) -> None:
        """See DatagramLink.attach; here the node itself reads."""

    def send(self, channel: int, datagrams: Sequence[bytes], to: PeerAddress | None = None) -> None:
        """See DatagramLink.send."""
        node = self._node
        carried = [self._datagram_of(channel, data) for data in datagrams]
        if to is None:
            node.world.network.multicast(node.index, carried)
        else:
            node.world.network.unicast(node.index, to[1], carried)

    def receive(self) -> list[memoryview]:
        """See DatagramLink.receive: what faults took is noted here, as the loss it is."""
        burst, self._waiting = self._waiting[:BURST_DATAGRAMS_MAX], self._waiting[BURST_DATAGRAMS_MAX:]
        if not self._waiting:
            self._bursts = 0
        self.spoiled = {datagram.data for datagram, fate in burst if fate}
        arrived: list[bytes] = []
        for datagram, fate in burst:
            if fate and datagram.first is not None:
                self._node.replica.note_injected(fate, *datagram.first)
            if fate != "lost":
                arrived.append(datagram.data)
        return arrived  # type: ignore[return-value]

    def close(self) -> None:
        """See DatagramLink.close."""

    def _datagram_of(self, channel: int, data: bytes) -> Datagram:
        envelope: Envelope = decode_envelope_untrusted(data)
        first = (envelope.incarnation, envelope.counter) if channel == STREAM else None
        return Datagram(data, envelope.kind, first)
