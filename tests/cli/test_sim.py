"""`mcast sim`: what it prints and how it ends."""

from __future__ import annotations

import json

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
