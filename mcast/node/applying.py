"""Applies committed frames through the engine in slices of time: heartbeats and acknowledgements go out between."""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from itertools import islice
from typing import Final, Protocol

from mcast.clock import monotonic_s, ticks_s
from mcast.errors import Halted
from mcast.machine.engine import Applied, Engine
from mcast.wire.frame import Frame, frames_bytes

SLICE_S: Final = 0.005  # of applying in one turn of the loop, and the handler that is running then
BURST_FRAMES: Final = 64  # handed to the engine at a time: what it does for all of them at once is bounded
BACKLOG_BYTES: Final = 8 << 20  # committed and not yet applied; beyond, nothing more is received meanwhile
REPLAY_ANNOUNCED_EVENTS: Final = 10_000  # a replay of so many is announced, and told when done ...
REPLAY_ANNOUNCED_S: Final = 1.0  # ... as is one that took this long

_log: Final = logging.getLogger("mcast.node")


class Booked(Protocol):
    """A call at the end of a turn, such as an `asyncio.Handle`."""

    def cancel(self) -> None:
        """It is not wanted any more."""


class ApplyQueue:
    """Committed frames on their way through the engine, in order. `applied` gets the results of watched records.

    The engine's clock must be `clock`; `call_soon` books a call at the end of a turn, of the event loop unless it is
    given. In one turn at most one slice is used up, whoever calls `run`.
    What the engine or `applied` raises goes through `guard`, which every later turn of the loop runs under.
    """

    def __init__(
        self,
        engine: Engine,
        applied: Callable[[list[Applied]], None],
        guard: AbstractContextManager[object],
        *,
        call_soon: Callable[[Callable[[], None]], Booked] | None = None,
        clock: Callable[[], float] = ticks_s,
    ) -> None:
        self.bytes = 0
        """Bytes of frames that wait."""
        self._engine = engine
        self._applied = applied
        self._guard = guard
        self._call_soon = call_soon or (lambda action: asyncio.get_running_loop().call_soon(action))
        self._clock = clock
        self._waiting: deque[Frame] = deque()
        self._next: Booked | None = None
        """The turn that goes on."""
        self._stopped = False

    @property
    def is_full(self) -> bool:
        """Whether applying must catch up before more is received."""
        return self.bytes > BACKLOG_BYTES

    def add(self, frames: Sequence[Frame]) -> None:
        """Append committed frames; `run` applies them."""
        self._waiting.extend(frames)
        self.bytes += frames_bytes(frames)

    def run(self) -> None:
        """Apply for a slice of time, unless a turn of the loop is booked for that; book one for what is left."""
        if self._waiting and self._next is None and not self._stopped:
            used_up = self.run_slice()
            if (used_up or self._waiting) and not self._stopped:
                self._next = self._call_soon(self._on_turn)

    def run_slice(self) -> bool:
        """Apply until a slice of time is over; whether it is."""
        waiting, until = self._waiting, self._clock() + SLICE_S
        while waiting:
            frames = list(islice(waiting, BURST_FRAMES))
            done, applied = self._engine.apply_until(frames, until)
            if done == len(waiting):
                waiting.clear()
                self.bytes = 0
            else:
                for _ in range(done):
                    waiting.popleft()
                self.bytes -= frames_bytes(frames[:done])
            self._applied(applied)
            if self._clock() >= until:
                return True
        return False

    async def drain(self, limit_s: float) -> None:
        """Apply what is left, in the time given, a slice a turn."""
        until = monotonic_s() + limit_s
        while self._waiting and monotonic_s() < until:
            self.run_slice()
            await asyncio.sleep(0)

    def stop(self) -> None:
        """Book no more turns of the loop."""
        self._stopped = True
        if self._next is not None:
            self._next.cancel()
            self._next = None

    def _on_turn(self) -> None:
        self._next = None
        with self._guard:
            self.run()


async def replay(engine: Engine, bursts: Iterator[list[Frame]], until: int) -> None:
    """Apply a journal's frames up to event `until`, leaving the loop a turn after each few; log it if that takes long.

    Raises:
        Halted: the machine gives up, or the journal has no frame that ends at `until`.
    """
    began_s, many = monotonic_s(), until >= REPLAY_ANNOUNCED_EVENTS
    if many:
        _log.info("replays %s events", f"{until:,}")
    for burst in bursts if until else ():
        frames = [frame for frame in burst if frame.last <= until]
        start = 0
        while start < len(frames):
            start += engine.apply_until(frames[start : start + BURST_FRAMES], ticks_s() + SLICE_S)[0]
            await asyncio.sleep(0)
        if len(frames) < len(burst):
            break
    if engine.applied_seq != until:
        raise Halted(f"the journal replays to event {engine.applied_seq}, not to {until}")
    took_s = monotonic_s() - began_s
    if many or took_s >= REPLAY_ANNOUNCED_S:
        _log.info("replayed %s events in %.1f s", f"{until:,}", took_s)
