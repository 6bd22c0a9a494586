"""The fabric itself, measured as the peers are: three members, sealed, a client at the sequencer's node."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Coroutine, Iterator
from contextlib import AsyncExitStack, contextmanager
from itertools import cycle, islice
from pathlib import Path
from typing import Any, TypeVar

from mcast.bench.job import BrokenRun
from mcast.bench.load import commands
from mcast.bench.measure import loopback_mtu
from mcast.client.client import Client, connect
from mcast.errors import Error
from mcast.lab.processes import Processes
from tools.other_systems.peer import NODES, SILENCE_S, Flood, Peer

_T = TypeVar("_T")


@contextmanager
def running_unsynced(folder: Path) -> Iterator[Peer]:
    """With `sync = "os"`."""
    with _running(folder, "os") as peer:
        yield peer


@contextmanager
def running_synced(folder: Path) -> Iterator[Peer]:
    """With `sync = "always"`."""
    with _running(folder, "always") as peer:
        yield peer


@contextmanager
def _running(folder: Path, sync: str) -> Iterator[Peer]:
    with asyncio.Runner() as runner:
        stack = AsyncExitStack()
        lab = Processes(nodes=NODES, sync=sync, mtu=loopback_mtu(), sealed=True, keep_in=folder)
        try:
            yield runner.run(_connected(stack, lab, runner))
        finally:
            runner.run(stack.aclose())


async def _connected(stack: AsyncExitStack, lab: Processes, runner: asyncio.Runner) -> _Ours:
    await stack.enter_async_context(lab)
    sequencer = (await lab.wait_until_live())["sequencer"]
    clients = {
        node_id: await stack.enter_async_context(connect(lab.config, node_id, SILENCE_S, strict=True))
        for node_id in lab.ids
    }
    submitter = await stack.enter_async_context(connect(lab.config, sequencer, SILENCE_S, strict=True))
    return _Ours(runner, submitter, list(clients.values()))


class _Ours:
    """A `Peer` out of the client library: one client submits, one at every node waits until that has applied."""

    def __init__(self, runner: asyncio.Runner, client: Client, readers: list[Client]) -> None:
        self._runner = runner
        self._client = client
        self._readers = readers

    def flood(self, events: int, size: int) -> Flood:
        """As Peer says."""
        return self._run(self._flood(events, size))

    async def _flood(self, events: int, size: int) -> Flood:
        source = islice(cycle(commands(size)), events)
        began = time.perf_counter()
        receipts = await self._client.submit_stream(source, keep=False)
        acknowledged = time.perf_counter()
        await asyncio.gather(*[one.query("size", min_seq=receipts.last_seq or 0) for one in self._readers])
        applied = time.perf_counter()
        if receipts.ok != events:
            raise BrokenRun(f"{events - receipts.ok} of {events} commands were not applied as they should")
        return Flood(acknowledged - began, applied - began)

    def submit_alone(self, calls: int, size: int) -> list[float]:
        """As Peer says."""
        return self._run(self._submit_alone(calls, size))

    async def _submit_alone(self, calls: int, size: int) -> list[float]:
        took = []
        for command in islice(cycle(commands(size)), calls):
            began = time.perf_counter()
            await self._client.submit(*command)
            took.append(time.perf_counter() - began)
        return took

    def _run(self, work: Coroutine[Any, Any, _T]) -> _T:
        try:
            return self._runner.run(work)
        except Error as error:
            raise BrokenRun(str(error)) from error
