"""Subscriptions against real gateways on a fake cluster: order, resumption, Gone, slow readers."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from typing import Any

import pytest

from mcast.client import connection, subscription
from mcast.client.client import Client, connect
from mcast.clock import monotonic_s
from mcast.errors import DecodeError, Error, Gone, NotSent, Refused
from mcast.machine.events import Event
from mcast.net.tcp import Dialer, StreamLink
from mcast.node import eventlog
from mcast.node.fake import FakeCluster
from mcast.node.gateway.gateway import Gateway
from mcast.wire.stream import StreamKind, Subscribe, pack_message, pack_raw


@pytest.fixture
async def client(cluster: FakeCluster, gateways: dict[str, Gateway]) -> AsyncIterator[Client]:
    async with connect(cluster.config, at="n2", timeout=2) as connected:
        yield connected


async def take(events: Any, count: int) -> list[Event]:
    async with asyncio.timeout(10):
        return [await anext(events) for _ in range(count)]


async def until(holds: Any) -> None:
    async with asyncio.timeout(10):
        while not holds():
            await asyncio.sleep(0.001)


async def test_events_as_they_were_applied(cluster: FakeCluster, client: Client) -> None:
    await client.submit("set", "k", 1)
    await client.submit("append", "k", 2)
    async with contextlib.aclosing(client.subscribe()) as events:
        first, second = await take(events, 2)
        assert (first.seq, first.epoch, first.name, first.args) == (2, 1, "set", ["k", 1])
        assert (first.outcome, first.error, first.time > 10**18) == ("ok", None, True)
        assert (second.outcome, second.value, second.error) == ("rejected", None, "not a list")
        waiting = asyncio.ensure_future(anext(events))
        cluster.elect("n3")
        big = await client.submit("set", "big", "x" * 20_000)
        event = await waiting
        assert (event.seq, event.epoch, event.args[1]) == (big.seq, 2, "x" * 20_000)
    async with contextlib.aclosing(client.subscribe(big.seq - 3)) as events:
        assert await take(events, 1) == [event], "from within the fragments"


async def test_a_number_that_does_not_exist_yet_is_waited_for(cluster: FakeCluster, client: Client) -> None:
    async with contextlib.aclosing(client.subscribe(10)) as events:
        waiting = asyncio.ensure_future(anext(events))
        receipts = await client.submit_many([("incr", "k")] * 5)
        assert receipts.last_seq == 6 and not waiting.done()
        await client.submit_many([("incr", "k")] * 5)
        assert (await waiting).seq == 10


@pytest.mark.parametrize("first", [0, -1, 2**63, 1.5, True, "1"])
async def test_what_is_no_event_number_is_refused(client: Client, first: Any) -> None:
    with pytest.raises(Refused, match="event number"):
        await anext(client.subscribe(first))


async def test_it_goes_on_at_another_node_when_its_gateway_dies_again_and_again(
    cluster: FakeCluster, gateways: dict[str, Gateway], client: Client
) -> None:
    async with contextlib.aclosing(client.subscribe()) as events:
        seen = []
        writing = asyncio.create_task(client.submit_many([("incr", "k")] * 30_000))
        for node in ("n2", "n3"):
            seen += await take(events, 5_000)
            await gateways[node].stop(drain_s=0)
        await writing
        seen += await take(events, 20_000)
    assert [event.value for event in seen] == list(range(1, 30_001))
    assert [event.seq for event in seen] == list(range(2, 30_002))


async def test_a_gateway_that_falls_silent_is_left(
    cluster: FakeCluster, gateways: dict[str, Gateway], client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connection, "WATCH_INTERVAL_S", 0.01)
    await client.submit("incr", "k")
    async with contextlib.aclosing(client.subscribe()) as events:
        await take(events, 1)
        (one,) = client._subscriptions
        assert one._keeper.link is not None and one._keeper.link.node.id == "n2"
        gateways["n2"]._subscriptions.stop()
        monkeypatch.setattr(gateways["n2"], "_on_request", lambda connection, kind, message: None)
        await client.submit("incr", "k")
        assert (await take(events, 1))[0].value == 2
        assert one._keeper.link.node.id != "n2"


async def test_a_gateway_out_of_touch_is_left_although_it_answers(
    cluster: FakeCluster, gateways: dict[str, Gateway], client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else whoever waits for events there would wait as long as it is cut off, however many happen elsewhere."""
    monkeypatch.setattr(connection, "WATCH_INTERVAL_S", 0.01)
    await client.submit("incr", "k")
    async with contextlib.aclosing(client.subscribe()) as events:
        await take(events, 1)
        gateways["n2"]._subscriptions.stop()
        cluster.shells["n2"].replica.proven = (0, monotonic_s() - 5)
        await client.submit("incr", "k")
        assert (await take(events, 1))[0].value == 2
        (one,) = client._subscriptions
        assert one._keeper.failures["n2"].endswith("out of touch with the cluster")


