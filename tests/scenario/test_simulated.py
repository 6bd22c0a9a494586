"""Scenarios in virtual time, from file to verdict."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from mcast.machine.kv import KeyValue
from mcast.scenario import ScenarioReport, load_scenario, run_scenario
from mcast.scenario.simulated import run_simulated
from mcast.scenario.workload import commands_of

SCENARIOS = Path(__file__).parents[2] / "scenarios"
WORKLOAD = """
name = "short"
[cluster]
profile = "fast"
[workload]
rate = 300
seconds = {seconds}
clients = 2
commands = [["incr", "k{{n%5}}", 1], ["append", "list", "{{n}}"]]
"""
Play = Callable[..., ScenarioReport]


@pytest.fixture
def play(tmp_path: Path) -> Play:
    def play(more: str, seconds: float = 0.6, seed: int = 1) -> ScenarioReport:
        file = tmp_path / "short.toml"
        file.write_text(WORKLOAD.format(seconds=seconds) + more)
        return run_scenario(load_scenario(file), "sim", seed)

    return play


def fault(kind: str, node: str, **how: Any) -> str:
    lines = [f"{key} = {value}" for key, value in {"at": 0.1, **how}.items()]
    return "\n".join(["[[fault]]", f'kind = "{kind}"', f"node = {node}", *lines, ""])


@pytest.mark.parametrize("name", ["smoke", "uniform-loss"])
def test_the_projects_scenarios_pass(name: str) -> None:
    report = run_scenario(load_scenario(SCENARIOS / f"{name}.toml"), "sim")
    assert report.ok, report.checks
    assert report.commands["acknowledged"] == report.commands["submitted"] == report.commands["ok"]
    lost = [account.detected for account in report.datagrams]
    assert sum(lost) > 50 if name == "uniform-loss" else sum(lost) == 0
    assert [account.injected for account in report.datagrams] == lost


def test_a_seed_gives_one_run_and_another_seed_another(play: Play) -> None:
    lossy = fault("loss", '"all"', percent=10)
    one, same, other = play(lossy, 0.2), play(lossy, 0.2), play(lossy, 0.2, seed=2)
    assert one.document() == same.document()
    assert one.trace is not None and one.trace != other.trace
    assert one.replay is not None and one.replay.endswith("short.toml --backend sim --seed 1")


def check_of(report: ScenarioReport, name: str) -> Any:
    return next(check for check in report.checks if check.name == name)


@pytest.mark.parametrize("bound", ["outage_ms_max", "repair_p99_ms_max", "recovered_within_s"])
def test_a_violated_expectation_fails_the_run(play: Play, bound: str) -> None:
    report = play(fault("loss", '"followers"', percent=20) + f"[expect]\n{bound} = 1e-9", 0.3)
    check = check_of(report, bound)
    assert not report.ok and not check.ok and check.measured > check.bound
    assert all(other.ok for other in report.checks if other.name != bound)


def test_commands_that_a_dead_majority_never_answers_fail_the_run(tmp_path: Path) -> None:
    file = tmp_path / "short.toml"
    file.write_text(WORKLOAD.format(seconds=0.3) + fault("partition", '["n1", "n2"]', **{"for": 0.1}))
    scenario = load_scenario(file)
    endless = scenario.faults[0].__class__(at=0.05, for_s=None, nodes=("n1", "n2"), kind="kill")
    broken = type(scenario)(
        name="broken", path=file, cluster=scenario.cluster, workload=scenario.workload, faults=(endless,),
        expect=scenario.expect,
    )  # fmt: skip
    report = run_scenario(broken, "sim")
    assert not report.ok and not check_of(report, "every command is answered").ok
    assert "not recovered 20 s after healing" in check_of(report, "all living nodes recover").detail


def test_a_killed_sequencer_is_replaced_and_comes_back(play: Play) -> None:
    report = play(fault("kill", '"sequencer"', **{"for": 0.6}) + "[expect]\noutage_ms_max = 1500", 1.0)
    assert report.ok, report.checks
    [killed] = report.faults
    assert killed.kind == "kill" and len(killed.nodes) == 1
    assert 0 < check_of(report, "outage_ms_max").measured < 100, "its death is seen, so nobody waits for silence"
    assert len(report.datagrams) == 3


def test_who_is_killed_for_good_is_not_waited_for(play: Play) -> None:
    report = play(fault("kill", '"n3"'), 0.3)
    assert report.ok, report.checks
    assert [account.id for account in report.datagrams] == ["n1", "n2"]


@pytest.mark.parametrize(
    "faults",
    [
        fault("stop", '"followers"', **{"for": 0.2}),
        fault("partition", '"sequencer"', **{"for": 0.5}),
        fault("partition", '["n2", "n3"]', **{"for": 0.2}),
        fault("dup", '"all"', percent=5) + fault("reorder", '"all"', percent=5),
        fault("corrupt", '"n2"', percent=10) + fault("delay", '"n3"', ms=5),
    ],
    ids=["stop", "partition of the sequencer", "partition of followers", "dup and reorder", "corrupt and delay"],
)
def test_every_kind_of_trouble_is_survived(play: Play, faults: str) -> None:
    report = play(faults)
    assert report.ok, report.checks
    assert report.faults


@pytest.mark.parametrize(
    ("faults", "outage_ms"),
    [
        (fault("stop", '"sequencer"', **{"for": 0.3}), 150),  # the least election timeout of the fast profile
        (fault("partition", '"sequencer"', **{"for": 0.3}), 150),
        (fault("delay", '"all"', ms=20, **{"for": 0.3}), 40),  # to a follower and back
    ],
    ids=["stop", "partition", "delay"],
)
def test_clients_wait_for_as_long_as_the_trouble_makes_them(play: Play, faults: str, outage_ms: float) -> None:
    bound = "[expect]\noutage_ms_max = 2000"
    calm, troubled = play(bound), play(faults + bound)
    assert calm.ok and troubled.ok
    assert check_of(calm, "outage_ms_max").measured < 20
    assert check_of(troubled, "outage_ms_max").measured >= outage_ms


@pytest.mark.parametrize(
    ("kind", "reported"), [("dup", "duplicates"), ("reorder", "reordered"), ("corrupt", "corrupted")]
)
def test_the_ledgers_tell_what_befell_datagrams(tmp_path: Path, kind: str, reported: str) -> None:
    file = tmp_path / "short.toml"
    file.write_text(WORKLOAD.format(seconds=0.4) + fault(kind, '"n2"', percent=20))
    scenario = load_scenario(file)
    run = run_simulated(scenario, commands_of(scenario, KeyValue), KeyValue, 1)
    injected = {node["id"]: node["injected"] for node in run.gaps["nodes"]}
    assert injected["n2"].pop(reported) > 0
    assert {count for node in injected.values() for count in node.values()} == {0}


def test_the_log_of_a_run_can_be_read(tmp_path: Path) -> None:
    file = tmp_path / "short.toml"
    file.write_text(WORKLOAD.format(seconds=0.1) + fault("loss", '"n2"', percent=50))
    scenario = load_scenario(file)
    lines: list[str] = []
    run = run_simulated(scenario, commands_of(scenario, KeyValue), KeyValue, 1, lines)
    assert run.problem is None
    assert any("-- loss at n2" in line for line in lines) and any("-- healed" in line for line in lines)
