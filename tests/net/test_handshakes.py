"""Handshakes take turns: a slice at a time, those that have begun first, and nobody is let in meanwhile."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from functools import partial

from mcast.net.handshakes import SLICE_S, WAITING_MAX, Handshakes


class Clock:
    """A step takes half a slice."""

    def __init__(self) -> None:
        self.now_s = 0.0
        self.done: list[str] = []

    def __call__(self) -> float:
        """The time."""
        return self.now_s

    def step(self, name: str) -> Callable[[], None]:
        """A step that remembers that it was taken."""
        return partial(self._take, name)

    def _take(self, name: str) -> None:
        self.now_s += SLICE_S / 2
        self.done.append(name)


async def test_a_slice_of_them_is_taken_in_each_turn_and_who_has_begun_ends_first() -> None:
    clock = Clock()
    handshakes = Handshakes(clock)
    for name in "abc":
        handshakes.add(clock.step(name), begins=True)
    assert clock.done == []
    await asyncio.sleep(0)
    assert clock.done == ["a", "b"]
    handshakes.add(clock.step("d"), begins=True)
    handshakes.add(clock.step("a ends"), begins=False)
    handshakes.add(clock.step("b ends"), begins=False)
    await asyncio.sleep(0)
    assert clock.done[2:] == ["a ends", "b ends"]
    await asyncio.sleep(0)
    assert clock.done[4:] == ["c", "d"]
    await asyncio.sleep(0)
    assert len(clock.done) == 6


async def test_while_many_wait_nobody_else_is_to_begin_and_after_a_stop_nobody_does() -> None:
    clock = Clock()
    handshakes = Handshakes(clock)
    for number in range(WAITING_MAX):
        assert not handshakes.is_crowded
        handshakes.add(clock.step(str(number)), begins=number % 2 == 0)
    many = [handshakes.is_crowded]
    await asyncio.sleep(0)
    many.append(handshakes.is_crowded)
    handshakes.stop()
    for _ in range(3):
        await asyncio.sleep(0)
    assert many == [True, False] and len(clock.done) == 2


async def test_a_step_that_raises_keeps_nobody_from_theirs() -> None:
    clock = Clock()
    raised: list[BaseException] = []
    loop = asyncio.get_running_loop()
    loop.set_exception_handler(lambda _, context: raised.append(context["exception"]))
    handshakes = Handshakes(clock)
    handshakes.add(_fail, begins=True)
    handshakes.add(clock.step("next"), begins=True)
    for _ in range(3):
        await asyncio.sleep(0)
    assert clock.done == ["next"] and len(raised) == 1
    loop.set_exception_handler(None)


def _fail() -> None:
    raise ZeroDivisionError
