import asyncio
import gc
import os
import socket
import subprocess
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

import mcast
from mcast.config import Config, NodeConfig
from mcast.errors import EnvironmentProblem
from mcast.net.ports import free_ports
from mcast.node.node import Node
from mcast.seal.keys import generate_key_file


class HeldPorts:
    """Holds sockets open until all ports are drawn, so that none is drawn twice."""

    def __enter__(self) -> "HeldPorts":
        self._held: list[socket.socket] = []
        return self

    def port(self) -> int:
        for _ in range(100):
            tcp, udp = socket.socket(), socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
            self._held += [tcp, udp]
            tcp.bind(("127.0.0.1", 0))
            port = int(tcp.getsockname()[1])
            try:
                udp.bind(("127.0.0.1", port))
            except OSError:
                continue
            return port
        raise AssertionError("no free port")

    def __exit__(self, *error: object) -> None:
        for held in self._held:
            held.close()


@pytest.fixture
async def running() -> AsyncIterator[AsyncExitStack]:
    async with AsyncExitStack() as stack:
        yield stack


def lab(folder: Path, **changes: Any) -> Config:
    """Three nodes on this machine's loopback, on a group and ports of this test's own."""
    *ports, port = free_ports(4)
    nodes = tuple(NodeConfig(id=f"n{n}", address=f"127.0.0.1:{ports[n - 1]}") for n in (1, 2, 3))
    values: dict[str, Any] = {
        "name": f"lab-{folder.name}", "nodes": nodes, "folder": folder, "data_dir": folder / "data", "port": port,
        "group": f"239.78.{os.getpid() % 250}.{os.getpid() // 250 % 250}", "allow_faults": True,
    }  # fmt: skip
    return Config(**values | changes)


async def start(running: AsyncExitStack, config: Config, **options: Any) -> list[Node]:
    return [await running.enter_async_context(Node(config, node.id, **options)) for node in config.nodes]


async def until(holds: Callable[[], bool]) -> None:
    async with asyncio.timeout(15):
        while not holds():
            await asyncio.sleep(0.005)


@pytest.mark.parametrize("sealed", [False, True])
async def test_three_nodes_on_loopback_take_commands_at_any_node_and_answer_everywhere(
    tmp_path: Path, running: AsyncExitStack, sealed: bool
) -> None:
    if sealed:
        generate_key_file(tmp_path / "lab.key")
    nodes = await start(running, lab(tmp_path, key_file=tmp_path / "lab.key" if sealed else None))
    receipt = await nodes[2].submit("set", "k", "x" * 100_000)
    assert receipt.outcome == "ok"
    receipts = await nodes[1].submit_many([("incr", "n", 1) for _ in range(1_000)])
    assert [receipt.value for receipt in receipts if receipt] == list(range(1, 1_001))
    last = receipts[-1].seq if receipts[-1] else 0
    for node in nodes:
        answer = await node.query("get", "n", min_seq=last)
        assert (answer.value, answer.node) == (1_000, node.id)
        assert (await node.query("get", "k", min_seq=receipt.seq)).value == "x" * 100_000
        assert node.status()["queries"] == 2
        assert node.status()["sealed"] is sealed
        reported = (await (await node.client()).status())["nodes"]
        asked = {"address", "clock_off_s", "clock_unsure_s"}  # what only the asker knows
        assert [one.keys() for one in reported if one["id"] == node.id] == [node.status().keys() | asked]
    assert len({node.shell.engine.result_chain for node in nodes}) == 1


async def test_injected_losses_detected_losses_and_repairs_reconcile_to_zero(
    tmp_path: Path, running: AsyncExitStack
) -> None:
    nodes = await start(running, lab(tmp_path, sync="os"), fault="loss=10%,dup=2%,reorder=2%,corrupt=1%,seed=4")
    for _ in range(40):
        await nodes[0].submit_many([("incr", f"k{n}", 1) for n in range(500)])
    last = nodes[0].shell.engine.applied_seq
    await until(lambda: all(node.shell.engine.applied_seq >= last for node in nodes))
    reports = [node.gaps() for node in nodes]
    for report in reports:
        injected = report["injected"]
        assert report["lost"] == injected["lost"] + injected["corrupted"]
        assert report["lost"] == report["repaired"] + report["superseded"] + report["transferred"]
        assert report["open"] == []
    assert sum(report["lost"] for report in reports) > 5  # about 35 of 320 datagrams
    assert len({node.shell.engine.result_chain for node in nodes}) == 1


