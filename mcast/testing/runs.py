"""Do run handlers what the handlers of single commands do? Run the commands both ways and compare everything."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import islice
from typing import Any

from mcast.errors import Error
from mcast.machine.api import StateMachine
from mcast.machine.outcomes import Outcome
from mcast.machine.rehearsal import RECORD_COMMANDS, Rehearsal


class RunHandlerError(Error):
    """A run came to something else than its commands one at a time; `first` and `last` number those (from 0)."""

    def __init__(self, text: str, first: int, last: int) -> None:
        super().__init__(text)
        self.first = first
        self.last = last


def same_in_runs(machine: type[StateMachine], commands: Iterable[Sequence[Any]]) -> None:
    """Check that outcomes and state are the same with the class's run handlers and without.

    Whether commands of one name come in a run depends on how many follow each other: give many alike, bad ones among
    them.

    Raises:
        RunHandlerError: they are not. TypeError: the state is not plain data.
    """
    at_once, one_by_one = Rehearsal(machine()), Rehearsal(machine(), runs=False)
    left, first = iter(commands), 0
    while batch := list(islice(left, RECORD_COMMANDS)):
        last = first + len(batch) - 1
        outcomes = zip(batch, at_once.run(batch), one_by_one.run(batch), strict=True)
        for number, ((name, *_), outcome, wanted) in enumerate(outcomes, first):
            if outcome != wanted:
                text = f"command {number} ({name}): {_words(outcome)} in a run, {_words(wanted)} alone"
                raise RunHandlerError(text, number, number)
        if at_once.proof() != one_by_one.proof():
            raise RunHandlerError(f"states differ after commands {first} to {last} in runs and alone", first, last)
        first = last + 1


def _words(outcome: Outcome) -> str:
    return f"ok {outcome.value!r}" if outcome.error is None else f"{outcome.kind} {outcome.error}"
