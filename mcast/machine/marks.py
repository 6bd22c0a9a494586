"""Marks of a result chain: few of very many, so chosen that any two replicas share some, wherever each of them is.

What a mark stands at has a number that is the same on every replica. Of the numbers with a multiple of a power of four
the newest KEPT are kept for each power, and the first one for good: of two replicas, one of which is much further than
the other, both still know a number not far below the slower one.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from typing import Final, NamedTuple

KEPT: Final = 4  # of each power of four
_BITS: Final = 2  # of a number for each power


class ChainMark(NamedTuple):
    """The chains behind event `seq`, a frame's last; `chain` is None where only the results are known."""

    seq: int
    chain: bytes | None
    results: bytes


class Marks:
    """Marks with the numbers 1, 2, 3, ...; kept are a few dozen, however many are added."""

    def __init__(self) -> None:
        self._count = 0
        self._firsts: list[ChainMark] = []
        self._newest: list[deque[ChainMark]] = []

    def add(self, mark: ChainMark) -> None:
        """The next one."""
        self._count = number = self._count + 1
        for power in range(level(number - 1, number) + 1):
            if power == len(self._newest):
                self._newest.append(deque(maxlen=KEPT))
                self._firsts.append(mark)
            self._newest[power].append(mark)

    def in_order(self) -> list[ChainMark]:
        """In the order of their events."""
        return sorted({*self._firsts, *(mark for newest in self._newest for mark in newest)})


def level(before: int, last: int) -> int:
    """The greatest power of four a multiple of which is above `before` and not above `last`, itself above `before`."""
    return ((before ^ last).bit_length() - 1) // _BITS


def chosen(lasts: Sequence[int]) -> list[int]:
    """Which of consecutive frames to mark, by their last events: indexes, ascending."""
    counts: list[int] = []
    wanted = []
    for index in range(len(lasts) - 1, 0, -1):
        power = level(lasts[index - 1], lasts[index])
        counts += [0] * (power + 1 - len(counts))
        if min(counts[: power + 1]) < KEPT:
            wanted.append(index)
            for each in range(power + 1):
                counts[each] += 1
    return wanted[::-1]
