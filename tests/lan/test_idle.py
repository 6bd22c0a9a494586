"""Idle clients are no burden: little memory, no processor time, no timers; and when their gateway dies, no stampede.

`MCAST_TEST_CLIENTS=10000` makes it the crowd that a node is built for; both sides then need as many open files.
"""

from __future__ import annotations

import asyncio
import os
import resource
import time
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from mcast.client.link import Dialer, Link, Unreachable
from mcast.node.readbuffer import set_read_buffer
from mcast.testing.processes import Processes
from tests.lan.load import Load, settled

CLIENTS = int(os.environ.get("MCAST_TEST_CLIENTS", "300"))
LOOK_S = 2.0
PLAIN_BYTES_MAX = 8 << 10  # of the node's memory for each; measured: 3 KiB
SEALED_BYTES_MAX = 120 << 10  # measured: 41 KiB, nearly all of it OpenSSL's; with few clients handshakes weigh more
BUSY_SHARE_MAX = 0.05  # of a processor beyond what an idle cluster takes
DIALS_AT_ONCE = 16
DIALS_MAX = 50
STAMPEDE = 256  # dials at once; more is beyond this one process, which has to be all the clients

pytestmark = pytest.mark.timeout(60 + CLIENTS // 20)


async def patiently(dial: Callable[[], Awaitable[Link]]) -> Link:
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
        self.links: list[Link] = []
        self.lost = 0
        self.closed = False

    def link_message(self, link: Link, kind: int, payload: bytes) -> None:
        """Nothing is asked, so nothing is answered."""
        raise AssertionError(f"message {kind}")

    def link_writable(self, link: Link) -> None:
        """Nothing waits to be written."""

    def link_lost(self, link: Link, reason: str) -> None:
        """The node is gone, unless this side has closed."""
        self.lost += not self.closed

    async def connect(self, processes: Processes, node_id: str, count: int, at_once: int = DIALS_AT_ONCE) -> float:
        """Open `count` connections; the seconds that took."""
        dialer, node = Dialer(processes.config, "client"), processes.config.node(node_id)
        turns = asyncio.Semaphore(at_once)

        async def dial() -> None:
            async with turns:
                link = await patiently(lambda: dialer.open(node, self, timeout_s=30))
            if link._transport is not None:
                set_read_buffer(link._transport, 4_096)  # this process holds them all
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
        status = await processes.live()
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


async def test_a_dead_gateways_clients_come_all_at_once_and_end_no_reign() -> None:
    """TLS costs the node a millisecond for each; its heartbeats go out between."""
    allow_files(2 * CLIENTS)
    async with Processes(sealed=True) as processes:
        status = await processes.live()
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
            after = await processes.live()
        finally:
            idler.close()
    assert (after["epoch"], after["sequencer"]) == (status["epoch"], sequencer)


async def test_a_node_that_may_open_few_files_says_so_and_turns_away_the_rest() -> None:
    async with Processes(nodes=1, wrap={"n1": ("prlimit", "--nofile=100:700")}) as processes:
        idler = Idler()
        try:
            assert "takes 350 connections at most" in processes.log("n1").read_text()
            assert "ulimit -n 12800" in processes.log("n1").read_text()
            await idler.connect(processes, "n1", 340)
            with pytest.raises(Unreachable, match="n1 serves 350 clients; that is as many as it may; try another node"):
                await idler.connect(processes, "n1", 20)
            assert idler.lost == 0
        finally:
            idler.close()
        async with asyncio.timeout(10), processes.connect() as client:
            assert (await client.submit("set", "k", 1)).outcome == "ok"
