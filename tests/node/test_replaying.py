"""A replay that comes to something else than before halts the node, with the words that help."""

import asyncio
from collections.abc import Callable
from pathlib import Path

import pytest

from mcast.machine.api import Context, StateMachine, command
from mcast.storage.results import RESULTS_NAME
from mcast.testing import cluster


class Before(StateMachine):
    version = 1

    def __init__(self) -> None:
        self.count = 0

    @command
    def work(self, ctx: Context) -> int:
        self.count += 1
        return self.count

    @command
    def gone(self, ctx: Context) -> None: ...


class Changed(Before):
    @command
    def work(self, ctx: Context) -> int:
        self.count += 2 if self.count >= 30 else 1
        return self.count


class Shorter(StateMachine):
    def __init__(self) -> None:
        self.count = 0

    @command
    def work(self, ctx: Context) -> int:
        self.count += 1
        return self.count


class Makes:
    """What the nodes are made with; `now` is changed between two starts."""

    def __init__(self, now: Callable[[], StateMachine]) -> None:
        self.now = now

    def __call__(self) -> StateMachine:
        return self.now()


@pytest.mark.parametrize("alone", [10, 40, 3_000])
async def test_a_changed_handler_halts_every_node_and_the_old_code_goes_on(alone: int) -> None:
    makes = Makes(Before)
    async with cluster(makes) as c:
        receipts = await c.submit_many([("work",)] * (30 + alone), timeout=20)
        await c.converged()
        for node_id in c.config.nodes:
            await c.stop(node_id.id)
        makes.now = Changed
        for node in c.config.nodes:
            await c.restart(node.id)
        for node in c.config.nodes:
            while (reason := c.node(node.id).status().get("reason")) is None:
                await asyncio.sleep(0.01)
            assert "comes to other results than before the last stop, equal up to event" in reason
            assert "Changed now" in reason and "Before then" in reason
            assert f"remove {c.config.data_dir / node.id / RESULTS_NAME} on each" in reason
        for node in c.config.nodes:
            await c.stop(node.id)
        makes.now = Before
        for node in c.config.nodes:
            await c.restart(node.id)
        await c.converged(10)
        assert receipts[-1] is not None
        assert (await c.submit("work")).value == receipts[-1].value + 1


async def test_what_is_known_as_committed_only_later_is_compared_later() -> None:
    makes = Makes(Before)
    async with cluster(makes, nodes=1) as c:
        await c.submit_many([("work",)] * 40)
        await c.kill("n1")
        makes.now = Changed
        await c.restart("n1")
        async with asyncio.timeout(10):
            while c.node("n1").shell.halted is None:
                await asyncio.sleep(0.01)
        assert c.node("n1").shell.joined, "its last frame, which differs, was not replayed: it was committed anew"


async def test_removing_the_file_lets_the_new_code_stand(caplog: pytest.LogCaptureFixture) -> None:
    makes = Makes(Before)
    async with cluster(makes, nodes=1) as c:
        await c.submit_many([("work",)] * 40)
        await c.submit("gone")
        await c.submit("work")
        await c.stop("n1")
        kept = c.config.data_dir / "n1" / RESULTS_NAME
        makes.now = Shorter
        await c.restart("n1")
        reason = c.node("n1").status()["reason"]
        assert "the journal holds 1 commands that the state machine does not have, the first is 'gone' at" in reason
        assert any("does not have, the first is 'gone'" in line for line in caplog.messages)
        assert c.node("n1").status()["state"] == "halted" and not c.node("n1").shell.joined
        await c.stop("n1")
        kept.unlink()
        await c.restart("n1")
        await c.converged(10)
        assert (await c.submit("work")).value == 42


async def test_a_damaged_file_is_said_and_checks_nothing(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    async with cluster(Before, nodes=1) as c:
        await c.submit("work")
        await c.stop("n1")
        (c.config.data_dir / "n1" / RESULTS_NAME).write_text("{}")
        await c.restart("n1")
        await c.converged(10)
        assert any("whether this replay comes to what it came to before is not checked" in m for m in caplog.messages)
