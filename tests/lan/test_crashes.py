"""Processes killed and stopped under load: nothing acknowledged is lost, nothing applied twice."""

from __future__ import annotations

import asyncio
import os
import random
import signal
from typing import Any

import pytest

from mcast.lab.processes import Processes
from tests.lan.load import Load, settled

ROUNDS = int(os.environ.get("MCAST_TEST_ROUNDS", "3"))
"""Times each victim dies; more make a longer run of the same."""
LOSS = "loss=5%,dup=1%,reorder=2%,seed={}"
EVERYWHERE = ("n1", "n2", "n3")

pytestmark = pytest.mark.timeout(60 + 20 * ROUNDS)


def lossy(seed: int) -> dict[str, str]:
    return {node: LOSS.format(seed + index) for index, node in enumerate(EVERYWHERE)}


def roles(status: dict[str, Any]) -> tuple[str, list[str]]:
    sequencer = status["sequencer"]
    return sequencer, [node["id"] for node in status["nodes"] if node["id"] != sequencer]


@pytest.mark.parametrize("sync", ["always", "os"])
async def test_nodes_killed_under_load_lose_and_double_nothing(sync: str) -> None:
    """In turn a follower, whose death costs no epoch, and the sequencer, whose death begins one."""
    draw = random.Random(sync)
    async with Processes(sync=sync, faults=lossy(1)) as processes:
        before = await processes.wait_until_live()
        async with Load(processes, EVERYWHERE) as load:
            for _ in range(ROUNDS):
                sequencer, followers = roles(await processes.wait_until_live())
                follower = draw.choice(followers)
                for victim in (follower, sequencer):
                    await processes.kill(victim)
                    await load.more(200)
                    await processes.start(victim)
                    status = await processes.wait_until_live()
                    assert (status["sequencer"] == sequencer) == (victim == follower)
                    await load.more(100)
        after = await settled(processes, load)
        for node in after["nodes"]:
            assert node["votes"], f"what a killed process leaves is whole: {processes.log(node['id']).read_text()}"
    assert after["epoch"] >= before["epoch"] + ROUNDS


async def test_all_killed_at_once_under_load_lose_nothing_acknowledged() -> None:
    async with Processes(sync="always", faults=lossy(3)) as processes:
        async with Load(processes, EVERYWHERE) as load:
            await load.more(300)
            await asyncio.gather(*map(processes.kill, EVERYWHERE))
            for node_id in EVERYWHERE:
                await processes.start(node_id)
            await load.more(300)
        await settled(processes, load)


async def test_what_a_sequencer_numbers_for_itself_alone_is_not_acknowledged() -> None:
    """It goes on for a moment, heard by nobody, and then dies with what it numbered."""
    async with Processes(faults=lossy(5)) as processes:
        old, followers = roles(await processes.wait_until_live())
        async with Load(processes, EVERYWHERE) as load, processes.connect(followers[0]) as admin:
            await load.more(200)
            for node_id in followers:
                await admin.fault(node_id, "loss=100%")
            await asyncio.sleep(0.2)  # less than an election's timeout
            await processes.kill(old)
            for node_id in followers:
                await admin.fault(node_id, "clear")
            await load.more(200)
            await processes.start(old)
            await load.more(100)
        await settled(processes, load)


@pytest.mark.parametrize("sealed", [True, False], ids=["sealed", "unsealed"])
async def test_a_stopped_sequencer_is_replaced_and_fenced_when_it_goes_on(sealed: bool) -> None:
    async with Processes(sealed=sealed, faults=lossy(4)) as processes:
        before = await processes.wait_until_live()
        old, _ = roles(before)
        async with Load(processes, EVERYWHERE) as load:
            await load.more(200)
            processes.signal(old, signal.SIGSTOP)
            try:
                await load.more(200)  # the others go on, and the clients of the stopped one have moved
                await asyncio.sleep(1.0)
            finally:
                processes.signal(old, signal.SIGCONT)
            await load.more(200)
        after = await settled(processes, load)
    assert after["epoch"] > before["epoch"]
    assert {node["epoch"] for node in after["nodes"]} == {after["epoch"]}, "the old one follows the new epoch"
    assert after["sequencer"] != old


async def test_a_sequencer_stopped_for_5_seconds_loses_what_only_it_had_numbered() -> None:
    async with Processes(sealed=True, faults=lossy(6)) as processes:
        before = await processes.wait_until_live()
        old, followers = roles(before)
        async with Load(processes, EVERYWHERE) as load, processes.connect(old) as its_client:
            await its_client.submit("incr", "n")
            await load.more(200)
            for node_id in followers:
                await its_client.fault(node_id, "loss=100%")
            await asyncio.sleep(0.2)  # less than an election's timeout: it numbers, and nobody hears
            processes.signal(old, signal.SIGSTOP)
            try:
                for node_id in followers:
                    await its_client.fault(node_id, "clear")
                assert (await its_client.submit("incr", "n", timeout=10)).value == 2
                assert its_client.node != old, "its clients are served by the new one"
                await load.more(200)
                await asyncio.sleep(5.0)
            finally:
                processes.signal(old, signal.SIGCONT)
            await load.more(200)
        after = await settled(processes, load)
        its_words = processes.log(old).read_text()
    assert {node["epoch"] for node in after["nodes"]} == {after["epoch"]}, "it follows the new epoch"
    assert (after["epoch"] > before["epoch"], after["sequencer"] != old) == (True, True)
    assert "cut an uncommitted tail behind event" in its_words
