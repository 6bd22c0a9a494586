"""A journal that lost its tail on real files, in real processes: it vouches for nothing that it lost."""

from __future__ import annotations

import asyncio
import contextlib
import json

import pytest

from mcast.errors import NotSent
from mcast.lab.processes import Processes
from mcast.lab.tails import lose_tail

pytestmark = pytest.mark.timeout(120)


def storage_id(processes: Processes, node: str) -> str:
    meta = json.loads((processes.config.data_dir / node / "meta.json").read_text())
    return str(meta["meta"]["storage_id"])


async def answering(processes: Processes, nodes: int) -> None:
    async with asyncio.timeout(30):
        while True:
            with contextlib.suppress(NotSent):
                if sum(node["reachable"] for node in (await processes.status())["nodes"]) >= nodes:
                    return
            await asyncio.sleep(0.1)


@pytest.mark.parametrize(("sync", "zeroed", "share"), [("always", True, 0.3), ("os", False, 0.5)])
async def test_what_two_acknowledged_outlives_the_tail_of_one(sync: str, zeroed: bool, share: float) -> None:
    """The third was away; the one that lost its tail comes back first, with the third; the good copy last."""
    async with Processes(sync=sync) as processes:
        await processes.wait_until_live()
        await processes.kill("n3")
        async with processes.connect("n1") as client:
            await client.submit_many([("set", f"k{at}", "x" * 100) for at in range(1_000)], timeout=20)
            last = await client.submit("set", "last", "acknowledged", timeout=20)
        before = storage_id(processes, "n2")
        await asyncio.gather(processes.kill("n1"), processes.kill("n2"))
        lose_tail(processes.config.data_dir / "n2", share, zeroed=zeroed)
        await processes.start("n2")
        await processes.start("n3")
        await answering(processes, 2)
        await asyncio.sleep(2.0)  # far longer than an election
        status = await processes.status(10)
        assert status["sequencer"] is None, "n2 and n3 are no majority"
        assert storage_id(processes, "n2") != before
        assert "the log ends before what it may have acknowledged" in processes.log("n2").read_text()
        await processes.start("n1")
        await processes.wait_until_live()
        async with processes.connect("n1") as client:
            answer = await client.query("get", "last", consistency="linearizable", min_seq=last.seq)
            assert answer.value == "acknowledged"
            values = await client.query_many([("get", f"k{at}") for at in range(0, 1_000, 50)])
            assert [each.value for each in values] == ["x" * 100] * 20
        async with asyncio.timeout(30):
            while not all(node["votes"] for node in (await processes.status(10))["nodes"]):
                await asyncio.sleep(0.2)
        after = await processes.wait_until_equal(30)
        assert not [node for node in after["nodes"] if node["state"] != "live"]