async def test_where_all_are_out_of_touch_it_waits_on(
    cluster: FakeCluster, gateways: dict[str, Gateway], client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connection, "WATCH_INTERVAL_S", 0.002)
    for shell in cluster.shells.values():
        shell.replica.proven = (0, monotonic_s() - 5)
    short = connect(cluster.config, timeout=0.6)
    async with contextlib.aclosing(short.subscribe()) as events:
        waiting = asyncio.ensure_future(anext(events))
        await until(lambda: short._subscriptions and next(iter(short._subscriptions))._keeper._in_vain == 3)
        await asyncio.sleep(0.7)
        await client.submit("incr", "k")
        assert (await waiting).value == 1


def refound(cluster: FakeCluster, **uuids: bytes) -> None:
    for node, uuid in uuids.items():
        cluster.shells[node].engine.cluster_uuid = uuid.ljust(16, b"-") if uuid else b""


async def test_a_recovered_cluster_s_numbers_are_not_gone_on_with(
    cluster: FakeCluster, gateways: dict[str, Gateway]
) -> None:
    """Its event 3 may follow another event 2 than the one that was given."""
    refound(cluster, n1=b"new", n2=b"old", n3=b"new")
    async with connect(cluster.config, at="n2") as client:
        await client.submit("incr", "k")
        async with contextlib.aclosing(client.subscribe()) as events:
            await take(events, 1)
            await gateways["n2"].stop(drain_s=0)
            with pytest.raises(Gone, match=r"recovered or founded anew.*begin again from event 1") as gone:
                await take(events, 1)
            assert gone.value.low_water == 1
        await client.submit("incr", "k")  # by now it knows the new cluster
        async with contextlib.aclosing(client.subscribe(gone.value.low_water)) as events:
            assert [event.value for event in await take(events, 2)] == [1, 2]


async def test_a_node_without_a_log_is_passed_over_by_who_knows_the_cluster(
    cluster: FakeCluster, gateways: dict[str, Gateway]
) -> None:
    refound(cluster, n1=b"", n2=b"old", n3=b"old")
    async with connect(cluster.config, at="n2") as client:
        await client.submit("incr", "k")
        async with contextlib.aclosing(client.subscribe()) as events:
            await take(events, 1)
            await gateways["n2"].stop(drain_s=0)
            await client.submit("incr", "k")
            assert (await take(events, 1))[0].value == 2
            (one,) = client._subscriptions
            assert one._keeper.link is not None and one._keeper.link.node.id == "n3"


async def test_an_idle_stream_is_kept(client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connection, "WATCH_INTERVAL_S", 0.002)
    async with contextlib.aclosing(client.subscribe()) as events:
        waiting = asyncio.ensure_future(anext(events))
        await until(lambda: client._subscriptions and next(iter(client._subscriptions))._answers > 5)
        (one,) = client._subscriptions
        assert one._keeper.failures == {}
        await client.submit("incr", "k")
        assert (await waiting).value == 1


