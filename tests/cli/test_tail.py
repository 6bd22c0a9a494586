"""`mcast tail`: JSON lines, lines for people, and where it ends."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from mcast.cli.app import main
from mcast.cli.tail import follow
from mcast.cli.target import Target
from mcast.client.client import connect
from mcast.machine.kv import KeyValue
from mcast.node.fake import FakeCluster, serving

CONFIG = '[cluster]\nname = "lab"\n'


def write_config(cluster: FakeCluster, folder: Path) -> Path:
    nodes = "".join(f'[[node]]\nid = "{node.id}"\naddress = "{node.address}"\n' for node in cluster.config.nodes)
    path = folder / "lab.toml"
    path.write_text(CONFIG + 'group = "239.77.7.1"\nport = 7700\ninterface = "127.0.0.1"\n' + nodes)
    return path


async def test_events_one_a_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    cluster = FakeCluster(tmp_path, KeyValue)
    async with serving(cluster), connect(cluster.config) as client:
        await client.submit("set", "k", "a\nb")
        await client.submit("append", "k", {"x": b"\xff"})
        target = Target(write_config(cluster, tmp_path), None, 2.0)
        await follow(target, 1, 2, json=True)
        first, second = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
        assert list(first) == ["seq", "epoch", "time", "name", "args", "outcome", "value", "error"]
        assert (first["seq"], first["args"], first["outcome"]) == (2, ["k", "a\nb"], "ok")
        assert (second["outcome"], second["error"], second["value"]) == ("rejected", "not a list", None)
        assert second["args"] == ["k", {"x": {"base64": "/w=="}}]
        await follow(target, 3, 1, json=False)
        assert capsys.readouterr().out.split(maxsplit=2)[2].endswith("-> rejected: not a list\n")


def test_bad_numbers_and_nobody_there(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = write_config(FakeCluster(tmp_path, KeyValue), tmp_path)
    assert main(["tail", "-c", str(path), "--from", "0"]) == 2
    assert main(["tail", "-c", str(path), "--count", "0"]) == 2
    capsys.readouterr()
    assert main(["tail", "-c", str(path), "--timeout", "0.1"]) == 3
    out, err = capsys.readouterr()
    assert out == "" and "no node took the subscription within 0.1 s" in err
