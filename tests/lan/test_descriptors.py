"""Nodes that may open few files, and crowds that want more: the node's own files come first, and nobody halts."""

from __future__ import annotations

import asyncio
import contextlib
import sys
from collections.abc import AsyncIterator

import pytest

from mcast.testing.processes import Processes
from tests.lan.load import Load, settled

LIMIT = 64
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
        before = await processes.live()
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
