"""The machine's time of day: read again and again, for somebody may set it; and what is amiss with it is said."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Final

from mcast import clock
from mcast.limits import CLOCK_OFF_S
from mcast.protocol.replica import Replica

LOOK_S: Final = 1.0  # between two looks at the clock
QUIET_S: Final = 60.0  # between two lines about a clock that is set: some are set again and again

_log: Final = logging.getLogger("mcast.node")


class WallClock:
    """`offset_ns` is what the time of day is ahead of the protocol's clock. `read` tells it anew; tests replace it."""

    def __init__(self, node_id: str, read: Callable[[], int] = clock.wall_offset_ns) -> None:
        self.read = read
        self.offset_ns = 0
        self._node_id = node_id
        self._due_s = 0.0
        self._quiet_until_s = 0.0
        self._log_was_ahead = False

    def start(self) -> None:
        """Read it for the first time."""
        self.offset_ns = self.read()

    def follow(self, replica: Replica, now: float) -> None:
        """If it is time, look at the clock, and have the replica follow it."""
        if now < self._due_s:
            return
        self._due_s = now + LOOK_S
        before, self.offset_ns = self.offset_ns, self.read()
        replica.set_wall_offset(self.offset_ns)
        set_s = (self.offset_ns - before) / 1e9
        if abs(set_s) >= CLOCK_OFF_S and now >= self._quiet_until_s:
            self._quiet_until_s = now + QUIET_S
            way = "forward" if set_s > 0 else "back"
            _log.warning("node %s: this machine's clock was set %s by %.1f s", self._node_id, way, abs(set_s))
        ahead_s = replica.log_ahead_s(now)
        if ahead_s >= CLOCK_OFF_S and not self._log_was_ahead:
            _log.warning("node %s: %s", self._node_id, log_ahead_words(ahead_s))
        if ahead_s >= CLOCK_OFF_S or ahead_s < CLOCK_OFF_S / 2:
            self._log_was_ahead = ahead_s >= CLOCK_OFF_S


def log_ahead_words(ahead_s: float) -> str:
    """What it means that the log's time is ahead of the own clock, and what to do."""
    return (
        f"the log's time is {ahead_s:,.1f} s ahead of this machine's clock: a node whose clock was ahead has led, or "
        "this clock is behind; set the clocks of all nodes right, by NTP; until both meet, time in the log goes on at "
        "half the pace"
    )
