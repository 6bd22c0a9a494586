"""TLS of our own on a TCP connection: against itself, and against asyncio's."""

from __future__ import annotations

import asyncio
import gc
import select
import socket
import ssl
import struct
import weakref
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest

from mcast.net.secured import READ_BYTES, RECORD_BYTES, WRITE_BUFFER_BYTES, Secured
from mcast.seal.keys import KeyRing
from mcast.seal.tls import client_context, peer_node, server_context

RING = KeyRing((bytes(32),))
OTHER = KeyRing((b"o" * 32,))


class End(asyncio.Protocol):
    """One end of a connection: what it heard, and how it was told to wait."""

    def __init__(self, says: bytes = b"") -> None:
        self.transport: Any = None
        self.heard = bytearray()
        self.congested = False
        self.lost: asyncio.Future[Exception | None] = asyncio.get_running_loop().create_future()
        self._says = says

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport
        if self._says:
            self.transport.write(self._says)

    def data_received(self, data: bytes | memoryview) -> None:
        self.heard += data

    def pause_writing(self) -> None:
        self.congested = True

    def resume_writing(self) -> None:
        self.congested = False

    def connection_lost(self, exc: Exception | None) -> None:
        self.lost.set_result(exc)

    async def hears(self, count: int) -> bytes:
        async with asyncio.timeout(10):
            while len(self.heard) < count:
                await asyncio.sleep(0.001)
        return bytes(self.heard)

    async def ends(self) -> Exception | None:
        async with asyncio.timeout(10):
            return await self.lost


@asynccontextmanager
async def connected(
    client: Callable[[End], asyncio.BaseProtocol], says: bytes = b"", answers: bytes = b""
) -> AsyncIterator[tuple[End, End]]:
    """The client's end, which says `says` at once, and the server's, which answers."""
    loop = asyncio.get_running_loop()
    near, far = End(says), End(answers)
    accept = lambda: Secured(far, server_context(RING, "n1"), server_side=True)  # noqa: E731
    async with await loop.create_server(accept, "127.0.0.1", 0) as server:
        host, port = server.sockets[0].getsockname()
        await loop.create_connection(lambda: client(near), host, port)
        yield near, far
        for end in (near, far):
            if end.transport is not None:
                end.transport.abort()
                await end.ends()


def ours(end: End) -> Secured:
    return Secured(end, client_context(RING, "n2"))


async def test_what_is_written_at_once_leaves_after_the_handshake() -> None:
    async with connected(ours, b"hello", b"welcome") as (near, far):
        assert near.transport.get_extra_info("ssl_object") is None, "it is not over"
        assert near.transport.get_extra_info("sslcontext") is not None
        assert (await far.hears(5), await near.hears(7)) == (b"hello", b"welcome")
        assert peer_node(near.transport.get_extra_info("ssl_object")) == "n1"
        assert peer_node(far.transport.get_extra_info("ssl_object")) == "n2"
        assert near.transport.get_extra_info("peername") == far.transport.get_extra_info("sockname")


async def test_much_arrives_whole_and_writers_are_told_to_wait() -> None:
    much = bytes(range(256)) * (16 << 12)  # more than the kernel takes
    async with connected(ours, b"hello") as (near, far):
        await far.hears(5)
        near.transport.pause_reading()
        assert not near.transport.is_reading()
        far.transport.write(memoryview(much))
        assert far.congested and far.transport.get_write_buffer_size() > WRITE_BUFFER_BYTES
        near.transport.resume_reading()
        assert await near.hears(len(much)) == much
        assert not far.congested


async def test_a_closed_end_says_all_it_was_given_and_then_both_are_over() -> None:
    much = b"x" * (20 * RECORD_BYTES)
    async with connected(ours, b"hello") as (near, far):
        await far.hears(5)
        near.transport.pause_reading()
        near.transport.write(much)
        near.transport.close()
        near.transport.write(b"never")
        assert near.transport.is_closing()
        assert (await near.ends(), await far.ends()) == (None, None)
        assert bytes(far.heard) == b"hello" + much


async def test_it_speaks_to_asyncios_own_layer_and_each_understands_the_others_goodbye() -> None:
    loop = asyncio.get_running_loop()
    for near_closes in (True, False):
        near, far = End(), End(b"welcome")
        accept = lambda end=far: Secured(end, server_context(RING, "n1"), server_side=True)  # noqa: E731
        async with await loop.create_server(accept, "127.0.0.1", 0) as server:
            host, port = server.sockets[0].getsockname()
            await loop.create_connection(lambda end=near: end, host, port, ssl=client_context(RING))  # type: ignore[misc]
            near.transport.write(b"hello")
            assert (await far.hears(5), await near.hears(7)) == (b"hello", b"welcome")
            (near if near_closes else far).transport.close()
            assert (await near.ends(), await far.ends()) == (None, None)