async def test_gone_only_when_no_node_keeps_it(
    cluster: FakeCluster, gateways: dict[str, Gateway], client: Client
) -> None:
    await client.submit_many([("incr", "k")] * 10)
    for node, low_water in (("n1", 5), ("n2", 6)):
        cluster.shells[node].events._low = low_water
    async with contextlib.aclosing(client.subscribe(3)) as events:
        assert (await take(events, 1))[0].seq == 3, "n3 still has it"
    cluster.shells["n3"].events._low = 7
    with pytest.raises(Gone, match="event 3 is no longer kept; the oldest kept is 5, at n1") as gone:
        await anext(client.subscribe(3))
    assert gone.value.low_water == 5
    await gateways["n1"].stop(drain_s=0)
    with pytest.raises(Gone, match="kept is 6, at n2"):
        await anext(client.subscribe(3))


async def test_nobody_there_is_not_sent(cluster: FakeCluster, gateways: dict[str, Gateway]) -> None:
    client = connect(cluster.config, timeout=0.2)
    for gateway in gateways.values():
        await gateway.stop(drain_s=0)
    with pytest.raises(NotSent, match=r"no node took the subscription within 0\.2 s: .*n1 at"):
        await anext(client.subscribe())


async def test_halted_nodes_send_their_subscribers_away(cluster: FakeCluster, client: Client) -> None:
    await client.submit("incr", "k")
    async with contextlib.aclosing(client.subscribe()) as events:
        await take(events, 1)
        cluster.shells["n2"].halt("a bug")
        await client.submit("incr", "k")
        assert (await take(events, 1))[0].value == 2
    for shell in cluster.shells.values():
        shell.halt("a bug")
    with pytest.raises(NotSent, match="has halted: a bug"):
        await anext(connect(cluster.config, timeout=0.2).subscribe())


async def test_closing_the_client_ends_the_stream(cluster: FakeCluster, gateways: dict[str, Gateway]) -> None:
    async with connect(cluster.config) as client:
        waiting = asyncio.ensure_future(anext(client.subscribe()))
        await until(lambda: any(gateway._subscriptions._waiting for gateway in gateways.values()))
    with pytest.raises(Error, match="closed"):
        await waiting
    await until(lambda: not any(len(gateway._subscriptions) for gateway in gateways.values()))


async def test_a_loop_that_is_left_closes_its_connection(client: Client, gateways: dict[str, Gateway]) -> None:
    await client.submit("incr", "k")
    async for event in client.subscribe():
        assert event.seq == 2
        break
    await until(lambda: not len(gateways["n2"]._subscriptions) and not client._subscriptions)


