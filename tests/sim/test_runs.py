"""Random runs: nothing promised is ever broken, and a seed is one run wherever it is run."""

from __future__ import annotations

import os
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

from mcast.sim import draw_plan, rules_without, run, swarm
from mcast.sim.plan import DISK_KINDS, KINDS
from mcast.sim.runs import run_plan

SEEDS = 1_000
ROOT = Path(__file__).parents[2]
RARE = (
    "SequencerReady", "SteppedDown", "Truncated", "GapClosed", "transfer", "died in a disk call", "disk failed",
    "suspect", "LogRecovered", "linearizable read", "bounded read", "session read", "blackout", "readmitted",
    "handed over", "seen death", "majority healed", "no room beyond a gap", "died at start", "renamed",
    "disk full", "applying paused",
)  # fmt: skip


@pytest.mark.timeout(900)
def test_a_swarm_of_random_runs_breaks_no_promise_and_reaches_what_is_rare() -> None:
    marks: Counter[str] = Counter()
    for outcome in swarm(range(SEEDS), workers=2):
        assert outcome.violation is None, f"{outcome.violation}; replay: {outcome.command}"
        marks.update(outcome.marks)
    assert all(marks[rare] for rare in RARE), marks


def test_a_seed_gives_the_same_trace_in_every_process_whatever_the_hash_seed() -> None:
    seeds = (0, 7, 40)
    program = f"from mcast.sim import run\nfor seed in {seeds}: print(run(seed).trace)"
    traces = {
        subprocess.run(
            [sys.executable, "-c", program],
            env={**os.environ, "PYTHONHASHSEED": hash_seed, "PYTHONPATH": str(ROOT)},
            capture_output=True,
            text=True,
            timeout=50,
            check=True,
        ).stdout
        for hash_seed in ("0", "1", "4242")
    }
    assert traces == {"".join(f"{run(seed).trace}\n" for seed in seeds)}


def test_sealed_data_that_others_have_opened_already_begins_a_run_like_any_other() -> None:
    assert run(456_958).violation is None


def test_a_readable_log_changes_nothing_in_the_run() -> None:
    lines: list[str] = []
    assert run(3, lines=lines).trace == run(3).trace
    assert len(lines) > 100


def test_different_seeds_give_different_runs() -> None:
    assert len({run(seed).trace for seed in range(8)}) == 8


def test_plans_vary_in_everything_that_can_go_wrong() -> None:
    plans = [draw_plan(seed) for seed in range(300)]
    kinds = {fault.kind for plan in plans for fault in plan.faults}
    assert kinds == {*KINDS, *DISK_KINDS, "forged"}
    assert {plan.members for plan in plans} == {1, 3, 4, 5}
    assert {plan.sync for plan in plans} == {"always", "os"}
    assert max(plan.weather.loss for plan in plans) == 0.3
    outlast = [fault.for_s > plan.election_timeout_s[1] for plan in plans for fault in plan.faults]
    assert sum(outlast) > len(outlast) / 2, "most faults outlast an election"


def test_a_plan_names_only_nodes_that_there_are_and_at_most_one_blackout() -> None:
    for plan in map(draw_plan, range(500)):
        hit = {index for fault in plan.faults for index in fault.nodes}
        assert all(index < plan.members + plan.observers for index in hit)
        assert sum(fault.kind == "blackout" for fault in plan.faults) <= 1


def test_a_violation_comes_with_the_command_that_replays_it() -> None:
    outcome = run(0, ["sync_before_ack"])
    assert outcome.violation is not None
    assert outcome.command == "mcast sim --seed 0 --without sync_before_ack --trace"
    assert run(0, ["sync_before_ack"]).trace == outcome.trace


def test_one_plan_runs_like_its_seed() -> None:
    assert run_plan(draw_plan(5)).trace == run(5).trace


def test_an_unknown_rule_is_refused_by_name() -> None:
    with pytest.raises(ValueError, match="unknown rule 'luck'"):
        rules_without(["luck"])


def test_a_swarm_can_be_stopped_early() -> None:
    runs = swarm(range(100_000), workers=1)
    assert next(runs).seed == 0
    runs.close()
