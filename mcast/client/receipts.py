"""Receipts: what became of each command, kept as one compact result a record until somebody looks."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Iterator, Sequence
from itertools import accumulate, takewhile
from typing import Any, Final, NamedTuple, overload

from mcast.machine.outcomes import (
    FAILED,
    KINDS,
    REJECTED,
    Errors,
    errors_untrusted,
    nothing_returned,
    split_outcomes_untrusted,
)

NO_OUTCOMES: Final = b""
SMALL_BYTES: Final = 4_096  # of outcomes; so few are unpacked at once sooner than an Unpacker is made to skip them
_NO_ERRORS: Final = (0, 0)
_UNKNOWN: Final[Any] = None


class Receipt(NamedTuple):
    """One command's place and outcome: "ok" with `value`, "rejected" or "failed" with `error`."""

    seq: int
    epoch: int
    outcome: str
    value: Any
    error: str | None


class RecordResult:
    """The outcomes of one record's commands. Nothing is unpacked before it is asked for.

    `seq` is the first command's event number, `outcomes` the msgpack bytes [[value, ...], {index: [kind, text]}].
    """

    __slots__ = ("_counts", "_lists", "_outcomes", "count", "epoch", "seq")

    def __init__(self, seq: int, epoch: int, count: int, outcomes: bytes) -> None:
        self.seq = seq
        self.epoch = epoch
        self.count = count
        self._outcomes = outcomes
        self._lists: tuple[list[Any], Errors] | None = None
        self._counts: tuple[int, int] | None = None

    def receipt(self, index: int) -> Receipt:
        """The receipt of the record's command `index`. Raises DecodeError for outcomes that are not what they claim."""
        if self._lists is None:
            self._lists = split_outcomes_untrusted(self._outcomes, self.count)
        values, errors = self._lists
        error = errors.get(index)
        if error is None:
            return Receipt(self.seq + index, self.epoch, "ok", values[index], None)
        return Receipt(self.seq + index, self.epoch, KINDS[error[0]], None, error[1])

    def counts(self) -> tuple[int, int]:
        """How many were rejected and how many failed; values of large outcomes are skipped, not unpacked."""
        if self._counts is None:
            errors: Errors = {}
            if len(self._outcomes) > SMALL_BYTES:
                errors = errors_untrusted(self._outcomes, self.count)
            elif self._outcomes != nothing_returned(self.count):
                _, errors = split_outcomes_untrusted(self._outcomes, self.count)
            kinds = [kind for kind, _ in errors.values()] if errors else []
            self._counts = (kinds.count(REJECTED), kinds.count(FAILED)) if kinds else _NO_ERRORS
        return self._counts

    def drop_outcomes(self) -> tuple[int, int]:
        """Keep the counts only, for streams too long to keep every value; these counts."""
        counts = self.counts()
        self._outcomes, self._lists = NO_OUTCOMES, None
        return counts


_COUNTED: Final = RecordResult(0, 0, 0, NO_OUTCOMES)
"""Stands where a record was counted and nothing else is kept of it."""


