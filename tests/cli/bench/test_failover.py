import pytest

from mcast.cli.bench import failover


def test_failover_is_a_row_for_each_kind_of_client(capsys: pytest.CaptureFixture[str]) -> None:
    reported = {"p50": 65.5, "p90": 80.0, "mean": 66.1, "min": 50.0, "max": 90.0, "all": [50.0, 90.0]}
    work = {
        "kind": "stop", "times": 2, "nodes": 3, "profile": "fast", "sealed": True, "sync": "os", "rate": 100.0,
    }  # fmt: skip
    failover.show(
        {
            "workload": work,
            "outage_ms": reported,
            "gateway_outage_ms": {**reported, "max": 1_000.0},
            "acknowledged": 1_234,
        }
    )
    said = capsys.readouterr().out
    assert "the sequencer stopped 2 times: 3 nodes, profile fast, sealed" in said
    rows = {line.split("  ")[0].strip(): line.split()[-5:] for line in said.splitlines() if "client" in line}
    assert rows == {
        "the other nodes' clients": ["65.5", "80.0", "66.1", "50.0", "90.0"],
        "the struck node's client": ["65.5", "80.0", "66.1", "50.0", "1000.0"],
    }
    assert said.endswith("each, in ms: 50 90\n1,234 commands were acknowledged: none lost, none doubled\n")
