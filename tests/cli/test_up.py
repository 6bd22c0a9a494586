"""A whole cluster of processes under `mcast up`, used from other processes, as a person would."""

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from mcast.config import default_config
from mcast.net.ports import free_port_pair, free_ports

ROOT = Path(__file__).parents[2]
PATIENCE_S = 20.0
ENVIRONMENT = {**os.environ, "PYTHONPATH": str(ROOT)}

pytestmark = pytest.mark.timeout(120)


def spawn(words: Sequence[str], folder: Path) -> "subprocess.Popen[str]":
    command = [sys.executable, "-m", "mcast", *words]
    return subprocess.Popen(
        command, cwd=folder, env=ENVIRONMENT, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        text=True,
    )  # fmt: skip


@dataclass
class Cluster:
    folder: Path
    process: "subprocess.Popen[str]"
    pids: dict[str, int]

    def run(self, *words: str, input: str | None = None) -> "subprocess.CompletedProcess[str]":
        command = [sys.executable, "-m", "mcast", *words]
        return subprocess.run(
            command, cwd=self.folder, env=ENVIRONMENT, input=input, capture_output=True, text=True, timeout=PATIENCE_S,
            check=False,
        )  # fmt: skip

    def json(self, *words: str, code: int = 0, input: str | None = None) -> Any:
        done = self.run(*words, "--json", input=input)
        assert done.returncode == code, done.stderr
        return json.loads(done.stdout)

    def status_until(self, wanted: str, code: int) -> dict[str, Any]:
        """The status document once every node that answers is `wanted` and the command ends with `code`."""
        deadline = time.monotonic() + PATIENCE_S
        while True:
            done = self.run("status", "--json")
            document: dict[str, Any] = json.loads(done.stdout) if done.stdout else {"nodes": []}
            states = {node["state"] for node in document["nodes"] if node["reachable"]}
            if done.returncode == code and states == {wanted} and document["sequencer"]:
                return document
            assert time.monotonic() < deadline, (done, document)


def write_config(folder: Path) -> None:
    """A config on ports nobody uses and a group of this test run's own."""
    group = f"239.77.{100 + os.getpid() % 100}.{1 + os.getpid() // 100 % 250}"
    text = default_config(folder, group=group, port=free_port_pair())
    for index, port in enumerate(free_ports(3)):
        text = re.sub(rf'(id = "n{index + 1}"\naddress = ")[^"]*', rf"\g<1>127.0.0.1:{port}", text)
    (folder / "lab.toml").write_text(text)


def start(folder: Path, *words: str) -> Cluster:
    process = spawn(["up", "--json", *words], folder)
    assert process.stdout is not None
    pids = {}
    try:
        for _ in range(3):
            event = json.loads(process.stdout.readline())
            assert event["event"] == "started"
            pids[event["id"]] = event["pid"]
    except BaseException:
        process.kill()  # and so its nodes
        process.communicate()
        raise
    return Cluster(folder, process, pids)


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[Cluster]:
    write_config(tmp_path)
    running = start(tmp_path)
    yield running
    if running.process.poll() is None:
        running.process.terminate()
    running.process.communicate(timeout=PATIENCE_S)


