"""Gaps: which events are missing below the highest one known, and when to ask for them.

Every gap is timed on its own (Aeron's LossDetector times one at a time, and so repairs serially). A gap is declared by
later datagrams or by time; then it joins the episode's one NAK timer, so that one NAK asks for a whole burst's losses.
Retries back off per gap. The first delay adapts: an original that arrives after its NAK proves reordering, not loss.

A gap that is filled in part splits; both parts belong to the same loss, and the ledger closes that when its last
event is there.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from sortedcontainers import SortedDict

from mcast.limits import (
    GAP_DECLARED_S,
    GAP_LATER_FRAMES,
    NAK_CALM,
    NAK_DELAY_MAX_S,
    NAK_DELAY_S,
    NAK_INTERVAL_S,
    NAK_JITTER,
    NAK_JOIN_S,
    NAK_RANGES_MAX,
    NAK_RETRY_GROWTH,
    NAK_RETRY_MAX_S,
    NAK_RETRY_MIN_S,
    NAK_RETRY_ROUND_TRIPS,
    SEQ_MAX,
)


@dataclass(slots=True)
class Loss:
    """One gap as it was first seen; what the ledger remembers. Times in seconds of the protocol's clock."""

    first: int
    last: int
    opened: float
    missing: int
    naks: int = 0
    asked: int = 0
    """The node asked last; 0 before the first NAK."""
    asked_at: float = 0.0
    repaired_by: int = 0
    """The node whose repair or transfer filled it last; 0 when the original came late."""
    late: bool = False
    """Whether an original came after it was asked for."""


@dataclass(slots=True)
class Gap:
    """A range still missing: events `first` to `last`."""

    first: int
    last: int
    loss: Loss
    declared_after: int
    """Arrivals beyond the frontier that declare it."""
    declared: bool = False
    tries: int = 0
    due: float = 0.0


