"""State machines that differ, fail and dawdle, at real nodes: what `mcast status` and the nodes' logs say of it."""

import asyncio
import contextlib
import time
from pathlib import Path

from mcast.client.client import Client
from mcast.lab.processes import Processes
from tests.lan.commands import run

MACHINE = """
import os, time, mcast

class Odd(mcast.StateMachine):
    version = 1

    def __init__(self):
        self.count = 0

    @mcast.command
    def process(self, ctx):
        return os.getpid()

    @mcast.command
    def fail(self, ctx):
        return self.cuont

    @mcast.command
    def dawdle(self, ctx, seconds):
        time.sleep(seconds)
        self.count += 1
        return self.count

    @mcast.command
    def doze(self, ctx, seconds):
        return self.dawdle(ctx, seconds)

    @doze.run
    def doze_all(self, run, seconds):
        for each in seconds:
            yield self.dawdle(None, each)

    @mcast.query
    def counted(self):
        return self.count
"""


async def test_what_differs_between_nodes_is_said_with_its_remedy(tmp_path: Path) -> None:
    (tmp_path / "oddly.py").write_text(MACHINE)
    async with Processes(machine="oddly:Odd", machine_folder=tmp_path) as processes:
        folder = processes.path.parent
        assert (await run(folder, "status")).code == 0
        failed = await run(folder, "submit", "fail", "--json")
        assert (failed.code, failed.document["error"]) == (1, "AttributeError")
        await processes.wait_until_equal()
        for node_id in processes.ids:
            said = processes.log(node_id).read_text()
            assert f"command fail failed (event {failed.document['seq']})" in said
            assert "return self.cuont" in said and "oddly.py" in said

        await processes.stop("n3")
        (tmp_path / "oddly.py").write_text(MACHINE.replace("version = 1", "version = 2"))
        await processes.start("n3")
        refused = await run(folder, "status")
        while "n3 is unreachable" in refused.err:
            refused = await run(folder, "status")
        assert refused.code == 1
        assert "mcast: n3 is halted: n1, n2 run other versions of the state machine: 1 instead of 2;" in refused.err
        assert "install the same on all and restart them" in refused.err
        assert "halted: n1, n2 run other versions" in processes.log("n3").read_text()
        (tmp_path / "oddly.py").write_text(MACHINE)
        await processes.stop("n3")
        await processes.start("n3")
        await processes.wait_until_live()

        await run(folder, "submit", "process")
        apart = await run(folder, "status", "--json")
        while "DIVERGED" not in apart.err:  # until all have applied it
            apart = await run(folder, "status", "--json")
        assert apart.code == 1
        assert apart.document["findings"] == [line.removeprefix("mcast: ") for line in apart.err.splitlines()]


async def test_nodes_with_slow_handlers_answer_and_nobody_is_taken_for_dead(tmp_path: Path) -> None:
    (tmp_path / "oddly.py").write_text(MACHINE)
    async with Processes(machine="oddly:Odd", machine_folder=tmp_path) as processes:
        epoch = (await processes.wait_until_live())["epoch"]
        waited_s: list[float] = []

        async def ask(client: Client) -> None:
            while True:
                began_s = time.monotonic()
                await client.query("counted", consistency="any")
                waited_s.append(time.monotonic() - began_s)
                await asyncio.sleep(0.05)

        async with contextlib.AsyncExitStack() as stack:
            client = await stack.enter_async_context(processes.connect())
            asked = [await stack.enter_async_context(processes.connect(each, strict=True)) for each in processes.ids]
            await client.submit_many([("dawdle", 0)] * 1_000 + [("doze", 0)] * 1_000)
            asking = [asyncio.create_task(ask(each)) for each in asked]
            slow = [("dawdle", 0.02)] * 75 + [("doze", 0)] * 500 + [("doze", 0.049)] * 40
            receipts = await client.submit_many(slow, timeout=20)
            for task in asking:
                task.cancel()
        assert all(receipt is not None and receipt.outcome == "ok" for receipt in receipts)
        assert len(waited_s) > 15 and max(waited_s) < 2.0, "they were deaf for 3 s"
        assert (await processes.wait_until_live())["epoch"] == epoch
