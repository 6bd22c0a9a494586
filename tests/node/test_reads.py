"""The ladder of consistency levels and subscriptions, on whole clusters: shared rounds, partitions, deaths."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from itertools import pairwise
from typing import Any

import pytest

from mcast.client import connection
from mcast.client.client import Client, connect
from mcast.errors import NotSent, Refused
from mcast.machine.kv import KeyValue
from mcast.testing.cluster import Cluster, cluster
from mcast.wire.levels import LEVELS
from mcast.wire.messages import Heartbeat, Read

LADDER = LEVELS


@pytest.fixture
async def lab() -> AsyncIterator[Cluster]:
    async with cluster(KeyValue, nodes=3, loss="2%", seed=5) as running:
        yield running


def follower(lab: Cluster) -> str:
    return next(node for node in lab.nodes if node != lab.sequencer)


@contextlib.asynccontextmanager
async def strictly(lab: Cluster, node: str) -> AsyncIterator[Client]:
    async with connect(lab.config, node, strict=True) as client:
        yield client


async def until(holds: Any) -> None:
    async with asyncio.timeout(10):
        while not holds():
            await asyncio.sleep(0.005)


async def test_every_level_at_every_node(lab: Cluster) -> None:
    receipt = await lab.submit("incr", "k", 7)
    for node in lab.nodes:
        async with strictly(lab, node) as client:
            answers = [await client.query("get", "k", consistency=level, min_seq=receipt.seq) for level in LADDER]
        assert [(answer.level, answer.value, answer.node) for answer in answers] == [(one, 7, node) for one in LADDER]
        assert all(answer.lag_ms is not None and answer.lag_ms < 1_000 for answer in answers)
        assert answers[2].lag_ms is not None and answers[2].lag_ms <= 150


async def test_a_linearizable_query_sees_what_was_acknowledged_elsewhere_just_before(lab: Cluster) -> None:
    async with strictly(lab, follower(lab)) as reader, lab.connect(lab.sequencer) as writer:
        for number in range(1, 100):
            await writer.submit("set", "k", number)
            assert (await reader.query("get", "k", consistency="linearizable")).value == number


async def test_a_thousand_reads_at_one_replica_share_a_few_rounds(lab: Cluster, monkeypatch: Any) -> None:
    node = follower(lab)
    sent: list[Any] = []

    def noting(do: Callable[..., None]) -> Callable[..., None]:
        def note(*arguments: Any) -> None:
            sent.append(arguments[-1])
            do(*arguments)

        return note

    for each in lab.nodes:
        transport = lab.node(each).shell.transport
        monkeypatch.setattr(transport, "send", noting(transport.send))
        monkeypatch.setattr(transport, "multicast", noting(transport.multicast))
    async with strictly(lab, node) as client:
        answers = await client.query_many([("get", "k")] * 1_000, consistency="linearizable")
    assert {(answer.level, answer.node) for answer in answers} == {("linearizable", node)}
    asked = [message for message in sent if isinstance(message, Read)]
    beats = [message for message in sent if isinstance(message, Heartbeat)]
    assert 1 <= len(asked) <= 20
    assert 1 <= len(beats) <= 60, "rounds, and the idle stream's own heartbeats meanwhile"


async def test_a_minority_refuses_what_it_cannot_know_and_says_how_old_the_rest_is(lab: Cluster) -> None:
    await lab.submit("set", "k", 1)
    await lab.converged()
    node = follower(lab)
    others = {other for other in lab.nodes if other != node}
    lab.part(node)
    async with strictly(lab, node) as client:
        await asyncio.sleep(0.3)
        with pytest.raises(Refused, match=f"the state of {node} may be .* ms old; at most 150") as bounded:
            await client.query("get", "k", consistency="bounded")
        with pytest.raises(Refused, match="no majority has confirmed") as linearizable:
            await client.query("get", "k", consistency="linearizable", timeout=0.5)
        assert bounded.value.try_node in others and linearizable.value.try_node in others
        answer = await client.query("get", "k", consistency="any")
        assert (answer.value, answer.node) == (1, node) and answer.lag_ms is not None and answer.lag_ms > 800
        assert (await client.query("get", "k", consistency="bounded", max_ms=60_000)).value == 1
        with pytest.raises(Refused):
            await client.query("get", "k", consistency="bounded", max_lag=1_000_000)
        lab.heal()
        assert (await client.query("get", "k", consistency="linearizable")).value == 1


async def test_without_a_majority_a_wandering_client_is_refused_before_its_deadline(
    lab: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connection, "WATCH_INTERVAL_S", 0.1)
    for node in lab.nodes:
        lab.part(node)
    await asyncio.sleep(1.2)
    async with lab.connect() as client:
        with pytest.raises(Refused, match="no majority has confirmed"):
            await client.query("get", "k", consistency="linearizable", timeout=2)


async def test_a_sequencer_alone_refuses_too(lab: Cluster) -> None:
    await lab.submit("set", "k", 1)
    node = lab.sequencer
    assert node is not None
    async with strictly(lab, node) as client:
        lab.part(node)
        with pytest.raises(Refused):
            await client.query("get", "k", consistency="linearizable", timeout=1)
        with pytest.raises(Refused, match="ms old"):
            await client.query("get", "k", consistency="bounded")
        await until(lambda: lab.sequencer not in (None, node))
        async with lab.connect(lab.sequencer) as other:
            await other.submit("set", "k", 2)
        answer = await client.query("get", "k", consistency="any")
        assert answer.value == 1 and answer.lag_ms is not None and answer.lag_ms > 400


async def test_a_client_that_may_is_answered_by_the_node_that_the_refusal_names(lab: Cluster) -> None:
    await lab.submit("set", "k", 1)
    await lab.converged()
    node = follower(lab)
    lab.part(node)
    async with lab.connect(node) as client:
        assert client.node == node
        await asyncio.sleep(0.3)
        for level in ("bounded", "linearizable"):
            answer = await client.query("get", "k", consistency=level, timeout=3)
            assert (answer.value, answer.level) == (1, level) and answer.node != node
        await until(lambda: client.node != node)  # a gateway that stays out of touch is left


async def test_linearizable_queries_live_through_a_sequencers_death(lab: Cluster) -> None:
    await lab.submit("set", "k", 1)
    node = follower(lab)
    async with strictly(lab, node) as client:
        await lab.kill(lab.sequencer or "")
        answers = await asyncio.gather(*[client.query("get", "k", consistency="linearizable") for _ in range(100)])
    assert {(answer.value, answer.node) for answer in answers} == {(1, node)}


async def test_a_halted_node_refuses_every_level(lab: Cluster) -> None:
    node = follower(lab)
    async with strictly(lab, node) as client:
        waiting = asyncio.ensure_future(client.query("size", min_seq=10_000))
        await asyncio.sleep(0.02)
        lab.node(node).shell.halt("a test says so")
        with pytest.raises(Refused, match="has halted: a test says so"):
            await waiting
        for level in LADDER:
            with pytest.raises((Refused, NotSent), match="has halted"):
                await client.query("size", consistency=level, timeout=1)


async def test_a_subscriber_follows_the_cluster_through_deaths_and_a_restart(lab: Cluster) -> None:
    node = follower(lab)
    async with lab.connect(node) as client:
        events: list[Any] = []

        async def follow() -> None:
            async for event in client.subscribe():
                events.append(event)

        following = asyncio.ensure_future(follow())
        await lab.submit_many([("incr", "n")] * 2_000)
        await until(lambda: len(events) >= 1_000)
        await lab.kill(node)
        await lab.submit_many([("incr", "n")] * 2_000)
        await lab.restart(node)
        await lab.kill(lab.sequencer or "")
        await lab.submit_many([("incr", "n")] * 2_000, timeout=10)
        await until(lambda: len(events) == 6_000)
        following.cancel()
        await asyncio.gather(following, return_exceptions=True)
    assert [event.value for event in events] == list(range(1, 6_001))
    assert all(before.seq < after.seq for before, after in pairwise(events))
    again = []
    async with lab.connect(node) as client:
        async for event in client.subscribe(events[2_500].seq):
            again.append(event)
            if event == events[-1]:
                break
    assert again == events[2_500:], "outcomes are the same at a node that computed them again"
