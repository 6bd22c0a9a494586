"""Lost outcomes are computed again while the node serves, whatever befell their files."""

import asyncio
import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, ClassVar

import pytest

from mcast.client.client import Client
from mcast.machine.api import Context, StateMachine, command
from mcast.node import eventlog, recomputing
from mcast.storage.outcomes import OutcomeLog
from mcast.testing import cluster
from mcast.testing.cluster import Cluster

COMMANDS = 3_000
SLOW_S = 0.0005


class Ledger(StateMachine):
    slow_ones: ClassVar[int] = 0
    """Slow commands that were executed so far, on any machine."""

    def __init__(self) -> None:
        self.sum = 0

    @command
    def add(self, ctx: Context, amount: int, slow: bool = False) -> int:
        if slow:
            time.sleep(SLOW_S)
            Ledger.slow_ones += 1
        self.sum += amount
        return self.sum


@pytest.fixture(autouse=True)
def _small(monkeypatch: pytest.MonkeyPatch) -> None:
    """Pieces and memory of a hundredth, so that most is on disk; no pauses worth waiting for."""
    for module in (eventlog, recomputing):
        monkeypatch.setattr(module, "EVENTS_PIECE_BYTES", 5_000)
    monkeypatch.setattr(eventlog, "EVENTS_RECENT_BYTES", 20_000)
    monkeypatch.setattr(recomputing, "RETRY_S", 0.02)
    monkeypatch.setattr(recomputing, "BEGIN_S", (0.01, 0.1))


async def add(c: Cluster, count: int = COMMANDS, *, slow: bool = False) -> None:
    await c.submit_many([("add", 1, *([True] if slow else []))] * count, timeout=20)


async def subscribed(client: Client, count: int) -> list[Any]:
    values = []
    async with asyncio.timeout(20):
        async for event in client.subscribe(from_seq=1):
            values.append(event.value)
            if len(values) == count:
                break
    return values


def damage(folder: Path) -> None:
    for path in folder.iterdir():
        path.write_bytes(bytes(path.stat().st_size))


def replace_by_a_file(folder: Path) -> None:
    shutil.rmtree(folder)
    folder.write_text("not ours")


def cut(folder: Path) -> None:
    for path in folder.iterdir():
        path.write_bytes(path.read_bytes()[:100])


def make_directories(folder: Path) -> None:
    for path in folder.iterdir():
        path.unlink()
        path.mkdir()


@pytest.mark.parametrize("befalls", [damage, shutil.rmtree, replace_by_a_file, cut, make_directories])
async def test_whatever_befell_the_files_a_subscription_from_the_beginning_gets_everything(
    befalls: Callable[[Path], None], caplog: pytest.LogCaptureFixture
) -> None:
    async with cluster(Ledger, nodes=1) as c:
        await add(c)
        befalls(c.config.data_dir / "n1" / "outcomes")
        assert await subscribed(c.client, COMMANDS) == list(range(1, COMMANDS + 1))
        await add(c)
        assert await subscribed(c.client, 2 * COMMANDS) == list(range(1, 2 * COMMANDS + 1))
        assert c.node("n1").status()["findings"] == []
        assert c.node("n1").shell.recomputing._engine is None, "the second machine is forgotten"
        reported = [line for line in caplog.messages if "outcomes for subscribers" in line]
        assert len(reported) == 2 and "are lost and computed again" in reported[0] and "all there again" in reported[1]


async def test_a_full_disk_is_a_finding_until_it_has_room_and_then_all_is_there(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    append, full = OutcomeLog.append, False

    def maybe(log: OutcomeLog, first: int, last: int, data: bytes) -> None:
        if full:
            raise OSError(28, "No space left on device")
        append(log, first, last, data)

    async with cluster(Ledger, nodes=1) as c:
        monkeypatch.setattr(OutcomeLog, "append", maybe)
        await add(c, 20)
        full = True
        await add(c, 450)
        await add(c, 450)
        [finding] = (await c.client.status())["findings"]
        assert "kept in memory for now; the disk takes none (No space left on device): free some space" in finding
        full = False
        while (await c.client.status())["findings"]:
            await asyncio.sleep(0.01)  # without one more event
        full = True
        await add(c)
        document = await c.client.status()
        [finding] = document["findings"]
        assert "n1: outcomes for subscribers were lost (the disk took no more of them" in finding
        assert "No space left on device" in finding and "free some space" in finding
        await asyncio.sleep(0.1)
        assert len(c.node("n1").shell.recomputing._computed) < COMMANDS, "it waits with one piece, not with everything"
        full = False
        assert await subscribed(c.client, COMMANDS + 920) == list(range(1, COMMANDS + 921))
        assert (await c.client.status())["findings"] == []


async def test_computing_again_leaves_the_loop_its_turns_and_goes_on_beside_new_events(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for module in (eventlog, recomputing):
        monkeypatch.setattr(module, "EVENTS_PIECE_BYTES", 500)
    monkeypatch.setattr(eventlog, "EVENTS_RECENT_BYTES", 1_000)
    async with cluster(Ledger, nodes=1) as c:
        await add(c, 300, slow=True)
        damage(c.config.data_dir / "n1" / "outcomes")
        subscription = asyncio.create_task(subscribed(c.client, 2_300))
        most, events = 0, c.node("n1").shell.events
        more = asyncio.create_task(add(c, 2_000))
        while not subscription.done():
            before = Ledger.slow_ones
            await asyncio.sleep(0)
            most = max(most, Ledger.slow_ones - before)
        await more
        assert await subscription == list(range(1, 2_301))
        assert 0 < most <= recomputing.TURN_S / SLOW_S + 1 and events.lost is None


async def test_a_file_where_the_directory_goes_keeps_no_node_from_starting(caplog: pytest.LogCaptureFixture) -> None:
    async with cluster(Ledger, nodes=1) as c:
        await add(c)
        await c.kill("n1")
        replace_by_a_file(c.config.data_dir / "n1" / "outcomes")
        await c.restart("n1")
        await c.converged(10)
        assert await subscribed(c.client, COMMANDS) == list(range(1, COMMANDS + 1))
        assert any("is now" in line and "outcomes.damaged-1" in line for line in caplog.messages)


async def test_a_machine_that_cannot_be_made_again_is_said(caplog: pytest.LogCaptureFixture) -> None:
    class Stubborn(Ledger):
        def __deepcopy__(self, memo: object) -> None:
            raise TypeError

    async with cluster(Stubborn, nodes=1) as c:
        await add(c)
        damage(c.config.data_dir / "n1" / "outcomes")
        with pytest.raises(Exception, match="no longer kept"):
            await subscribed(c.client, COMMANDS)
        assert any("cannot be computed again: the state machine cannot be made" in line for line in caplog.messages)
