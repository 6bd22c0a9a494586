"""Random draws that are equal on every replica and in every version of Python.

BLAKE2b over (seed, counter). The standard generator is not used: what its methods draw has changed between versions.
"""

from __future__ import annotations

from collections.abc import MutableSequence, Sequence
from hashlib import blake2b
from typing import Any, TypeVar

T = TypeVar("T")


class Draws:
    """A seeded stream of draws, with the standard generator's method names where it has them. Not for secrets."""

    __slots__ = ("_block", "_counter", "_seed")

    def __init__(self, seed: bytes) -> None:
        self._seed = blake2b(seed, digest_size=32).digest()
        self._counter = 0
        self._block = b""

    def randbytes(self, size: int) -> bytes:
        """The next `size` bytes of the stream."""
        while len(self._block) < size:
            self._block += blake2b(self._counter.to_bytes(8, "big"), key=self._seed).digest()
            self._counter += 1
        drawn, self._block = self._block[:size], self._block[size:]
        return drawn

    def getrandbits(self, bits: int) -> int:
        """A uniform integer of `bits` bits."""
        return int.from_bytes(self.randbytes((bits + 7) // 8), "big") >> (-bits % 8)

    def random(self) -> float:
        """A uniform float in [0, 1) with 53 bits."""
        return self.getrandbits(53) / (1 << 53)

    def randrange(self, start: int, stop: int | None = None) -> int:
        """A uniform integer in [start, stop), or in [0, start).

        Raises:
            ValueError: the range is empty.
        """
        low, high = (0, start) if stop is None else (start, stop)
        width = high - low
        if width <= 0:
            raise ValueError(f"nothing to draw from in [{low}, {high})")
        bits = width.bit_length()
        while (drawn := self.getrandbits(bits)) >= width:
            pass
        return low + drawn

    def randint(self, low: int, high: int) -> int:
        """A uniform integer in [low, high]."""
        return self.randrange(low, high + 1)

    def choice(self, items: Sequence[T]) -> T:
        """One of the items. Raises ValueError when there are none."""
        return items[self.randrange(len(items))]

    def shuffle(self, items: MutableSequence[Any]) -> None:
        """Shuffle in place (Fisher and Yates)."""
        for last in range(len(items) - 1, 0, -1):
            other = self.randrange(last + 1)
            items[last], items[other] = items[other], items[last]

    def sample(self, items: Sequence[T], count: int) -> list[T]:
        """`count` of the items, each position at most once.

        Raises:
            ValueError: there are not that many.
        """
        if not 0 <= count <= len(items):
            raise ValueError(f"cannot draw {count} of {len(items)}")
        rest = list(items)
        self.shuffle(rest)
        return rest[:count]
