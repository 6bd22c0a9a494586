"""What commands print."""

import json
import os
import re
import subprocess
import sys
from typing import Any

import pytest
from rich.console import Console

from mcast.cli import output, render


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ({"a": [1, None, True, "é"]}, '{"a": [1, null, true, "é"]}'),
        (b"\x00\xff", '{"base64": "AP8="}'),
        ([float("nan"), float("inf"), 1.5], '["nan", "inf", 1.5]'),
        ({1: "a", None: b"b", b"k": 2}, '{"1": "a", "None": {"base64": "Yg=="}, "b\'k\'": 2}'),
        ((1, (2, 3)), "[1, [2, 3]]"),
    ],
)
def test_every_value_a_machine_may_return_becomes_json(value: Any, text: str) -> None:
    assert output.to_json(value) == text
    json.loads(text)


@pytest.mark.parametrize("encoding", ["ascii", "latin-1", "utf-8"])
def test_what_stdout_cannot_say_is_escaped_and_json_stays_json(encoding: str) -> None:
    program = r"""
from mcast.cli import output
output.never_fail_to_say()
output.print_json({"k": "k\u00e4se \u6771 \udcff"})
output.print_line("k\u00e4se \u6771")
output.print_table("k\u00e4se", ["\u6771"], [["\u6771"]])
output.note("k\u00e4se \u6771")
"""
    environment = {**os.environ, "PYTHONIOENCODING": encoding, "PYTHONUTF8": "0"}
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, env=environment, check=True, timeout=30)
    lines = done.stdout.decode(encoding).splitlines()
    assert json.loads(lines[0]) == {"k": "käse 東 \udcff"}
    assert lines[1] == {"ascii": "k\\xe4se \\u6771", "latin-1": "käse \\u6771", "utf-8": "käse 東"}[encoding]
    assert b"Traceback" not in done.stderr


def test_cells() -> None:
    assert [output.cell(value) for value in (None, True, False, 1234567, 0.25, "x")] == [
        "-",
        "yes",
        "no",
        "1,234,567",
        "0.2",
        "x",
    ]


def status_node(node_id: str, **changes: Any) -> dict[str, Any]:
    return {
        "id": node_id, "role": "member", "votes": True, "state": "live", "reachable": True, "epoch": 3, "last_seq": 12,
        "commit_seq": 12, "applied_seq": 11, "chain": "ab" * 16, "result_chain": "cd" * 16, "gaps_open": 0,
        "naks_sent": 4, "repairs_received": 5, "repairs_sent": 6, "lag_events": 1, "queries": 7, **changes,
    }  # fmt: skip


def test_status_table_names_the_sequencer_and_who_is_away(capsys: pytest.CaptureFixture[str]) -> None:
    nothing = dict.fromkeys(status_node(""))
    away = {**nothing, "id": "n2", "role": "member", "reachable": False}
    document = {"cluster": "lab", "epoch": 3, "sequencer": "n1",
                "nodes": [status_node("n1"), away, status_node("n3", votes=False)]}  # fmt: skip
    render.print_status(document)
    text = capsys.readouterr().out
    rows = {line.split()[0]: line.split() for line in text.splitlines() if line.strip().startswith("n")}
    assert "lab: epoch 3, sequencer n1" in text
    assert rows["n1"][1:] == ["sequencer", "live", "3", "12", "12", "11", "1", "0", "4", "5", "6", "7", "abababab"]
    assert rows["n2"][1:] == ["member", "unreachable", *["-"] * 11]
    assert rows["n3"][1:5] == ["member", "(no", "vote)", "live"]


