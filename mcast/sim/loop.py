"""Virtual time: a heap of what happens next, and a running hash of all that happened.

Time jumps from one event to the next, so an idle second costs nothing. Every scheduled event has a serial number;
ties are broken by it and never by identity or hash order, so one seed gives one run in every process.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from hashlib import blake2b
from heapq import heappop, heappush
from typing import Any, Final

from mcast.errors import Error

STEPS_MAX: Final = 2_000_000  # events of one run; beyond, something feeds itself
_STAMP: Final = struct.Struct("!dQ")


class Runaway(Error):  # noqa: N818 - as Violation
    """More events than any honest run has: something keeps scheduling itself."""


class Loop:
    """Runs scheduled actions in order of virtual time (seconds from 0)."""

    __slots__ = ("_hash", "_heap", "_serial", "lines", "now", "steps")

    def __init__(self, lines: list[str] | None = None) -> None:
        self.now = 0.0
        self.steps = 0
        self.lines = lines
        """A readable log of the run, filled when given."""
        self._heap: list[tuple[float, int, Callable[..., None], tuple[Any, ...]]] = []
        self._serial = 0
        self._hash = blake2b(digest_size=16)

    def call_at(self, when: float, action: Callable[..., None], *arguments: Any) -> None:
        """Run `action(*arguments)` at virtual time `when`, or now when that has passed."""
        self._serial += 1
        heappush(self._heap, (max(when, self.now), self._serial, action, arguments))

    def call_later(self, delay_s: float, action: Callable[..., None], *arguments: Any) -> None:
        """Run `action(*arguments)` in `delay_s` seconds."""
        self.call_at(self.now + delay_s, action, *arguments)

    def run(self, until: float, stop: Callable[[], bool] | None = None, every_s: float = 0.02) -> bool:
        """Run to virtual time `until`, or until `stop()`, asked every `every_s` seconds, says so; whether it did."""
        asked = self.now + every_s
        while self._heap and self._heap[0][0] <= until:
            when, serial, action, arguments = heappop(self._heap)
            if stop is not None and when >= asked:
                if stop():
                    heappush(self._heap, (when, serial, action, arguments))
                    return True
                asked = when + every_s
            self.now = when
            self.steps += 1
            if self.steps > STEPS_MAX:
                raise Runaway(f"{STEPS_MAX} events by {when:.3f} virtual seconds")
            self._hash.update(_STAMP.pack(when, serial))
            action(*arguments)
        self.now = max(self.now, until)
        return stop is not None and stop()

    def mark(self, data: bytes) -> None:
        """Add what happened to the trace's hash."""
        self._hash.update(data)

    def say(self, text: str) -> None:
        """Add a line to the readable log, when there is one."""
        if self.lines is not None:
            self.lines.append(f"{self.now:9.4f}  {text}")

    @property
    def trace(self) -> str:
        """The hash of everything so far, in hex."""
        return self._hash.hexdigest()
