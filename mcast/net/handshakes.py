"""TLS handshakes of those who come, in slices of time and in the order in which they came: none is half done for long.

A handshake takes a node a millisecond or more of computing. Hundreds at once are a crowd after an outage, or an attack;
either way heartbeats and established connections go first, and whoever has begun is finished before others begin.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from typing import Final

from mcast.clock import monotonic_s

SLICE_S: Final = 0.003  # of one turn of the loop, and at least one step
WAITING_MAX: Final = 16  # steps that wait; beyond, nobody is let in, and waits in the kernel's queue instead


class Handshakes:
    """Steps of handshakes that wait for their turn."""

    def __init__(self, clock: Callable[[], float] = monotonic_s) -> None:
        self._clock = clock
        self._ending: deque[Callable[[], None]] = deque()
        self._beginning: deque[Callable[[], None]] = deque()
        self._next: asyncio.Handle | None = None

    @property
    def is_crowded(self) -> bool:
        """Whether so many wait that nobody else should begin."""
        return len(self._ending) + len(self._beginning) >= WAITING_MAX

    def add(self, step: Callable[[], None], *, begins: bool) -> None:
        """Queue `step`; steps of handshakes that have begun come first."""
        (self._beginning if begins else self._ending).append(step)
        if self._next is None:
            self._next = asyncio.get_running_loop().call_soon(self._on_turn)

    def stop(self) -> None:
        """Drop all that wait, and take no more."""
        self._ending.clear()
        self._beginning.clear()
        if self._next is not None:
            self._next.cancel()

    def _on_turn(self) -> None:
        self._next, until_s = None, self._clock() + SLICE_S
        try:
            while queue := self._ending or self._beginning:
                queue.popleft()()
                if self._clock() >= until_s:
                    break
        finally:
            if self._ending or self._beginning:
                self._next = asyncio.get_running_loop().call_soon(self._on_turn)
