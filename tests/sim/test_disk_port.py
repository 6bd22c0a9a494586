"""Simulated disks fill up, and nothing promised is broken by that."""

from collections import Counter
from dataclasses import replace

import pytest

from mcast.sim import draw_plan
from mcast.sim.plan import PlannedFault
from mcast.sim.runs import run_plan


@pytest.mark.parametrize("sync", ["always", "os"])
def test_disks_that_are_full_for_a_while_break_no_promise(sync: str) -> None:
    marks: Counter[str] = Counter()
    for seed in range(8):
        plan = draw_plan(seed)
        faults = tuple(
            PlannedFault(0.35 + 0.12 * at, 0.1, kind, (at % plan.members,), 0.5)
            for at, kind in enumerate(
                ("full-disk", "full-disk", "crash", "full-disk", "torn-call", "full-disk", "short-write")
            )
        )
        outcome = run_plan(replace(plan, sync=sync, faults=faults, trouble_s=1.6))
        assert outcome.violation is None, f"seed {seed}: {outcome.violation}"
        marks.update(outcome.marks)
    assert marks["disk full"]
