import csv
import io
from typing import Any

import pytest

from mcast.cli.bench import query
from mcast.cli.exits import ExitCode
from tests.bench.overload import PATIENCE, command_unless_overloaded

SPREAD = {"median": 30_000, "min": 20_000, "max": 40_000}


def document(depth: int, *nodes: str) -> dict[str, Any]:
    work = {
        "level": "bounded", "clients": 4, "depth": depth, "nodes": 3, "observers": 1, "sealed": False, "sync": "os",
    }  # fmt: skip
    reported = {"answers_per_s": SPREAD, "took_us": {"p50": SPREAD, "p99": SPREAD}}
    used = {"per_event": {**{node_id: {"cpu_us": 12.34} for node_id in nodes}, "client": {"cpu_us": 5.0}}}
    return {
        "workload": work, "answers_per_s": SPREAD, "sequencer": "n1", "replicas": dict.fromkeys(nodes, reported),
        "rounds": [{"replicas": dict.fromkeys(nodes, used)}],
    }  # fmt: skip


def test_one_replica_has_no_sum(capsys: pytest.CaptureFixture[str]) -> None:
    query.show(document(1, "n2"))
    said = capsys.readouterr().out
    assert "bounded queries: 4 clients" in said
    assert "n2: a query took, p99 us" in said
    assert "all together" not in said
    assert said.endswith("CPU us per answer, last round: n2 12.3, its clients 5.0 (sequencer: n1)\n")


def test_all_replicas_are_told_one_by_one_and_in_sum(capsys: pytest.CaptureFixture[str]) -> None:
    query.show(document(64, "n1", "n2"))
    said = capsys.readouterr().out
    assert "n1: 64 queries took, p50 us" in said
    assert "all together: answers/s" in said


@PATIENCE
def test_the_command_writes_csv(capsys: pytest.CaptureFixture[str]) -> None:
    words = "bench query --level bounded --seconds 0.1 --rounds 2 --nodes 2 --no-key --at all --clients 1 --csv -"
    code, said, _ = command_unless_overloaded(words, capsys)
    assert code == ExitCode.OK
    lines = list(csv.DictReader(io.StringIO(said)))
    assert [line["run"] for line in lines] == ["1", "2"]
    for line in lines:
        assert (line["bench"], line["workload.level"]) == ("query", "bounded")
        each = [float(line[f"replicas.{node_id}.answers_per_s"]) for node_id in ("n1", "n2")]
        assert float(line["answers_per_s"]) == sum(each) > 0
