"""Nodes whose names nobody knows, or no resolver answers for, beside nodes that can be reached."""

from __future__ import annotations

import asyncio
import dataclasses
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from mcast.client.admin import ask_each, silences_of
from mcast.client.client import connect
from mcast.config import Config, NodeConfig
from mcast.errors import NotSent
from mcast.machine.kv import KeyValue
from mcast.net.tcp import Dialer
from mcast.node.fake import FakeCluster, serving
from mcast.wire.stream import StreamKind

REAL = socket.getaddrinfo


@pytest.fixture(autouse=True)
def silent() -> Iterator[None]:
    """A resolver that answers for `dead` at once, for `slow...` not before the test has ended, and knows `alpha`."""
    ended = threading.Event()

    def resolved(host: str, port: int, *words: Any, **options: Any) -> list[Any]:
        if host.startswith("slow"):
            ended.wait(20)
        if host == "alpha":
            return REAL("::1", port, **options) + REAL("127.0.0.1", port, **options)
        if host[0].isalpha():
            raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")
        return REAL(host, port, *words, **options)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(socket, "getaddrinfo", resolved)
        yield
        ended.set()


def test_names_that_nobody_answers_for_hold_up_neither_reports_nor_the_end(tmp_path: Path) -> None:
    nodes = [NodeConfig(id=f"n{number}", address=f"slow{number}:7711") for number in range(1, 13)]
    nodes += [NodeConfig(id="n13", address="dead:7711"), NodeConfig(id="n14", address="alpha:1")]
    config = Config(name="lab", nodes=tuple(nodes), folder=tmp_path, data_dir=tmp_path / "data")
    began_s = time.monotonic()

    async def ask() -> None:
        for _ in range(2):
            reported = silences_of(config.nodes, await ask_each(Dialer(config, "client"), StreamKind.STATUS, 0.3))
            assert reported["n1"] == reported["n12"] == "no answer within 0.3 s"
            why = "the name cannot be resolved (Name or service not known)"
            assert reported["n13"] == f"{why}: write its IP address, or add it to /etc/hosts"
            assert reported["n14"] == "connection refused (is it running?)"

    asyncio.run(ask())
    assert time.monotonic() - began_s < 5


async def test_a_client_reaches_a_node_by_any_address_of_its_name_beside_names_that_nobody_knows(
    tmp_path: Path,
) -> None:
    cluster = FakeCluster(tmp_path, KeyValue)
    async with serving(cluster):
        first, second, third = cluster.config.nodes
        elsewhere = (
            dataclasses.replace(first, address="dead:7711"), dataclasses.replace(second, address="slow:7712"),
            dataclasses.replace(third, address=f"alpha:{third.port}"),
        )  # fmt: skip
        async with connect(dataclasses.replace(cluster.config, nodes=elsewhere)) as client:
            assert (await client.submit("incr", "k")).value == 1
    with pytest.raises(NotSent, match="the name cannot be resolved"):
        async with connect(dataclasses.replace(cluster.config, nodes=elsewhere[:1]), timeout=0.3) as client:
            await client.submit("incr", "k")
