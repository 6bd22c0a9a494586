"""A node inside a program: which one it is, what it logs, and what its host hears of it."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable
from pathlib import Path

import pytest

from mcast.config import Config, default_config, load_config
from mcast.errors import ConfigError, EnvironmentProblem
from mcast.machine.api import StateMachine, command
from mcast.net.ports import free_port_pair, free_ports
from mcast.node.node import Node
from mcast.node.notices import NodeNotice
from mcast.testing.cluster import cluster


def configured(folder: Path, nodes: int = 1) -> Path:
    text = default_config(folder, nodes=nodes, port=free_port_pair()).replace('"always"', '"os"')
    ports = iter(free_ports(nodes))
    path = folder / "lab.toml"
    path.write_text(re.sub(r"127.0.0.1:\d+", lambda _: f"127.0.0.1:{next(ports)}", text))
    return path


async def until(holds: Callable[[], object]) -> None:
    async with asyncio.timeout(10):
        while not holds():
            await asyncio.sleep(0.005)


async def test_it_finds_out_which_node_it_is_and_logs_what_the_command_logs(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO", "mcast")
    heard: list[NodeNotice] = []
    node = Node(configured(tmp_path))
    node.on_notice(heard.append)
    async with node:
        assert node.id == "n1"
        assert (await node.submit("incr", "k")).value == 1
        await until(lambda: len(heard) >= 2)
        status = node.status()
        assert (status["id"], status["state"]) == ("n1", "live")
    said = [record.message for record in caplog.records if record.name == "mcast.node.n1"]
    assert said[0].startswith("multicasts to") and said[1].startswith("serves lab on 127.0.0.1:")
    assert '; sync = "os" survives kill -9' in said[1]
    assert {notice.text for notice in heard} <= set(said)
    epoch = next(notice for notice in heard if notice.kind == "sequences")
    assert epoch == ("sequences", "epoch 1: this node sequences from now on", 1, "n1")


async def test_it_is_not_guessed_where_several_are_possible(tmp_path: Path) -> None:
    path = configured(tmp_path, nodes=3)
    with pytest.raises(
        ConfigError, match=r"n1, n2, n3 all have an address of this machine; name one with --id, or id="
    ):
        await Node(path).start()
    elsewhere = path.read_text().replace("127.0.0.1:", "192.0.2.7:", 1)
    path.write_text(re.sub(r"127\.0\.0\.1:(\d+)", r"192.0.2.8:\1", elsewhere))
    node = Node(path)
    with pytest.raises(EnvironmentProblem, match="no node has an address of this machine"):
        await node.start()
    await node.stop()


async def test_its_host_subscribes_at_the_node_itself(tmp_path: Path) -> None:
    async with Node(configured(tmp_path)) as node:
        await node.submit("incr", "k")
        async with node.subscribe(from_seq="now") as events:
            await node.submit("incr", "k")
            assert (await anext(events)).value == 2
        left = node.subscribe()
        assert (await anext(left)).value == 1


class Breaks(StateMachine):
    """Has a bug."""

    @command
    def bug(self, ctx: object) -> None:
        """Nothing wrong here."""

    def snapshot(self) -> None:
        """No state."""


async def test_a_listener_hears_of_a_halt_and_of_nothing_after_its_end(caplog: pytest.LogCaptureFixture) -> None:
    async with cluster(Breaks) as c:
        node, heard, other = c.node("n1"), list[NodeNotice](), list[NodeNotice]()
        end, end_other = node.on_notice(heard.append), node.on_notice(other.append)
        end_other()
        end_other()
        node.shell.halt("a bug")
        await until(lambda: heard)
        assert (heard[0].kind, heard[0].text, other) == ("halted", "HALTED: a bug", [])
        end()


async def test_what_a_listener_raises_is_the_loop_s_to_report_and_halts_nothing(tmp_path: Path) -> None:
    reported: list[object] = []
    asyncio.get_running_loop().set_exception_handler(lambda loop, context: reported.append(context["exception"]))
    node = Node(configured(tmp_path))
    node.on_notice(lambda notice: 1 // 0)
    async with node:
        await node.submit("incr", "k")
        await until(lambda: reported)
        assert isinstance(reported[0], ZeroDivisionError)
        assert node.status()["state"] == "live"


async def test_gaps_are_told_once_a_second(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO", "mcast.node")
    async with cluster(Breaks, loss="30%", seed=7) as c:
        heard: list[NodeNotice] = []
        for node_id in c.nodes:
            c.node(node_id).on_notice(heard.append)
        for _ in range(30):
            await c.submit_many([("bug",)] * 20)
        await until(lambda: any(notice.kind == "gaps" for notice in heard))
        assert sum(notice.kind == "gaps" for notice in heard) < 30
    assert any(record.message.startswith("gaps: ") for record in caplog.records)


def test_a_config_is_checked_when_the_node_is_made(tmp_path: Path) -> None:
    config: Config = load_config(configured(tmp_path))
    with pytest.raises(ConfigError, match="n9"):
        Node(config, "n9")
