"""Idle clients are no burden: little memory, no processor time, no timers; and when their gateway dies, no stampede.

`MCAST_TEST_CLIENTS=10000` makes it the crowd that a node is built for. A node, and this process, then need 10,500 open
files each (`ulimit -n`); clients that come back by themselves live in processes of their own, 2,500 in each.
"""

from __future__ import annotations

import asyncio
import os
import resource
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Self

import pytest

from mcast.lab.processes import Processes
from mcast.net.tcp import Dialer, StreamLink, Unreachable
from tests.lan.crowd import Crowd
from tests.lan.load import Load, settled

CLIENTS = int(os.environ.get("MCAST_TEST_CLIENTS", "300"))
LOOK_S = 2.0
PLAIN_BYTES_MAX = 8 << 10  # of the node's memory for each; measured: 3 KiB
SEALED_BYTES_MAX = 120 << 10  # measured: 41 KiB, nearly all of it OpenSSL's; with few clients handshakes weigh more
BUSY_SHARE_MAX = 0.05  # of a processor beyond what an idle cluster takes
DIALS_AT_ONCE = 16
DIALS_MAX = 50
STAMPEDE = 256  # dials at once; more is beyond this one process, which has to be all the clients
BACK_S = 15 + CLIENTS / 40  # for all to be served by others; a handshake takes some ms of both sides' processor time
PAUSE_S_MAX = 5.0  # between two acknowledgements of honest clients meanwhile; measured: see OPERATIONS

pytestmark = pytest.mark.timeout(60 + CLIENTS // 10)


async def patiently(dial: Callable[[], Awaitable[StreamLink]]) -> StreamLink:
    """As clients do, try again: one process that is all of them may be too slow for a handshake's two seconds."""
    for _ in range(DIALS_MAX):
        try:
            return await dial()
        except Unreachable as unreachable:
            if "try another node" in str(unreachable):
                raise
    raise AssertionError("turned away again and again")


class Idler:
    """Connects and then says nothing; counts whom its node has left."""

    def __init__(self) -> None:
        self.links: list[StreamLink] = []
        self.lost = 0
        self.closed = False

    def on_link_message(self, link: StreamLink, kind: int, payload: bytes) -> None:
        """Nothing is asked, so nothing is answered."""
        raise AssertionError(f"message {kind}")

    def on_link_writable(self, link: StreamLink) -> None:
        """Nothing waits to be written."""

    def on_link_lost(self, link: StreamLink, reason: str) -> None:
        """The node is gone, unless this side has closed."""
        self.lost += not self.closed

    async def connect(self, processes: Processes, node_id: str, count: int, at_once: int = DIALS_AT_ONCE) -> float:
        """Open `count` connections; the seconds that took."""
        dialer, node = Dialer(processes.config, "client"), processes.config.node(node_id)
        turns = asyncio.Semaphore(at_once)

        async def dial() -> None:
            async with turns:
                link = await patiently(lambda: dialer.open(node, self, timeout_s=30))
            self.links.append(link)

        began = time.monotonic()
        await asyncio.gather(*(dial() for _ in range(count)))
        return time.monotonic() - began

    def close(self) -> None:
        """End them all."""
        self.closed = True
        for link in self.links:
            link.close()


def memory_bytes(pid: int) -> int:
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * resource.getpagesize()


def used_s(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


async def busy_share(pid: int) -> float:
    before = used_s(pid)
    await asyncio.sleep(LOOK_S)
    return (used_s(pid) - before) / LOOK_S


def allow_files(count: int) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard != resource.RLIM_INFINITY and hard < count + 500:
        pytest.skip(f"this process may open only {hard} files")
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, count + 500), hard))


@pytest.mark.parametrize("sealed", [False, True], ids=["unsealed", "sealed"])
async def test_idle_clients_cost_a_node_little(sealed: bool) -> None:
    allow_files(CLIENTS)
    async with Processes(sealed=sealed) as processes:
        status = await processes.wait_until_live()
        sequencer = status["sequencer"]
        pid, idler = processes.pid(sequencer), Idler()
        alone, before = await busy_share(pid), memory_bytes(pid)
        try:
            took_s = await idler.connect(processes, sequencer, CLIENTS)
            each = (memory_bytes(pid) - before) / CLIENTS
            crowded = await busy_share(pid)
            async with Load(processes, (sequencer, "n1", "n2")) as load:
                await load.more(500)
            after = await settled(processes, load)
        finally:
            idler.close()
    print(f"{CLIENTS} clients in {took_s:.1f} s, {each / 1024:.1f} KiB each; busy {alone:.3f}, with them {crowded:.3f}")
    assert idler.lost == 0 and after["epoch"] == status["epoch"]
    assert each < (SEALED_BYTES_MAX if sealed else PLAIN_BYTES_MAX)
    assert crowded < alone + BUSY_SHARE_MAX


