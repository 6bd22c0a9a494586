import json

import pytest

from mcast.cli.bench import loss
from mcast.cli.bench.running import tell_not_held
from mcast.cli.exits import ExitCode
from tests.bench.overload import PATIENCE, command_unless_overloaded


def test_loss_is_a_row_a_share(capsys: pytest.CaptureFixture[str]) -> None:
    work = {"rate": 2_000.0, "seconds": 5.0, "event_bytes": 255, "nodes": 3, "sealed": False, "sync": "os"}
    run = {
        "loss": 0.015, "lost": 1_234, "repair_ms": {"mean": 6.5, "p50": 4.0, "p99": 30.0, "max": 64.0},
        "repairs_per_loss": 1.111, "naks_per_loss": 0.987, "rate": 1_999,
    }  # fmt: skip
    loss.show({"workload": work, "runs": [run]})
    row = capsys.readouterr().out.splitlines()[-2].split()
    assert row == ["1.5", "%", "1,234", "6.5", "4.0", "30.0", "64.0", "1.11", "0.99", "1,999"]


def test_a_rate_that_was_not_held_is_told(capsys: pytest.CaptureFixture[str]) -> None:
    tell_not_held(400.2, 1_000.0, "n2 was busy", " at 10% loss")
    assert capsys.readouterr().err == "mcast: only 400 of 1,000 commands/s were reached at 10% loss: n2 was busy\n"


@PATIENCE
def test_the_command_prints_one_document(capsys: pytest.CaptureFixture[str]) -> None:
    words = "bench loss --loss 20% --seconds 0.5 --rate 500 --size 1000 --nodes 2 --no-key --json"
    code, said, _ = command_unless_overloaded(words, capsys)
    assert code == ExitCode.OK
    (line,) = said.splitlines()
    document = json.loads(line)
    assert document["bench"] == "loss"
    assert document["workload"]["sealed"] is False
    assert [run["loss"] for run in document["runs"]] == [0.2]