async def test_who_takes_slowly_keeps_little_and_misses_nothing(
    cluster: FakeCluster, client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(subscription, "EVENTS_UNREAD_BYTES", 100_000)
    monkeypatch.setattr(connection, "WATCH_INTERVAL_S", 0.01)
    async with contextlib.aclosing(client.subscribe()) as events:
        await client.submit("set", "k0", "x" * 1_000)
        await take(events, 1)
        (one,) = client._subscriptions
        await client.submit_many([("set", f"k{n}", "x" * 1_000) for n in range(1, 5_000)])
        await asyncio.sleep(0.1)
        assert 100_000 < one._unread_bytes < 100_000 + 2 * 300_000
        assert one._keeper.failures == {}, "its silence is our own doing"
        rest = await take(events, 4_999)
    assert [event.args[0] for event in rest] == [f"k{n}" for n in range(1, 5_000)]


class Sink:
    """Reads nothing, ever."""

    def on_link_message(self, link: StreamLink, kind: int, payload: bytes) -> None:
        """Nor listens."""

    def on_link_writable(self, link: StreamLink) -> None:
        """Nothing to write."""

    def on_link_lost(self, link: StreamLink, reason: str) -> None:
        """Nothing to do."""


async def test_a_subscriber_that_never_reads_costs_the_node_nothing(
    cluster: FakeCluster, gateways: dict[str, Gateway], client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(eventlog, "EVENTS_PIECE_BYTES", 300_000)
    monkeypatch.setattr(eventlog, "EVENTS_RECENT_BYTES", 900_000)
    links = [await Dialer(cluster.config, "client").open(cluster.config.node("n2"), Sink()) for _ in range(5)]
    for link in links:
        link.pause(True)
        link.write([pack_message(StreamKind.SUBSCRIBE, Subscribe(1))])
    subscriptions, log = gateways["n2"]._subscriptions, cluster.shells["n2"].events
    for _ in range(8):
        await client.submit_many([("set", f"k{n}", "x" * 1_000) for n in range(2_000)])
    await until(lambda: all(connection.congested for connection in subscriptions._subscribers))
    await until(lambda: not subscriptions._ready and not subscriptions._waiting)
    assert len(subscriptions) == 5
    assert log._recent_bytes < 1_300_000
    written = [
        connection._transport.get_write_buffer_size()  # type: ignore[union-attr]
        for connection in subscriptions._subscribers
    ]
    assert max(written) < 1_000_000
    assert subscriptions.behind_count == 5
    behind = [log.last - subscriber.next for subscriber in subscriptions._subscribers.values()]
    assert min(behind) > 5_000
    receipt = await client.submit("incr", "n")
    async with contextlib.aclosing(client.subscribe(receipt.seq)) as events:
        assert (await take(events, 1))[0].value == 1
    for link in links:
        link.close()
    await until(lambda: not len(subscriptions))


async def test_a_second_subscribe_on_one_connection_is_hostile(
    cluster: FakeCluster, gateways: dict[str, Gateway]
) -> None:
    link = await Dialer(cluster.config, "client").open(cluster.config.node("n1"), Sink())
    link.write([pack_message(StreamKind.SUBSCRIBE, Subscribe(1))] * 2)
    await until(lambda: link.lost)
    assert gateways["n1"].statistics().hostile == {"unexpected message": 1}


async def test_a_node_that_sends_nonsense_is_left_and_not_for_ever_tried(
    cluster: FakeCluster, gateways: dict[str, Gateway], client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    await client.submit("incr", "k")
    bad = eventlog.EventBatch([pack_raw(StreamKind.EVENTS, b"\x00\x00\x00\x09")], 3, 0)
    monkeypatch.setattr(cluster.shells["n2"].events, "read", lambda first, reported: bad)
    async with contextlib.aclosing(client.subscribe()) as events:
        assert (await take(events, 1))[0].value == 1
    for shell in cluster.shells.values():
        monkeypatch.setattr(shell.events, "read", lambda first, reported: bad)
    with pytest.raises(DecodeError):
        await anext(client.subscribe())


async def test_now_leaves_out_what_happened_before_and_nothing_after(cluster: FakeCluster, client: Client) -> None:
    await client.submit_many([("incr", "k")] * 20)
    events = await client.subscribe(from_seq="now")
    await client.submit("incr", "k")
    assert [event.value for event in await take(events, 1)] == [21]
    await events.aclose()
    with pytest.raises(StopAsyncIteration):
        await anext(events)
    async with client.subscribe("now") as entered:
        await client.submit("incr", "k")
        async for event in entered:
            assert event.value == 22
            break
    assert not client._subscriptions


async def test_now_is_not_before_an_event_of_ones_own_nor_asked_of_a_node_that_is_behind(
    cluster: FakeCluster, gateways: dict[str, Gateway], client: Client
) -> None:
    await client.submit_many([("incr", "k")] * 3)
    cluster.shells["n2"].state = "catching-up"
    for shell in cluster.shells.values():
        known = shell.status()
        shell.status = lambda known=known: {**known, "commit_seq": 1}  # type: ignore[method-assign, misc]
    async with client.subscribe("now") as events:
        (one,) = client._subscriptions
        assert one._keeper.link is not None and one._keeper.link.node.id != "n2"
        await client.submit("incr", "k")
        assert (await take(events, 1))[0].value == 4


async def test_where_no_node_knows_what_is_now_the_subscription_ends_in_time(
    cluster: FakeCluster, client: Client
) -> None:
    for shell in cluster.shells.values():
        shell.state = "isolated"
    with pytest.raises(NotSent, match=r"within 0\.3 s.*n3 is isolated: it does not know"):
        await client.subscribe("now", timeout=0.3)
    assert not client._subscriptions


async def test_now_with_a_node_that_lies_is_never_a_crash(cluster: FakeCluster, client: Client) -> None:
    for shell in cluster.shells.values():
        shell.status = lambda: {"state": "live", "commit_seq": "x"}  # type: ignore[method-assign]
    with pytest.raises(NotSent):
        await client.subscribe("now", timeout=0.2)
