"""Sets of numbers that come in long runs: each run of consecutive ones costs one entry, however long it is."""

from __future__ import annotations

from collections.abc import Iterator

from sortedcontainers import SortedDict


class Ranges:
    """A set of integers, kept as its separate ranges. Every method costs the logarithm of how many there are."""

    __slots__ = ("_count", "_lasts")

    def __init__(self) -> None:
        self._lasts: SortedDict[int, int] = SortedDict()
        self._count = 0

    def __len__(self) -> int:
        """Separate ranges: no two of them touch."""
        return len(self._lasts)

    def __iter__(self) -> Iterator[tuple[int, int]]:
        """The ranges (first, last), in order."""
        return iter(self._lasts.items())

    def __contains__(self, number: int) -> bool:
        return self.run_length(number) > 0

    @property
    def count(self) -> int:
        """Numbers in all."""
        return self._count

    def run_length(self, first: int) -> int:
        """How many consecutive numbers from `first` on are in the set."""
        index = self._lasts.bisect_right(first) - 1
        return max(int(self._lasts.peekitem(index)[1]) + 1 - first, 0) if index >= 0 else 0

    def touches(self, first: int, last: int) -> bool:
        """Whether `first` to `last` would join a range that is there, rather than be one more."""
        index = self._lasts.bisect_right(last + 1) - 1
        return index >= 0 and int(self._lasts.peekitem(index)[1]) + 1 >= first

    def add(self, first: int, last: int) -> None:
        """Put in the numbers `first` to `last`; some may be there already."""
        lasts = self._lasts
        index = lasts.bisect_right(last + 1) - 1
        while index >= 0:
            start, end = lasts.peekitem(index)
            if end + 1 < first:
                break
            del lasts[start]
            self._count -= end - start + 1
            first, last = min(first, start), max(last, end)
            index -= 1
        lasts[first] = last
        self._count += last - first + 1

    def discard(self, first: int, last: int) -> None:
        """Take out the numbers `first` to `last`; some may not be there."""
        lasts = self._lasts
        index = lasts.bisect_right(last) - 1
        while index >= 0:
            start, end = lasts.peekitem(index)
            if end < first:
                break
            del lasts[start]
            self._count -= min(end, last) - max(start, first) + 1
            if end > last:
                lasts[last + 1] = end
            if start < first:
                lasts[start] = first - 1
            index -= 1

    def pop(self) -> tuple[int, int]:
        """Take out the lowest range. Raises KeyError when there is none."""
        first, last = self._lasts.popitem(0)
        self._count -= last - first + 1
        return first, last

    def clear(self) -> None:
        """Take out everything."""
        self._lasts.clear()
        self._count = 0

    def _check(self) -> None:
        """Raise AssertionError unless every invariant of the class holds."""
        before = None
        for first, last in self._lasts.items():
            assert first <= last
            assert before is None or before + 1 < first, "ranges touch"
            before = last
        assert self._count == sum(last - first + 1 for first, last in self._lasts.items())