async def test_a_dead_gateways_clients_come_all_at_once_and_end_no_epoch() -> None:
    """TLS costs the node a millisecond for each; its heartbeats go out between."""
    allow_files(CLIENTS)
    async with Processes(sealed=True) as processes:
        status = await processes.wait_until_live()
        sequencer = status["sequencer"]
        gateway = next(node_id for node_id in processes.ids if node_id != sequencer)
        idler = Idler()
        try:
            await idler.connect(processes, gateway, CLIENTS)
            await processes.kill(gateway)
            async with asyncio.timeout(10):
                while idler.lost < CLIENTS:
                    await asyncio.sleep(0.01)
            took_s = await idler.connect(processes, sequencer, CLIENTS, at_once=STAMPEDE)
            print(f"{CLIENTS} came at once, and were let in within {took_s:.1f} s")
            after = await processes.wait_until_live()
        finally:
            idler.close()
    assert (after["epoch"], after["sequencer"]) == (status["epoch"], sequencer)


class Pauses:
    """The longest time in which a load was not acknowledged anything: a context manager."""

    def __init__(self, load: Load) -> None:
        self.longest_s = 0.0
        self._load = load

    async def __aenter__(self) -> Self:
        self._task = asyncio.create_task(self._watch())
        return self

    async def __aexit__(self, *error: object) -> None:
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)

    async def _watch(self) -> None:
        count, since_s = self._load.count, time.monotonic()
        while True:
            await asyncio.sleep(0.005)
            if self._load.count != count:
                count, since_s = self._load.count, time.monotonic()
            self.longest_s = max(self.longest_s, time.monotonic() - since_s)


@pytest.mark.parametrize("struck", ["the only gateway", "the sequencer"])
async def test_a_crowd_comes_back_by_itself_while_others_work_on(struck: str) -> None:
    """All at one node that follows; or spread over three, of which the one that leads dies."""
    allow_files(CLIENTS)
    async with Processes(sealed=True) as processes:
        status = await processes.wait_until_live()
        sequencer = status["sequencer"]
        followers = [node_id for node_id in processes.ids if node_id != sequencer]
        spread = struck == "the sequencer"
        gone, stays = (sequencer, followers[0]) if spread else (followers[1], followers[0])
        async with Crowd(processes.path, CLIENTS, processes.ids if spread else [gone]) as crowd:
            assert (await crowd.look())[0][gone] >= CLIENTS // 4, "they are where they wanted to be"
            async with Load(processes, (stays, stays)) as load:
                async with Pauses(load) as calm:
                    await load.more(300)
                links = (await crowd.look())[1]
                async with Pauses(load) as shaken:
                    began = time.monotonic()
                    await processes.kill(gone)
                    at = await crowd.until(lambda at: not at[""] and not at[gone], BACK_S)
                    took_s = time.monotonic() - began
                    await load.more(100)
                dials = (await crowd.look())[1] - links
            after = await settled(processes, load, found=False)
    print(
        f"{CLIENTS} sealed clients, {struck} killed: all back within {took_s:.1f} s ({dict(at)}, {dials} links); "
        f"commands paused for {shaken.longest_s * 1e3:.0f} ms at most, before that {calm.longest_s * 1e3:.0f} ms"
    )
    assert at.total() == CLIENTS
    assert dials <= CLIENTS * 1.5, "hardly any came twice"
    assert shaken.longest_s < PAUSE_S_MAX
    assert spread or (after["epoch"], after["sequencer"]) == (status["epoch"], sequencer), "it ended no epoch"


async def test_a_node_that_may_open_few_files_says_so_and_turns_away_the_rest() -> None:
    async with Processes(nodes=1, wrap={"n1": ("prlimit", "--nofile=100:700")}) as processes:
        idler = Idler()
        try:
            assert "takes 329 connections at most" in processes.log("n1").read_text()
            assert "ulimit -n 12800" in processes.log("n1").read_text()
            await idler.connect(processes, "n1", 320)
            with pytest.raises(Unreachable, match="n1 serves 329 clients; that is as many as it may; try another node"):
                await idler.connect(processes, "n1", 20)
            assert idler.lost == 0
        finally:
            idler.close()
        async with asyncio.timeout(10), processes.connect() as client:
            assert (await client.submit("set", "k", 1)).outcome == "ok"
