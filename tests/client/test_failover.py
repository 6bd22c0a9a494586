"""Exactly once while gateways and sequencers come and go."""

from __future__ import annotations

import asyncio
import random
from typing import Any

import pytest

from mcast.client import connection
from mcast.client.client import connect
from mcast.client.queries import Questions
from mcast.client.receipts import Receipts
from mcast.clock import monotonic_s
from mcast.errors import NotSent
from mcast.net.tcp import StreamLink
from mcast.node.fake import FakeCluster
from mcast.node.gateway.gateway import Gateway
from mcast.wire.stream import HEAD_BYTES, Query, StreamKind, decode_stream_untrusted


def values(receipts: Receipts) -> list[Any]:
    return [receipt.value for receipt in receipts if receipt]


async def test_lost_results_are_had_from_another_gateway(cluster: FakeCluster, gateways: dict[str, Gateway]) -> None:
    async with connect(cluster.config, at="n2") as client:
        await client.submit("incr", "k")
        cluster.shells["n2"].deaf = True
        batch = asyncio.create_task(client.submit_many([("incr", "k")] * 2_000))
        single = asyncio.create_task(client.submit("incr", "k"))
        while cluster.last_seq < 2_003:
            await asyncio.sleep(0)
        await gateways["n2"].stop(drain_s=0)
        receipts = await batch
        assert values(receipts) == list(range(2, 2_002))
        assert receipts.last_seq == 2_002, "the receipts are those of the first time"
        assert (await single).value == 2_002
        assert client.node != "n2"
        assert (await client.query("get", "k")).value == 2_002


async def test_every_group_numbered_three_times_takes_effect_once(
    cluster: FakeCluster, gateways: dict[str, Gateway]
) -> None:
    cluster.copies = 3
    async with connect(cluster.config, at="n3") as client:
        receipts = await client.submit_many([("incr", "k")] * 3_000)
        assert values(receipts) == list(range(1, 3_001))
        assert (await client.submit("set", "big", "x" * 5_000)).outcome == "ok"
        assert (await client.query("get", "k")).value == 3_000


async def test_what_a_dead_sequencer_had_taken_is_forwarded_again(
    cluster: FakeCluster, gateways: dict[str, Gateway]
) -> None:
    async with connect(cluster.config, at="n2", strict=True) as client:
        await client.submit("incr", "k")
        cluster.held = True
        batch = asyncio.create_task(client.submit_many([("incr", "k")] * 1_000))
        while cluster.shells["n1"].submitted < 8:
            await asyncio.sleep(0)
        assert cluster.lose_taken()
        cluster.elect(None)
        await gateways["n1"].stop(drain_s=0)
        cluster.held = False
        await asyncio.sleep(0.02)
        assert not batch.done()
        cluster.elect("n3")
        assert values(await batch) == list(range(2, 1_002))
        cluster.elect("n2")
        assert (await client.submit("incr", "k")).value == 1_002, "its own gateway rules now"


async def test_a_hole_in_the_forwarded_requests_is_resent(cluster: FakeCluster, gateways: dict[str, Gateway]) -> None:
    async with connect(cluster.config, at="n2", strict=True) as client:
        await client.submit("incr", "k")
        cluster.held = True
        first = asyncio.create_task(client.submit_many([("incr", "k")] * 300))
        while cluster.shells["n1"].submitted < 4:
            await asyncio.sleep(0)
        cluster.lose_taken()
        cluster.held = False
        second = asyncio.create_task(client.submit_many([("incr", "k")] * 300))
        assert values(await second) == list(range(302, 602))
        assert values(await first) == list(range(2, 302))


async def test_a_refusing_sequencer_is_asked_again_until_it_leads(
    cluster: FakeCluster, gateways: dict[str, Gateway]
) -> None:
    class NotSequencerYet:
        is_sequencer = False

        def __getattr__(self, name: str) -> object:
            return getattr(real, name)

    real = cluster.shells["n1"].replica
    cluster.shells["n1"].replica = NotSequencerYet()  # type: ignore[assignment]
    async with connect(cluster.config, at="n2", strict=True) as client:
        task = asyncio.create_task(client.submit("incr", "k"))
        await asyncio.sleep(0.03)
        assert not task.done()
        cluster.shells["n1"].replica = real
        assert (await task).value == 1


async def test_a_silent_gateway_is_left_for_another(
    cluster: FakeCluster, gateways: dict[str, Gateway], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connection, "WATCH_INTERVAL_S", 0.01)
    monkeypatch.setattr(gateways["n2"], "on_messages", lambda connection, messages: None)
    async with connect(cluster.config, at="n2") as client:
        assert (await client.submit("incr", "k")).value == 1
        assert client.node != "n2"


async def test_a_gateway_cut_off_from_the_others_is_left_after_a_while(
    cluster: FakeCluster, gateways: dict[str, Gateway], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connection, "WATCH_INTERVAL_S", 0.01)
    cluster.shells["n2"].deaf = True
    async with connect(cluster.config, at="n2") as client:
        assert (await client.submit("incr", "k")).value == 1
        assert client.node != "n2"


