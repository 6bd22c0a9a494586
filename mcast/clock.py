"""The one place that reads a clock: a monotonic one that counts suspend, and its offset from wall time.

A laptop lid that closes must not make a replica's state look fresh, so time spent suspended counts: CLOCK_BOOTTIME on
Linux; elsewhere CLOCK_MONOTONIC, which counts it on macOS. `Alarm` is one timer of the event loop for any number of
deadlines: a deadline that is met costs no timer of its own.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from functools import partial
from typing import Final

_CLOCK: Final[int] = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)


monotonic_s: Final = partial(time.clock_gettime, _CLOCK)
"""Seconds of a clock that never goes back and counts suspend. Asked dozens of times a command, so not a def."""

ticks_s: Final = time.monotonic
"""Seconds of a clock for slices of work: the cheapest there is, for it is asked after every event."""


def wall_offset_ns() -> int:
    """What to add to `monotonic_s() * 10**9` to get nanoseconds since 1970, as of this call."""
    return time.time_ns() - time.clock_gettime_ns(_CLOCK)


PAUSE_S: Final = 0.005  # between two rings: many deadlines that follow closely share one

_NEVER: Final = float("inf")


class Alarm:
    """Calls `ring(now)` at or soon after the earliest deadline it was set for, all in the event loop's time.

    `ring` does all that is due by then, and returns the next deadline, infinity for none.
    """

    __slots__ = ("_due", "_ring", "_timer")

    def __init__(self, ring: Callable[[float], float]) -> None:
        self._ring = ring
        self._due = _NEVER
        self._timer: asyncio.TimerHandle | None = None

    def set(self, due: float) -> None:
        """Ring at `due` too. The timer is moved only if it would ring too late."""
        if due < self._due:
            self.stop()
            self._due = due
            self._timer = asyncio.get_running_loop().call_at(due, self._on_timer)

    def stop(self) -> None:
        """Forget every deadline."""
        self._due = _NEVER
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _on_timer(self) -> None:
        self._due, self._timer = _NEVER, None
        now = asyncio.get_running_loop().time()
        due = now
        try:
            due = self._ring(now)
        finally:
            self.set(max(due, now + PAUSE_S))
