"""Is a machine deterministic? Run it twice, in processes that hash differently, and compare everything.

What differs between two runs of one stream would differ between two replicas: iteration over sets, `hash()`, `id()`,
the clock, randomness of its own. The processes get PYTHONHASHSEED 1 and 2.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterable, Sequence
from typing import Any, Final

import msgpack

from mcast.errors import Error
from mcast.machine.api import StateMachine
from mcast.testing.runs import same_in_runs

RUN_S: Final = 60.0  # for one run of all commands


class NondeterminismError(Error):
    """Two runs of the same commands differed; `first` and `last` number the commands (from 0) among which it showed."""

    def __init__(self, what: str, first: int, last: int) -> None:
        super().__init__(f"{what} differ after commands {first} to {last}")
        self.first = first
        self.last = last


def deterministic(machine: type[StateMachine], commands: Iterable[Sequence[Any]]) -> None:
    """Check that the class gives the same outcomes and state in two processes, and with its run handlers and without.

    The class must be importable by name, from the same `sys.path` as here.

    Raises:
        NondeterminismError: it does not. RunHandlerError: as `same_in_runs`. Error: a run failed or took too long, or
            all commands failed, which shows nothing.
    """
    given = [list(command) for command in commands]
    order = msgpack.packb([machine.__module__, machine.__qualname__, given])
    one, two = (_run(order, hash_seed) for hash_seed in ("1", "2"))
    for (first, last, outcomes, state), (_, _, other_outcomes, other_state) in zip(one, two, strict=True):
        if outcomes != other_outcomes:
            raise NondeterminismError("outcomes", first, last)
        if state != other_state:
            raise NondeterminismError("states", first, last)
    if machine.runs():
        same_in_runs(machine, given)


def _run(order: bytes, hash_seed: str) -> list[tuple[int, int, bytes, bytes]]:
    environment = {**os.environ, "PYTHONHASHSEED": hash_seed, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    try:
        done = subprocess.run(
            [sys.executable, "-m", "mcast.testing.rehearse"],
            input=order, env=environment, capture_output=True, timeout=RUN_S, check=False,
        )  # fmt: skip
    except subprocess.TimeoutExpired:
        raise Error(f"the commands took over {RUN_S:g} s; give fewer") from None
    if done.returncode:
        last = done.stderr.decode(errors="replace").strip().rpartition("\n")[2]
        raise Error(f"a run of the commands failed: {last or f'exit code {done.returncode}'}")
    steps: list[tuple[int, int, bytes, bytes]] = [tuple(step) for step in msgpack.unpackb(done.stdout)]
    return steps
