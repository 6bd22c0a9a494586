import json
from typing import Any

import pytest

from mcast.cli.app import main
from mcast.cli.bench import throughput
from mcast.cli.exits import ExitCode
from tests.bench.overload import PATIENCE, command_unless_overloaded


def throughput_document() -> dict[str, Any]:
    spread = {"median": 2_000, "min": 1_000, "max": 3_000}
    work = {
        "events": 500_000, "size": 12, "event_bytes": 12, "nodes": 3, "observers": 0, "clients": 1, "sync": "os",
        "sealed": True, "mtu": 1_500, "loss": 0.0,
    }  # fmt: skip
    cost = {
        "cpu_us": 1.25, "user_us": 1.0, "datagrams_sent": 0.01, "bytes_sent": 1_234.5, "sends": 0.001,
        "receives": 0.002, "switches": 0.003,
    }  # fmt: skip
    client = {**dict.fromkeys(cost), "cpu_us": 0.5, "user_us": 0.25, "switches": 0.1}
    return {
        "workload": work,
        "events_per_s": spread, "acknowledged_per_s": spread, "yardstick_per_s": spread, "mb_per_s": spread,
        "ratio": {"median": 0.25, "min": 0.2, "max": 0.3},
        "rounds": [{"per_event": {"n1": cost, "client": client}, "sequencer": "n1"}],
    }  # fmt: skip


def test_throughput_is_a_table_with_its_ratio_and_what_each_process_used(capsys: pytest.CaptureFixture[str]) -> None:
    throughput.show(throughput_document())
    said = capsys.readouterr().out
    assert "500,000 events of 12 bytes, 3 nodes, sealed, sync os" in " ".join(said.split())
    assert "25.0%" in said
    rows = {line.strip().split("  ")[0]: line.split() for line in said.splitlines()}
    assert rows["n1 (sequencer)"][-7:] == ["1.25", "1", "0.01", "1,234", "0.001", "0.002", "0.003"]
    assert rows["client"][-7:] == ["0.5", "0.25", "-", "-", "-", "-", "0.1"]


def test_what_is_not_known_is_left_out(capsys: pytest.CaptureFixture[str]) -> None:
    document = throughput_document() | {"yardstick_per_s": None, "ratio": None}
    for cost in document["rounds"][0]["per_event"].values():
        cost["cpu_us"] = None
    throughput.show(document)
    said = capsys.readouterr().out
    assert "yardstick" not in said
    assert "used" not in said


def test_loss_clients_and_observers_stand_in_the_title(capsys: pytest.CaptureFixture[str]) -> None:
    document = throughput_document()
    document["workload"] |= {"loss": 0.05, "clients": 1_000, "observers": 2}
    throughput.show(document)
    said = " ".join(capsys.readouterr().out.split())
    assert "from 1,000 clients" in said and "and 2 observers" in said and "losing 5%" in said


@pytest.mark.parametrize("loss", ["200%", "1%,5%", "much"])
def test_the_loss_it_takes_is_one_share_or_none(loss: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["bench", "throughput", "--loss", loss]) == 2
    assert "; give 0%, or one share above it and at most 50%, such as 5%\n" in capsys.readouterr().err


@PATIENCE
def test_the_command_measures_what_its_flags_say(capsys: pytest.CaptureFixture[str]) -> None:
    words = (
        "bench throughput --events 300 --size 40 --nodes 2 --observers 1 --clients 2 --sync always --no-key "
        "--mtu 2000 --loss 5% --rounds 2 --no-yardstick --json"
    )
    code, said, _ = command_unless_overloaded(words, capsys)
    assert code == ExitCode.OK
    document = json.loads(said)
    work = document["workload"]
    expected = {
        "events": 300, "size": 40, "nodes": 2, "observers": 1, "clients": 2, "sync": "always", "sealed": False,
        "mtu": 2_000, "loss": 0.05,
    }  # fmt: skip
    assert {name: work[name] for name in expected} == expected
    assert document["ratio"] is None
    assert [(one["events"], one["clients"], len(one["per_event"])) for one in document["rounds"]] == [(300, 2, 4)] * 2
