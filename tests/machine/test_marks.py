"""Marks: few, and always some that two replicas share."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mcast.machine import resultchain
from mcast.machine.engine import Engine
from mcast.machine.marks import ChainMark, Marks, chosen, level
from tests.machine.conftest import Log, Notebook, record


def marks_of(count: int) -> list[int]:
    marks = Marks()
    for seq in range(1, count + 1):
        marks.add(ChainMark(seq, b"", b""))
    return [mark.seq for mark in marks.in_order()]


@given(st.integers(1, 3_000), st.integers(1, 3_000))
def test_any_two_share_one_not_far_below_the_slower(one: int, other: int) -> None:
    shared = set(marks_of(one)) & set(marks_of(other))
    slower, apart = min(one, other), abs(one - other)
    assert max(shared) >= min(slower - 4 * apart, slower / 4) if apart else shared == set(marks_of(one))
    assert len(marks_of(one)) <= 40


@given(st.integers(0, 1 << 40), st.integers(1, 1 << 20))
def test_levels_are_powers_of_four_that_lie_between(before: int, more: int) -> None:
    power = 4 ** level(before, before + more)
    assert (before + more) // power > before // power
    assert (before + more) // (power * 4) == before // (power * 4) or (before ^ (before + more)) >= power * 2


def test_a_few_of_a_blocks_frames_are_chosen() -> None:
    lasts = list(range(10, 1_010))
    indexes = chosen(lasts)
    assert indexes == sorted(set(indexes)) and len(indexes) <= 24
    assert {lasts[index] for index in indexes} >= {1_009, 1_008, 1_007, 1_006, 1_004, 992, 976, 960, 768, 512, 256}
    assert chosen([]) == chosen([7]) == []


@pytest.mark.parametrize("block_bytes", [100, 400, 1 << 16])
def test_marks_are_the_result_chain_as_it_was(block_bytes: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(resultchain, "BLOCK_BYTES", block_bytes)
    log = Log(Engine(Notebook()))
    session, was = log.open(), {}
    for request in range(1, 60):
        log.send(session, request, ("note", request))
        was[log.engine.applied_seq] = log.engine.result_chain
        for mark in log.engine.marks():
            assert mark.seq not in was or was[mark.seq] == mark.results
            assert mark.chain in (None, next(one.chain for one in log.frames if one.last == mark.seq))
    assert log.engine.marks()[-1].seq == log.engine.applied_seq
    together = Engine(Notebook())
    together.apply(log.frames)
    assert together.marks() == log.engine.marks()


def test_replicas_that_are_not_equally_far_share_marks() -> None:
    logs = [Log(Engine(Notebook())), Log(Engine(Notebook()))]
    for log, count in zip(logs, (50, 57), strict=True):
        session = log.open()
        for request in range(1, count):
            log.add(record(session, request, ("note", request)))
    one, other = ({mark.seq: mark.results for mark in log.engine.marks()} for log in logs)
    shared = one.keys() & other.keys()
    assert max(shared) >= 40 and all(one[seq] == other[seq] for seq in shared)