@pytest.fixture
def looks(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Quick looks; why a gateway was left, in order."""
    monkeypatch.setattr(connection, "WATCH_INTERVAL_S", 0.01)
    left: list[str] = []
    close = StreamLink.close

    def closing(link: StreamLink, reason: str = "closed", flush: bool = False) -> None:
        if reason.startswith("no progress"):
            left.append(reason)
        close(link, reason, flush)

    monkeypatch.setattr(StreamLink, "close", closing)
    return left


def waited_s(reason: str) -> float:
    return float(reason.split()[3])


async def test_a_gateway_that_knows_it_is_out_of_touch_is_left_sooner(
    cluster: FakeCluster, gateways: dict[str, Gateway], looks: list[str]
) -> None:
    cluster.shells["n2"].deaf = True
    cluster.shells["n2"].replica.proven = (0, monotonic_s() - 5)
    async with connect(cluster.config, at="n2") as client:
        assert (await client.submit("incr", "k")).value == 1
    assert [waited_s(reason) < 0.08 for reason in looks] == [True]
    assert looks[0].endswith("out of touch with the cluster")


async def test_a_slow_gateway_in_touch_is_given_more_time(
    cluster: FakeCluster, gateways: dict[str, Gateway], looks: list[str]
) -> None:
    cluster.shells["n2"].deaf = True
    cluster.shells["n2"].replica.proven = (0, monotonic_s())
    async with connect(cluster.config, at="n2") as client:
        assert (await client.submit("incr", "k")).value == 1
    assert looks == ["no progress for 0.08 s"]


async def test_without_a_majority_clients_wander_less_and_less(
    cluster: FakeCluster, gateways: dict[str, Gateway], looks: list[str]
) -> None:
    for shell in cluster.shells.values():
        shell.deaf = True
        shell.replica.proven = (0, monotonic_s() - 5)
    async with connect(cluster.config) as client:
        task = asyncio.create_task(client.submit("incr", "k"))
        while len(looks) < 5:
            await asyncio.sleep(0.01)
        waits_s = [waited_s(reason) for reason in looks[:5]]
        assert waits_s[0] < 0.08 and waits_s[1:] == [0.08, 0.16, 0.32, 0.32]
        for shell in cluster.shells.values():
            shell.deaf = False
        assert (await task).value == 1
        cluster.shells[client.node or ""].deaf = True
        seen = len(looks)
        assert (await client.submit("incr", "k")).value == 2
        assert waited_s(looks[seen]) < 0.08, "progress made it as patient as before"


async def test_answered_queries_do_not_hide_waiting_commands(
    cluster: FakeCluster, gateways: dict[str, Gateway], looks: list[str]
) -> None:
    cluster.shells["n2"].deaf = True
    async with connect(cluster.config, at="n2") as client:
        task = asyncio.create_task(client.submit("incr", "k"))
        while not task.done():
            await client.query("get", "k", consistency="any")
        assert (task.result().value, client.node != "n2") == (1, True)


async def test_queries_move_too(cluster: FakeCluster, gateways: dict[str, Gateway]) -> None:
    async with connect(cluster.config, at="n2") as client:
        await client.submit("set", "k", 7)
        await gateways["n2"].stop(drain_s=0)
        answer = await client.query("get", "k")
        assert (answer.value, answer.node != "n2") == (7, True)


async def test_a_query_that_moves_has_only_the_time_that_is_left() -> None:
    questions = Questions()
    for timeout_s in (0.3, 9.0):
        questions.ask(Query(0, "size", [{"k": 1}], "linearizable", 0, None, None, 500.0), timeout_s)
    hurried, unhurried = [decode_stream_untrusted(StreamKind.QUERY, one[HEAD_BYTES:]) for one in questions.resend()]
    assert 0 < hurried.timeout_ms < 300.001  # of which a rounding error may be a part
    assert unhurried == Query(2, "size", [{"k": 1}], "linearizable", 0, None, None, 500.0)


async def test_strict_clients_do_not_move(cluster: FakeCluster, gateways: dict[str, Gateway]) -> None:
    async with connect(cluster.config, at="n2", strict=True) as client:
        await gateways["n2"].stop(drain_s=0)
        with pytest.raises(NotSent, match="n2 at"):
            await client.query("size", timeout=0.1)


@pytest.mark.parametrize("seed", range(5))
async def test_any_mix_of_losses_applies_each_command_once_and_in_order(
    cluster: FakeCluster, gateways: dict[str, Gateway], seed: int
) -> None:
    rng = random.Random(seed)
    cluster.copies = rng.choice((1, 1, 2))
    alive = dict(gateways)

    async def trouble() -> None:
        for _ in range(12):
            await asyncio.sleep(rng.random() * 0.01)
            what = rng.random()
            if what < 0.5:
                cluster.held = True
                await asyncio.sleep(rng.random() * 0.005)
                cluster.lose_taken()
                cluster.elect(rng.choice([None, *alive]))
            elif what < 0.75:
                rng.choice(list(cluster.shells.values())).deaf = True
            elif len(alive) > 1:
                name = rng.choice(list(alive))
                await alive.pop(name).stop(drain_s=0)
            cluster.release()
            for shell in cluster.shells.values():
                if shell.deaf:
                    shell.deaf = False
                    if len(alive) > 1 and (gateway := alive.pop(shell.node_id, None)):
                        await gateway.stop(drain_s=0)
        cluster.elect(rng.choice(list(alive)))

    async with connect(cluster.config) as client:
        troubles = asyncio.create_task(trouble())
        items: list[Any] = list(range(4_000))
        items[50::200] = ["x" * 4_000] * 20  # these need fragments
        done: list[int] = []
        for start in range(0, len(items), 200):
            receipts = await client.submit_many([("append", "l", item) for item in items[start : start + 200]])
            done += values(receipts)
            await asyncio.sleep(0.001)
        await troubles
        assert done == list(range(1, len(items) + 1))
        assert (await client.query("get", "l")).value == items
