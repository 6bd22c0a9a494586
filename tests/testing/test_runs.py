"""A run handler that does something else than its handler is found, whatever the difference is."""

from collections.abc import Iterator
from typing import Any

import pytest

from mcast.machine.api import Run
from mcast.machine.kv import KeyValue
from mcast.testing import RunHandlerError, deterministic, same_in_runs

from .machines import Hasty, Poll

VOTES = [("vote", f"name{number % 3}", number) for number in range(200)]


def test_an_honest_run_handler_passes() -> None:
    same_in_runs(Poll, [*VOTES, ("vote", "odd", "x"), ("vote",), *VOTES])
    same_in_runs(KeyValue, [("incr", f"k{number % 7}", number) for number in range(300)])


def test_another_outcome_is_found_with_its_command() -> None:
    with pytest.raises(RunHandlerError, match=r"command 70 \(vote\): ok 35 in a run, rejected odd alone") as found:
        same_in_runs(Hasty, [*VOTES[:70], ("vote", "odd", 35), *VOTES[71:]])
    assert (found.value.first, found.value.last) == (70, 70)


def test_another_state_is_found_where_outcomes_agree() -> None:
    class Silent(KeyValue):
        @KeyValue.set.run
        def set_all(self, run: Run, keys: tuple[str, ...], values: tuple[Any, ...]) -> Iterator[None]:
            yield from [None] * run.count

    with pytest.raises(RunHandlerError, match="states differ after commands 0 to 63 in runs and alone"):
        same_in_runs(Silent, [("set", "k", number) for number in range(100)])


def test_deterministic_compares_them_too() -> None:
    with pytest.raises(RunHandlerError, match="command 10 "):
        deterministic(Hasty, [*VOTES[:10], ("vote", "odd", 35), *VOTES[11:]])
    deterministic(Poll, VOTES)
