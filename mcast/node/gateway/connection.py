"""One accepted TCP connection: HELLO within bounded time, then messages to their handlers, a few at a time."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any, Final, Protocol, cast

from mcast.clock import monotonic_s
from mcast.errors import DecodeError
from mcast.limits import GATEWAY_WRITE_BYTES, HANDSHAKE_S
from mcast.net.forks import keep_from_children
from mcast.node.gateway.turns import Turns
from mcast.wire.splitter import Splitter
from mcast.wire.stream import Failure, Hello, StreamKind, decode_stream_untrusted, pack_message

AT_ONCE: Final = 256  # messages cut at a time, before they are handled
HELLO_BYTES_MAX: Final = 512  # bytes of a first message; nobody unknown may make a node hold more


class ConnectionOwner(Protocol):
    """The gateway, as its connections see it."""

    turns: Turns

    def greet(self, connection: Connection, hello: Hello) -> bytes:
        """The WELCOME for this HELLO. Raises DecodeError to refuse it."""

    def on_messages(self, connection: Connection, messages: Sequence[tuple[int, bytes]], until_s: float) -> int:
        """Handle messages until it is `until_s`, one at least; how many.

        Raises DecodeError for bytes that no honest client sends.
        """

    def on_caught_up(self, connection: Connection) -> None:
        """All that this connection has sent is handled: it may be read again, if nothing else is in the way."""

    def on_writable(self, connection: Connection) -> None:
        """The write buffer of this connection has drained."""

    def on_disconnect(self, connection: Connection) -> None:
        """The connection has ended."""

    def count_hostile(self, reason: str) -> None:
        """Count a connection that was closed for what it sent, or did not send or read."""


class Connection(asyncio.Protocol):
    """A client's or peer's connection, made when it is accepted. `hello` is None until it has introduced itself."""

    __slots__ = (
        "__weakref__", "_data", "_messages", "_owner", "_posted", "_splitter", "_timer", "_transport", "congested",
        "hello", "nonces", "paused", "peer_place", "sessions", "trusted", "unanswered_bytes",
    )  # fmt: skip

    def __init__(self, owner: ConnectionOwner) -> None:
        self.hello: Hello | None = None
        self.trusted = False
        """Whether it is a peer, and not only by its own word."""
        self.peer_place = ""
        """The node whose place it takes; else it takes a client's."""
        self.sessions: set[int] = set()
        self.nonces: set[bytes] = set()
        self.unanswered_bytes = 0
        self.paused = False
        self.congested = False
        self._posted: list[bytes] = []
        self._data = memoryview(b"")
        """Read and not yet cut into messages."""
        self._messages: list[tuple[int, bytes]] = []
        """Cut and not yet handled."""
        self._owner = owner
        self._splitter = Splitter(HELLO_BYTES_MAX)
        self._transport: asyncio.Transport | None = None
        self._timer = asyncio.get_running_loop().call_later(HANDSHAKE_S, self._on_hello_timeout)

    @property
    def is_open(self) -> bool:
        """Whether anything can still be written."""
        return self._transport is not None and not self._transport.is_closing()

    def send(self, messages: Sequence[bytes]) -> None:
        """Write whole messages, or the parts of them, at once; a connection that leaves too much unread is dropped."""
        if self._transport is None or self._transport.is_closing() or not messages:
            return
        self._transport.write(messages[0] if len(messages) == 1 else b"".join(messages))
        if self._transport.get_write_buffer_size() > GATEWAY_WRITE_BYTES:
            self.drop("does not read")

    def post(self, *parts: bytes, last: bool = False) -> None:
        """Send messages, or parts that make up whole ones, with whatever else this turn posts, in one write.

        `last` says that nothing else will come, so they need not wait for the end of the turn.
        """
        if last:
            self.send([*self._posted, *parts])
            self._posted.clear()
            return
        if not self._posted:
            asyncio.get_running_loop().call_soon(self._flush)
        self._posted += parts

    def _flush(self) -> None:
        posted, self._posted = self._posted, []
        self.send(posted)

    def fail(self, error: DecodeError) -> None:
        """Say why, then close."""
        self._owner.count_hostile(error.reason)
        self.post(pack_message(StreamKind.ERROR, Failure(0, str(error)[:1_000])))
        self.close()

    def close(self) -> None:
        """Close once what was written or posted has left."""
        self._flush()
        if self._transport is not None:
            self._transport.close()

    def drop(self, reason: str) -> None:
        """Close now, and count why."""
        self._owner.count_hostile(reason)
        self.abort()

    def abort(self) -> None:
        """Close now."""
        if self._transport is not None:
            self._transport.abort()

    def pause(self, paused: bool) -> None:
        """Stop or go on reading: the client's backpressure."""
        if self._transport is None or paused == self.paused or self._transport.is_closing():
            return
        self.paused = paused
        if paused:
            self._transport.pause_reading()
        else:
            self._transport.resume_reading()

    @property
    def address(self) -> str:
        """The other side's, as the socket tells it."""
        name = self.extra("peername")
        return str(name[0]) if isinstance(name, tuple) else ""

    def extra(self, name: str) -> Any:
        """The transport's extra information of this name, such as "ssl_object"."""
        return None if self._transport is None else self._transport.get_extra_info(name)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Wait for HELLO, not for long."""
        self._transport = cast(asyncio.Transport, transport)  # uvloop's are of no class of asyncio's
        keep_from_children(self)

    def leave_to_parent(self) -> list[int]:
        """See forks.Owner."""
        carrier = self.extra("socket")
        return [] if carrier is None else [carrier.fileno()]

    @property
    def is_behind(self) -> bool:
        """Whether it has sent what is not handled yet; it is read no further meanwhile."""
        return bool(self._messages or self._data)

    def data_received(self, data: bytes | memoryview) -> None:
        """Cut into messages and handle them, as far as there is time; the rest follows."""
        if self.is_behind:  # it came although reading is paused
            self._data = memoryview(b"".join((self._data, data)))
            return
        served = self._owner.turns.share_s > 0.0
        at = self._handle(data) if served else 0
        if self._messages or at < len(data):
            self._data = memoryview(bytes(data[at:]))
            self.pause(True)
            self._owner.turns.wait(self, served=served)

    def go_on(self) -> None:
        """Handle what was left."""
        if not self.is_behind:  # it has ended meanwhile
            return
        self._data = self._data[self._handle(self._data) :]
        if self._messages or self._data:
            self._owner.turns.wait(self, served=True)
        else:
            self._owner.on_caught_up(self)

    def _handle(self, data: bytes | memoryview) -> int:
        """Handle `_messages` and what `data` holds, for a share of time; how much of `data` was cut."""
        turns, at, began_s = self._owner.turns, 0, monotonic_s()
        now_s, until_s = began_s, began_s + turns.share_s
        try:
            while now_s < until_s and (self._messages or at < len(data)):
                if not self._messages:
                    most = 1 if self.hello is None else AT_ONCE
                    self._messages, taken = self._splitter.cut(data[at:] if at else data, most)
                    at += taken
                if self._messages and self.hello is None:
                    self._introduce(*self._messages.pop(0))
                if self._messages:
                    self._messages = self._messages[self._owner.on_messages(self, self._messages, until_s) :]
                now_s = monotonic_s()
        except DecodeError as error:
            self._forget()
            self.fail(error)
            return len(data)
        turns.spend(now_s - began_s)
        return at

    def _forget(self) -> None:
        self._data, self._messages = memoryview(b""), []

    def _introduce(self, kind: int, payload: bytes) -> None:
        if kind != StreamKind.HELLO:
            raise DecodeError("no HELLO", f"message {kind} came first")
        hello = decode_stream_untrusted(StreamKind.HELLO, payload)
        welcome = self._owner.greet(self, hello)
        self.hello = hello
        self._splitter.allow_whole_messages()
        self._timer.cancel()
        self.send([welcome])

    def _on_hello_timeout(self) -> None:
        if not self._is_in_handshake:  # else its end is counted, whatever ends it
            self._owner.count_hostile("no HELLO in time")
        self.abort()

    @property
    def _is_in_handshake(self) -> bool:
        return self.extra("sslcontext") is not None and self.extra("ssl_object") is None

    def pause_writing(self) -> None:
        """Bulk senders wait."""
        self.congested = True

    def resume_writing(self) -> None:
        """Bulk senders go on."""
        self.congested = False
        self._owner.on_writable(self)

    def connection_lost(self, error: Exception | None) -> None:
        """Forget it."""
        if self._is_in_handshake:
            self._owner.count_hostile("no TLS handshake")
        self._transport = None
        self._timer.cancel()
        self._forget()
        self._owner.on_disconnect(self)
