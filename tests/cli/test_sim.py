"""`mcast sim`: what it prints and how it ends."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from mcast.cli.app import main
from mcast.cli.exits import ExitCode


def test_a_swarm_without_violation_ends_well_and_counts(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["sim", "--seeds", "6", "--workers", "1", "--json"]) == ExitCode.OK
    totals = json.loads(capsys.readouterr().out)
    assert totals["seeds"] == 6 and totals["first_seed"] == 0
    assert totals["violation"] is None
    assert totals["events"] > 0 and totals["datagrams"] > totals["lost"] > 0


def test_a_swarm_without_a_rule_stops_at_its_first_violation_and_says_how_to_replay_it(
    capsys: pytest.CaptureFixture[str],
) -> None:
    arguments = ["sim", "--seeds", "50", "--workers", "1", "--without", "sync_before_ack"]
    assert main([*arguments, "--json"]) == ExitCode.FINDING
    found = json.loads(capsys.readouterr().out)
    assert found["seeds"] == found["violation"]["seed"] + 1
    assert main(arguments) == ExitCode.FINDING
    replay = found["violation"]["command"]
    assert f"replay: {replay}" in capsys.readouterr().out
    assert main(replay.split()[1:]) == ExitCode.FINDING
    printed = capsys.readouterr().out
    assert found["violation"]["violation"] in printed
    assert "Found(" in printed


def test_one_seed_tells_its_trace(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["sim", "--seed", "3", "--json"]) == ExitCode.OK
    first = json.loads(capsys.readouterr().out)
    assert main(["sim", "--seed", "3", "--trace", "--json"]) == ExitCode.OK
    again = json.loads(capsys.readouterr().out)
    assert first["trace"] == again["trace"]
    assert first["lines"] is None and len(again["lines"]) > 100


def test_a_scenario_is_played_by_name(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["sim", "--scenario", "figure_8"]) == ExitCode.OK
    assert "figure_8: no violation" in capsys.readouterr().out
    assert main(["sim", "--scenario", "figure_8", "--without", "commit_own_epoch_only", "--json"]) == ExitCode.FINDING
    assert "committed" in json.loads(capsys.readouterr().out)["violation"]


@pytest.mark.parametrize(
    ("arguments", "names"),
    [
        (["--without", "luck"], "unknown rule 'luck'"),
        (["--scenario", "hamlet"], "unknown scenario 'hamlet'"),
        (["--trace"], "--seed or --scenario"),
        (["--seeds", "0"], "--seeds"),
    ],
)
def test_a_mistake_is_refused_by_name(
    arguments: list[str], names: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    assert main(["sim", *arguments]) == ExitCode.USAGE
    assert names in capsys.readouterr().err


@pytest.mark.skipif(sys.platform != "linux", reason="looks for the workers in /proc")
def test_workers_end_with_a_swarm_that_is_killed() -> None:
    swarm = subprocess.Popen(
        [sys.executable, "-m", "mcast", "sim", "--seeds", "100000", "--workers", "2"],
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    workers = _wait_for(lambda: _children(swarm.pid) if len(_children(swarm.pid)) >= 3 else None)
    swarm.kill()
    swarm.wait(10)
    _wait_for(lambda: not any(map(_alive, workers)) or None)


def _children(pid: int) -> list[int]:
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def _alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def _wait_for(what: Callable[[], Any]) -> Any:
    deadline_s = time.monotonic() + 30
    while (found := what()) is None:
        assert time.monotonic() < deadline_s
        time.sleep(0.02)
    return found


@pytest.mark.parametrize("workers", ["0", "-1"])
def test_no_workers_are_refused(workers: str) -> None:
    assert main(["sim", "--seeds", "1", "--workers", workers]) == ExitCode.USAGE
