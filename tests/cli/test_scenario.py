import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from mcast.cli.app import main

GOOD = """
name = "brief"
[workload]
rate = 200
seconds = 0.2
commands = [["incr", "k{n%10}", 1]]
[[fault]]
at = 0
node = "n2"
kind = "loss"
percent = 20
[expect]
outage_ms_max = 500
"""


@pytest.fixture
def file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "brief.toml"
    path.write_text(GOOD)
    return path


def test_a_run_that_passes_shows_every_check(file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["scenario", "run", "brief.toml", "--seed", "7"]) == 0
    out, err = capsys.readouterr()
    assert err == "" and "brief: PASS, on the simulator, seed 7" in out
    for words in ("nothing acknowledged is lost", "nothing is applied twice", "outage_ms_max", "loss at n2"):
        assert words in out
    assert "FAIL" not in out
    assert "replay: mcast scenario run brief.toml --backend sim --seed 7" in out


def test_a_violated_expectation_ends_with_1(file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file.write_text(GOOD.replace("outage_ms_max = 500", "outage_ms_max = 0.001"))
    assert main(["scenario", "run", "brief.toml"]) == 1
    out = capsys.readouterr().out
    [row] = [line for line in out.splitlines() if "outage_ms_max" in line]
    assert "FAIL" in row and "brief: FAIL" in out


def test_json_is_one_document_for_all_files(file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (file.parent / "strict.toml").write_text(GOOD.replace("outage_ms_max = 500", "outage_ms_max = 0.001"))
    assert main(["scenario", "run", "brief.toml", "strict.toml", "--json"]) == 1
    document = json.loads(capsys.readouterr().out)
    assert document["ok"] is False
    brief, strict = document["scenarios"]
    assert (brief["ok"], strict["ok"]) == (True, False)
    assert set(brief) == {
        "scenario", "file", "backend", "seed", "ok", "checks", "faults", "commands", "events", "seconds", "datagrams",
        "trace", "replay", "notes",
    }  # fmt: skip
    assert brief["faults"] == [{"at": 0, "for": None, "kind": "loss", "nodes": ["n2"]}]
    assert brief["commands"] == {"submitted": 40, "acknowledged": 40, "ok": 40, "rejected": 0, "failed": 0}
    assert {check["check"]: check["ok"] for check in strict["checks"]}["outage_ms_max"] is False


def test_a_trace_shows_every_step(file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["scenario", "run", "brief.toml", "--trace"]) == 0
    out = capsys.readouterr().out
    assert "-- loss at n2" in out and "-> Append" in out
    assert main(["scenario", "run", "brief.toml", "--trace", "--backend", "processes"]) == 2


def test_check_runs_nothing(file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["scenario", "check", "brief.toml", "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == {
        "ok": True,
        "scenarios": [
            {"scenario": "brief", "file": "brief.toml", "nodes": 3, "commands": 40, "faults": 1, "seconds": 0.2}
        ],
    }


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ('"loss"', '"los"', "kind"), ('"n2"', '"n9"', "n9"), ("rate = 200", "rat = 200", "rate"),
        ("at = 0", "at = -1", "-1"), ('["incr",', '["increment",', "increment"),
    ],
)  # fmt: skip
@pytest.mark.parametrize("command", ["check", "run"])
def test_a_bad_file_is_one_line_and_2(
    file: Path, capsys: pytest.CaptureFixture[str], old: str, new: str, words: str, command: str
) -> None:
    file.write_text(GOOD.replace(old, new))
    assert main(["scenario", command, "brief.toml"]) == 2
    out, err = capsys.readouterr()
    assert out == "" and err.count("\n") == 1 and words in err
    assert err.startswith("mcast: brief.toml: ")


def test_a_bad_second_file_stops_the_first_from_running(file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["scenario", "run", "brief.toml", "missing.toml"]) == 2
    out, err = capsys.readouterr()
    assert out == "" and "missing.toml" in err


def nodes_of(folder: Path) -> list[str]:
    """The processes whose command line names the folder."""
    found = []
    for process in Path("/proc").glob("[0-9]*/cmdline"):
        with contextlib.suppress(OSError):
            if str(folder).encode() in process.read_bytes():
                found.append(process.parent.name)
    return found


@pytest.mark.skipif(not Path("/proc").exists(), reason="looks for processes in /proc")
@pytest.mark.timeout(90)
def test_a_terminated_run_leaves_nothing_behind(file: Path) -> None:
    file.write_text(GOOD.replace("seconds = 0.2", "seconds = 60"))
    folder = file.parent / "scratch"
    folder.mkdir()
    environment = {**os.environ, "TMPDIR": str(folder), "PYTHONPATH": str(Path(__file__).parents[2])}
    command = [sys.executable, "-m", "mcast", "scenario", "run", "--backend", "processes", "brief.toml"]
    with subprocess.Popen(command, cwd=file.parent, env=environment, stdout=subprocess.PIPE) as running:
        deadline = time.monotonic() + 30
        while len(nodes_of(folder)) < 3 and time.monotonic() < deadline:
            time.sleep(0.02)
        assert len(nodes_of(folder)) == 3
        running.send_signal(signal.SIGTERM)
        assert running.wait(40) == 130
    assert nodes_of(folder) == [] and list(folder.iterdir()) == []
