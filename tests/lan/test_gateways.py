"""Every gateway killed in turn under load, the sequencer's too, and both at once: each command's fate is certain.

Calls are impatient, so that many end in Unknown; each is resolved, and then the account must be exact: what was
acknowledged is in every replica's log once, in the place its receipt told, and nothing else is.
"""

from __future__ import annotations

import asyncio
import itertools
import os
import random
from collections import Counter
from types import TracebackType
from typing import Any, Self

import pytest

from mcast.client.client import Client
from mcast.errors import NotSent, Unknown
from mcast.lab.processes import Processes
from tests.lan.load import ask_strictly

ROUNDS = int(os.environ.get("MCAST_TEST_ROUNDS", "1"))
"""Times each gateway dies; more make a longer run of the same."""
IMPATIENT_S = 0.15
RESOLVE_S = 30.0
BIG = "x" * 6_000
"""Needs several datagrams: a command in fragments."""

pytestmark = pytest.mark.timeout(90 + 60 * ROUNDS)


class Account:
    """Clients that append unique items and count them; `kept` maps each acknowledged item to its place in the list."""

    def __init__(self, processes: Processes, clients: int, seed: int) -> None:
        self.kept: dict[str, int] = {}
        self.counted = 0
        self.never: set[str] = set()
        self.fates: Counter[str] = Counter()
        self._processes = processes
        self._random = random.Random(seed)
        self._clients = clients
        self._stopping = asyncio.Event()
        self._tasks: list[asyncio.Task[None]] = []

    async def more(self, count: int) -> None:
        """Wait until so many more were acknowledged."""
        wanted = len(self.kept) + count
        async with asyncio.timeout(20):
            while len(self.kept) < wanted:
                await asyncio.sleep(0.01)
                for task in self._tasks:
                    if task.done():
                        task.result()

    async def __aenter__(self) -> Self:
        self._tasks = [asyncio.create_task(self._live(index)) for index in range(self._clients)]
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stopping.set()
        if error is not None:
            for task in self._tasks:
                task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=error is not None)

    async def _live(self, index: int) -> None:
        """One user's clients, one after the other, each at another gateway."""
        numbers = itertools.count()
        while not self._stopping.is_set():
            at = self._random.choice(self._processes.ids)
            try:
                async with self._processes.connect(at) as client:
                    for _ in range(self._random.randrange(20, 60)):
                        if self._stopping.is_set():
                            break
                        if index % 2:  # alone in its record: when given up, a NOOP competes for its number
                            await self._single(client, f"{index}.{next(numbers)}")
                            continue
                        await asyncio.gather(
                            *(self._single(client, f"{index}.{next(numbers)}") for _ in range(3)),
                            self._count(client),
                            self._batch(client, [f"{index}.{next(numbers)}" for _ in range(5)]),
                        )
            except NotSent:
                continue  # nobody to connect to just now

    async def _single(self, client: Client, item: str) -> None:
        receipt: Any
        item += BIG * (self._random.random() < 0.05)
        try:
            try:
                receipt = await client.submit("append", "list", item, timeout=IMPATIENT_S)
            except Unknown as unknown:
                self.fates["unknown"] += 1
                receipt = await client.resolve(unknown, timeout=RESOLVE_S)
                self.fates["resolved: happened"] += 1
        except NotSent as error:
            self.fates["resolved: never" if "never will" in str(error) else "not sent"] += 1
            self.never.add(item)
        else:
            self.kept[item] = receipt.value

    async def _count(self, client: Client) -> None:
        try:
            try:
                await client.submit("incr", "count", timeout=IMPATIENT_S)
            except Unknown as unknown:
                await client.resolve(unknown, timeout=RESOLVE_S)
        except NotSent:
            return
        self.counted += 1

    async def _batch(self, client: Client, items: list[str]) -> None:
        receipts: Any
        try:
            receipts = await client.submit_many([("append", "list", item) for item in items], timeout=IMPATIENT_S)
        except NotSent:
            self.never.update(items)
            return
        except Unknown as unknown:
            self.fates["batch unknown"] += 1
            receipts = await client.resolve(unknown, timeout=RESOLVE_S)
            assert receipts is unknown.receipts
        for item, receipt in zip(items, receipts, strict=True):
            if receipt is None:
                self.never.add(item)
            else:
                self.kept[item] = receipt.value

    async def check(self) -> None:
        """Every replica against what the clients know."""
        status = await self._processes.wait_until_equal()
        last = max(node["last_seq"] or 0 for node in status["nodes"])
        for node_id in self._processes.running:
            found = await ask_strictly(self._processes, node_id, "get", "list", min_seq=last)
            places = {item: place for place, item in enumerate(found, 1)}
            assert len(places) == len(found), "applied twice"
            assert places == self.kept, "acknowledged exactly what happened, in its place"
            assert not self.never & places.keys()
            assert await ask_strictly(self._processes, node_id, "get", "count", min_seq=last) == self.counted


async def _killed(processes: Processes, account: Account, *victims: str, down_more: int = 100) -> None:
    await asyncio.gather(*map(processes.kill, victims))
    if down_more:
        await account.more(down_more)
    else:
        await asyncio.sleep(0.5)  # without a majority nothing is acknowledged; calls end in Unknown meanwhile
    for victim in victims:
        await processes.start(victim)
    await processes.wait_until_live()
    await account.more(50)


@pytest.mark.parametrize("sealed", [False, True], ids=["unsealed", "sealed"])
async def test_each_gateway_killed_in_turn_and_the_sequencer_with_one_of_them(sealed: bool) -> None:
    async with Processes(sealed=sealed, faults={"*": "loss=2%,dup=1%,seed=9"}) as processes:
        async with Account(processes, clients=4, seed=7) as account:
            await account.more(100)
            for _ in range(ROUNDS):
                for victim in processes.ids:
                    await _killed(processes, account, victim)
                status = await processes.wait_until_live()
                sequencer = status["sequencer"]
                gateway = next(node_id for node_id in processes.ids if node_id != sequencer)
                await _killed(processes, account, sequencer, gateway, down_more=0)
        assert account.fates["unknown"] and account.fates["batch unknown"], "nobody was in doubt: nothing was tested"
        await account.check()
