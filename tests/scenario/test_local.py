"""Scenarios on real node processes, on this machine's loopback."""

from collections.abc import Sequence
from pathlib import Path

import pytest

from mcast.machine.kv import KeyValue
from mcast.scenario import load_scenario, run_scenario
from mcast.scenario.local import run_local
from mcast.scenario.outcome import ScenarioRun
from mcast.scenario.workload import commands_of

SCENARIOS = Path(__file__).parents[2] / "scenarios"
MACHINE = """
from mcast import StateMachine, command

class Tally(StateMachine):
    def __init__(self):
        self.total = 0

    @command
    def add(self, ctx, amount):
        self.total += amount
        return self.total
"""
SCENARIO = """
name = "cut-off"
[cluster]
machine = "tally:Tally"
profile = "fast"
[workload]
rate = 200
seconds = 0.8
commands = [["add", "{n}"]]
[[fault]]
at = 0.2
for = 0.3
node = "followers"
kind = "loss"
percent = 30
[[fault]]
at = 0.2
for = 0.4
node = "n3"
kind = "partition"
"""

TROUBLED = """
name = "troubled"
[cluster]
profile = "fast"
[workload]
rate = 200
seconds = 1.0
commands = [["incr", "k", 1]]
"""

pytestmark = pytest.mark.timeout(90)


def test_smoke_passes_on_real_processes() -> None:
    report = run_scenario(load_scenario(SCENARIOS / "smoke.toml"), "processes")
    assert report.ok, report.checks
    assert report.commands["ok"] == 1_000 and report.replay is None
    assert [account.id for account in report.datagrams] == ["n1", "n2", "n3"]


def test_loss_and_a_partition_befall_a_machine_of_ones_own(tmp_path: Path) -> None:
    (tmp_path / "tally.py").write_text(MACHINE)
    (tmp_path / "cut-off.toml").write_text(SCENARIO)
    report = run_scenario(load_scenario(tmp_path / "cut-off.toml"), "processes")
    assert report.ok, report.checks
    assert [one.kind for one in report.faults] == ["loss", "partition"]
    injected = {account.id: account.injected for account in report.datagrams}
    assert injected["n3"] > 0


@pytest.mark.parametrize(
    ("kind", "more", "outage_ms"),
    [
        ("stop", "", 150),  # the least election timeout of the fast profile
        ("partition", "", 150),
        ("delay", "ms = 100", 100),  # to a follower at least: it begins at one node after the other
    ],
)
async def test_clients_wait_for_as_long_as_the_trouble_makes_them(
    tmp_path: Path, kind: str, more: str, outage_ms: float
) -> None:
    target = "all" if kind == "delay" else "sequencer"
    lines = ["[[fault]]", "at = 0.2", "for = 0.4", f'kind = "{kind}"', f'node = "{target}"', more]
    run = await run_troubled(tmp_path, lines)
    assert run.meter.outage_s * 1e3 >= outage_ms


async def test_the_ledgers_tell_what_befell_datagrams(tmp_path: Path) -> None:
    lines: list[str] = []
    for kind in ("reorder", "dup", "corrupt"):
        lines += ["[[fault]]", "at = 0.1", f'kind = "{kind}"', 'node = "n2"', "percent = 20"]
    run = await run_troubled(tmp_path, lines)
    injected = {node["id"]: node["injected"] for node in run.gaps["nodes"]}
    assert min(injected["n2"][reported] for reported in ("reordered", "duplicates", "corrupted")) > 0
    assert not any(injected["n1"].values()) and not any(injected["n3"].values())


async def run_troubled(folder: Path, lines: Sequence[str]) -> ScenarioRun:
    file = folder / "troubled.toml"
    file.write_text("\n".join([TROUBLED, *lines]))
    scenario = load_scenario(file)
    run = await run_local(scenario, commands_of(scenario, KeyValue), 1, folder / "kept")
    assert run.problem is None and None not in run.receipts
    return run
