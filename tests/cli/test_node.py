"""Which node of a config this machine is, and what ends a node whose parent is gone."""

import json
import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from mcast.config import default_config
from mcast.net.ports import free_port_pair, free_ports

ROOT = Path(__file__).parents[2]


def test_a_node_whose_parent_is_gone_does_not_start(tmp_path: Path) -> None:
    (tmp_path / "lab.toml").touch()
    done = subprocess.run(
        [sys.executable, "-m", "mcast", "node", "--parent", "1", "-c", "lab.toml"], cwd=tmp_path, capture_output=True,
        env={**os.environ, "PYTHONPATH": str(ROOT)}, text=True, timeout=30, check=False,
    )  # fmt: skip
    assert done.returncode == 4
    assert "parent process 1 is gone" in done.stderr


def write_config(folder: Path) -> None:
    text = default_config(folder, nodes=1, port=free_port_pair()).replace('"always"', '"os"')
    (folder / "lab.toml").write_text(re.sub(r"127.0.0.1:\d+", f"127.0.0.1:{free_ports(1)[0]}", text))


def test_two_signals_at_once_end_it_in_order(tmp_path: Path) -> None:
    write_config(tmp_path)
    with subprocess.Popen(
        [sys.executable, "-m", "mcast", "node", "-c", "lab.toml"], cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(ROOT)}, stderr=subprocess.PIPE, text=True,
    ) as node:  # fmt: skip
        assert node.stderr is not None
        assert "multicasts to" in node.stderr.readline()
        assert "serves lab" in node.stderr.readline()
        for number in (signal.SIGSTOP, signal.SIGTERM, signal.SIGINT, signal.SIGCONT):
            node.send_signal(number)
        reported = node.stderr.read()
        assert node.wait(10) in (0, 130)
    assert "drains and ends" in reported and "Traceback" not in reported


@pytest.mark.parametrize("options", [(), ("--busy-poll",)])
def test_a_nodes_log_is_json_lines_for_programs(tmp_path: Path, options: tuple[str, ...]) -> None:
    write_config(tmp_path)
    with subprocess.Popen(
        [sys.executable, "-m", "mcast", "node", "-c", "lab.toml", "--json", *options], cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(ROOT)}, stdout=subprocess.PIPE, text=True,
    ) as node:  # fmt: skip
        assert node.stdout is not None
        lines = [json.loads(node.stdout.readline()) for _ in range(5)]
        node.terminate()
        lines += map(json.loads, node.stdout)
        assert node.wait(10) == 0
    assert all(list(line) == ["time", "id", "level", "message"] for line in lines)
    assert {(line["id"], line["level"]) for line in lines} == {("n1", "info")}
    said = [line["message"] for line in lines]
    assert (
        said[0].startswith("multicasts to")
        and "serves lab" in said[1]
        and "epoch 1: n1 is the sequencer" in said
        and "SIGTERM" in said[-1]
    )
