"""Honest clients for a cluster in trouble: numbered commands, and the account of what became of each."""

from __future__ import annotations

import asyncio
import itertools
import random
from collections import Counter
from types import TracebackType
from typing import Any, Self

from mcast.analysis import gap_findings, reconcile
from mcast.client.client import Client
from mcast.errors import NotSent, NotYet, Unknown
from mcast.lab.processes import Processes

CALL_S = 10.0  # patience of one call; longer than any outage a test makes
ASK_S = 10.0  # patience with a replica that has yet to catch up with the last event


class Load:
    """Clients that append 0, 1, 2 ... each to a list of its own, in batches, until the context ends.

    `at` names each client's gateway; it may move. What was acknowledged is kept with the length its receipt told.
    """

    def __init__(self, processes: Processes, at: tuple[str, ...], pause_s: float = 0.01, batch_max: int = 20) -> None:
        self.acknowledged: list[dict[int, int]] = [{} for _ in at]
        """By client: number -> the length of the list that its receipt told."""
        self.unknown: list[set[int]] = [set() for _ in at]
        self.not_sent: list[set[int]] = [set() for _ in at]
        self._processes = processes
        self._at = at
        self._pause_s = pause_s
        self._batch_max = batch_max
        self._stopping = False
        self._tasks: list[asyncio.Task[None]] = []

    @property
    def count(self) -> int:
        """Commands acknowledged so far."""
        return sum(map(len, self.acknowledged))

    async def more(self, count: int, timeout_s: float = 15.0) -> None:
        """Wait until so many more were acknowledged: whatever happened to the cluster, it serves again."""
        wanted = self.count + count
        async with asyncio.timeout(timeout_s):
            while self.count < wanted:
                await asyncio.sleep(0.01)
                for task in self._tasks:
                    if task.done():
                        task.result()

    async def __aenter__(self) -> Self:
        self._tasks = [asyncio.create_task(self._run(index)) for index in range(len(self._at))]
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stopping = True
        if error is not None:
            for task in self._tasks:
                task.cancel()
        ended = await asyncio.gather(*self._tasks, return_exceptions=True)
        if error is None:
            for each in ended:
                if each is not None:
                    raise each

    async def _run(self, index: int) -> None:
        numbers, draw = itertools.count(), random.Random(index)
        async with self._processes.connect(self._at[index]) as client:
            while not self._stopping:
                batch = list(itertools.islice(numbers, draw.randint(1, self._batch_max)))
                await self._append(client, index, batch)
                await asyncio.sleep(self._pause_s)

    async def _append(self, client: Client, index: int, batch: list[int]) -> None:
        try:
            receipts: Any = await client.submit_many(
                [("append", f"log{index}", number) for number in batch], timeout=CALL_S
            )
        except NotSent:
            self.not_sent[index].update(batch)
            return
        except Unknown as unknown:
            receipts = unknown.receipts
        for number, receipt in zip(batch, receipts, strict=True):
            if receipt is None:
                self.unknown[index].add(number)
            else:
                assert receipt.outcome == "ok", receipt
                self.acknowledged[index][number] = receipt.value

    def check(self, index: int, found: list[int]) -> None:
        """One replica's list against what this client was told."""
        twice = [number for number, times in Counter(found).items() if times > 1]
        assert not twice, f"applied twice: {twice[:5]}"
        assert found == sorted(found), "a client's commands keep their order"
        place = {number: position for position, number in enumerate(found, 1)}
        acknowledged = self.acknowledged[index]
        lost = sorted(acknowledged.keys() - place.keys())
        assert not lost, f"acknowledged and lost: {lost[:5]}"
        lies = [number for number, length in acknowledged.items() if place[number] != length]
        assert not lies, f"receipts tell of other places: {lies[:5]}"
        assert not self.not_sent[index] & place.keys(), "a command that certainly did not happen has happened"
        assert place.keys() <= acknowledged.keys() | self.unknown[index], "nobody sent these"


async def ask_strictly(processes: Processes, node_id: str, *query: Any, min_seq: int = 0) -> Any:
    """One replica's own answer, once it has applied event `min_seq`."""
    async with asyncio.timeout(ASK_S), processes.connect(node_id, strict=True) as client:
        while True:
            try:
                answer = await client.query(*query, consistency="session", min_seq=min_seq)
            except NotYet:
                continue
            assert answer.node == node_id
            return answer.value


async def settled(processes: Processes, load: Load, *, found: bool = True) -> dict[str, Any]:
    """Check the whole account on every running replica: equal chains, each command's fate, gaps that reconcile.

    `found`: every injected loss was detected. Returns the status document.
    """
    status = await processes.wait_until_equal()
    last = max(node["last_seq"] or 0 for node in status["nodes"])
    for node_id in processes.running:
        for index in range(len(load.acknowledged)):
            load.check(index, await ask_strictly(processes, node_id, "get", f"log{index}", min_seq=last) or [])
    document = await processes.gaps()
    assert not gap_findings(document)
    for account in reconcile(document):
        assert account.reconciles or not found, account
        assert (account.difference, account.open) == (0, 0), account
    return status
