"""`mcast describe`: from a config alone, and from a running node."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

import pytest

from mcast.cli.app import main
from mcast.config import default_config
from mcast.machine.kv import KeyValue
from mcast.node.fake import FakeCluster, serving

MACHINE = '''
from mcast import StateMachine, command, query

class Accounts(StateMachine):
    """Money.

    More of it.
    """

    @command
    def deposit(self, ctx, name: str, amount: int = 1) -> int:
        """Put it in."""

    @query
    def balance_of(self, name): ...
'''


def test_of_a_config(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "described_bank.py").write_text(MACHINE)
    config = tmp_path / "lab.toml"
    config.write_text(default_config(tmp_path).replace("mcast.machine.kv:KeyValue", "described_bank:Accounts"))
    assert main(["describe", "-c", str(config)]) == 0
    reported = capsys.readouterr().out
    assert "described_bank:Accounts, version 1: Money." in reported
    lines = {line.split()[0]: line for line in map(str.rstrip, reported.splitlines()) if line}
    assert lines["deposit"].split()[1] == "command"
    assert "name: str, amount: int = 1" in lines["deposit"] and lines["deposit"].endswith("Put it in.")
    assert lines["balance_of"].split()[1:] == ["query", "name", "-", "-"]
    assert main(["describe", "-c", str(config), "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert list(document) == ["machine", "version", "doc", "commands", "queries"]
    assert document["doc"] == "Money.\n\nMore of it."
    assert main(["describe", "-c", str(config), "--timeout", "3"]) == 2
    config.write_text(default_config(tmp_path).replace("mcast.machine.kv:KeyValue", "described_bank:Nosuch"))
    assert main(["describe", "-c", str(config)]) == 2
    assert "there is: Accounts" in capsys.readouterr().err


async def test_of_a_running_node(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    cluster = FakeCluster(tmp_path, KeyValue)
    config = tmp_path / "lab.toml"
    nodes = "".join(f'[[node]]\nid = "{node.id}"\naddress = "{node.address}"\n' for node in cluster.config.nodes)
    whole = 'name = "lab"\ngroup = "239.77.7.1"\nport = 7700\nmachine = "not.here:Nosuch"'
    config.write_text(f"[cluster]\n{whole}\n{nodes}")
    assert await asyncio.to_thread(main, ["describe", "-c", str(config)]) == 2
    async with serving(cluster):
        assert await asyncio.to_thread(main, ["describe", "-c", str(config), "--at", "n2", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["commands"][0]["name"] == "append"
    assert await asyncio.to_thread(main, ["describe", "-c", str(config), "--at", "n2"]) == 3
    assert "no node answered; asked n2 at" in capsys.readouterr().err
