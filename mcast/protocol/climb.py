"""How far the words of others may raise a promise: a bounded step at a time.

A promise can't be taken back, and the numbers end. So one datagram that promises the last epoch, believed as it stands,
would end all epochs for ever: nobody could stand for one above it. No election raises a promise by more than one, and
no cluster holds thousands of elections a second; a jump beyond that is forged, or it is what a node finds that was away
while a forger pushed the others far up. Nothing tells the two apart, and nothing need: a far promise is approached by
steps, each of EPOCH_JUMP_MAX at most, and one in EPOCH_JUMP_S. Any higher promise is a safe one, and whoever is really
up there goes on speaking, so a node that was away gets there in no more time than the forger took; while forged words,
however many, get no nearer to the last epoch in any lifetime.
"""

from __future__ import annotations

from typing import Final

from mcast.limits import EPOCH_JUMP_MAX, EPOCH_JUMP_S, EPOCH_MAX

EPOCH_SPENT: Final = EPOCH_MAX - EPOCH_JUMP_MAX
"""A promise from here on leaves too little room for epochs above it."""
_FULL: Final = float(EPOCH_JUMP_MAX)
_REFILLED_PER_S: Final = _FULL / EPOCH_JUMP_S


class Climb:
    """One process's bound on its promise. `bounded` off is the ablation."""

    def __init__(self, now: float, *, bounded: bool = True) -> None:
        self._bounded = bounded
        self._room = _FULL
        self._at = now

    def next_promise(self, wanted: int, promised: int, now: float) -> int:
        """The epoch to promise when somebody speaks under `wanted`, which is higher; `promised` itself: none now."""
        if not self._bounded:
            return wanted
        self._room = min(_FULL, self._room + (now - self._at) * _REFILLED_PER_S)
        self._at = now
        step = min(wanted, EPOCH_SPENT - 1) - promised
        if step > self._room:  # a whole step or none, since each step is a durable write
            step = EPOCH_JUMP_MAX if self._room >= _FULL else 0
        if step <= 0:
            return promised
        self._room -= step
        return promised + step


def spent(epoch: int) -> str:
    """Why a node that has promised `epoch` can take no part, and what to do; nothing where it can."""
    if epoch < EPOCH_SPENT:
        return ""
    return (
        f"its promise, epoch {epoch}, leaves no room for epochs above it: a forged datagram raised it, for elections "
        "cannot; if a majority of the others works, move this node's data directory away and start it again, empty: it "
        "rejoins by itself; else stop all nodes and run `mcast recover --accept-loss` on the one whose log reaches "
        "furthest: it keeps the log and resets the promise"
    )
