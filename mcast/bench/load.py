"""The client's side of a measurement: commands of a wanted size, as fast as they are taken or at a steady rate."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AsyncExitStack
from itertools import cycle, islice
from typing import Any, Final

import msgpack

from mcast.bench.job import BrokenRun, Tell
from mcast.bench.usage import usage_after, usage_before, used
from mcast.client.client import Client, connect
from mcast.client.receipts import Receipts
from mcast.errors import Error, NotYet

SIZE_MIN: Final = 8  # bytes: ["incr", "k"]
INCR_SIZE_MAX: Final = 16  # bytes; larger events set a value of the size wanted
KEYS: Final = 1_000
TELL_S: Final = 0.1  # between two words on progress
CONNECTS_MAX: Final = 32  # at a time: a TLS handshake costs the node milliseconds
CALL_S: Final = 30.0  # without any answer, after which a run is broken
OUTSTANDING_S: Final = 2.0  # seconds' worth of a steady rate that may be unanswered; beyond, the load waits

Command = tuple[Any, ...]


def commands(size: int, keys: int = KEYS) -> list[Command]:
    """Commands of `KeyValue` of about `size` packed bytes each, over at most `keys` keys, to be repeated.

    Up to INCR_SIZE_MAX bytes they add to numbers, over as many keys as the room allows; larger ones set a value.
    """
    if size < 10:
        return [("incr", letter * (size - 7)) for letter in "abcdefghij"]
    if size <= INCR_SIZE_MAX:
        digits = size - 8
        return [("incr", f"k{index % keys:0{digits - 1}d}"[:digits], index % 7) for index in range(7 * keys)]
    digits = max(3, len(str(keys - 1)))
    bare = len(msgpack.packb(("set", "k" + "0" * digits, b"")))
    value = bytes(max(0, size - bare - (0 if size - bare < 256 else 1 if size - bare < 65_536 else 3)))
    return [("set", f"k{index:0{digits}d}", value) for index in range(keys)]


def event_bytes(size: int) -> int:
    """What an event of `commands(size)` takes, packed."""
    return len(msgpack.packb(commands(size)[0]))


def flood(  # noqa: PLR0913 - a workload's parts
    tell: Tell, *, config: str, at: str, events: int, size: int, warmup: int, pids: Mapping[str, int],
    clients: int = 1, keys: int = KEYS,
) -> Any:  # fmt: skip
    """Submit `events` commands as fast as the node `at` takes them from so many clients, after `warmup` others.

    Returns `acknowledged_s` and `applied_s` (from the first submit until the clients knew every outcome, and until the
    slowest replica had applied the last event), what processes `used` meanwhile, how many `clients` had a share, and
    the sequencer's `epoch`.
    """
    return asyncio.run(_flood(tell, config, at, events, size, warmup, pids, clients, keys))


async def _flood(  # noqa: PLR0913 - as flood
    tell: Tell, config: str, at: str, events: int, size: int, warmup: int, pids: Mapping[str, int], clients: int,
    keys: int,
) -> dict[str, Any]:  # fmt: skip
    async with AsyncExitStack() as stack:
        senders = await connect_all(stack, config, at, clients)
        readers = [await stack.enter_async_context(connect(config, node_id, CALL_S, strict=True)) for node_id in pids]
        source = cycle(commands(size, keys))
        if warmup:
            await _submit_all(senders, source, warmup, None, readers)
        before = await usage_before(pids, senders[0])
        began = time.perf_counter()
        done, acknowledged = await _submit_all(senders, source, events, _Progress(tell, events), readers)
        ended = time.perf_counter()
        after = await usage_after(pids, senders[0])
    applied = sum(receipts.ok for receipts in done)
    if applied != events:
        raise BrokenRun(f"{events - applied} of {events} commands were not applied as they should")
    return {
        "clients": sum(len(receipts) > 0 for receipts in done),
        "acknowledged_s": acknowledged - began,
        "applied_s": ended - began,
        "epoch": max(receipts.epoch or 0 for receipts in done),
        "used": used(before, after, events),
    }


async def connect_all(stack: AsyncExitStack, config: str, at: str, count: int) -> list[Client]:
    """So many clients of the node `at`, entered."""
    found: list[Client] = []
    while len(found) < count:
        some = [connect(config, at, CALL_S, strict=True) for _ in range(min(CONNECTS_MAX, count - len(found)))]
        found += await asyncio.gather(*[stack.enter_async_context(client) for client in some])
    return found


async def _submit_all(
    senders: Sequence[Client], source: Iterator[Command], events: int, progress: _Progress | None,
    readers: Sequence[Client],
) -> tuple[list[Receipts], float]:  # fmt: skip
    """Each client's receipts, and when the last was there; returns once every reader has applied all."""
    shares = [events // len(senders) + (index < events % len(senders)) for index in range(len(senders))]
    calls = [
        client.submit_stream(islice(source, share), keep=False, on_progress=progress.of(index) if progress else None)
        for index, (client, share) in enumerate(zip(senders, shares, strict=True))
    ]
    done = await asyncio.gather(*calls)
    acknowledged_s = time.perf_counter()
    last = max(receipts.last_seq or 0 for receipts in done)
    await asyncio.gather(*[_applied(reader, last) for reader in readers])
    return done, acknowledged_s


class _Progress:
    """A word now and then on how many of all clients' commands are known."""

    def __init__(self, tell: Tell, events: int) -> None:
        self._tell = tell
        self._events = events
        self._known: dict[int, int] = {}
        self._shown_s = time.monotonic()

    def of(self, client: int) -> Callable[[Receipts], None]:
        """What one client's stream reports to."""

        def progress(receipts: Receipts) -> None:
            self._known[client] = receipts.known
            now_s = time.monotonic()
            if now_s >= self._shown_s + TELL_S:
                self._shown_s = now_s
                self._tell(sum(self._known.values()) / self._events)

        return progress


async def _applied(reader: Client, seq: int) -> None:
    """Wait until the node that this client is connected to has applied event `seq`; it answers the moment it has."""
    deadline_s = time.monotonic() + CALL_S
    while True:
        try:
            await reader.query("size", min_seq=seq)
            return
        except NotYet as late:
            if time.monotonic() >= deadline_s:
                raise BrokenRun(f"{reader.node} is still behind event {seq} after {CALL_S:g} s: {late}") from None


def steady(  # noqa: PLR0913 - a workload's parts
    tell: Tell, *, config: str, at: str, rate: float, seconds: float, size: int, pids: Mapping[str, int]
) -> Any:
    """Submit `rate` commands a second through the node `at`, each when it is due, whatever became of those before.

    Returns how many were `submitted`, `seconds` until the last of them was acknowledged, and what processes `used`.
    """
    return asyncio.run(_steady(tell, config, at, rate, seconds, size, pids))


async def _steady(  # noqa: PLR0913 - as steady
    tell: Tell, config: str, at: str, rate: float, seconds: float, size: int, pids: Mapping[str, int]
) -> dict[str, Any]:
    source, total = cycle(commands(size)), max(1, int(rate * seconds))
    async with connect(config, at, CALL_S, strict=True) as client:
        calls: set[asyncio.Task[Receipts]] = set()
        failures: list[BaseException] = []

        def on_done(call: asyncio.Task[Receipts]) -> None:
            calls.discard(call)
            if call.cancelled():
                return
            if (error := call.exception()) is not None:
                failures.append(error)
            elif (wrong := call.result().count - call.result().ok) > 0:
                failures.append(BrokenRun(f"{wrong} commands were not applied as they should"))

        before = await usage_before(pids, client)
        sent, shown_s, began = 0, 0.0, time.perf_counter()
        while sent < total and not failures:
            elapsed_s = time.perf_counter() - began
            due = min(total, int(elapsed_s * rate) + 1) - sent
            if due > 0:
                call = asyncio.ensure_future(client.submit_many(islice(source, due)))
                call.add_done_callback(on_done)
                calls.add(call)
                sent += due
            if elapsed_s >= shown_s + TELL_S:
                shown_s = elapsed_s
                tell(sent / total)
            await asyncio.sleep(max(0.0, began + sent / rate - time.perf_counter()))
            while len(calls) > max(1.0, OUTSTANDING_S * rate):
                await asyncio.wait(calls, return_when=asyncio.FIRST_COMPLETED)
        if calls:
            await asyncio.wait(calls)
        if failures:
            raise failures[0] if isinstance(failures[0], Error) else BrokenRun(repr(failures[0]))
        seconds = time.perf_counter() - began
        return {"submitted": total, "seconds": seconds, "used": used(before, await usage_after(pids, client), total)}
