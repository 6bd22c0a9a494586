"""The gap report reads what `mcast gaps --json` prints, and its exit code is its verdict."""

import importlib.util
import io
import json
import sys
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


gap_report = load("gap_report")


def document(**changes: Any) -> dict[str, Any]:
    closed = {"first": 4, "last": 9, "opened_at": 1.0, "naks": 1, "repaired_by": "n1", "latency_ms": 2.0}
    node = {"id": "n2", "open": [], "closed": [closed], "lost": 3, "repaired": 2, "superseded": 0, "transferred": 1,
            "duplicates": 0, "injected": {"lost": 2, "duplicates": 0, "reordered": 0, "corrupted": 0}}  # fmt: skip
    return {"nodes": [{**node, **changes}, {"id": "n3"}]}


@pytest.mark.parametrize(
    ("changes", "code", "says"),
    [
        ({}, 0, ""),
        ({"transferred": 0}, 1, "n2: 1 of 3 lost datagrams not recovered"),
        ({"open": [[20, 21]]}, 1, "n2 has 1 open gap"),
        ({"injected": {"lost": 3, "duplicates": 0, "reordered": 0, "corrupted": 2}}, 1, "2 of 5 injected losses"),
    ],
)
def test_the_verdict(
    changes: dict[str, Any], code: int, says: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "gaps.json").write_text(json.dumps(document(**changes)))
    assert gap_report.main([str(tmp_path / "gaps.json"), "--json"]) == code
    out, err = capsys.readouterr()
    report = json.loads(out)
    assert report["reconciles"] is (code == 0)
    assert report["silent"] == ["n3"]
    assert says in err


def test_who_did_not_answer_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "gaps.json").write_text(json.dumps(document()))
    assert gap_report.main([str(tmp_path / "gaps.json")]) == 0
    assert capsys.readouterr().err == "gap_report: n3 did not answer\n"
    (tmp_path / "gaps.json").write_text(json.dumps({"nodes": [{"id": "n1"}]}))
    assert gap_report.main([str(tmp_path / "gaps.json"), "--json"]) == 3
    out, err = capsys.readouterr()
    assert json.loads(out)["reconciles"] is False
    assert err == "gap_report: n1 did not answer\ngap_report: nobody answered, so there is nothing to judge\n"


def test_stdin_and_a_table(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(sys, "stdin", io.StringIO(json.dumps(document())))
    assert gap_report.main(["--newest", "5"]) == 0
    out = capsys.readouterr().out
    assert "4..9" in out
    assert "injected" in out


@pytest.mark.parametrize(
    "text", ["", "[]", "{}", '{"nodes": [{"id": "n1", "lost": "x"}]}', "[" * 100_000], ids=range(5)
)
def test_what_is_no_gaps_document_is_refused_in_one_line(
    text: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "gaps.json").write_text(text)
    assert gap_report.main([str(tmp_path / "gaps.json")]) == 2
    out, err = capsys.readouterr()
    assert (out, err.count("\n")) == ("", 1)
    assert gap_report.main([str(tmp_path / "none.json")]) == 2
