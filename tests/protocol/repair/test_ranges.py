import pytest
from hypothesis import given
from hypothesis import strategies as st

from mcast.protocol.repair.ranges import Ranges

FIRSTS, LENGTHS = st.integers(0, 60), st.integers(1, 12)
STEPS = st.lists(st.tuples(st.sampled_from(("add", "discard", "pop")), FIRSTS, LENGTHS), max_size=40)


def ranges_of(numbers: set[int]) -> list[tuple[int, int]]:
    firsts = sorted(number for number in numbers if number - 1 not in numbers)
    lasts = sorted(number for number in numbers if number + 1 not in numbers)
    return list(zip(firsts, lasts, strict=True))


@given(STEPS, FIRSTS, LENGTHS)
def test_it_is_a_set_of_numbers(steps: list[tuple[str, int, int]], first: int, length: int) -> None:
    ranges, model = Ranges(), set[int]()
    for step, begin, many in steps:
        numbers = range(begin, begin + many)
        if step == "add":
            ranges.add(begin, begin + many - 1)
            model |= set(numbers)
        elif step == "discard":
            ranges.discard(begin, begin + many - 1)
            model -= set(numbers)
        elif model:
            lowest = ranges_of(model)[0]
            assert ranges.pop() == lowest
            model -= set(range(lowest[0], lowest[1] + 1))
        ranges._check()
        assert list(ranges) == ranges_of(model)
    assert ranges.count == len(model)
    assert (first in ranges) == (first in model)
    assert ranges.run_length(first) == next(taken for taken in range(len(model) + 1) if first + taken not in model)
    assert ranges.touches(first, first + length - 1) == bool(model & set(range(first - 1, first + length + 1)))


def test_a_run_of_any_length_is_one_entry() -> None:
    ranges = Ranges()
    for first in range(0, 300_000, 3):
        ranges.add(first, first + 2)
    assert (len(ranges), ranges.count) == (1, 300_000)
    ranges.discard(100_000, 199_999)
    assert list(ranges) == [(0, 99_999), (200_000, 299_999)]


def test_cleared_it_is_empty() -> None:
    ranges = Ranges()
    ranges.add(3, 5)
    ranges.clear()
    assert (list(ranges), ranges.count) == ([], 0)
    with pytest.raises(KeyError):
        ranges.pop()
