"""The one place that reads a clock: a monotonic one that counts suspend, and its offset from wall time.

A laptop lid that closes must not make a replica's state look fresh, so time spent suspended counts: CLOCK_BOOTTIME on
Linux; elsewhere CLOCK_MONOTONIC, which counts it on macOS.
"""

from __future__ import annotations

import time
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