async def test_another_key_ends_both_sides_with_the_reason_where_it_is_known() -> None:
    async with connected(lambda end: Secured(end, client_context(OTHER))) as (near, far):
        assert isinstance(await near.ends(), ssl.SSLCertVerificationError)
        assert isinstance(await far.ends(), ConnectionError)
        assert far.transport.get_extra_info("ssl_object") is None


async def test_what_is_not_tls_ends_the_connection() -> None:
    async with connected(lambda end: end, b"GET / HTTP/1.1\r\n\r\n") as (near, far):
        assert isinstance(await far.ends(), ssl.SSLError)
        await near.ends()


async def test_a_failed_connection_holds_no_memory() -> None:
    gc.disable()  # what only a collection frees is held for long in a busy node
    try:
        async with connected(lambda end: end, b"GET / HTTP/1.1\r\n\r\n") as (near, far):
            failed = weakref.ref(far.transport)
            await far.ends()
            await near.ends()
            far.transport = None
        await asyncio.sleep(0)
        assert failed() is None
    finally:
        gc.enable()


async def test_a_damaged_record_ends_the_connection_and_nothing_of_it_is_heard() -> None:
    async with connected(ours, b"hello") as (near, far):
        await far.hears(5)
        near.transport._raw.write(b"\x17\x03\x03\x00\x20" + bytes(32))
        assert isinstance(await far.ends(), ssl.SSLError)
        assert bytes(far.heard) == b"hello"


@pytest.mark.parametrize("verb", ["close", "abort"])
async def test_it_can_be_given_up_in_the_middle_of_the_handshake(verb: str) -> None:
    async with connected(ours, b"hello") as (near, far):
        getattr(near.transport, verb)()
        assert isinstance(await near.ends(), ConnectionError)
        if far.transport is not None:
            assert isinstance(await far.ends(), ConnectionError)
        assert not far.heard


async def test_who_does_not_say_goodbye_is_not_waited_for_long(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mcast.net.secured.GOODBYE_S", 0.05)
    async with connected(ours, b"hello") as (near, far):
        await far.hears(5)
        far.transport.pause_reading()
        near.transport.close()
        await near.ends()


async def test_an_end_whose_peer_reset_the_connection_unread_closes_in_silence() -> None:
    async with connected(ours, says=b"hello") as (near, far):
        await far.hears(5)
        carrier = near.transport.get_extra_info("socket")
        far.transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        far.transport.abort()
        while select.select([carrier], [], [], 0)[0] == []:
            await asyncio.sleep(0)
        near.transport.close()
        await near.ends()


class Wire(asyncio.Transport):
    """Keeps what is written to it."""

    def __init__(self) -> None:
        super().__init__()
        self.said = bytearray()

    def write(self, data: bytes | bytearray | memoryview) -> None:
        self.said += data

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        pass

    def is_closing(self) -> bool:
        return False


async def test_the_most_that_one_read_can_complete_is_heard_whole() -> None:
    end, wire = End(), Wire()
    secured = Secured(end, server_context(RING, "n1"), server_side=True)
    secured.connection_made(wire)
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    peer = client_context(RING, "n2").wrap_bio(incoming, outgoing)

    def give(data: bytes) -> None:
        secured.get_buffer(-1)[: len(data)] = data
        secured.buffer_updated(len(data))

    with pytest.raises(ssl.SSLWantReadError):
        peer.do_handshake()
    give(outgoing.read())
    incoming.write(wire.said)
    peer.do_handshake()
    give(outgoing.read())
    peer.write(bytes(RECORD_BYTES))
    record = outgoing.read()
    give(record[:-1])  # all but a record's last byte is left behind
    assert end.heard == b""
    plain, sealed = bytearray(RECORD_BYTES), bytearray(record[-1:])
    overhead = len(record) - RECORD_BYTES
    while (room := READ_BYTES - len(sealed) - overhead) > 0:
        more = bytes([len(plain) % 251]) * min(room, RECORD_BYTES)
        peer.write(more)
        plain += more
        sealed += outgoing.read()
    assert READ_BYTES - overhead <= len(sealed) <= READ_BYTES
    give(bytes(sealed))
    assert end.heard == plain
    assert not secured.is_closing()
