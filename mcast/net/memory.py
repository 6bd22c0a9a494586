"""An in-process network with the face of UDP: nodes of one event loop, for users' tests and the project's own.

Datagrams are delivered in order, at the loop's next turn, and lost only when a receiver's queue is full or `passes`
says so. Loss, delay and the rest come from `faulty`, as on a real network.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Sequence
from typing import Final

from mcast.errors import EnvironmentProblem
from mcast.net.link import LinkCounters, PeerAddress
from mcast.wire.envelope import UNICAST

QUEUE_BYTES_MAX: Final = 8 << 20  # bytes waiting at one receiver; beyond, dropped as by a full socket buffer
BURST_DATAGRAMS: Final = 700  # as many as UDP's arena holds at 1,500-byte MTU


class Hub:
    """One multicast group in memory. `passes(source, target)` decides, datagram by datagram, who hears whom."""

    def __init__(self, passes: Callable[[PeerAddress, PeerAddress], bool] | None = None) -> None:
        self.passes = passes
        self._links: dict[PeerAddress, MemoryLink] = {}

    def link(self, address: PeerAddress) -> MemoryLink:
        """Join as this address. Raises EnvironmentProblem if it is taken."""
        if address in self._links:
            raise EnvironmentProblem(f"address {address} of the hub is in use", "give each node its own address")
        self._links[address] = joined = MemoryLink(self, address)
        return joined

    def _leave(self, link: MemoryLink) -> None:
        if self._links.get(link.address) is link:
            del self._links[link.address]

    def _deliver(self, source: MemoryLink, datagrams: Sequence[bytes], to: PeerAddress | None) -> None:
        targets = list(self._links.values()) if to is None else [self._links[to]] if to in self._links else []
        for target in targets:
            if target is not source and (self.passes is None or self.passes(source.address, target.address)):
                target._take(datagrams)


class MemoryLink:
    """One node's end of a hub; a `DatagramLink`."""

    def __init__(self, hub: Hub, address: PeerAddress) -> None:
        self.address = address
        self.counters = LinkCounters()
        self._hub = hub
        self._queue: deque[bytes] = deque()
        self._queued_bytes = 0
        self._loop: asyncio.AbstractEventLoop | None = None
        self._readable: Callable[[], None] | None = None
        self._woken: asyncio.Handle | None = None

    @property
    def receive_window(self) -> int:
        """Bytes its queue surely takes."""
        return QUEUE_BYTES_MAX

    @property
    def has_more(self) -> bool:
        """Whether the last `receive` left something."""
        return bool(self._queue)

    def attach(self, loop: asyncio.AbstractEventLoop, readable: Callable[[], None]) -> None:
        """Call `readable` on this loop whenever something can be received, until closed."""
        self._loop, self._readable = loop, readable
        self._wake()

    def send(self, channel: int, datagrams: Sequence[bytes], to: PeerAddress | None = None) -> None:
        """Queue a burst at the receivers; `to` exactly for the unicast channel."""
        assert (to is not None) == (channel == UNICAST), "only unicast names its receiver"
        self.counters.sends += 1
        self.counters.datagrams_sent += len(datagrams)
        self.counters.bytes_sent += sum(map(len, datagrams))
        self._hub._deliver(self, datagrams, to)

    def receive(self) -> list[memoryview]:
        """One bounded burst."""
        burst = [memoryview(self._queue.popleft()) for _ in range(min(len(self._queue), BURST_DATAGRAMS))]
        size = sum(map(len, burst))
        self._queued_bytes -= size
        self.counters.datagrams_received += len(burst)
        self.counters.bytes_received += size
        self.counters.receives += 1
        return burst

    def close(self) -> None:
        """Leave the hub; idempotent."""
        self._hub._leave(self)
        self._readable = None
        if self._woken is not None:
            self._woken.cancel()

    def _take(self, datagrams: Sequence[bytes]) -> None:
        for datagram in datagrams:
            if self._queued_bytes + len(datagram) > QUEUE_BYTES_MAX:
                self.counters.kernel_drops += 1
                continue
            self._queue.append(datagram)
            self._queued_bytes += len(datagram)
        self._wake()

    def _wake(self) -> None:
        if self._queue and self._loop is not None and self._readable is not None and self._woken is None:
            self._woken = self._loop.call_soon(self._ring)

    def _ring(self) -> None:
        self._woken = None
        if self._readable is not None:
            self._readable()
            self._wake()
