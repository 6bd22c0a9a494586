"""Datagrams over TCP: to peers that datagrams themselves do not reach, or of which none arrive.

A connection is dialled when it is needed, and closed when it has not been needed for a while, or when it leads nowhere
any more: what is written to one whose way was blocked is held back for up to two minutes after it is open again. A node
whose port is closed to its peers can still dial them: what it sends then opens the way back. Nothing is kept for a peer
that reads too slowly, or cannot be reached: what is sent so is repeated by whoever needs it.
"""

from __future__ import annotations

import asyncio
from collections import deque
from typing import TYPE_CHECKING, Final

from mcast.config import NodeConfig
from mcast.errors import DecodeError
from mcast.limits import RELAYED_BYTES_MAX
from mcast.net.tcp import Dialer, StreamLink, Unreachable
from mcast.node.gateway.connection import Connection
from mcast.protocol.effects import Relay
from mcast.wire.envelope import name_hash
from mcast.wire.stream import Ping, StreamKind, pack_message, pack_raw

if TYPE_CHECKING:
    from mcast.node.shell import Shell

RETRY_S: Final = (0.1, 2.0)  # first and longest pause between dials of a peer that cannot be reached; doubles
PING_S: Final = 1.0  # between two PINGs on a connection that is in use
SILENT_PINGS: Final = 5  # in a row without an answer, before a connection is given up
IDLE_S: Final = 10.0  # a connection that nothing was sent on for so long is closed
WAITING_MAX: Final = 16  # datagrams kept while a connection is dialled: the newest
_PING: Final = pack_message(StreamKind.PING, Ping(0))


class _RelayWay:
    """To one peer."""

    def __init__(self, node: NodeConfig) -> None:
        self.node = node
        self.link: StreamLink | None = None
        self.inbound: Connection | None = None
        self.dialling: asyncio.Task[None] | None = None
        self.waiting: deque[bytes] = deque(maxlen=WAITING_MAX)
        self.pause_s = RETRY_S[0]
        self.dial_due = 0.0
        self.used = 0.0
        self.ping_due = 0.0
        self.heard = 0
        self.silent = 0
        """PINGs in a row without an answer."""


class Relays:
    """One node's: install `relay` as the shell's `on_relay`."""

    def __init__(self, shell: Shell, dialer: Dialer) -> None:
        self._shell = shell
        self._dialer = dialer
        self._ways = {name_hash(node.id): _RelayWay(node) for node in shell.config.nodes if node.id != shell.node_id}
        self._looking: asyncio.TimerHandle | None = None
        self._stopped = False

    def relay(self, effect: Relay) -> None:
        """Send a message over TCP, now or as soon as a connection is open."""
        way = self._ways.get(effect.to)
        if way is None or self._stopped:
            return
        message = pack_raw(StreamKind.DATAGRAM, self._shell.transport.seal_for(effect.to, effect.message))
        way.used = asyncio.get_running_loop().time()
        if way.link is not None and self._is_alive(way, way.link):
            if way.link.writable:
                way.link.write([message])
            return
        if way.inbound is not None and way.inbound.is_open and not way.inbound.congested:
            way.inbound.post(message)
        else:
            way.waiting.append(message)
        self._dial(way)

    def _is_alive(self, way: _RelayWay, link: StreamLink) -> bool:
        """Ask now and then; one that has not answered for too long is given up."""
        if way.used < way.ping_due:
            return True
        way.ping_due = way.used + PING_S
        way.silent = way.silent + 1 if link.heard == way.heard else 0
        way.heard = link.heard
        if way.silent >= SILENT_PINGS:
            way.link = None
            link.close("no answer")
            return False
        link.write([_PING])
        return True

    def on_datagram(self, connection: Connection, datagram: bytes) -> None:
        """A peer that dialled this node sent a datagram. Raises DecodeError for one that is too long."""
        assert connection.hello is not None
        if (way := self._ways.get(name_hash(connection.hello.node))) is not None:
            way.inbound = connection
            self._take(way, datagram)

    def on_disconnect(self, connection: Connection) -> None:
        """A connection of a peer has ended."""
        for way in self._ways.values():
            if way.inbound is connection:
                way.inbound = None

    def on_address_change(self) -> None:
        """Somebody has another address: connections may lead nowhere, and are dialled anew."""
        for way in self._ways.values():
            way.inbound = None
            way.dial_due, way.pause_s = 0.0, RETRY_S[0]
            link, way.link = way.link, None
            if link is not None:
                link.close()

    async def stop(self) -> None:
        """Close all connections; nothing is sent any more."""
        self._stopped = True
        if self._looking is not None:
            self._looking.cancel()
        dialling = [way.dialling for way in self._ways.values() if way.dialling is not None]
        for task in dialling:
            task.cancel()
        await asyncio.gather(*dialling, return_exceptions=True)
        for way in self._ways.values():
            if way.link is not None:
                way.link.close()

    def on_link_message(self, link: StreamLink, kind: int, payload: bytes) -> None:
        """The peer sends datagrams back, and answers PINGs."""
        if kind == StreamKind.PONG:
            return
        if kind != StreamKind.DATAGRAM:
            raise DecodeError("unexpected message", str(kind))
        self._take(self._ways[name_hash(link.node.id)], payload)

    def on_link_writable(self, link: StreamLink) -> None:
        """Nothing waits to be written."""

    def on_link_lost(self, link: StreamLink, reason: str) -> None:
        """The next datagram dials anew."""
        way = self._ways[name_hash(link.node.id)]
        if way.link is link:
            way.link = None
            self._put_off(way)

    def _take(self, way: _RelayWay, datagram: bytes) -> None:
        if len(datagram) > RELAYED_BYTES_MAX:
            raise DecodeError("message too long", f"datagram of {len(datagram)} bytes")
        self._shell.on_relayed(datagram)
        if way.link is None and self._shell.incarnation_of(name_hash(way.node.id)) is None:
            self._dial(way)  # a challenge might not reach it; whoever answers on its address is proven

    def _dial(self, way: _RelayWay) -> None:
        loop = asyncio.get_running_loop()
        if way.link is None and way.dialling is None and loop.time() >= way.dial_due and not self._stopped:
            way.dialling = loop.create_task(self._open(way))

    async def _open(self, way: _RelayWay) -> None:
        try:
            link = await self._dialer.open(way.node, self)
        except Unreachable:
            way.waiting.clear()
            self._put_off(way)
            return
        finally:
            way.dialling = None
        way.link, way.pause_s = link, RETRY_S[0]
        way.heard, way.silent = -1, 0
        self._shell.on_incarnation_proven(name_hash(way.node.id), link.welcome.incarnation)
        link.write([*way.waiting])
        way.waiting.clear()
        if self._looking is None and not self._stopped:
            self._looking = asyncio.get_running_loop().call_later(IDLE_S, self._look)

    def _put_off(self, way: _RelayWay) -> None:
        way.dial_due = asyncio.get_running_loop().time() + way.pause_s
        way.pause_s = min(2 * way.pause_s, RETRY_S[1])

    def _look(self) -> None:
        """Close what is not needed any more."""
        self._looking = None
        loop = asyncio.get_running_loop()
        for way in self._ways.values():
            if way.link is not None and loop.time() >= way.used + IDLE_S:
                link, way.link = way.link, None
                link.close()
        if any(way.link is not None for way in self._ways.values()):
            self._looking = loop.call_later(IDLE_S, self._look)
