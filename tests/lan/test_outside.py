"""The outside test as the operator runs it: faults of every kind under load, and nothing promised is broken."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]
SECONDS = float(os.environ.get("MCAST_TEST_OUTSIDE", "25"))
"""Of load and faults; more make a longer run of the same."""

pytestmark = pytest.mark.timeout(120 + SECONDS)


def run(folder: Path, *options: str, seconds: float) -> dict[str, Any]:
    words = [sys.executable, str(ROOT / "tools" / "outside.py"), "--json", "--keep", str(folder)]
    words += ["--seconds", str(seconds), *options]
    done = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, timeout=seconds + 100, check=False)
    assert done.stdout, done.stderr
    reported: dict[str, Any] = json.loads(done.stdout)
    assert done.returncode == (0 if reported["fine"] else 1)
    return reported


def test_every_promise_holds_under_faults_of_every_kind(tmp_path: Path) -> None:
    reported = run(tmp_path, "--seed", "7", seconds=SECONDS)
    assert (reported["problems"], reported["findings"]) == ([], [])
    assert len(reported["faults"]) >= 5, "a fault every few seconds"
    assert reported["epochs"] > 1
    for level in ("any", "session", "bounded", "linearizable"):
        assert reported["calls"][f"{level} ok"] > SECONDS, "every level was served"
    assert reported["calls"]["submit ok"] > 10 * SECONDS
    lines = (tmp_path / "history.jsonl").read_text().splitlines()
    assert len(lines) == sum(reported["calls"].values())
    stretches = [json.loads(line) for line in (tmp_path / "streams.jsonl").read_text().splitlines()]
    assert {each["subscriber"] for each in stretches} == {"s0", "s1", "s2"}
    assert sum(len(each["events"]) for each in stretches) == reported["given"] >= 3 * reported["executed"], (
        "each had them all"
    )


def test_it_runs_without_namespaces_too(tmp_path: Path) -> None:
    reported = run(tmp_path, "--seed", "3", "--loopback", "--kinds", "kill,isolate,loss", "--sealed", seconds=6)
    assert (reported["fine"], reported["lan"]) == (True, False), reported
    assert reported["calls"]["submit ok"] > 50


def test_another_runs_folder_is_refused(tmp_path: Path) -> None:
    (tmp_path / "history.jsonl").touch()
    words = [sys.executable, str(ROOT / "tools" / "outside.py"), "--keep", str(tmp_path)]
    done = subprocess.run(words, capture_output=True, text=True, timeout=30, check=False)
    assert done.returncode == 2
    assert "is not empty" in done.stderr


def test_an_unknown_kind_of_fault_is_refused() -> None:
    words = [sys.executable, str(ROOT / "tools" / "outside.py"), "--kinds", "kill,flood"]
    done = subprocess.run(words, capture_output=True, text=True, timeout=30, check=False)
    assert done.returncode == 2
    assert "flood: no such fault" in done.stderr
