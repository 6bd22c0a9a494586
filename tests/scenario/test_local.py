"""Scenarios on real node processes, on this machine's loopback."""

from pathlib import Path

import pytest

from mcast.scenario import load_scenario, run_scenario

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
