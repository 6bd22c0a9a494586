"""Many seeds: each a cluster of its own, run in worker processes; the first broken promise comes back as data.

One seed is one run, in every process and under every PYTHONHASHSEED; `RunOutcome.trace` proves it.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Generator, Iterable, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from dataclasses import dataclass, replace
from multiprocessing import get_context, parent_process
from typing import Final

from mcast.protocol.rules import Rules
from mcast.sim.cluster import SimCluster
from mcast.sim.invariants import Violation
from mcast.sim.loop import Runaway
from mcast.sim.plan import Plan, draw_plan

SEEDS_A_TASK: Final = 8  # a process takes so many at once


@dataclass(frozen=True, slots=True)
class RunOutcome:
    """The result of one run."""

    seed: int
    without: tuple[str, ...]
    """The rules that were switched off."""
    violation: str | None
    """Which promise was broken, in words; None if none was."""
    trace: str
    """Hash of all that happened, in hex."""
    steps: int
    virtual_s: float
    events: int
    """Committed."""
    datagrams: int
    dropped: int
    faults: int
    marks: dict[str, int]
    """How often what happened."""
    cpu_s: float

    @property
    def command(self) -> str:
        """What replays this run, with every step on the screen."""
        without = "".join(f" --without {rule}" for rule in self.without)
        return f"mcast sim --seed {self.seed}{without} --trace"


def rules_without(names: Iterable[str]) -> Rules:
    """Every rule on but these. Raises ValueError on a name that is no rule's."""
    known = Rules.__dataclass_fields__
    names = list(names)
    unknown = [name for name in names if name not in known]
    if unknown:
        raise ValueError(f"unknown rule {unknown[0]!r}; there are {', '.join(known)}")
    return replace(Rules(), **dict.fromkeys(names, False))


def run(seed: int, without: Sequence[str] = (), lines: list[str] | None = None) -> RunOutcome:
    """One run. `lines`, when given, is filled with a readable log."""
    return run_plan(draw_plan(seed), without, lines)


def run_plan(plan: Plan, without: Sequence[str] = (), lines: list[str] | None = None) -> RunOutcome:
    """One run of a plan that may differ from its seed's own."""
    started = time.process_time()
    cluster = SimCluster(plan, rules_without(without), lines)
    violation = None
    try:
        cluster.run()
    except (Violation, Runaway) as error:
        violation = str(error)
    except Exception as error:  # a crash of the protocol is a broken promise like any other
        if lines is not None:
            raise
        violation = f"{type(error).__name__}: {error}"
    return RunOutcome(
        seed=plan.seed,
        without=tuple(without),
        violation=violation,
        trace=cluster.loop.trace,
        steps=cluster.loop.steps,
        virtual_s=cluster.loop.now,
        events=cluster.checker.last,
        datagrams=cluster.network.sent,
        dropped=cluster.network.dropped,
        faults=cluster.faults_done,
        marks=dict(sorted({**cluster.world.marks, "readmitted": cluster.checker.readmissions}.items())),
        cpu_s=time.process_time() - started,
    )


def run_many(seeds: Sequence[int], without: Sequence[str] = ()) -> list[RunOutcome]:
    """Some runs, one after another, in this process."""
    return [run(seed, without) for seed in seeds]


def swarm(
    seeds: Sequence[int],
    workers: int,
    without: Sequence[str] = (),
    progress: Callable[[RunOutcome], None] = lambda outcome: None,
) -> Generator[RunOutcome, None, None]:
    """Run all seeds in `workers` processes; outcomes come in order of seeds, each told to `progress` as well.

    Close it to stop early: what has not begun then never does.
    """
    tasks = [seeds[at : at + SEEDS_A_TASK] for at in range(0, len(seeds), SEEDS_A_TASK)]
    if workers <= 1:
        for seed in seeds:
            outcome = run(seed, without)
            progress(outcome)
            yield outcome
        return
    pool = ProcessPoolExecutor(workers, mp_context=get_context("spawn"), initializer=_end_with_parent)
    try:
        futures: list[Future[list[RunOutcome]]] = [pool.submit(run_many, task, tuple(without)) for task in tasks]
        for future in futures:
            for outcome in future.result():
                progress(outcome)
                yield outcome
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


def _end_with_parent() -> None:
    """A worker whose parent was killed would wait for its next task for ever."""

    def wait() -> None:
        parent = parent_process()
        if parent is not None:
            parent.join()
            os._exit(1)

    threading.Thread(target=wait, name="parent", daemon=True).start()
