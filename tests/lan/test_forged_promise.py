"""Who holds the key forges one datagram that promises the last epoch: the cluster gets over it, and so do restarts."""

from __future__ import annotations

import asyncio
import os
import socket
import ssl
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

import pytest

from mcast.config import Config
from mcast.lab.processes import Processes
from mcast.limits import EPOCH_JUMP_MAX, EPOCH_MAX
from mcast.seal.datagram import Sealer
from mcast.seal.keys import load_keys
from mcast.seal.tls import client_context
from mcast.wire.envelope import UNICAST, name_hash
from mcast.wire.messages import Kind, Stale, encode_message
from mcast.wire.stream import Hello, StreamKind, pack_message

pytestmark = pytest.mark.timeout(120)
ME = "n3"  # the node in whose name the forger speaks


@contextmanager
def introduced(config: Config, incarnation: bytes) -> Iterator[None]:
    """While this lasts, every other node takes an invented process for the live one of ME: TLS connections prove it."""
    assert config.key_file is not None
    ring = load_keys(config.key_file)
    with ExitStack() as connections:
        for node in config.nodes:
            if node.id != ME:
                plain = connections.enter_context(socket.create_connection((node.host, node.port), timeout=5))
                secured: ssl.SSLSocket = client_context(ring, ME).wrap_socket(plain)
                connections.enter_context(secured)
                secured.sendall(pack_message(StreamKind.HELLO, Hello(1, config.name, "peer", ME, incarnation)))
                secured.recv(1)
        yield


def forge(config: Config, incarnation: bytes, promised: int) -> None:
    """One datagram to every other node."""
    assert config.key_file is not None
    sealer = Sealer(load_keys(config.key_file), config.name, ME, incarnation)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
        for node in config.nodes:
            if node.id != ME:
                to = name_hash(node.id)
                datagram = sealer.seal(Kind.STALE, UNICAST, promised, b"", encode_message(Stale(1)), to)
                sender.sendto(datagram, (node.host, node.port))


async def put(processes: Processes, value: int) -> None:
    async with processes.connect() as client:
        assert (await client.submit("set", "k", value, timeout=20)).outcome == "ok"


def attack(config: Config) -> None:
    incarnation = os.urandom(16)
    with introduced(config, incarnation):
        forge(config, incarnation, EPOCH_MAX)


async def test_one_datagram_does_not_end_a_cluster() -> None:
    async with Processes(sealed=True) as processes:
        before = await processes.wait_until_live()
        await put(processes, 1)
        await asyncio.to_thread(attack, processes.config)
        async with asyncio.timeout(20):
            while (status := await processes.status())["epoch"] <= before["epoch"]:
                await asyncio.sleep(0.05)
        await put(processes, 2)
        status = await processes.wait_until_live()
        assert EPOCH_JUMP_MAX < status["epoch"] < 20 * EPOCH_JUMP_MAX, "it was believed as far as a step goes"
        assert any(node["refused"].get("far epoch") for node in status["nodes"])
        for node in processes.ids:
            await processes.kill(node)
        for node in processes.ids:
            await processes.start(node)
        await processes.wait_until_live()
        await put(processes, 3)
