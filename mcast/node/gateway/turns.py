"""What connections have sent is handled in slices of time, so that heartbeats and acknowledgements go out between.

A read can hold fifty thousand requests, and thousands of connections can be readable at once. All of them together get
one slice in a turn of the event loop, whatever they ask for. Who has sent more than a share of that takes is read no
further, and goes on in later turns; others, who may have sent one command, come first.
"""

from __future__ import annotations

import asyncio
from collections import deque
from typing import Final, Protocol

SLICE_S: Final = 0.005  # of one turn of the loop
SHARE_S: Final = 0.0005  # of one connection, before others who wait
_LOGGED_EVERY_S: Final = (
    SLICE_S / 2
)  # spent before a turn is told from the next: to tell each costs every request something


class Unfinished(Protocol):
    """A connection that has sent more than there was time for."""

    def go_on(self) -> None:
        """Handle some more of it."""


class Turns:
    """The time that is left in this turn of the event loop, and who waits for more."""

    def __init__(self) -> None:
        self._spent_s = 0.0
        self._new: deque[Unfinished] = deque()
        """Connections that have not been served since they sent something."""
        self._waiting: deque[Unfinished] = deque()
        self._next: asyncio.Handle | None = None

    @property
    def share_s(self) -> float:
        """What one connection may use now; 0 when this turn's slice is used up."""
        return min(max(SLICE_S - self._spent_s, 0.0), SHARE_S)

    def spend(self, seconds: float) -> None:
        """Count what was just used."""
        self._spent_s += seconds
        if self._spent_s > _LOGGED_EVERY_S:
            self._tell_apart()

    def wait(self, one: Unfinished, *, served: bool) -> None:
        """Have `go_on` called, once; `served` says whether it has been since it sent something."""
        (self._waiting if served else self._new).append(one)
        self._tell_apart()

    def stop(self) -> None:
        """Forget all that wait."""
        self._new.clear()
        self._waiting.clear()
        if self._next is not None:
            self._next.cancel()

    def _tell_apart(self) -> None:
        if self._next is None:
            self._next = asyncio.get_running_loop().call_soon(self._on_turn)

    def _on_turn(self) -> None:
        self._next = None
        self._spent_s = 0.0
        try:
            while self._spent_s < SLICE_S and (queue := self._new or self._waiting):
                queue.popleft().go_on()
        finally:
            if self._new or self._waiting:
                self._tell_apart()
