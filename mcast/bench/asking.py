"""The reader's side of a query measurement: many clients of one replica, each with some queries on their way."""

from __future__ import annotations

import asyncio
import time
from array import array
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AsyncExitStack
from itertools import cycle, islice
from typing import Any, Final

from mcast.bench.job import BrokenRun, Tell, begin_together
from mcast.bench.load import TELL_S, commands, connect_all
from mcast.bench.percentiles import summary_us
from mcast.bench.usage import usage_after, usage_before, used
from mcast.client.client import Client
from mcast.wire.levels import Consistency

WARMUP_S_MAX: Final = 0.5


def ask(  # noqa: PLR0913 - a workload's parts
    tell: Tell, *, config: str, at: str, level: Consistency, clients: int, depth: int, seconds: float, size: int,
    pids: Mapping[str, int],
) -> Any:  # fmt: skip
    """Ask the node `at` for values for `seconds`: `clients` connections with `depth` queries each, pipelined.

    Returns `answers`, their `reached` number a second, `took_us` (of one call: a query, or `depth` of them at once),
    and what processes `used`.
    """
    return asyncio.run(_ask(tell, config, at, level, clients, depth, seconds, size, pids))


async def _ask(  # noqa: PLR0913 - as ask
    tell: Tell, config: str, at: str, level: Consistency, clients: int, depth: int, seconds: float, size: int,
    pids: Mapping[str, int],
) -> dict[str, Any]:  # fmt: skip
    keys = [("get", command[1]) for command in commands(size)]
    async with AsyncExitStack() as stack:
        asking = await connect_all(stack, config, at, clients)
        if level == "session":  # which says something only of a client that wrote
            await asyncio.gather(*[client.submit("incr", "session") for client in asking])
        readers = [_QueryLoop(client, at, cycle(keys[index:] + keys[:index]), level, depth)
                   for index, client in enumerate(asking)]  # fmt: skip
        await _read_all(readers, time.perf_counter() + min(WARMUP_S_MAX, seconds / 4), lambda share: None)
        for reader in readers:
            reader.forget()
        await begin_together()
        before = await usage_before(pids, asking[0])
        began_s = time.perf_counter()
        await _read_all(readers, began_s + seconds, tell)
        elapsed_s = max(reader.ended_s for reader in readers) - began_s
        after = await usage_after(pids, asking[0])
    answers = sum(reader.answers for reader in readers)
    took = [one for reader in readers for one in reader.took]
    return {
        "answers": answers, "reached": round(answers / elapsed_s), "took_us": summary_us(took),
        "used": used(before, after, answers),
    }  # fmt: skip


async def _read_all(readers: Sequence[_QueryLoop], until_s: float, tell: Tell) -> None:
    began_s = time.perf_counter()
    tasks = [asyncio.ensure_future(reader.read(until_s)) for reader in readers]
    try:
        while (await asyncio.wait(tasks, timeout=TELL_S, return_when=asyncio.FIRST_EXCEPTION))[1]:
            if failed := next((task for task in tasks if task.done() and task.exception()), None):
                failed.result()
            tell(min(1.0, (time.perf_counter() - began_s) / max(until_s - began_s, 1e-9)))
        await asyncio.gather(*tasks)
    finally:
        for task in tasks:
            task.cancel()


class _QueryLoop:
    """One client that asks over and over: one query, or `depth` at once, and the next when all are answered."""

    def __init__(
        self, client: Client, at: str, queries: Iterator[tuple[str, str]], level: Consistency, depth: int
    ) -> None:
        self.answers = 0
        self.took: array[float] = array("d")
        self.ended_s = 0.0
        self._client = client
        self._at = at
        self._queries = queries
        self._level = level
        self._depth = depth

    def forget(self) -> None:
        """What was measured so far was the warm-up."""
        self.answers, self.took = 0, array("d")

    async def read(self, until_s: float) -> None:
        """Ask until the clock shows `until_s`; every answer must be the wanted replica's."""
        asked_s = time.perf_counter()
        while asked_s < until_s:
            if self._depth == 1:
                answers = [await self._client.query(*next(self._queries), consistency=self._level)]
            else:
                some = list(islice(self._queries, self._depth))
                answers = await self._client.query_many(some, consistency=self._level)
            self.ended_s = time.perf_counter()
            self.took.append(self.ended_s - asked_s)
            self.answers += len(answers)
            asked_s = self.ended_s
            if answers[0].node != self._at:
                raise BrokenRun(f"{answers[0].node} answered in place of {self._at}")
