"""Receipts are list-like, lazy, and cheap to count."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgpack
import pytest

from mcast.client.receipts import SMALL_BYTES, Receipt, Receipts, RecordResult
from mcast.errors import DecodeError


def outcomes(values: list[Any], exceptions: dict[int, list[Any]] | None = None) -> bytes:
    packed: bytes = msgpack.packb([values, exceptions or {}])
    return packed


def filled() -> Receipts:
    receipts = Receipts()
    assert receipts.expect([3, 2]) == 0 and receipts.expect([1]) == 2
    receipts.take_answers([(1, RecordResult(20, 7, 2, outcomes([None, 5], {0: [2, "KeyError"]})))])
    receipts.take_answers([(0, RecordResult(10, 7, 3, outcomes(["a", None, "c"], {1: [1, "no"]})))])
    return receipts


def test_index_slice_and_iteration_agree() -> None:
    receipts = filled()
    assert len(receipts) == receipts.count == 6
    expected = [
        Receipt(10, 7, "ok", "a", None),
        Receipt(11, 7, "rejected", None, "no"),
        Receipt(12, 7, "ok", "c", None),
        Receipt(20, 7, "failed", None, "KeyError"),
        Receipt(21, 7, "ok", 5, None),
        None,
    ]
    assert list(receipts) == expected
    assert [receipts[index] for index in range(6)] == expected
    known: Sequence[Receipt | None] = receipts
    assert known[-1] is None and receipts[-6] == expected[0]
    assert receipts[1:4] == expected[1:4] and receipts[::-2] == expected[::-2]
    for index in (6, -7):
        with pytest.raises(IndexError):
            receipts[index]


def test_what_is_known_behind_an_unknown_record_is_not_of_the_first() -> None:
    receipts = Receipts(keep=False)
    receipts.expect([3, 2, 4])
    receipts.take_answers([(2, RecordResult(30, 7, 4, outcomes([0] * 4)))])
    assert (receipts.known, receipts.known_first) == (4, 0)
    receipts.take_answers([(0, RecordResult(10, 7, 3, outcomes([0] * 3)))])
    assert (receipts.known, receipts.known_first) == (7, 3)


def test_counts() -> None:
    receipts = filled()
    assert repr(receipts) == "<Receipts: 6 commands, 3 ok, 1 rejected, 1 failed, 1 unknown>"
    assert (receipts.known, receipts.ok, receipts.rejected, receipts.failed) == (5, 3, 1, 1)
    assert receipts.known_first == 5 and Receipts().known_first == 0
    assert (receipts.first_seq, receipts.last_seq, receipts.epoch) == (10, None, 7)
    receipts.take_answers([(2, RecordResult(30, 8, 1, outcomes([0])))])
    assert (receipts.last_seq, receipts.epoch, receipts.ok) == (30, 8, 4)
    assert (Receipts().first_seq, Receipts().last_seq, Receipts().epoch) == (None, None, None)


@pytest.mark.parametrize("order", [[0, 1, 2, 3], [3, 2, 1, 0], [1, 3, 0, 2], [2, 0, 3, 1]])
def test_first_last_and_epoch_are_known_of_what_is_only_counted(order: list[int]) -> None:
    kept, counted = Receipts(), Receipts(keep=False)
    for receipts in (kept, counted):
        assert receipts.expect([2, 2, 2, 2]) == 0
    for slot in order:
        for receipts in (kept, counted):
            receipts.take_answers(
                [(slot, RecordResult(10 * slot + 10, slot, 2, outcomes([None, None], {1: [1, "no"]})))]
            )
        for about in ("first_seq", "last_seq", "epoch", "known", "count", "ok", "rejected", "failed"):
            assert getattr(counted, about) == getattr(kept, about), about
    assert (counted.first_seq, counted.last_seq, counted.rejected) == (10, 41, 4)
    assert sum(result.count > 0 for result in counted._results if result is not None) == 2, "the others leave no trace"


def test_each_record_is_counted_once_however_often_one_asks() -> None:
    receipts = Receipts(keep=False)
    for number in range(1, 4):
        result = RecordResult(number, 1, 2, outcomes([None, "À"], {0: [1, "À"]} if number < 3 else {0: [2, "E"]}))
        receipts.take_answers([(receipts.expect([2]), result)])
        rejected, failed = (number, 0) if number < 3 else (2, 1)
        for _ in range(2):
            assert (receipts.ok, receipts.rejected, receipts.failed) == (number, rejected, failed)


def test_few_and_many_outcomes_are_counted_alike() -> None:
    for size in (1, SMALL_BYTES * 2):
        result = RecordResult(1, 1, 3, outcomes(["x" * size, None, None], {1: [1, "no\u0080"], 2: [2, ""]}))
        assert result.counts() == (1, 1)
        assert RecordResult(1, 1, 1, outcomes(["x" * size])).counts() == (0, 0)
        for bad in ({5: [1, "x"]}, {0: [3, "x"]}, {0: [1, 2]}, {"0": [1, "x"]}):
            with pytest.raises(DecodeError):
                RecordResult(1, 1, 3, msgpack.packb([["x" * size, 1, 2], bad])).counts()


def test_values_are_dropped_but_counted_when_not_kept() -> None:
    receipts = Receipts(keep=False)
    receipts.take_answers(
        [(receipts.expect([2]), RecordResult(1, 1, 2, outcomes(["big" * 100, None], {1: [1, "no"]})))]
    )
    assert (receipts.ok, receipts.rejected, receipts.last_seq) == (1, 1, 2)


def test_receipts_are_told_in_input_order() -> None:
    reported: list[list[Receipt]] = []
    receipts = Receipts(on_receipts=reported.append)
    first, second = receipts.expect([1]), receipts.expect([1])
    receipts.take_answers([(second, RecordResult(2, 1, 1, outcomes(["b"])))])
    assert reported == []
    receipts.take_answers([(first, RecordResult(1, 1, 1, outcomes(["a"])))])
    assert [[receipt.value for receipt in part] for part in reported] == [["a"], ["b"]]


@pytest.mark.parametrize(
    "bad",
    [
        b"", b"\xc1", msgpack.packb(1), msgpack.packb([[1], {}]), msgpack.packb([[1, 2], {5: [1, "x"]}]),
        msgpack.packb([[1, 2], {0: [3, "x"]}]), msgpack.packb([[1, 2], {0: [1, 2]}]), msgpack.packb([[1, 2], []]),
        msgpack.packb([[1, 2]]), msgpack.packb([[1, 2], {0: [[], "x"]}]),
        msgpack.packb([[1, msgpack.ExtType(5, b"")], {}]), b"\x91" * 5_000,
    ],
)  # fmt: skip
def test_malformed_outcomes_raise_decode_error_only(bad: bytes) -> None:
    with pytest.raises(DecodeError):
        RecordResult(1, 1, 2, bad).receipt(0)


@pytest.mark.parametrize("bad", [b"", b"\xc1", msgpack.packb(1), msgpack.packb([[1, 2], {0: [3, "x"]}])])
def test_malformed_exceptions_raise_decode_error_when_counted(bad: bytes) -> None:
    with pytest.raises(DecodeError):
        RecordResult(1, 1, 2, bad).counts()
