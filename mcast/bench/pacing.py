"""The client's side of a latency measurement: commands one after the other, or each when it is due.

At a rate, a command's time runs from the moment it was *due*, not from when it was sent: a stall that keeps later
commands from being sent counts for all of them, as it would for users who don't know of each other.
"""

from __future__ import annotations

import asyncio
import selectors
import time
from array import array
from collections.abc import Iterator, Mapping
from itertools import cycle
from typing import Any, Final

from mcast.bench.job import BrokenRun, Tell
from mcast.bench.load import CALL_S, TELL_S, Command, commands
from mcast.bench.percentiles import SAMPLES_MAX, curve_us, summary_us
from mcast.bench.usage import usage_after, usage_before, used
from mcast.client.client import Client, connect

GRACE_S: Final = 1.0  # after the last was due, for what a stall kept from being sent
OUTSTANDING_MAX: Final = 20_000  # commands unanswered; beyond, sending waits, and the clock of those due runs on


def one_by_one(tell: Tell, *, config: str, at: str, size: int, count: int, warmup: int, pids: Mapping[str, int]) -> Any:  # noqa: PLR0913
    """Submit `count` commands through the node `at`, each when the one before is acknowledged, after `warmup` others.

    Returns `took_us` (percentiles), `curve_us`, `reached` (commands a second), and what processes `used`.
    """
    assert count <= SAMPLES_MAX

    async def run() -> dict[str, Any]:
        async with connect(config, at, CALL_S, strict=True) as client:
            source = cycle(commands(size))
            await _one_after_the_other(client, source, warmup, lambda share: None)
            before = await usage_before(pids, client)
            took = await _one_after_the_other(client, source, count, tell)
            after = await usage_after(pids, client)
        return _summary(took, sum(took), used(before, after, count))

    return asyncio.run(run())


async def _one_after_the_other(client: Client, source: Iterator[Command], count: int, tell: Tell) -> array[float]:
    took = array("d")
    shown_s = clock_s = time.perf_counter()
    for _ in range(count):
        name, *arguments = next(source)
        sent_s = time.perf_counter()
        receipt = await client.submit(name, *arguments)
        clock_s = time.perf_counter()
        took.append(clock_s - sent_s)
        if receipt.outcome != "ok":
            raise BrokenRun(f"{name} came to {receipt}")
        if clock_s > shown_s + TELL_S:
            shown_s = clock_s
            tell(len(took) / count)
    return took


def at_a_rate(  # noqa: PLR0913 - a workload's parts
    tell: Tell, *, config: str, at: str, size: int, rate: float, seconds: float, warmup: int, pids: Mapping[str, int]
) -> Any:
    """Submit `rate` commands a second for `seconds` through the node `at`, whatever became of those before.

    Returns as `one_by_one`, and `late_us`: how late this process itself was to send, which is part of `took_us`. What
    could not be sent within GRACE_S after the last was due is not sent: `reached` tells.
    """
    assert rate * seconds <= SAMPLES_MAX

    async def run() -> dict[str, Any]:
        async with connect(config, at, CALL_S, strict=True) as client:
            source = cycle(commands(size))
            await _one_after_the_other(client, source, warmup, lambda share: None)
            before = await usage_before(pids, client)
            pace = _Pace(client, source, rate, seconds)
            elapsed_s = await pace.run(tell)
            after = await usage_after(pids, client)
        summary = _summary(pace.took, elapsed_s, used(before, after, len(pace.took)))
        return {**summary, "late_us": summary_us(pace.late)}

    # epoll waits in whole milliseconds, select in microseconds: with the former this process would always be late.
    with asyncio.Runner(loop_factory=lambda: asyncio.SelectorEventLoop(selectors.SelectSelector())) as runner:
        return runner.run(run())


class _Pace:
    """Sends what is due and notes how long each took, from when it was due."""

    def __init__(self, client: Client, source: Iterator[Command], rate: float, seconds: float) -> None:
        self.took = array("d")
        self.late = array("d")
        self._client = client
        self._source = source
        self._rate = rate
        self._seconds = seconds
        self._calls: set[asyncio.Task[None]] = set()
        self._failure: BaseException | None = None

    async def run(self, tell: Tell) -> float:
        """Until the last is acknowledged; seconds since the first was due. Raises what the first failure raised."""
        began_s = time.perf_counter()
        total, sent, shown_s = max(1, int(self._rate * self._seconds)), 0, began_s
        while sent < total and self._failure is None:
            now_s = time.perf_counter()
            if now_s > began_s + self._seconds + GRACE_S:
                break
            while (
                sent < total and (due_s := began_s + sent / self._rate) <= now_s and len(self._calls) < OUTSTANDING_MAX
            ):
                self._send(due_s, now_s)
                sent += 1
            if now_s > shown_s + TELL_S:
                shown_s = now_s
                tell(sent / total)
            await asyncio.sleep(max(0.0, began_s + sent / self._rate - time.perf_counter()))
        if self._calls:
            await asyncio.wait(self._calls)
        if self._failure is not None:
            raise self._failure
        return time.perf_counter() - began_s

    def _send(self, due_s: float, now_s: float) -> None:
        self.late.append(now_s - due_s)
        call = asyncio.ensure_future(self._call(due_s, next(self._source)))
        self._calls.add(call)
        call.add_done_callback(self._on_done)

    async def _call(self, due_s: float, command: Command) -> None:
        name, *arguments = command
        receipt = await self._client.submit(name, *arguments)
        self.took.append(time.perf_counter() - due_s)
        if receipt.outcome != "ok":
            raise BrokenRun(f"{name} came to {receipt}")

    def _on_done(self, call: asyncio.Task[None]) -> None:
        self._calls.discard(call)
        if not call.cancelled() and (error := call.exception()) is not None:
            self._failure = self._failure or error


def _summary(took: array[float], elapsed_s: float, usage: dict[str, Any]) -> dict[str, Any]:
    return {
        "took_us": summary_us(took), "curve_us": curve_us(took), "reached": round(len(took) / elapsed_s, 1),
        "used": usage,
    }  # fmt: skip