class Gaps:
    """Every missing range up to `frontier`, the highest event known to exist."""

    def __init__(self, frontier: int, uniform: Callable[[float, float], float]) -> None:
        self.frontier = frontier
        self.round_trip_s = 0.0
        self.delay_s = NAK_DELAY_S
        self._uniform = uniform
        self._gaps: SortedDict[int, Gap] = SortedDict()
        self._undeclared: list[Gap] = []
        self._arrivals = 0
        self._first_nak_due = 0.0
        self._next_nak = 0.0
        self._calm = 0

    def __len__(self) -> int:
        return len(self._gaps)

    def __iter__(self) -> Iterator[Gap]:
        return iter(self._gaps.values())

    def lacks(self, first: int, last: int) -> bool:
        """Whether none of the events `first` to `last` is there: all are missing, or beyond the frontier."""
        if first > self.frontier:
            return True
        index = self._gaps.bisect_right(first) - 1
        if index < 0:
            return False
        gap: Gap = self._gaps.values()[index]
        return gap.last >= last or (first <= gap.last == self.frontier)

    def room(self, first: int) -> int:
        """How many events from `first` on lie in the gap that holds it; 0 if it is there.

        Beyond the frontier only its immediate successor has room, without end: anything later must first reveal a loss.
        """
        if first > self.frontier:
            return SEQ_MAX if first == self.frontier + 1 else 0
        index = self._gaps.bisect_right(first) - 1
        gap: Gap | None = self._gaps.values()[index] if index >= 0 else None
        return max(gap.last + 1 - first, 0) if gap is not None else 0

    @property
    def first(self) -> Gap | None:
        """The gap that the log waits for."""
        return self._gaps.values()[0] if self._gaps else None

    def expect(self, high: int, now: float) -> Loss | None:
        """Events up to `high` exist: what lies beyond the frontier is missing."""
        if high <= self.frontier:
            return None
        loss = self._open(self.frontier + 1, high, now)
        self.frontier = high
        return loss

    def on_early_frame(self, first: int, last: int, now: float) -> Loss | None:
        """A frame arrived beyond the frontier; returns the loss it reveals, if any."""
        assert first > self.frontier
        self._arrivals += 1
        loss = self._open(self.frontier + 1, first - 1, now) if first > self.frontier + 1 else None
        self.frontier = last
        return loss

    def on_stream(self, last: int, frames: int) -> None:
        """So many frames arrived, each right behind the frontier, the last one ending at event `last`."""
        self._arrivals += frames
        self.frontier = last

    def fill(self, first: int, last: int) -> list[Loss]:
        """Events `first` to `last` arrived, from at most just behind the frontier on; returns the losses they fill."""
        touched: list[Loss] = []
        gaps = self._gaps
        index = max(gaps.bisect_right(first) - 1, 0)
        while index < len(gaps):
            gap: Gap = gaps.values()[index]
            if gap.first > last:
                break
            if gap.last < first:
                index += 1
                continue
            del gaps[gap.first]
            gap.loss.missing -= min(gap.last, last) - max(gap.first, first) + 1
            touched.append(gap.loss)
            if gap.last > last:
                self._insert(gap, last + 1, gap.last)
            if gap.first < first:
                self._insert(gap, gap.first, first - 1)
                index += 1
        self.frontier = max(self.frontier, last)
        return touched

    def reopen(self, first: int, last: int, now: float) -> Loss:
        """A buffered frame was dropped as wrong: its events are missing again."""
        return self._open(first, last, now)

    def restart(self, last: int) -> None:
        """The log ends at event `last`, and nothing beyond is known to exist any more: nothing is missing."""
        self._gaps.clear()
        self._undeclared = []
        self.frontier = last

    def lower(self, last: int) -> None:
        """No event beyond `last` exists, and none is held: shrink or drop the gaps beyond it."""
        for gap in reversed(list(self._gaps.values())):
            if gap.last <= last:
                break
            gap.loss.missing -= gap.last - max(gap.first - 1, last)
            gap.loss.last = min(gap.loss.last, last)
            if gap.first > last:
                del self._gaps[gap.first]
            else:
                gap.last = last
        self.frontier = min(self.frontier, last)

    def on_late_original(self) -> None:
        """An original arrived after it was NAKed: the first delay is too short here."""
        self.delay_s = min(self.delay_s * 2, NAK_DELAY_MAX_S)
        self._calm = 0

    def on_useful_repair(self) -> None:
        """A repair filled a gap before any original did."""
        self._calm += 1
        if self._calm >= NAK_CALM:
            self.delay_s = max(self.delay_s / 2, NAK_DELAY_S)
            self._calm = 0

    def on_round_trip(self, round_trip_s: float) -> None:
        """A first NAK was answered after this long."""
        self.round_trip_s = 0.875 * self.round_trip_s + 0.125 * round_trip_s if self.round_trip_s else round_trip_s

    def declare(self, now: float) -> None:
        """Declare what later datagrams or time have proven missing, and set its first NAK."""
        if not self._undeclared:
            return
        waiting = []
        for gap in self._undeclared:
            if gap.declared or self._gaps.get(gap.first) is not gap:
                continue
            if self._arrivals >= gap.declared_after or now >= gap.loss.opened + GAP_DECLARED_S:
                gap.declared = True
                if self._first_nak_due <= now:
                    self._first_nak_due = now + self.delay_s * (1 + self._uniform(0, NAK_JITTER))
                gap.due = self._first_nak_due
            else:
                waiting.append(gap)
        self._undeclared = waiting

    def take_due(self, now: float) -> list[Gap]:
        """The gaps to ask for now, oldest first, at most one NAK's worth; each one's retry is set.

        A NAK that goes out anyway takes along declared gaps that were not asked for yet, and retries that are all but
        due.
        """
        if now < self._next_nak or not any(gap.declared and gap.due <= now for gap in self._gaps.values()):
            return []
        asked = [gap for gap in self._gaps.values() if gap.declared and (not gap.tries or gap.due <= now + NAK_JOIN_S)]
        del asked[NAK_RANGES_MAX:]
        for gap in asked:
            gap.tries += 1
            gap.loss.naks += 1
            gap.loss.asked_at = now
            gap.due = now + self._retry_s(gap.tries)
        self._next_nak = now + NAK_INTERVAL_S
        return asked

    def deadline(self) -> float:
        """When `declare` or `take_due` has work next."""
        deadline = min((gap.loss.opened + GAP_DECLARED_S for gap in self._undeclared), default=float("inf"))
        for gap in self._gaps.values():
            if gap.declared and gap.due < deadline:
                deadline = min(deadline, max(gap.due, self._next_nak))
        return deadline

    def on_progress(self, until: int) -> None:
        """The log's end moved: the gaps just beyond `until` retry without the back-off they had gathered."""
        if not self._gaps:
            return
        for gap in self._gaps.values():
            if gap.first > until + 1:
                break
            gap.tries = min(gap.tries, 1)

    def _retry_s(self, tries: int) -> float:
        base = max(NAK_RETRY_MIN_S, NAK_RETRY_ROUND_TRIPS * self.round_trip_s)
        backed_off = min(base * NAK_RETRY_GROWTH ** min(tries - 1, 16), NAK_RETRY_MAX_S)
        return min(backed_off * (1 + self._uniform(0, NAK_JITTER)), NAK_RETRY_MAX_S)

    def _open(self, first: int, last: int, now: float) -> Loss:
        loss = Loss(first, last, now, last - first + 1)
        gap = Gap(first, last, loss, self._arrivals + GAP_LATER_FRAMES - 1)
        self._gaps[first] = gap
        self._undeclared.append(gap)
        return loss

    def _insert(self, part_of: Gap, first: int, last: int) -> None:
        gap = Gap(first, last, part_of.loss, part_of.declared_after, part_of.declared, part_of.tries, part_of.due)
        self._gaps[first] = gap
        if not gap.declared:
            self._undeclared.append(gap)

    def _check(self) -> None:
        """Raise AssertionError unless every invariant of the class holds."""
        end = -1
        for first, gap in self._gaps.items():
            assert first == gap.first <= gap.last <= self.frontier
            assert gap.first > end, "gaps overlap"
            assert gap.loss.first <= gap.first
            assert gap.last <= gap.loss.last
            end = gap.last
            assert gap.declared or gap in self._undeclared
        losses = {id(gap.loss): gap.loss for gap in self._gaps.values()}
        for loss in losses.values():
            left = sum(gap.last - gap.first + 1 for gap in self._gaps.values() if gap.loss is loss)
            assert left == loss.missing > 0
