"""Handlers that fail, halt and dawdle, on real nodes: what each node's log says, and that the others' time is kept."""

import asyncio
import time
from typing import Any, ClassVar

import pytest

from mcast.machine.api import Context, StateMachine, command, query
from mcast.machine.executor import SLOW_S
from mcast.node.applying import SLICE_S
from mcast.testing import cluster


class Clumsy(StateMachine):
    """Fails, runs out of stack, and sleeps."""

    slept_s: ClassVar[list[float]] = []
    """How long each sleep took on any node."""

    def __init__(self) -> None:
        self.count = 0

    @command
    def work(self, ctx: Context, item: Any = None) -> int:
        return self.cuont + 1  # type: ignore[attr-defined,no-any-return]

    @command
    def recurse(self, ctx: Context, item: Any) -> None:
        self.recurse(ctx, item)

    @command
    def dawdle(self, ctx: Context, seconds: float) -> int:
        began_s = time.monotonic()
        time.sleep(seconds)
        self.slept_s.append(time.monotonic() - began_s)
        self.count += 1
        return self.count

    @query
    def counted(self) -> int:
        return self.count

    @query
    def wrong(self) -> int:
        return self.cuont  # type: ignore[attr-defined,no-any-return]


def messages(caplog: pytest.LogCaptureFixture, *words: str) -> list[str]:
    return [message for message in caplog.messages if all(word in message for word in words)]


async def test_every_node_logs_what_a_handler_raised(caplog: pytest.LogCaptureFixture) -> None:
    async with cluster(Clumsy) as c:
        receipt = await c.submit("work")
        assert (receipt.outcome, receipt.error) == ("failed", "AttributeError")
        with pytest.raises(Exception, match="AttributeError"):
            await c.query("wrong")
        await c.converged()
        for node_id in c.nodes:
            [line] = messages(caplog, f"node {node_id}: command work failed (event {receipt.seq})")
            assert "return self.cuont + 1" in line
            assert c.node(node_id).status()["failures"]["work"] == 1
        assert len(messages(caplog, "query wrong failed")) == 1
        await c.submit("dawdle", 0)
        await c.converged()
        await c.kill("n3")
        await c.restart("n3")
        assert messages(caplog, f"node n3: command work failed (event {receipt.seq}, replayed)")


async def test_a_halt_tells_the_command_with_its_arguments_and_the_traceback(caplog: pytest.LogCaptureFixture) -> None:
    async with cluster(Clumsy, nodes=1) as c:
        waits = asyncio.create_task(c.submit("recurse", "x" * 1_000, timeout=0.5))
        while c.node("n1").shell.halted is None:
            await asyncio.sleep(0.01)
        await asyncio.gather(waits, return_exceptions=True)
        reason = c.node("n1").status()["reason"]
        assert "RecursionError of recurse('xxx" in reason and len(reason) < 300
        [line] = messages(caplog, "node n1 halted: event")
        assert "self.recurse(ctx, item)" in line and len(line) < 5_000


async def test_slow_handlers_are_named_and_leave_the_loop_its_turns(caplog: pytest.LogCaptureFixture) -> None:
    async with cluster(Clumsy) as c:
        await c.submit_many([("dawdle", 0)] * 2_000)
        slept, most = Clumsy.slept_s, 0

        async def watch() -> None:
            nonlocal most
            while True:
                before = len(slept)
                await asyncio.sleep(0)
                most = max(most, len(slept) - before)

        epoch = c.node("n1").status()["epoch"]
        watching = asyncio.create_task(watch())
        receipts = await c.submit_many([("dawdle", 0.004)] * 100, timeout=20)
        watching.cancel()
        assert [receipt.value for receipt in receipts if receipt is not None] == list(range(2_001, 2_101))
        assert 0 < most <= 3 * 3, "three nodes share this loop: a slice of 5 ms, and the handlers at both its ends"
        assert max(slept) >= SLOW_S - SLICE_S or not messages(caplog, "dawdle took")
        await c.submit("dawdle", 0.15)
        await c.converged()
        assert {line.split()[1] for line in messages(caplog, "command dawdle took")} == {"n1:", "n2:", "n3:"}
        assert c.node("n1").status()["epoch"] == epoch, "nobody was taken for dead"


async def test_a_query_amid_a_long_record_says_exactly_where_it_holds() -> None:
    async with cluster(Clumsy, nodes=1) as c:
        first = (await c.submit("dawdle", 0)).seq
        sending = asyncio.create_task(c.submit_many([("dawdle", 0.004)] * 60, timeout=20))
        seen = set()
        while not sending.done():
            answer = await c.query("counted", consistency="any")
            assert answer.seq == first + answer.value - 1
            seen.add(answer.value)
            again = await c.query("counted", min_seq=answer.seq)
            assert again.seq >= answer.seq
        assert len(seen) > 3