class Receipts(Sequence[Receipt]):
    """List-like: one receipt a command, in input order. What a call returns has them all.

    Those of an Unknown, and those that are told while a stream is on its way, hold None where nothing is known yet: its
    type is `Sequence[Receipt | None]` there.

    Counts cost a look at each record, once. With `keep` false the values are dropped as soon as they are counted, and
    only the counts, the first and last number and the epoch may be asked for. `on_receipts` is called with each
    record's receipts, in input order.
    """

    def __init__(self, keep: bool = True, on_receipts: Callable[[list[Receipt]], None] | None = None) -> None:
        self._results: list[RecordResult | None] = []
        self._sizes: list[int] = []
        self._ends: list[int] | None = None
        self._size = 0
        self._known = 0
        self._keep = keep
        self._on_receipts = on_receipts
        self._next = 0
        self._uncounted: list[RecordResult] = []
        self._rejected = self._failed = 0
        self._latest = 0
        """The last slot of those that are only counted."""

    def expect(self, counts: Sequence[int]) -> int:
        """Make room for records of so many more commands; the first one's slot, to settle it with."""
        first = len(self._sizes)
        self._results += [None] * len(counts)
        self._sizes += counts
        self._size += sum(counts)
        self._ends = None
        return first

    def take_answers(self, answers: Sequence[tuple[int, RecordResult]]) -> None:
        """The records of these slots were answered. Raises DecodeError for outcomes that are not what they claim."""
        results, sizes = self._results, self._sizes
        for slot, result in answers:
            assert results[slot] is None and result.count == sizes[slot]
            results[slot] = result
            self._known += result.count
        if self._keep:
            self._uncounted += [result for _, result in answers]
        elif self._on_receipts is None:
            for slot, result in answers:
                self._count_only(slot, result)
        if self._on_receipts is not None:
            self._tell(self._on_receipts)

    def _count_only(self, slot: int, result: RecordResult) -> None:
        """Keep only the record's counts; of the first and the last record also the numbers."""
        rejected, failed = result.drop_outcomes()
        self._rejected += rejected
        self._failed += failed
        latest = self._latest
        if slot > latest:
            self._latest, slot = slot, latest
        if slot:
            self._results[slot] = _COUNTED

    def _tell(self, on_receipts: Callable[[list[Receipt]], None]) -> None:
        while self._next < len(self._results) and (result := self._results[self._next]) is not None:
            on_receipts([result.receipt(index) for index in range(result.count)])
            if not self._keep:
                self._count_only(self._next, result)
            self._next += 1

    @property
    def count(self) -> int:  # type: ignore[override] # the contract's name; hides Sequence.count
        """Commands, known or not."""
        return self._size

    @property
    def known(self) -> int:
        """Commands whose outcome is known."""
        return self._known

    @property
    def known_first(self) -> int:
        """Commands from the first on whose outcomes are all known."""
        known = takewhile(lambda pair: pair[0] is not None, zip(self._results, self._sizes, strict=True))
        return sum(size for _, size in known)

    @property
    def rejected(self) -> int:
        """Commands that the machine rejected."""
        self._count_all()
        return self._rejected

    @property
    def failed(self) -> int:
        """Commands whose handler raised something else."""
        self._count_all()
        return self._failed

    @property
    def ok(self) -> int:
        """Commands that were applied and raised nothing."""
        self._count_all()
        return self._known - self._rejected - self._failed

    def _count_all(self) -> None:
        counts = [result.counts() for result in self._uncounted]
        self._rejected += sum([rejected for rejected, _ in counts])
        self._failed += sum([failed for _, failed in counts])
        self._uncounted.clear()

    @property
    def first_seq(self) -> int | None:
        """The event number of the first command, or None when it is unknown or there is none."""
        result = self._results[0] if self._results else None
        return None if result is None else result.seq

    @property
    def last_seq(self) -> int | None:
        """The event number of the last command, or None when it is unknown or there is none."""
        result = self._results[-1] if self._results else None
        return None if result is None else result.seq + result.count - 1

    @property
    def epoch(self) -> int | None:
        """The epoch that numbered the last known command."""
        return next((result.epoch for result in reversed(self._results) if result is not None), None)

    def __repr__(self) -> str:
        kinds = f"{self.ok} ok, {self.rejected} rejected, {self.failed} failed, {self._size - self._known} unknown"
        return f"<Receipts: {self._size} commands, {kinds}>"

    def __len__(self) -> int:
        return self._size

    @overload
    def __getitem__(self, index: int) -> Receipt: ...
    @overload
    def __getitem__(self, index: slice) -> list[Receipt]: ...
    def __getitem__(self, index: int | slice) -> Receipt | list[Receipt]:
        if isinstance(index, slice):
            return [self[at] for at in range(*index.indices(self._size))]
        at = index + self._size if index < 0 else index
        if not 0 <= at < self._size:
            raise IndexError("receipt index out of range")
        if self._ends is None:
            self._ends = list(accumulate(self._sizes))
        slot = bisect_right(self._ends, at)
        result = self._results[slot]
        return _UNKNOWN if result is None else result.receipt(at - (self._ends[slot] - self._sizes[slot]))

    def __iter__(self) -> Iterator[Receipt]:
        for result, size in zip(self._results, self._sizes, strict=True):
            for index in range(size):
                yield _UNKNOWN if result is None else result.receipt(index)
