"""Epoch histories over TCP: page by page, from whoever has them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from mcast.limits import HISTORY_PAGE_ENTRIES
from mcast.machine.kv import KeyValue
from mcast.node.fake import FakeCluster, FakeShell, serving
from mcast.node.gateway import catchup as catchup_module
from mcast.node.gateway.gateway import Gateway
from mcast.protocol.effects import FetchEpochs
from mcast.wire.envelope import name_hash
from mcast.wire.epochs import Epochs
from mcast.wire.messages import EpochEntry

N1, N2 = (name_hash(f"n{number}") for number in (1, 2))
LAW = Epochs(
    [EpochEntry(epoch, epoch + 1, epoch.to_bytes(16, "big")) for epoch in range(2 * HISTORY_PAGE_ENTRIES + 10)]
)


@pytest.fixture
async def cluster(tmp_path: Path) -> FakeCluster:
    """n3 wants what precedes the newest epoch; the others know it."""
    fake = FakeCluster(tmp_path, KeyValue)
    for node in ("n1", "n2"):
        fake.shells[node].replica.epochs = LAW
    fake.shells["n3"].replica.wants = LAW[-1]
    return fake


@pytest.fixture
async def gateways(cluster: FakeCluster) -> AsyncIterator[dict[str, Gateway]]:
    async with serving(cluster) as started:
        yield started


def ask(shell: FakeShell, *peers: int) -> None:
    assert shell.on_catch_up is not None
    shell.on_catch_up(FetchEpochs(peers))


async def all_of_it(shell: FakeShell) -> None:
    async with asyncio.timeout(10):
        while shell.replica.wanted_history is not None:
            await asyncio.sleep(0.001)
    joined = Epochs()
    for page in reversed(shell.replica.pages):
        joined.extend(page)
    assert joined == LAW.part(0, len(LAW) - 1)


async def test_pages_are_fetched_until_none_is_wanted(cluster: FakeCluster, gateways: dict[str, Gateway]) -> None:
    behind = cluster.shells["n3"]
    ask(behind, N1)
    ask(behind, N2)
    await all_of_it(behind)
    assert [len(page) for page in behind.replica.pages] == [HISTORY_PAGE_ENTRIES, HISTORY_PAGE_ENTRIES, 9]
    assert behind.replica.histories_failed == 0


async def test_who_is_dead_silent_or_has_another_history_is_passed_over(
    cluster: FakeCluster, gateways: dict[str, Gateway], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(catchup_module, "ANSWER_S", 0.05)
    behind = cluster.shells["n3"]
    cluster.shells["n1"].replica.epochs = Epochs([EpochEntry(1, 1, b"?" * 16)])
    ask(behind, N1)
    await all_of_it(behind)
    behind.replica.wants, behind.replica.pages = LAW[-1], []
    await gateways["n1"].stop(drain_s=0)
    ask(behind, N1)
    await all_of_it(behind)


async def test_that_nobody_has_it_is_told_and_who_is_asked_again_gives_it(
    cluster: FakeCluster, gateways: dict[str, Gateway], caplog: pytest.LogCaptureFixture
) -> None:
    behind = cluster.shells["n3"]
    for node in ("n1", "n2"):
        cluster.shells[node].replica.epochs = Epochs()
    for failed in range(1, 6):
        ask(behind)
        async with asyncio.timeout(5):
            while behind.replica.histories_failed < failed:
                await asyncio.sleep(0.001)
        await asyncio.sleep(0.01)
    assert caplog.text.count("no node gives the epochs before epoch") == 1, "five rounds in vain, one line"
    assert gateways["n3"].status().get("history") is None
    cluster.shells["n2"].replica.epochs = LAW
    ask(behind)
    assert gateways["n3"].status()["history"]["before_event"] == LAW[-1].first
    await all_of_it(behind)
