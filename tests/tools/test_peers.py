"""The program over the comparison; three pipes stand for the others."""

import importlib.util
import json
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest


def load(name: str) -> ModuleType:
    path = Path(__file__).parents[2] / "tools" / f"{name}.py"
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


peers = load("peers")
SMALL = ["--only", "pipes", "--rounds", "1", "--events", "1000", "--seconds", "0.05"]


def test_one_json_document(capsys: pytest.CaptureFixture[str]) -> None:
    assert peers.main([*SMALL, "--sizes", "12,100", "--json"]) == 0
    out, err = capsys.readouterr()
    assert err == ""
    document = json.loads(out)
    (pipes,) = document["peers"]
    assert list(pipes["sizes"]) == ["12", "100"]
    assert pipes["sizes"]["12"]["lead"]["median"] == 1
    assert document["workload"] == {
        "sizes": [12, 100], "events": 1_000, "seconds": 0.05, "nodes": 3, "rounds": 1,
    }  # fmt: skip


def spread(value: float) -> dict[str, float]:
    return {"median": value, "min": value, "max": value}


def document(**changes: Any) -> dict[str, Any]:
    size = {
        "applied_per_s": spread(145_000), "acknowledged_per_s": spread(146_000), "ack_p50_us": spread(81.5),
        "lead": spread(2.5), "ack_lead": None,
    }  # fmt: skip
    redis = {
        "name": "redis", "title": "Redis", "version": "7.0.15", "acknowledged": "in memory", "beside": "mcast",
        "error": None, "sizes": {"1024": size},
    }  # fmt: skip
    return {
        "machine": {"processors": 2}, "workload": {"sizes": [1_024], "nodes": 3, "rounds": 5}, "skipped": [],
        "peers": [redis], **changes,
    }  # fmt: skip


def run(monkeypatch: pytest.MonkeyPatch, reported: dict[str, Any]) -> int:
    async def measure(*what: Any) -> dict[str, Any]:
        return reported

    monkeypatch.setattr(peers, "measure", measure)
    return int(peers.main([]))


def test_a_table_with_what_an_acknowledgement_means(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(monkeypatch, document()) == 0
    out, err = capsys.readouterr()
    row = next(line for line in out.splitlines() if line.strip().startswith("Redis "))
    assert row.split() == ["Redis", "145,000", "x", "2.5", "81.5", "-"]
    assert "Redis (7.0.15), acknowledged: in memory" in out
    assert err == ""


def test_what_is_left_out_or_broken_is_told(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    broken = {
        "name": "etcd",
        "title": "etcd",
        "version": "",
        "acknowledged": "synced",
        "beside": "mcast-synced",
        "error": "it died",
    }
    skipped = [{"name": "nats", "missing": "nats-server", "install": "apt install nats-server"}]
    assert run(monkeypatch, document(peers=[broken], skipped=skipped)) == 1
    out, err = capsys.readouterr()
    assert "compared with mcast, sync always" in out
    assert err.splitlines() == [
        "peers: nats is left out, for this machine lacks nats-server: apt install nats-server",
        "peers: no number for etcd: it died",
    ]


def test_an_interruption_gives_no_number(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    async def measure(*what: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(peers, "measure", measure)
    assert peers.main([]) == 130
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize(
    "arguments",
    [
        ["--rounds", "0"], ["--rounds", "x"], ["--seconds", "nan"], ["--seconds", "1e9"], ["--events", "1"],
        ["--sizes", ""], ["--sizes", "9"], ["--sizes", "12,9000"], ["--only", "nonesuch"],
    ],
)  # fmt: skip
def test_an_impossible_option_is_refused(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        peers.main(arguments)
    assert ended.value.code == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert arguments[0] in err.splitlines()[-1]


def test_sizes_that_are_none_are_told_as_such(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        peers.main(["--sizes", "abc"])
    assert "argument --sizes: abc is no list of numbers, such as 12,256,1024" in capsys.readouterr().err
