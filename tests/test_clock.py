"""The clock, and one timer for many deadlines."""

from __future__ import annotations

import asyncio
import time

from mcast.clock import Alarm, monotonic_s, wall_offset_ns


def test_the_clock_does_not_go_back() -> None:
    readings = [monotonic_s() for _ in range(1_000)]
    assert readings == sorted(readings)


def test_with_its_offset_it_gives_the_time_of_day() -> None:
    assert abs(monotonic_s() * 1e9 + wall_offset_ns() - time.time_ns()) < 1e9


class Rung:
    """An alarm over a list of deadlines, and when it rang."""

    def __init__(self) -> None:
        self.deadlines: list[float] = []
        self.rings: list[float] = []
        self.alarm = Alarm(self._ring)

    def add(self, due: float) -> None:
        self.deadlines.append(due)
        self.alarm.set(due)

    def _ring(self, now: float) -> float:
        self.rings.append(now)
        self.deadlines = [due for due in self.deadlines if due > now]
        return min(self.deadlines, default=float("inf"))


async def test_it_rings_for_the_earliest_and_again_for_the_next() -> None:
    rung, now = Rung(), asyncio.get_running_loop().time()
    for wait_s in (0.03, 0.01, 0.02):
        rung.add(now + wait_s)
    while rung.deadlines:
        await asyncio.sleep(0.005)
    assert all(at >= now + wait_s for at, wait_s in zip(rung.rings, (0.01, 0.02, 0.03), strict=False))
    assert 1 <= len(rung.rings) <= 3
    await asyncio.sleep(0.02)
    assert len(rung.rings) <= 3, "nothing is due any more"


async def test_many_close_deadlines_share_rings() -> None:
    rung, now = Rung(), asyncio.get_running_loop().time()
    for index in range(1_000):
        rung.add(now + 0.02 + index * 1e-6)
    while rung.deadlines:
        await asyncio.sleep(0.005)
    assert len(rung.rings) <= 3


async def test_stopped_it_rings_no_more_until_it_is_set_again() -> None:
    rung, now = Rung(), asyncio.get_running_loop().time()
    rung.add(now)
    rung.alarm.stop()
    await asyncio.sleep(0.01)
    assert not rung.rings
    rung.alarm.set(now)
    await asyncio.sleep(0.01)
    assert len(rung.rings) == 1
