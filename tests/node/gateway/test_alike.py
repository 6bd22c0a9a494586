"""A node that runs something else than the others does not take part, and says what and why."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from mcast.config import Config, NodeConfig
from mcast.machine.api import Context, StateMachine, command
from mcast.net.memory import Hub
from mcast.net.ports import free_ports
from mcast.node.node import Node
from mcast.protocol.effects import CatchUp
from mcast.wire.envelope import name_hash


class First(StateMachine):
    version = 1

    @command
    def work(self, ctx: Context) -> int:
        return 1


class Second(First):
    version = 2

    @command
    def work(self, ctx: Context) -> int:
        return 2


Second.__module__, Second.__qualname__ = First.__module__, First.__qualname__


class Nodes:
    """Three members and an observer on one hub, each with a machine of its own."""

    def __init__(self, folder: Path) -> None:
        ports = free_ports(4)
        nodes = tuple(NodeConfig(id=f"n{n}", address=f"127.0.0.1:{port}") for n, port in enumerate(ports, 1))
        nodes = (*nodes[:3], replace(nodes[3], role="observer"))
        self.config = Config(name="lab", nodes=nodes, folder=folder, data_dir=folder / "data", sync="os")
        self.hub = Hub(lambda source, target: True)
        self.running: dict[str, Node] = {}

    async def start(self, node_id: str, machine: type[StateMachine] = First, **config: Any) -> Node:
        node = Node(replace(self.config, **config), node_id, machine=machine(), hub=self.hub)
        self.running[node_id] = node
        await node.start()
        return node

    async def halts(self, node_id: str) -> str:
        async with asyncio.timeout(10):
            while self.running[node_id].shell.halted is None:
                await asyncio.sleep(0.01)
        return str(self.running[node_id].status()["reason"])

    async def until_sequencer(self, *node_ids: str) -> None:
        async with asyncio.timeout(10):
            while not any(self.running[node_id].shell.replica.is_sequencer for node_id in node_ids):
                await asyncio.sleep(0.01)


@pytest.fixture
async def nodes(tmp_path: Path) -> AsyncIterator[Nodes]:
    nodes = Nodes(tmp_path)
    async with AsyncExitStack() as stack:
        stack.push_async_callback(lambda: asyncio.gather(*(node.stop() for node in nodes.running.values())))
        yield nodes


async def test_a_node_that_starts_beside_others_of_another_version_halts_before_it_takes_part(
    nodes: Nodes, caplog: pytest.LogCaptureFixture
) -> None:
    await asyncio.gather(*(nodes.start(node_id) for node_id in ("n1", "n2", "n3")))
    await nodes.until_sequencer("n1", "n2", "n3")
    await nodes.running["n3"].stop()
    node = await nodes.start("n3", Second)
    assert not node.shell.joined and node.status()["state"] == "halted"
    reason = node.status()["reason"]
    assert reason.startswith("n1, n2 run other versions of the state machine: 1 instead of 2; install what they run")
    assert "allow_mixed = true" in reason
    assert any("node n3 halted: n1, n2 run other" in line for line in caplog.messages)
    observer = await nodes.start("n4", Second)
    assert observer.shell.halted is not None
    receipt = await nodes.running["n1"].submit("work")
    assert receipt.value == 1


@pytest.mark.parametrize("odd", ["n1", "n2", "n3"])
async def test_of_nodes_that_start_together_the_odd_one_halts_whoever_leads(nodes: Nodes, odd: str) -> None:
    ids = ("n1", "n2", "n3")
    await asyncio.gather(*map(nodes.start, ids))
    await nodes.until_sequencer(*ids)
    await asyncio.gather(*(nodes.running[node_id].stop() for node_id in ids))
    await asyncio.gather(*(nodes.start(node_id, Second if node_id == odd else First) for node_id in ids))
    assert "run other versions" in await nodes.halts(odd)
    rest = [node_id for node_id in ids if node_id != odd]
    assert all(nodes.running[node_id].shell.halted is None for node_id in rest)
    await nodes.until_sequencer(*rest)
    assert (await nodes.running[rest[0]].submit("work")).value == 1


async def test_allow_mixed_lets_it_go_on_and_says_so(nodes: Nodes, caplog: pytest.LogCaptureFixture) -> None:
    nodes.config = replace(nodes.config, allow_mixed=True)
    await asyncio.gather(nodes.start("n1"), nodes.start("n2"), nodes.start("n3", Second))
    await nodes.until_sequencer("n1", "n2", "n3")
    await nodes.running["n1"].submit("work")
    assert all(node.shell.halted is None for node in nodes.running.values())
    document = await (await nodes.running["n1"].client()).status()
    assert any("(allow_mixed is set for n1, n2, n3)" in finding for finding in document["findings"])
    assert any("goes on beside it, for allow_mixed is set" in line for line in caplog.messages)


async def test_a_peer_that_runs_something_else_is_served_neither_frames_nor_its_forwards(nodes: Nodes) -> None:
    await nodes.start("n1")
    odd = await nodes.start("n2", Second, allow_mixed=True)
    gateway = nodes.running["n1"].gateway
    async with asyncio.timeout(10):
        while "n2" not in gateway.alike.refused:
            await asyncio.sleep(0.01)
        while not gateway.statistics().hostile.get("other machine"):
            odd.gateway._fetcher.fetch(CatchUp(1, 10, (name_hash("n1"),)))
            await asyncio.sleep(0.05)