async def test_a_killed_sequencer_is_replaced_and_nothing_acknowledged_is_lost(
    tmp_path: Path, running: AsyncExitStack
) -> None:
    config = lab(tmp_path, profile="fast")
    nodes = await start(running, config)
    await nodes[1].submit_many([("incr", "n", 1) for _ in range(500)])
    (sequencer,) = [node for node in nodes if node.shell.replica.is_sequencer]
    await sequencer.stop()
    survivors = [node for node in nodes if node is not sequencer]
    receipt = await survivors[0].submit("incr", "n", 1)
    assert receipt.value == 501 and receipt.epoch >= 2
    back = await running.enter_async_context(Node(config, sequencer.id))
    assert (await back.submit("incr", "n", 1)).value == 502
    await until(lambda: len({node.shell.engine.chain for node in (*survivors, back)}) == 1)
    assert (await back.query("get", "n")).value == 502


async def test_a_node_inside_a_program_leaves_the_programs_garbage_collector_alone(
    tmp_path: Path, running: AsyncExitStack
) -> None:
    before = (gc.isenabled(), gc.get_threshold(), gc.get_freeze_count(), list(gc.callbacks))
    await start(running, lab(tmp_path))
    assert (gc.isenabled(), gc.get_threshold(), gc.get_freeze_count(), list(gc.callbacks)) == before


async def test_a_second_node_with_the_same_address_is_refused(tmp_path: Path, running: AsyncExitStack) -> None:
    config = lab(tmp_path)
    await start(running, config)
    duplicate = Config(
        name="other", nodes=config.nodes, folder=tmp_path, data_dir=tmp_path / "other", port=config.port,
        group=config.group,
    )  # fmt: skip
    with pytest.raises(EnvironmentProblem, match="in use"):
        await Node(duplicate, "n1").start()


async def test_another_cluster_on_the_same_group_and_port_is_a_finding(tmp_path: Path, running: AsyncExitStack) -> None:
    own = lab(tmp_path)
    own = replace(own, nodes=own.nodes[:1])
    [port] = free_ports(1)
    other = replace(
        own, name="other", data_dir=tmp_path / "other", nodes=(NodeConfig(id="n1", address=f"127.0.0.1:{port}"),)
    )
    [node], [stranger] = await start(running, own), await start(running, other)
    for one in (node, stranger):
        await until(lambda one=one: one.status()["findings"] != [])  # type: ignore[misc]
        [finding] = one.status()["findings"]
        assert f"group {own.group}, ports {own.port} and {own.port + 1}" in finding
        assert "give one of the two cluster files another group and port" in finding


async def test_a_node_of_another_cluster_of_the_same_name_is_told_what_to_change(
    tmp_path: Path, running: AsyncExitStack
) -> None:
    own = lab(tmp_path)
    own = replace(own, nodes=own.nodes[:1])
    await start(running, own)
    [port] = free_ports(1)
    nodes = (NodeConfig(id="n1", address=f"127.0.0.1:{port}"),)
    with pytest.raises(EnvironmentProblem, match=rf"as n1 of a cluster named '{own.name}'.*{own.group}.*another group"):
        await Node(replace(own, data_dir=tmp_path / "other", nodes=nodes), "n1").start()


def test_importing_mcast_loads_next_to_nothing() -> None:
    code = "import sys, mcast; print([m for m in sys.modules if m.startswith('mcast') or m in ('asyncio', 'ssl')])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=30)
    assert done.stdout.strip() == "['mcast']"


def test_every_public_name_can_be_had() -> None:
    for name in mcast.__all__:
        assert getattr(mcast, name).__name__ == ("Literal" if name == "Consistency" else name)
    assert set(mcast.__all__) <= set(dir(mcast))
    with pytest.raises(AttributeError, match="no attribute 'nonsense'"):
        _ = mcast.nonsense  # type: ignore[attr-defined]
