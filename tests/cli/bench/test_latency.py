import json
from typing import Any

import pytest

from mcast.cli.bench import latency
from mcast.cli.exits import ExitCode
from tests.bench.overload import PATIENCE, command_unless_overloaded

SPREAD = {"median": 300.0, "min": 200.0, "max": 400.0}
TOOK = dict.fromkeys(("p50", "p90", "p99", "p99.9", "max", "mean", "count"), SPREAD)


def document(**changed: Any) -> dict[str, Any]:
    work = {"event_bytes": 12, "rate": None, "at": "follower", "nodes": 3, "sealed": True, "sync": "always"}
    used = {"n1": {"cpu_us": 123.4}, "client": {"cpu_us": None}}
    return {
        "held": True, "workload": work, "took_us": TOOK, "late_us": None, "pipe_us": TOOK, "sync_us": TOOK,
        "ratio": {"median": 1.5, "min": 1.25, "max": 2.0}, "rounds": [{"per_event": used}], "sequencer": "n1",
        **changed,
    }  # fmt: skip


def test_percentiles_stand_above_those_of_the_bare_floor(capsys: pytest.CaptureFixture[str]) -> None:
    latency.show(document())
    said = capsys.readouterr().out
    assert "one at a time, through the follower; 3 nodes, sealed, sync always" in " ".join(said.split())
    rows = [line.split() for line in said.splitlines()]
    assert ["p99.9", "300.0", "200.0", "400.0"] in rows
    assert ["bare", "asyncio", "pipe,", "p50", "300.0", "200.0", "400.0"] in rows
    assert ["p50", "by", "that", "of", "the", "pipe", "and", "fdatasync", "1.50", "1.25", "2.00"] in rows
    assert said.endswith("CPU us per command, last round: n1 123 (sequencer: n1)\n")


def test_of_a_rate_that_was_not_held_nothing_is_shown(capsys: pytest.CaptureFixture[str]) -> None:
    latency.show(document(held=False, took_us=None, ratio=None))
    assert capsys.readouterr().out == ""


def test_how_late_this_program_was_stands_beside_what_it_measured(capsys: pytest.CaptureFixture[str]) -> None:
    latency.show(document(late_us=TOOK))
    assert "of that late to be sent, p50" in capsys.readouterr().out


def test_without_the_floor_there_is_no_ratio(capsys: pytest.CaptureFixture[str]) -> None:
    latency.show(document(pipe_us=None, sync_us=None, ratio=None))
    said = capsys.readouterr().out
    assert "pipe" not in said and "fdatasync" not in said


@PATIENCE
def test_the_command_prints_one_document(capsys: pytest.CaptureFixture[str]) -> None:
    words = "bench latency --count 50 --rounds 1 --nodes 2 --at follower --sync always --no-key --json"
    code, said, _ = command_unless_overloaded(words, capsys)
    assert code == ExitCode.OK
    (line,) = said.splitlines()
    reported = json.loads(line)
    assert reported["bench"] == "latency"
    assert reported["took_us"]["count"]["median"] == 50
    assert reported["ratio"]["median"] == pytest.approx(
        reported["took_us"]["p50"]["median"]
        / (reported["pipe_us"]["p50"]["median"] + reported["sync_us"]["p50"]["median"]),
        rel=0.01,
    )


@PATIENCE
def test_a_rate_nobody_can_hold_is_a_finding_without_a_number(capsys: pytest.CaptureFixture[str]) -> None:
    words = "bench latency --rate 1000000 --seconds 0.3 --rounds 1 --nodes 2 --no-key --no-yardstick --json"
    code, said, noted = command_unless_overloaded(words, capsys)
    assert code == ExitCode.FINDING
    reported = json.loads(said)
    assert (reported["held"], reported["took_us"], reported["ratio"]) == (False, None, None)
    assert 0 < reported["reached"]["median"] < 900_000
    assert "mcast: only " in noted
    assert " of 1,000,000 commands/s were reached, so there is no latency: " in noted
    assert reported["held_back_by"] in noted
