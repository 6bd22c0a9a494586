"""The client's side of a measurement: commands of a wanted size, as fast as they are taken or at a steady rate."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Mapping
from contextlib import AsyncExitStack
from itertools import cycle, islice
from typing import Any, Final

import msgpack

from mcast.bench.job import BrokenRun, Tell
from mcast.client.client import Client, connect
from mcast.client.receipts import Receipts
from mcast.errors import Error, NotYet

SIZE_MIN: Final = 10  # bytes; ["incr", "k1", 1] and a digit to tell keys apart
INCR_SIZE_MAX: Final = 16  # bytes; larger events set a value of the size wanted
KEYS: Final = 1_000
TELL_S: Final = 0.1  # between two words on progress
CALL_S: Final = 30.0  # without any answer, after which a run is broken
OUTSTANDING_S: Final = 2.0  # seconds' worth of a steady rate that may be unanswered; beyond, the load waits

Command = tuple[Any, ...]


def commands(size: int) -> list[Command]:
    """Commands of `KeyValue` of about `size` packed bytes each, over at most KEYS keys, to be repeated."""
    if size <= INCR_SIZE_MAX:
        digits = size - 8
        return [("incr", f"k{index % KEYS:0{digits - 1}d}"[:digits], index % 7) for index in range(7 * KEYS)]
    bare = len(msgpack.packb(("set", "k000", b"")))
    value = bytes(max(0, size - bare - (0 if size - bare < 256 else 1 if size - bare < 65_536 else 3)))
    return [("set", f"k{index:03d}", value) for index in range(KEYS)]


def event_bytes(size: int) -> int:
    """What an event of `commands(size)` takes, packed."""
    return len(msgpack.packb(commands(size)[0]))


def cpu_seconds(pid: int) -> float | None:
    """User and system time a process has used so far; None where the system has no /proc."""
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            fields = file.read().rpartition(b")")[2].split()
    except OSError:
        return None
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def flood(tell: Tell, *, config: str, at: str, events: int, size: int, warmup: int, pids: Mapping[str, int]) -> Any:  # noqa: PLR0913
    """Submit `events` commands as fast as the node `at` takes them, after `warmup` others.

    Returns `acknowledged_s` and `applied_s` (from the first submit until the client knew every outcome, and until the
    slowest replica had applied the last event), `cpu_s` by process and the sequencer's `epoch`.
    """
    return asyncio.run(_flood(tell, config, at, events, size, warmup, pids))


async def _flood(  # noqa: PLR0913 - as flood
    tell: Tell, config: str, at: str, events: int, size: int, warmup: int, pids: Mapping[str, int]
) -> dict[str, Any]:
    async with AsyncExitStack() as stack:
        client = await stack.enter_async_context(connect(config, at, CALL_S, strict=True))
        witnesses = [await stack.enter_async_context(connect(config, node_id, CALL_S, strict=True)) for node_id in pids]
        source = cycle(commands(size))
        if warmup:
            first = await client.submit_stream(islice(source, warmup), keep=False)
            await asyncio.gather(*[_applied(witness, first.last_seq or 0) for witness in witnesses])
        before = _usage(pids)
        began = time.perf_counter()
        receipts = await client.submit_stream(islice(source, events), keep=False, on_progress=_progress(tell, events))
        acknowledged = time.perf_counter()
        await asyncio.gather(*[_applied(witness, receipts.last_seq or 0) for witness in witnesses])
        ended = time.perf_counter()
        after = _usage(pids)
    if receipts.ok != events:
        raise BrokenRun(f"{events - receipts.ok} of {events} commands were not applied as they should")
    return {
        "acknowledged_s": acknowledged - began,
        "applied_s": ended - began,
        "epoch": receipts.epoch,
        "cpu_s": {
            name: None if used is None else used - (before[name] or 0.0) for name, used in after.items()
        },
    }  # fmt: skip


def _usage(pids: Mapping[str, int]) -> dict[str, float | None]:
    return {**{node_id: cpu_seconds(pid) for node_id, pid in pids.items()}, "client": time.process_time()}


def _progress(tell: Tell, events: int) -> Any:
    told_s = time.monotonic()

    def progress(receipts: Receipts) -> None:
        nonlocal told_s
        now_s = time.monotonic()
        if now_s >= told_s + TELL_S:
            told_s = now_s
            tell(receipts.known / events)

    return progress


async def _applied(witness: Client, seq: int) -> None:
    """Wait until the node that this client is connected to has applied event `seq`; it answers the moment it has."""
    deadline_s = time.monotonic() + CALL_S
    while True:
        try:
            await witness.query("size", min_seq=seq)
            return
        except NotYet as late:
            if time.monotonic() >= deadline_s:
                raise BrokenRun(f"{witness.node} is still behind event {seq} after {CALL_S:g} s: {late}") from None


def steady(tell: Tell, *, config: str, at: str, rate: float, seconds: float, size: int) -> Any:  # noqa: PLR0913
    """Submit `rate` commands a second through the node `at`, each when it is due, whatever became of those before.

    Returns how many were `submitted`, and `seconds` until the last of them was acknowledged.
    """
    return asyncio.run(_steady(tell, config, at, rate, seconds, size))


async def _steady(  # noqa: PLR0913 - as steady
    tell: Tell, config: str, at: str, rate: float, seconds: float, size: int
) -> dict[str, Any]:
    source, total = cycle(commands(size)), max(1, int(rate * seconds))
    async with connect(config, at, CALL_S, strict=True) as client:
        calls: set[asyncio.Task[Receipts]] = set()
        failures: list[BaseException] = []

        def done(call: asyncio.Task[Receipts]) -> None:
            calls.discard(call)
            if not call.cancelled() and (error := call.exception()) is not None:
                failures.append(error)

        sent, told_s, began = 0, 0.0, time.perf_counter()
        while sent < total and not failures:
            elapsed_s = time.perf_counter() - began
            due = min(total, int(elapsed_s * rate) + 1) - sent
            if due > 0:
                call = asyncio.ensure_future(client.submit_many(islice(source, due)))
                call.add_done_callback(done)
                calls.add(call)
                sent += due
            if elapsed_s >= told_s + TELL_S:
                told_s = elapsed_s
                tell(sent / total)
            await asyncio.sleep(max(0.0, began + sent / rate - time.perf_counter()))
            while len(calls) > max(1.0, OUTSTANDING_S * rate):
                await asyncio.wait(calls, return_when=asyncio.FIRST_COMPLETED)
        if calls:
            await asyncio.wait(calls)
        if failures:
            raise failures[0] if isinstance(failures[0], Error) else BrokenRun(repr(failures[0]))
        return {"submitted": total, "seconds": time.perf_counter() - began}
