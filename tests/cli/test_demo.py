import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from mcast.cli.demo import takeover_lines
from mcast.demo.takeover import Takeover

KEY_VALUE = ("--machine", "mcast.machine.kv:KeyValue")
MACHINE = """
import mcast


class Tally(mcast.StateMachine):
    def __init__(self):
        self.words = []

    @mcast.command
    def note(self, ctx, word: str):
        if word == "bad":
            raise mcast.Rejected("bad word")
        {note}
        return self.words[0]
"""


def demo(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "mcast", "demo", "--json", *arguments]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=55, check=False)


def test_the_flights_of_the_first_days_agree_everywhere(tmp_path: Path) -> None:
    done = demo(tmp_path, "--limit", "3000", "--loss", "10")
    assert done.returncode == 0, done.stderr
    shown = json.loads(done.stdout)
    assert shown["proven"]
    assert shown["events"] > 5_900
    assert shown["differences"] == []
    for question in shown["questions"]:
        assert list(question["answers"].values()) == [question["expected"]] * 3
    assert sum(account["injected"] for account in shown["reconciliation"]) > 0
    assert all(account["difference"] == 0 for account in shown["reconciliation"])
    takeover = shown["takeover"]
    assert {takeover["killed"], takeover["successor"]} < {"n1", "n2", "n3"}
    assert takeover["killed"] != takeover["successor"]
    assert 0 < takeover["outage_ms"] < 5_000


def own_stream(folder: Path, note: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    (folder / "words.py").write_text(MACHINE.format(note=note))
    lines = [json.dumps(["note", f"word{n}"]) for n in range(300)] + ['["note", "bad"]', ""]
    (folder / "words.jsonl").write_text("\n".join(lines))
    return demo(folder, "--from", "words.jsonl", "--machine", "words:Tally", *arguments)


def test_ones_own_stream_and_machine(tmp_path: Path) -> None:
    done = own_stream(tmp_path, "self.words.append(word)")
    assert done.returncode == 0, done.stderr
    shown = json.loads(done.stdout)
    assert (shown["events"], shown["rejected"], shown["failed"]) == (301, 1, 0)
    assert len({node["result_chain"] for node in shown["nodes"]}) == 1
    assert shown["takeover"]["successor"]  # as short as it is


def test_replicas_that_compute_differently_are_found(tmp_path: Path) -> None:
    done = own_stream(tmp_path, "self.words = list({*self.words, word})", "--no-kill")
    assert done.returncode == 1
    assert "do not agree" in done.stderr
    shown = json.loads(done.stdout)
    assert not shown["proven"]
    assert shown["takeover"] is None


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_terminated_demonstration_leaves_nothing_behind(number: signal.Signals, tmp_path: Path) -> None:
    (tmp_path / "words.jsonl").write_text('["set", "k", 1]\n' * 100)
    (tmp_path / "scratch").mkdir()
    command = [sys.executable, "-m", "mcast", "demo", "--json", "--keep", "--no-kill", "--from", "words.jsonl"]
    with subprocess.Popen(
        [*command, *KEY_VALUE], cwd=tmp_path, env={**os.environ, "TMPDIR": str(tmp_path / "scratch")},
        stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True,
    ) as running:  # fmt: skip
        assert running.stderr is not None
        assert "the cluster stays up" in running.stderr.readline()
        running.send_signal(number)
        assert running.wait(40) == 130
        assert running.stderr.read() == ""
    assert list((tmp_path / "scratch").iterdir()) == []


def test_a_takeover_is_told_as_it_happens() -> None:
    takeover = Takeover("n1", 265_936)
    assert takeover_lines(None) == []
    reported = [takeover_lines(takeover)]
    takeover.outage_ms, takeover.successor = 84.4, "n3"
    reported.append(takeover_lines(takeover))
    takeover.restarted = True
    reported.append(takeover_lines(takeover))
    assert reported[2][:2] == reported[1]
    assert reported[1][:1] == reported[0] == ["n1, the sequencer, was killed (-9) after 265,936 events"]
    assert "n3 took over" in reported[1][1]
    assert "84 ms" in reported[1][1]
    assert "n1 was started again" in reported[2][2]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--from", "words.jsonl"), "--machine"),
        (("--machine", "words:Tally"), "--from is missing: it goes with --machine"),
        (("--loss", "lots"), "loss"),
        (("--limit", "0"), "--limit"),
        (
            ("--from", "gone.jsonl", *KEY_VALUE),
            "'gone.jsonl': no such file or directory; name a readable file",
        ),
        (("--from", "bad.jsonl", *KEY_VALUE), "bad.jsonl line 2: not JSON: "),
        (("--from", "empty.jsonl", *KEY_VALUE), "--from = 'empty.jsonl': holds no command; give one a line"),
        (("--from", "odd.jsonl", *KEY_VALUE), "odd.jsonl line 2: unknown command 'size'; this machine has: append, "),
        (("--from", "bad.jsonl", *KEY_VALUE), '; give one command a line, such as ["set", "k", 1]'),
    ],
)
def test_a_wrong_option_is_one_line(tmp_path: Path, arguments: tuple[str, ...], said: str) -> None:
    (tmp_path / "bad.jsonl").write_text('["set", "k", 1]\nnope\n')
    (tmp_path / "odd.jsonl").write_text('["set", "k", 1]\n["size"]\n')
    (tmp_path / "empty.jsonl").write_text("\n")
    done = demo(tmp_path, *arguments)
    assert done.returncode == 2
    assert said in done.stderr
    assert "Traceback" not in done.stderr
