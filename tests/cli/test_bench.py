import json
from typing import Any

import pytest

from mcast.cli import bench
from mcast.cli.app import main
from mcast.cli.exits import ExitCode


@pytest.mark.parametrize(
    ("words", "flag"),
    [
        ("throughput --size 3", "--size"),
        ("throughput --events 0", "--events"),
        ("throughput --rounds 0", "--rounds"),
        ("throughput --nodes 99", "--nodes"),
        ("throughput --mtu 100", "--mtu"),
        ("throughput --sync never", "--sync"),
        ("loss --loss ten", "--loss"),
        ("loss --loss 90%", "--loss"),
        ("loss --seconds 0", "--seconds"),
        ("loss --rate 0", "--rate"),
        ("loss --rate nan", "--rate"),
        ("loss --seed -1", "--seed"),
        ("failover --kind burn", "--kind"),
        ("failover --times 0", "--times"),
        ("failover --nodes 2", "--nodes"),
        ("failover --profile slow", "--profile"),
        ("failover --sync never", "--sync"),
        ("failover --rate 0", "--rate"),
        ("failover --pause nan", "--pause"),
    ],
)
def test_an_impossible_option_is_refused_in_one_line(words: str, flag: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["bench", *words.split()]) == ExitCode.USAGE
    said = capsys.readouterr()
    assert said.out == ""
    assert said.err.startswith(f"mcast: {flag} = ")
    assert said.err.count("\n") == 1


def throughput_document() -> dict[str, Any]:
    spread = {"median": 2_000, "min": 1_000, "max": 3_000}
    return {
        "workload": {
            "events": 500_000, "size": 12, "event_bytes": 12, "nodes": 3, "sync": "os", "sealed": True, "mtu": 1_500,
        },
        "events_per_s": spread, "acknowledged_per_s": spread, "yardstick_per_s": spread, "mb_per_s": spread,
        "ratio": {"median": 0.25, "min": 0.2, "max": 0.3},
        "rounds": [{"cpu_us_per_event": {"n1": 1.25, "client": 0.5}, "sequencer": "n1"}],
    }  # fmt: skip


def test_throughput_is_a_table_with_its_ratio(capsys: pytest.CaptureFixture[str]) -> None:
    bench.print_throughput(throughput_document())
    said = capsys.readouterr().out
    assert "500,000 events of 12 bytes, 3 nodes, sealed, sync os" in said
    assert "25.0%" in said
    assert "n1 1.25, client 0.50 (sequencer: n1)" in said


def test_cpu_time_that_is_not_known_is_left_out(capsys: pytest.CaptureFixture[str]) -> None:
    document = throughput_document()
    document["rounds"][0]["cpu_us_per_event"]["n1"] = None
    bench.print_throughput(document)
    assert "CPU" not in capsys.readouterr().out


def test_loss_is_a_row_a_share(capsys: pytest.CaptureFixture[str]) -> None:
    work = {"rate": 2_000.0, "seconds": 5.0, "event_bytes": 255, "nodes": 3, "sealed": False, "sync": "os"}
    run = {
        "loss": 0.015, "lost": 1_234, "repair_ms": {"mean": 6.5, "p50": 4.0, "p99": 30.0, "max": 64.0},
        "repairs_per_loss": 1.111, "naks_per_loss": 0.987, "rate": 1_999,
    }  # fmt: skip
    bench.print_loss({"workload": work, "runs": [run]})
    row = capsys.readouterr().out.splitlines()[-2].split()
    assert row == ["1.5", "%", "1,234", "6.5", "4.0", "30.0", "64.0", "1.11", "0.99", "1,999"]


def test_failover_is_a_row_for_each_kind_of_client(capsys: pytest.CaptureFixture[str]) -> None:
    told = {"p50": 65.5, "p90": 80.0, "mean": 66.1, "min": 50.0, "max": 90.0, "all": [50.0, 90.0]}
    work = {
        "kind": "stop", "times": 2, "nodes": 3, "profile": "fast", "sealed": True, "sync": "os", "rate": 100.0,
    }  # fmt: skip
    bench.print_failover(
        {"workload": work, "outage_ms": told, "gateway_outage_ms": {**told, "max": 1_000.0}, "acknowledged": 1_234}
    )
    said = capsys.readouterr().out
    assert "the sequencer stopped 2 times: 3 nodes, profile fast, sealed" in said
    rows = {line.split("  ")[0].strip(): line.split()[-5:] for line in said.splitlines() if "client" in line}
    assert rows == {
        "the other nodes' clients": ["65.5", "80.0", "66.1", "50.0", "90.0"],
        "the struck node's client": ["65.5", "80.0", "66.1", "50.0", "1000.0"],
    }
    assert said.endswith("each, in ms: 50 90\n1,234 commands were acknowledged: none lost, none doubled\n")


def test_a_rate_that_was_not_held_is_told(capsys: pytest.CaptureFixture[str]) -> None:
    runs = [{"loss": 0.01, "rate": 990}, {"loss": 0.1, "rate": 400}]
    bench.tell_rates({"runs": runs}, 1_000.0)
    assert capsys.readouterr().err == (
        "mcast: only 400 of 1,000 commands/s were reached at 10% loss: this machine takes no more\n"
    )


@pytest.mark.timeout(30)
def test_the_command_prints_one_document(capsys: pytest.CaptureFixture[str]) -> None:
    words = "bench loss --loss 20% --seconds 0.5 --rate 500 --nodes 2 --no-key --json"
    assert main(words.split()) == ExitCode.OK
    (line,) = capsys.readouterr().out.splitlines()
    document = json.loads(line)
    assert document["bench"] == "loss"
    assert document["workload"]["sealed"] is False
    assert [run["loss"] for run in document["runs"]] == [0.2]
