"""Real nodes whose machines' clocks are wrong, are set, and differ."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import AsyncExitStack
from pathlib import Path

import pytest

import mcast
from mcast import clock
from mcast.config import Config, NodeConfig
from mcast.net.memory import Hub
from mcast.net.ports import free_ports
from mcast.node import wallclock
from mcast.node.node import Node

YEAR_NS = 365 * 86_400 * 10**9


def a_year_ahead() -> int:
    return clock.wall_offset_ns() + YEAR_NS


def lab(folder: Path) -> Config:
    nodes = tuple(NodeConfig(id=f"n{at}", address=f"127.0.0.1:{port}") for at, port in enumerate(free_ports(3), 1))
    return Config(name="lab", nodes=nodes, folder=folder, data_dir=folder / "data")


async def until(holds: Callable[[], bool]) -> None:
    async with asyncio.timeout(15):
        while not holds():
            await asyncio.sleep(0.005)


def times(node: Node) -> list[int]:
    return [frame.time for burst in node.shell.store.frames_from(1) for frame in burst]


async def test_a_clock_that_is_a_year_ahead_is_told_and_time_moves_on_after_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(wallclock, "LOOK_S", 0.02)
    config, hub = lab(tmp_path), Hub()
    nodes = [Node(config, one.id, hub=hub) for one in config.nodes]
    first, second, third = nodes
    first.shell.wall.read = a_year_ahead
    async with AsyncExitStack() as stack:
        for node in nodes:
            await stack.enter_async_context(node)
        await until(lambda: first.shell.replica.is_sequencer)
        client = await stack.enter_async_context(mcast.connect(config))
        await client.submit("set", "k", 1)
        await until(lambda: third.status()["applied_seq"] == first.status()["applied_seq"])
        said = (await client.status())["findings"]
        assert [one for one in said if one.startswith("n1's clock is 31,53") and "ahead of the others'" in one]
        assert {one[:2] for one in said if "the log's time is 31,53" in one} == {"n2", "n3"}

        await client.handover("n2")
        await client.submit("set", "k", 2)
        await asyncio.sleep(1.0)
        await client.submit("set", "k", 3)
        dates = times(second)
        assert dates == sorted(dates) and dates[-1] - dates[-2] >= 4 * 10**8, "half the pace of real time"
        assert dates[-1] > clock.wall_offset_ns() + clock.monotonic_s() * 1e9 + YEAR_NS / 2

        first.shell.wall.read = clock.wall_offset_ns  # NTP has seen to it
        await until(lambda: any("the log's time is" in one for one in first.status()["findings"]))
        said = (await client.status())["findings"]
        assert not [one for one in said if "'s clock is" in one] and len(said) == 3
    assert caplog.text.count("node n1: this machine's clock was set back by 31536000.0 s") == 1
    for name in ("n1", "n2", "n3"):
        assert caplog.text.count(f"node {name}: the log's time is") == 1


async def test_a_clock_that_is_set_again_and_again_makes_no_flood_of_lines(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(wallclock, "LOOK_S", 0.0)
    async with Node(lab(tmp_path), "n2", hub=Hub()) as node:
        for at in range(20):
            node.shell.wall.read = a_year_ahead if at % 2 else clock.wall_offset_ns
            node.shell.wall.follow(node.shell.replica, clock.monotonic_s())
        assert abs(node.status()["wall_ns"] - node.shell.wall.offset_ns - clock.monotonic_s() * 1e9) < 10**9
        assert node.status()["findings"] == []
    assert caplog.text.count("clock was set") == 1
