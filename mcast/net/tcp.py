"""One TCP connection to a node, from connect to loss: a client's, a forwarder's or a fetcher's."""

from __future__ import annotations

import asyncio
import contextlib
import ssl
from collections.abc import Sequence
from typing import TYPE_CHECKING, Final, Protocol, cast

from mcast.config import Config, NodeConfig
from mcast.errors import ConfigError, DecodeError, Error, NetworkMissing
from mcast.net.forks import keep_from_children
from mcast.net.link import PeerAddress
from mcast.net.names import addresses
from mcast.net.secured import Secured
from mcast.wire.splitter import Splitter
from mcast.wire.stream import VERSION, Failure, Hello, StreamKind, Welcome, decode_stream_untrusted, pack_message

if TYPE_CHECKING:
    from mcast.seal.keys import KeyRing

ATTEMPT_S_MAX: Final = 10.0  # the same, where a crowd waits for its handshakes: what was begun is not thrown away
CONTEXTS_MAX: Final = 8  # TLS contexts shared by a process's dialers: each takes 5 ms to make
CONNECT_S_MAX: Final = 1.0  # TCP connect, TLS and WELCOME together; a live node on a LAN needs milliseconds
CLOSE_S: Final = 0.5  # for what was written to leave, and for TLS to say goodbye
WRITE_BUFFER_BYTES: Final = 1 << 20  # beyond this a writer is told to wait


class Unreachable(Error):  # noqa: N818 - named for the situation, like the errors users meet
    """A node that could not be connected to; the message says which address and why."""


class NobodyListens(Unreachable):
    """Its machine answered that no process listens on its port: the node is down."""


class KeyMismatch(Unreachable):
    """It is there, but its key file is another's, or only one side has one: trying again will not help."""


def key_problem(config: Config, mismatch: str) -> ConfigError:
    """The error for the user when no node was reached because keys differ."""
    key_file = None if config.key_file is None else str(config.key_file)
    return ConfigError("cluster.key_file", key_file, mismatch, "use the key file that the nodes use")


class LinkOwner(Protocol):
    """The object to which a link reports. It may raise nothing but DecodeError (from `on_link_message`)."""

    def on_link_message(self, link: StreamLink, kind: int, payload: bytes) -> None:
        """A message after WELCOME arrived."""

    def on_link_writable(self, link: StreamLink) -> None:
        """The write buffer has room again."""

    def on_link_lost(self, link: StreamLink, reason: str) -> None:
        """The connection is gone; called once, and only for links that `open_link` returned."""


class StreamLink(asyncio.Protocol):
    """A connection that has said HELLO. `welcome` holds the node's answer once `open_link` has returned it."""

    def __init__(self, node: NodeConfig, hello: Hello, owner: LinkOwner) -> None:
        self.node = node
        self.welcome: Welcome
        self.welcomed: asyncio.Future[Welcome] = asyncio.get_running_loop().create_future()
        self.heard = 0
        self.writable = False
        self._hello = hello
        self._owner = owner
        self._splitter = Splitter()
        self._transport: asyncio.Transport | None = None
        self._secured = False
        self._reason = ""
        self.lost = False
        self._adopted = False
        self._ended = asyncio.Event()

    def write(self, parts: Sequence[bytes]) -> None:
        """Send whole messages, or parts that make up whole ones, with one write; nothing happens on a lost link."""
        if self._transport is not None and parts and not self._transport.is_closing():
            self._transport.write(parts[0] if len(parts) == 1 else b"".join(parts))

    def close(self, reason: str = "closed", flush: bool = False) -> None:
        """End the connection; `flush` lets what was written leave first."""
        self._reason = self._reason or reason
        if self._transport is not None:
            if flush:
                self._transport.close()
            else:
                self._transport.abort()

    def pause(self, paused: bool) -> None:
        """Stop or go on reading."""
        if self._transport is not None and not self._transport.is_closing() and paused == self._transport.is_reading():
            if paused:
                self._transport.pause_reading()
            else:
                self._transport.resume_reading()

    async def wait_closed(self) -> None:
        """Wait until the connection is closed, CLOSE_S at most."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(CLOSE_S):
                await self._ended.wait()
        self.close()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Say HELLO."""
        self._transport = carrier = cast(asyncio.Transport, transport)  # uvloop's are of no class of asyncio's
        keep_from_children(self)
        self._secured = carrier.get_extra_info("sslcontext") is not None
        carrier.set_write_buffer_limits(high=WRITE_BUFFER_BYTES)
        self.writable = True
        carrier.write(pack_message(StreamKind.HELLO, self._hello))

    def leave_to_parent(self) -> list[int]:
        """See forks.Owner."""
        carrier = self._transport.get_extra_info("socket") if self._transport is not None else None
        return [] if carrier is None else [carrier.fileno()]

    def data_received(self, data: bytes | memoryview) -> None:
        """Cut into messages and hand them on."""
        self.heard += 1
        try:
            for kind, payload in self._splitter.feed(data):
                if self.welcomed.done():
                    self._owner.on_link_message(self, kind, payload)
                else:
                    self._greet(kind, payload)
        except DecodeError as error:
            self.close(f"{self.node.id} sent what cannot be read: {error}")

    def _greet(self, kind: int, payload: bytes) -> None:
        message = decode_stream_untrusted(kind, payload)
        if isinstance(message, Welcome):
            self.welcome = message
            self.welcomed.set_result(message)
        elif isinstance(message, Failure) and kind == StreamKind.ERROR:
            self.close(message.text)
        else:
            self.close(f"{self.node.id} answered HELLO by message {kind}")

    def pause_writing(self) -> None:
        """The node reads more slowly than this side writes."""
        self.writable = False

    def resume_writing(self) -> None:
        """There is room again."""
        self.writable = True
        if self.welcomed.done():
            self._owner.on_link_writable(self)

    def connection_lost(self, error: Exception | None) -> None:
        """Tell the owner, or the task that still waits for WELCOME."""
        self._transport = None
        self.writable = False
        self.lost = True
        self._ended.set()
        reason = self._reason or (str(error) if error else "it closed the connection")
        if not self.welcomed.done():
            ended = error or EOFError("it closed the connection")
            kind = Unreachable if self._reason else _kind_of(ended, self._secured)
            words = self._reason or _explain(ended)
            self.welcomed.set_exception(kind(f"{self.node.id} at {self.node.address}: {words}"))
            self.welcomed.exception()  # marks it as seen: the task that waited may have given up
        elif self._adopted:
            self._owner.on_link_lost(self, reason)

    def check_certificate(self) -> None:
        """Raise Unreachable if the connection is secured and the certificate is another node's."""
        secured = self._transport.get_extra_info("ssl_object") if self._transport is not None else None
        if secured is not None:
            from mcast.seal.tls import peer_node

            if (name := peer_node(secured)) != self.node.id:
                raise Unreachable(f"{self.node.id} at {self.node.address}: its certificate is that of {name!r}")

    def adopt(self) -> None:
        """Report the link's end to the owner from now on. Raises Unreachable if it has ended already."""
        if self.lost:
            raise Unreachable(f"{self.node.id} at {self.node.address}: {self._reason or 'it closed the connection'}")
        self._adopted = True


