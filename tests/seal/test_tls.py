import asyncio
import os
import ssl
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path

import pytest

from mcast.errors import EnvironmentProblem
from mcast.seal import tls
from mcast.seal.keys import KeyRing
from mcast.seal.tls import client_context, explain, peer_node, server_context

OLD, NEW, OTHER = (bytes([number]) * 32 for number in (1, 2, 3))


Serve = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


async def talk(server: ssl.SSLContext | None, client: ssl.SSLContext | None) -> tuple[str, str, bytes]:
    """One connection over loopback: the client's name as the server saw it, the reverse, and the echo."""
    seen: list[str] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        tls = writer.get_extra_info("ssl_object")
        seen.append(peer_node(tls) if tls else "")
        writer.write(await reader.readexactly(5))

    async with serving(serve, server) as (host, port):
        reader, writer = await asyncio.open_connection(host, port, ssl=client)
        try:
            writer.write(b"hello")
            echo = await reader.readexactly(5)
            tls = writer.get_extra_info("ssl_object")
            assert not tls or tls.version() == "TLSv1.3"
            return seen[0], peer_node(tls) if tls else "", echo
        finally:
            writer.close()


@asynccontextmanager
async def serving(serve: Serve, context: ssl.SSLContext | None) -> AsyncIterator[tuple[str, int]]:
    """A listener on loopback whose handlers are over when this is."""
    handlers: list[asyncio.Task[None] | None] = []

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        handlers.append(asyncio.current_task())
        with suppress(ConnectionError, EOFError, ssl.SSLError):
            try:
                await serve(reader, writer)
            finally:
                writer.close()
                await writer.wait_closed()

    async with await asyncio.start_server(handle, "127.0.0.1", 0, ssl=context) as listener:
        yield listener.sockets[0].getsockname()
        await asyncio.gather(*filter(None, handlers))


async def test_both_sides_learn_the_others_name_from_its_certificate() -> None:
    ring = KeyRing((NEW,))
    assert await talk(server_context(ring, "n1"), client_context(ring, "n2")) == ("n2", "n1", b"hello")


async def test_a_client_has_no_node_name() -> None:
    ring = KeyRing((NEW,))
    assert (await talk(server_context(ring, "n1"), client_context(ring)))[0] == ""
    assert (await talk(server_context(ring, "n1"), client_context(ring, "client")))[0] == "client"


async def test_a_name_of_the_greatest_length_in_any_script_fits() -> None:
    ring = KeyRing((NEW,))
    assert (await talk(server_context(ring, "x" * 64), client_context(ring, "ü" * 32)))[:2] == ("ü" * 32, "x" * 64)


@pytest.mark.parametrize(
    ("server_keys", "client_keys"),
    [((OLD, NEW), (OLD,)), ((OLD, NEW), (NEW, OLD)), ((NEW, OLD), (OLD, NEW)), ((NEW,), (NEW, OLD))],
)
async def test_keys_rotate_without_a_pause(server_keys: tuple[bytes, ...], client_keys: tuple[bytes, ...]) -> None:
    server, client = server_context(KeyRing(server_keys), "n1"), client_context(KeyRing(client_keys), "n2")
    assert await talk(server, client) == ("n2", "n1", b"hello")


async def test_a_wrong_key_is_told_in_words() -> None:
    with pytest.raises(ssl.SSLError) as caught:
        await talk(server_context(KeyRing((NEW,)), "n1"), client_context(KeyRing((OTHER,))))
    assert "wrong key" in (explain(caught.value) or "")


async def test_a_key_that_only_the_client_trusts_is_refused() -> None:
    with pytest.raises((ssl.SSLError, ConnectionError, EOFError)) as caught:
        await talk(server_context(KeyRing((NEW,)), "n1"), client_context(KeyRing((OLD, NEW))))
    assert "key" in (explain(caught.value) or "")


@pytest.mark.parametrize("plain", [True, False])
async def test_a_client_without_a_certificate_is_refused(plain: bool) -> None:
    bare = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    bare.check_hostname = False
    bare.verify_mode = ssl.CERT_NONE
    with pytest.raises((ssl.SSLError, ConnectionError, EOFError)) as caught:
        await talk(server_context(KeyRing((NEW,)), "n1"), None if plain else bare)
    assert "key file" in (explain(caught.value) or "")


async def test_a_server_without_a_key_file_is_told_in_words() -> None:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(4096)
        writer.write(b"\0\0\0\x08\x0d what?")
        await reader.read()

    async with serving(serve, None) as (host, port):
        with pytest.raises(ssl.SSLError) as caught:
            await asyncio.open_connection(host, port, ssl=client_context(KeyRing((NEW,))))
        assert "without a key file" in (explain(caught.value) or "")


def test_the_two_sides_of_a_handshake_in_memory_name_the_alert() -> None:
    server = server_context(KeyRing((NEW,)), "n1")
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    client = client_context(KeyRing((OLD, NEW))).wrap_bio(outgoing, incoming)
    other = server.wrap_bio(incoming, outgoing, server_side=True)
    errors = []
    for _ in range(4):
        for side in (client, other):
            try:
                side.do_handshake()
            except ssl.SSLWantReadError:
                continue
            except ssl.SSLError as error:
                errors.append(explain(error))
    try:
        client.read(1)
    except ssl.SSLError as error:
        errors.append(explain(error))
    assert errors[0] == "wrong key: the other side does not hold this key file's key"
    assert errors[-1] == "wrong key: the other side refused this key file's key"


def test_what_says_nothing_about_keys_is_not_explained() -> None:
    assert explain(ConnectionRefusedError()) is None
    assert explain(TimeoutError()) is None
    assert explain(ssl.SSLError(1, "something else")) is None


def test_no_older_protocol_is_spoken() -> None:
    for context in (server_context(KeyRing((NEW,)), "n1"), client_context(KeyRing((NEW,)))):
        assert context.minimum_version == ssl.TLSVersion.TLSv1_3
        assert context.verify_flags & ssl.VERIFY_X509_STRICT


@pytest.mark.parametrize("in_memory", [True, False])
def test_no_private_key_is_left_on_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, in_memory: bool) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    if not in_memory:
        monkeypatch.delattr(os, "memfd_create", raising=False)
    server_context(KeyRing((NEW,)), "n1")
    assert os.listdir(tmp_path) == []


async def test_nothing_need_be_writable(monkeypatch: pytest.MonkeyPatch) -> None:
    if not hasattr(os, "memfd_create"):
        pytest.skip("no memory with a path")
    monkeypatch.setattr(tempfile, "tempdir", "/nowhere")
    ring = KeyRing((NEW,))
    assert (await talk(server_context(ring, "n1"), client_context(ring, "n2")))[0] == "n2"
    monkeypatch.delattr(os, "memfd_create")
    with pytest.raises(EnvironmentProblem, match="TMPDIR"):
        server_context(ring, "n1")


@pytest.mark.parametrize("year", [1950, 2200], ids=["both of 1950", "the other's begin in 2200"])
async def test_no_clock_keeps_a_node_out(monkeypatch: pytest.MonkeyPatch, year: int) -> None:
    ring = KeyRing((NEW,))
    server = server_context(ring, "n1")
    assert tls._BEFORE.year <= 1970, "the clock of a machine without a battery"
    monkeypatch.setattr(tls, "_BEFORE", datetime(year, 1, 1, tzinfo=UTC))
    assert await talk(server, client_context(ring, "n2")) == ("n2", "n1", b"hello")
