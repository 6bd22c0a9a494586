"""Nodes that may open few files, and crowds that want more: the node's own files come first, and nobody halts."""

from __future__ import annotations

import asyncio
import contextlib
import os
import resource
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from mcast.client.client import connect
from mcast.lab.processes import Processes
from mcast.net.ports import free_port_pair, free_ports
from mcast.node.node import Node
from mcast.storage.descriptors import exhausted
from tests.lan.load import Load, settled

ROOT = Path(__file__).parents[2]
LIMIT = 64
SEGMENTS = 2
CROWD = 150  # connections to each node, again and again
EVERYWHERE = ("n1", "n2", "n3")
BIG = "x" * 50_000
BIGS = 2_600  # of those: two segments of 64 MiB, so that every node opens a new one

pytestmark = [pytest.mark.timeout(150), pytest.mark.skipif(sys.platform != "linux", reason="looks into /proc")]


@contextlib.asynccontextmanager
async def crowd(processes: Processes) -> AsyncIterator[None]:
    """Strangers who connect to all nodes, say nothing, and come again when they are closed."""

    async def one(host: str, port: int) -> None:
        while True:
            with contextlib.suppress(OSError):
                reader, writer = await asyncio.open_connection(host, port)
                try:
                    while await reader.read(4_096):
                        pass
                finally:
                    writer.close()
            await asyncio.sleep(0.2)

    nodes = [node for node in processes.config.nodes for _ in range(CROWD)]
    tasks = [asyncio.create_task(one(node.host, node.port)) for node in nodes]
    try:
        yield
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def test_a_crowd_at_nodes_that_may_open_few_files_halts_nobody() -> None:
    few = ["sh", "-c", f'ulimit -n {LIMIT} && exec "$@"', "sh"]
    async with Processes(wrap=dict.fromkeys(EVERYWHERE, few), mtu=61_440) as processes:
        before = await processes.wait_until_live()
        async with Load(processes, EVERYWHERE) as load, processes.connect() as client:
            await load.more(20)
            async with crowd(processes):
                await asyncio.sleep(1.0)
                for number in range(0, BIGS, 100):
                    receipts = await client.submit_many([("set", "big", f"{number}{BIG}")] * 100, timeout=30)
                    assert receipts.ok == 100
                await load.more(20)
        after = await settled(processes, load)
        found = [finding for node in after["nodes"] for finding in node.get("findings") or ()]
        segments = {
            node_id: len(list((processes.config.data_dir / node_id / "journal").glob("*"))) for node_id in EVERYWHERE
        }
        logs = {node_id: processes.log(node_id).read_text() for node_id in EVERYWHERE}
    assert (after["epoch"], after["sequencer"]) == (before["epoch"], before["sequencer"])
    assert min(segments.values()) >= 2, "each opened another"
    assert len(found) == 3 and all(
        "connections away" in one and "ulimit -n" in one and "LimitNOFILE" in one for one in found
    )
    for text in logs.values():
        assert "Traceback" not in text and text.count("\n") < 20, text


async def greedy_program(folder: Path) -> None:
    """Embeds a node, then opens all there is; what the node needs meanwhile, it has or waits for."""
    resource.setrlimit(resource.RLIMIT_NOFILE, (96, 96))
    (port,) = free_ports(1)
    config = folder / "lab.toml"
    config.write_text(
        f'[cluster]\nname = "one"\ngroup = "239.77.9.9"\nport = {free_port_pair()}\ninterface = "127.0.0.1"\n'
        f'machine = "mcast.machine.kv:KeyValue"\nsync = "os"\nmtu = 61440\n'
        f'[[node]]\nid = "n1"\naddress = "127.0.0.1:{port}"\n'
    )
    async with Node(config, id="n1") as node, connect(config) as client:
        await client.submit("incr", "k", timeout=30)
        taken: list[int] = []
        while not exhausted():
            taken.append(os.dup(2))
        for number in range(0, SEGMENTS * 1_400, 100):
            receipts = await client.submit_many([("set", "big", f"{number}{BIG}")] * 100, timeout=30)
            assert receipts.ok == 100
        for fd in taken:
            os.close(fd)
        assert (await client.submit("incr", "k", timeout=30)).value == 2
        assert (await node.query("size")).value == 2
    print("done")


def test_a_node_in_a_program_that_opens_all_there_is_goes_on(tmp_path: Path) -> None:
    program = (
        "import asyncio, sys; from pathlib import Path; from tests.lan.test_descriptors import greedy_program; "
        "asyncio.run(greedy_program(Path(sys.argv[1])))"
    )
    words = [sys.executable, "-c", program, str(tmp_path)]
    done = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, timeout=100, check=False)
    assert (done.returncode, done.stdout) == (0, "done\n"), done.stderr
    assert "halted" not in done.stderr and "Traceback" not in done.stderr
