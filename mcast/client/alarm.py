"""One timer of the event loop for any number of deadlines: a deadline that is met costs no timer of its own."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Final

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