def state_of(pid: int) -> str:
    """As the kernel names it: "T" stopped, "Z" ended; the latter also when it is gone."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except FileNotFoundError:
        return "Z"


def is_alive(pid: int) -> bool:
    return state_of(pid) != "Z"


STATUS_KEYS = {
    "id", "role", "votes", "state", "reachable", "epoch", "last_seq", "commit_seq", "applied_seq", "chain",
    "result_chain", "gaps_open", "naks_sent", "repairs_received", "repairs_sent", "lag_events", "queries",
}  # fmt: skip
GAPS_KEYS = {"id", "open", "closed", "lost", "repaired", "superseded", "transferred", "duplicates", "injected"}


def test_a_person_uses_a_cluster(cluster: Cluster) -> None:
    status = cluster.status_until("live", code=0)
    assert set(status) == {"cluster", "epoch", "sequencer", "nodes", "findings"}
    assert all(set(node) >= STATUS_KEYS for node in status["nodes"])

    receipt = cluster.json("submit", "set", "k", '{"n": 1}')
    assert set(receipt) == {"seq", "epoch", "outcome", "value"}
    assert list(cluster.json("submit", "incr", "count", "-1", "--at", "n2")) == ["seq", "epoch", "outcome", "value"]
    rejected = cluster.json("submit", "incr", "k", code=1)
    assert (rejected["outcome"], set(rejected)) == ("rejected", {"seq", "epoch", "outcome", "error"})
    for node in ("n1", "n2", "n3"):
        answer = cluster.json("query", "get", "k", "--at", node, "--min-seq", str(receipt["seq"]))
        assert set(answer) == {"value", "seq", "epoch", "lag_events", "lag_ms", "node", "level"}
        assert (answer["value"], answer["node"], answer["level"]) == ({"n": 1}, node, "session")
    refused = cluster.json("query", "get", "k", "--min-seq", "999999999", code=1)
    assert set(refused) == {"refused", "try_node"}

    before = cluster.json("status")["nodes"][0]["last_seq"]
    for words in (["nosuch"], ["incr"], ["incr", "k", "1", "2", "3"]):
        assert cluster.run("submit", *words).returncode == 2
    assert cluster.json("status")["nodes"][0]["last_seq"] == before, "a refused command is never numbered"


def test_a_stream_goes_in_under_loss_and_reconciles(cluster: Cluster) -> None:
    cluster.status_until("live", code=0)
    assert cluster.json("fault", "loss=10%,seed=7", "--at", "n2") == {"node": "n2", "fault": "loss=10%,seed=7"}
    big = "x" * (1 << 20)
    lines = [json.dumps(["incr", f"k{number % 7}"]) for number in range(5_000)] + [json.dumps(["set", "big", big])]
    summary = cluster.json("submit", "--from", "-", input="\n".join(lines) + "\n")
    assert set(summary) == {"count", "ok", "rejected", "failed", "first_seq", "last_seq", "epoch", "seconds"}
    assert (summary["count"], summary["ok"], summary["failed"]) == (5_001, 5_001, 0)
    assert cluster.run("fault", "clear", "--at", "n2").returncode == 0
    for node in ("n1", "n2", "n3"):
        assert cluster.json("query", "get", "big", "--at", node, "--min-seq", str(summary["last_seq"]))["value"] == big
        assert cluster.json("query", "get", "k0", "--at", node)["value"] == 715

    receipts = cluster.run("submit", "--from", "-", "--receipts", input='["set", "a", 1]\n["incr", "big"]\n')
    assert receipts.returncode == 1
    assert [json.loads(line)["outcome"] for line in receipts.stdout.splitlines()] == ["ok", "rejected"]

    before = cluster.json("status")["nodes"][0]["last_seq"]
    reader, writer = os.pipe()
    os.close(reader)
    with os.fdopen(writer, "w") as unread:
        done = subprocess.run(
            [sys.executable, "-m", "mcast", "submit", "--from", "-", "--receipts"], cwd=cluster.folder, env=ENVIRONMENT,
            input='["incr", "unread"]\n' * 20_000, stdout=unread, text=True, timeout=PATIENCE_S, check=False,
        )  # fmt: skip
    assert done.returncode == 1
    assert cluster.json("query", "get", "unread", "--consistency", "linearizable")["value"] <= 20_000
    after = cluster.json("status")["nodes"][0]["last_seq"]
    assert after <= before + 20_000 + 2, "nothing was sent again"

    cluster.status_until("live", code=0)
    gaps = cluster.json("gaps")
    assert all(set(node) == GAPS_KEYS for node in gaps["nodes"])
    account = {node["id"]: node for node in gaps["nodes"]}["n2"]
    assert account["injected"]["lost"] > 0
    assert account["lost"] >= account["injected"]["lost"]
    assert account["lost"] == account["repaired"] + account["superseded"] + account["transferred"]
    assert set(account["closed"][0]) == {"first", "last", "opened_at", "naks", "repaired_by", "latency_ms"}
    report = subprocess.run(
        [sys.executable, str(ROOT / "tools" / "gap_report.py"), "-c", "lab.toml", "--json"], cwd=cluster.folder,
        env=ENVIRONMENT, capture_output=True, text=True, timeout=PATIENCE_S, check=False,
    )  # fmt: skip
    assert report.returncode == 0, report.stderr
    assert json.loads(report.stdout)["reconciles"] is True


def test_up_names_the_dead_keeps_the_others_and_drains(cluster: Cluster) -> None:
    cluster.status_until("live", code=0)
    seq = cluster.json("submit", "set", "k", "1")["seq"]
    os.kill(cluster.pids["n3"], signal.SIGKILL)
    document = cluster.status_until("live", code=1)
    assert [node["id"] for node in document["nodes"] if not node["reachable"]] == ["n3"]
    again = spawn(["node", "--id", "n3"], cluster.folder)
    try:
        cluster.status_until("live", code=0)
        assert cluster.json("query", "get", "k", "--at", "n3", "--min-seq", str(seq))["value"] == 1
    finally:
        again.terminate()
        _, err = again.communicate(timeout=PATIENCE_S)
    assert again.returncode == 0, err
    cluster.process.terminate()
    out, _ = cluster.process.communicate(timeout=PATIENCE_S)
    assert cluster.process.returncode == 0
    events = [json.loads(line) for line in out.splitlines()]
    assert {"event": "died", "id": "n3", "code": -signal.SIGKILL} in events
    assert sorted((event["id"], event["code"]) for event in events if event["event"] == "ended") == [
        ("n1", 0),
        ("n2", 0),
    ]


@pytest.mark.skipif(sys.platform != "linux", reason="looks into /proc")
def test_a_second_signal_ends_them_at_once_and_says_why(cluster: Cluster) -> None:
    os.kill(cluster.pids["n1"], signal.SIGSTOP)  # so that it cannot end by itself
    deadline = time.monotonic() + PATIENCE_S
    while state_of(cluster.pids["n1"]) != "T":
        assert time.monotonic() < deadline
        time.sleep(0.01)
    cluster.process.terminate()
    cluster.process.send_signal(signal.SIGINT)
    _, err = cluster.process.communicate(timeout=PATIENCE_S / 4)
    assert "mcast: interrupted again: killing n1\n" in err
    assert "did not end" not in err
    assert not any(map(is_alive, cluster.pids.values()))


def test_a_second_up_names_the_problem_and_ends(cluster: Cluster) -> None:
    cluster.status_until("live", code=0)
    second = cluster.run("up")
    assert second.returncode == 4
    assert "in use" in second.stderr and "runs already, by mcast up or mcast node" in second.stderr
    cluster.status_until("live", code=0)


@pytest.mark.skipif(sys.platform != "linux", reason="looks into /proc")
def test_no_node_outlives_a_killed_up(cluster: Cluster) -> None:
    cluster.status_until("live", code=0)
    cluster.process.kill()
    cluster.process.wait(PATIENCE_S)
    deadline = time.monotonic() + PATIENCE_S
    while any(is_alive(pid) for pid in cluster.pids.values()):
        assert time.monotonic() < deadline
        time.sleep(0.02)