def gaps_document() -> dict[str, Any]:
    def closed(first: int, last: int, latency_ms: float) -> dict[str, Any]:
        return {
            "first": first,
            "last": last,
            "opened_at": float(first),
            "naks": 1,
            "repaired_by": "n1",
            "latency_ms": latency_ms,
        }

    def node(node_id: str, gaps: list[dict[str, Any]], lost: int) -> dict[str, Any]:
        injected = {"lost": lost, "duplicates": 0, "reordered": 0, "corrupted": 0}
        return {"id": node_id, "open": [], "closed": gaps, "lost": lost, "repaired": lost, "superseded": 0,
                "transferred": 0, "duplicates": 9, "injected": injected}  # fmt: skip

    return {"nodes": [node("n1", [], 0), node("n2", [closed(4, 9, 2.0), closed(20, 20, 4.0)], 2), {"id": "n3"}]}


def test_gaps_table_reconciles(capsys: pytest.CaptureFixture[str]) -> None:
    render.print_gaps(gaps_document(), newest=1)
    text = capsys.readouterr().out
    rows = [line.split() for line in text.splitlines() if line.strip().startswith("n2")]
    assert rows[0] == ["n2", "2", "2", "2", "0", "0", "0", "0", "9", "3.0", "4.0", "4.0"]
    assert rows[1] == ["n2", "20..20", "4.0", "1", "n1"]
    assert "by one alone: 7" in text
    assert "n3" not in text


def on_a_terminal(monkeypatch: pytest.MonkeyPatch, width: int) -> None:
    monkeypatch.setattr(output, "console", lambda: Console(width=width, force_terminal=True, color_system=None))


@pytest.mark.parametrize("width", [50, 80, 118, 140])
def test_a_narrow_terminal_loses_columns_and_no_digits(
    width: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    on_a_terminal(monkeypatch, width)
    numbers = {"last_seq": 2_018_123, "commit_seq": 2_018_123, "applied_seq": 2_017_999}
    away = dict.fromkeys(status_node("")) | {"id": "n2", "role": "member", "reachable": False}
    nodes = [status_node("n1", **numbers), away, status_node("n3", votes=False, **numbers)]
    render.print_status({"cluster": "lab", "epoch": 3, "sequencer": "n1", "nodes": nodes})
    reported = capsys.readouterr()
    assert "2,017,999" in reported.out and "unreachable" in reported.out and "…" not in reported.out
    assert all(len(line) <= width for line in reported.out.splitlines())
    assert ("queries" in reported.out) == (reported.err == "") == (width == 140)
    assert width == 140 or re.fullmatch(
        r"mcast: \d+ columns left out: widen the terminal, or use --json\n", reported.err
    )
    render.print_gaps(gaps_document())
    reported = capsys.readouterr()
    assert "…" not in reported.out and "detected" in reported.out and "difference" in reported.out
    assert ("superseded" in reported.out) == (width == 140)


def test_a_reader_that_has_seen_enough_ends_nothing() -> None:
    program = (
        "import sys; from mcast.cli import output\n"
        "with output.cut_short(): output.print_table('t', ['a'], [['x']] * 10_000)\n"
        "output.print_line('gone'); output.note('went on')"
    )
    there, gone = os.pipe()
    os.close(there)
    done = subprocess.run([sys.executable, "-c", program], stdout=gone, stderr=subprocess.PIPE, timeout=30, check=True)
    os.close(gone)
    assert done.stderr == b"went on\n"


def test_a_pipe_gets_every_column_whole(capsys: pytest.CaptureFixture[str]) -> None:
    output.print_table("t", [f"column-{index}" for index in range(14)], [["x" * 20] + [1] * 13])
    text = capsys.readouterr().out
    assert "x" * 20 in text
    assert "…" not in text
    assert "\x1b" not in text


def test_counts_of_nodes_that_started_at_different_times_are_told_as_such() -> None:
    nodes = [status_node("n1", up_s=3.0), status_node("n2", up_s=200.0)]
    assert render.counted_since({"nodes": nodes}) == (
        "NAKs, got, gave and queries count since each node's start: n1 3 s ago, n2 200 s ago"
    )
    assert render.counted_since({"nodes": [status_node("n1", up_s=3.0), status_node("n2", up_s=4.0)]}) is None