class Dialer:
    """Opens links to the nodes of a config. `role` is "client" or "peer"; `node_id`, `incarnation`: a peer's own."""

    def __init__(self, config: Config, role: str, node_id: str = "", incarnation: bytes = bytes(16)) -> None:
        self.config = config
        self._hello = Hello(VERSION, config.name, role, node_id, incarnation)
        self._tls: ssl.SSLContext | None = None

    def _context(self) -> ssl.SSLContext | None:
        if self.config.key_file is not None and self._tls is None:
            from mcast.seal.keys import load_keys

            self._tls = _shared_context(load_keys(self.config.key_file), self._hello.node)
        return self._tls

    async def open(self, node: NodeConfig, owner: LinkOwner, timeout_s: float = CONNECT_S_MAX) -> StreamLink:
        """Connect, say HELLO and wait for WELCOME.

        Raises:
            Unreachable: no node of this cluster and id answered on its address within `timeout_s`. NobodyListens: its
                machine did, and refused. KeyMismatch: the keys differ.
        """
        link = StreamLink(node, self._hello, owner)
        where = f"{node.id} at {node.address}"
        try:
            async with asyncio.timeout(timeout_s):
                context = self._context()
                protocol = link if context is None else Secured(link, context)
                await _connect(protocol, node)
                welcome = await asyncio.shield(link.welcomed)
            link.check_certificate()
            if (welcome.node, welcome.cluster) != (node.id, self.config.name):
                raise Unreachable(f"{where}: {welcome.node} of cluster {welcome.cluster} answers there")
            link.adopt()
        except TimeoutError:
            link.close()
            raise Unreachable(f"{where}: no answer within {timeout_s:g} s") from None
        except ConnectionRefusedError:
            raise NobodyListens(f"{where}: connection refused (is it running?)") from None
        except NetworkMissing as missing:
            what = missing.what.removeprefix(f"{node.address}: ")
            raise Unreachable(f"{where}: {what}: {missing.remedy}") from None
        except OSError as error:
            link.close()
            raise Unreachable(f"{where}: {_explain(error)}") from None
        except (Unreachable, asyncio.CancelledError):
            link.close()
            raise
        return link


async def _connect(protocol: asyncio.BaseProtocol, node: NodeConfig) -> None:
    """To the first of the node's addresses that answers. Raises OSError, NetworkMissing."""
    *others, last = [_scoped(peer) for peer in await addresses(node.host, node.port)]
    loop = asyncio.get_running_loop()
    for host in others:
        with contextlib.suppress(OSError):
            await loop.create_connection(lambda: protocol, host, node.port)
            return
    await loop.create_connection(lambda: protocol, last, node.port)


def _scoped(peer: PeerAddress) -> str:
    """The IP address of a socket address; a link-local one with the interface that it is on."""
    return f"{peer[0]}%{peer[3]}" if len(peer) == 4 and peer[3] else peer[0]


_contexts: Final[dict[tuple[tuple[bytes, ...], str], ssl.SSLContext]] = {}


def _shared_context(ring: KeyRing, node: str) -> ssl.SSLContext:
    """This process's, for these keys: hundreds of clients in one program need no certificate each."""
    from mcast.seal.tls import client_context

    key = tuple(ring.keys), node
    context = _contexts.get(key)
    if context is None:
        context = client_context(ring, node)
        if len(_contexts) >= CONTEXTS_MAX:
            del _contexts[next(iter(_contexts))]
        _contexts[key] = context
    return context


def _kind_of(error: BaseException, secured: bool) -> type[Unreachable]:
    """Whether keys are to blame. A node that has one ends what is not TLS, before it says a word."""
    if secured:
        from mcast.seal.tls import explain

        blamed = isinstance(error, ssl.SSLError) and not isinstance(error, ssl.SSLEOFError)
        return KeyMismatch if blamed and explain(error) is not None else Unreachable
    return KeyMismatch if isinstance(error, EOFError | ConnectionResetError) else Unreachable


def _explain(error: BaseException) -> str:
    """An operator's words for an error before WELCOME."""
    if isinstance(error, (ssl.SSLError, EOFError, ConnectionResetError, BrokenPipeError)):
        from mcast.seal.tls import explain

        words = explain(error)
        if words is not None:
            return words
    return getattr(error, "strerror", None) or str(error)
