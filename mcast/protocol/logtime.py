"""The time that a sequencer gives its events: its clock's, made to move on and never back.

A log's time is replicated: sessions age by it, and handlers see it. So it never decreases, whoever leads, and it always
moves, or nothing would ever age again after one sequencer whose clock was ahead. It follows the sequencer's clock as
the machine corrects that: slewed, at half the pace of real time at least, and twice at most. Only a clock that is far
ahead of the log is taken at its word at once: that is a log that slept, or a machine that was told what day it is.
"""

from __future__ import annotations

from typing import Final

from mcast.protocol.core import Core

STEP_S: Final = 60.0  # a clock that is ahead of the log by more is not slewed to: it would take as long


class LogTime:
    """`read` gives the time of what is numbered now."""

    def __init__(self, core: Core) -> None:
        self._core = core
        self._time = 0
        self._read_at = 0.0

    def begin(self, now: float) -> None:
        """The own epoch begins: go on from the log's newest time, which joined it some time ago."""
        core = self._core
        time = max(self._time, core.log.last_time)
        passed = max(int((now - max(self._read_at, core.dated_at)) * 1e9), 0)
        self._time = max(core.wall_ns(now), time + passed // 2)
        self._read_at = now

    def read(self, now: float) -> int:
        """Nanoseconds since 1970, as far as this node knows."""
        passed = int((now - self._read_at) * 1e9)
        if not self._core.rules.time_moves_on:
            return self._core.wall_ns(now)
        if passed > 0:
            wall, time = self._core.wall_ns(now), self._time
            if wall - time <= passed + STEP_S * 1e9:
                wall = min(max(wall, time + passed // 2), time + 2 * passed)
            self._time = wall
            self._read_at = now
        return self._time
