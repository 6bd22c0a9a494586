"""Queries of the library: what it asks its gateway, in how many writes, and where else."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from pathlib import Path

import pytest

from mcast.client.client import Client, connect
from mcast.errors import NotSent, Refused
from mcast.machine.kv import KeyValue
from mcast.node.fake import FakeCluster, serving
from mcast.wire.splitter import Splitter
from mcast.wire.stream import Query, StreamKind, decode_stream_untrusted


@pytest.fixture
async def cluster(tmp_path: Path) -> AsyncIterator[FakeCluster]:
    fake = FakeCluster(tmp_path, KeyValue)
    async with serving(fake):
        yield fake


@pytest.fixture
async def client(cluster: FakeCluster) -> AsyncIterator[Client]:
    async with connect(cluster.config, at="n2") as connected:
        yield connected


def queries_of(client: Client, monkeypatch: pytest.MonkeyPatch) -> list[Query]:
    """What this client asks its gateway from now on."""
    asked: list[Query] = []
    write = client._exchange.write

    def spy(messages: Sequence[bytes]) -> None:
        for kind, payload in Splitter().feed(b"".join(messages)):
            if kind == StreamKind.QUERY:
                asked.append(decode_stream_untrusted(StreamKind.QUERY, payload))
        write(messages)

    monkeypatch.setattr(client._exchange, "write", spy)
    return asked


async def test_session_queries_name_the_last_event_this_client_knows_of(
    client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = queries_of(client, monkeypatch)
    receipt = await client.submit("set", "k", 1)
    await client.query("size")
    await client.query_many([("size",), ("size",)])
    await client.query("size", consistency="any")
    assert [query.min_seq for query in asked] == [receipt.seq] * 3 + [0]
    assert [query.level for query in asked] == ["session"] * 3 + ["any"]


async def test_what_a_query_saw_its_successors_see(
    cluster: FakeCluster, client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = queries_of(client, monkeypatch)
    async with connect(cluster.config, at="n2") as other:
        first = await other.submit("set", "k", 2)
        await client.query("size", consistency="any")
        await client.query("size")
        second = await other.submit("set", "k", 3)
        await client.query_many([("size",)], consistency="any")
        await client.query("size")
    assert [query.min_seq for query in asked] == [0, first.seq, 0, second.seq]


async def test_query_many_keeps_order(client: Client) -> None:
    await client.submit_many([("set", f"k{index}", index) for index in range(200)])
    answers = await client.query_many([("get", f"k{index}") for index in range(200)])
    assert [answer.value for answer in answers] == list(range(200))
    with pytest.raises(Refused):
        await client.query_many([("get", "k1"), ("nope",)])


async def test_query_many_asks_in_few_writes_and_without_a_task_a_query(
    client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    link = client._keeper.link
    assert link is not None
    writes: list[int] = []
    write = link.write

    def counted(messages: Sequence[bytes]) -> None:
        writes.append(len(messages))
        write(messages)

    monkeypatch.setattr(link, "write", counted)
    before = asyncio.all_tasks()
    asking = asyncio.ensure_future(client.query_many([("size",)] * 2_000, consistency="any"))
    await asyncio.sleep(0)
    assert asyncio.all_tasks() - before == {asking}
    assert len(await asking) == 2_000
    assert sum(writes) == 2_000 and len([count for count in writes if count]) == 4


async def test_query_many_asks_elsewhere_what_the_gateway_refuses(cluster: FakeCluster, client: Client) -> None:
    cluster.shells["n2"].halt("the disk failed")
    answers = await client.query_many([("size",)] * 20, consistency="any")
    assert {answer.node for answer in answers} <= {"n1", "n3"} and len(answers) == 20


async def test_query_many_that_nobody_answers_ends_in_time_and_leaves_nothing_behind(
    cluster: FakeCluster, client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    link = client._keeper.link
    assert link is not None
    monkeypatch.setattr(link, "write", lambda messages: None)
    with pytest.raises(NotSent, match=r"no answer within 0\.05 s"):
        await client.query_many([("size",)] * 3, timeout=0.05)
    with pytest.raises(NotSent, match=r"no answer within 0\.05 s"):
        await client.query("size", timeout=0.05)
    asking = asyncio.ensure_future(client.query_many([("size",)] * 3))
    await asyncio.sleep(0.01)
    asking.cancel()
    await asyncio.gather(asking, return_exceptions=True)
    assert not client._questions.is_busy
