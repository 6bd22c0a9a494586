"""A client's life: opened, awaited, closed and opened again; how long its calls take; what it says of the machine."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from mcast.client.client import Client, connect
from mcast.errors import DecodeError, NotSent, Refused
from mcast.machine.kv import KeyValue
from mcast.node.fake import FakeCluster, serving


@pytest.fixture
async def cluster(tmp_path: Path) -> AsyncIterator[FakeCluster]:
    fake = FakeCluster(tmp_path, KeyValue)
    async with serving(fake):
        yield fake


@pytest.fixture
async def client(cluster: FakeCluster) -> AsyncIterator[Client]:
    async with connect(cluster.config, at="n2") as connected:
        yield connected


async def test_a_client_is_awaited_and_closed_as_well_as_entered(cluster: FakeCluster) -> None:
    client = await connect(cluster.config)
    assert (await client.submit("incr", "k")).value == 1
    assert await client is client, "once is enough"
    events = client.subscribe()
    assert (await anext(events)).value == 1
    await client.close()
    await client.close()
    with pytest.raises(Refused, match="this client is closed; connect another one"):
        await client.submit("incr", "k")
    async with await connect(cluster.config) as entered:
        assert (await entered.query("get", "k", consistency="any")).value == 1


async def test_a_closed_client_that_is_opened_again_begins_a_session_of_its_own(cluster: FakeCluster) -> None:
    client = connect(cluster.config)
    for count in (1, 2, 3):
        async with client:
            assert (await client.submit("incr", "k")).value == count
            assert len(await client.submit_many([("append", "l", count)] * 3)) == 3


async def test_a_client_that_found_nobody_may_try_again(cluster: FakeCluster, tmp_path: Path) -> None:
    other = FakeCluster(tmp_path / "other", KeyValue)
    client = connect(other.config, timeout=0.1)
    with pytest.raises(NotSent, match="no node answered within"):
        await client
    async with serving(other):
        await client
        assert (await client.submit("incr", "k")).value == 1
        await client.close()


async def test_a_client_that_was_never_opened_can_be_closed(cluster: FakeCluster) -> None:
    client = connect(cluster.config)
    await client.close()
    with pytest.raises(Refused, match="closed"):
        await client.submit("incr", "k")


async def test_every_call_takes_a_timeout(cluster: FakeCluster, client: Client) -> None:
    calls: list[Any] = [
        lambda timeout: client.submit("incr", "k", timeout=timeout),
        lambda timeout: client.submit_many([("incr", "k")], timeout=timeout),
        lambda timeout: client.submit_stream([("incr", "k")], timeout=timeout),
        lambda timeout: client.query("get", "k", timeout=timeout),
        lambda timeout: client.query_many([("get", "k")], timeout=timeout),
        lambda timeout: anext(client.subscribe(timeout=timeout)),
        lambda timeout: client.status(timeout=timeout),
        lambda timeout: client.gaps(timeout=timeout),
    ]
    for call in calls:
        await call(5)
        with pytest.raises(Refused, match="at most 86,400 seconds"):
            await call(float("nan"))
    with pytest.raises(Refused, match="at most 86,400 seconds"):
        await client.handover("n1", timeout=1e9)
    with pytest.raises(Refused, match="at most 86,400 seconds"):
        await client.fault("n1", "clear", timeout=1e9)


async def test_a_node_describes_its_machine(cluster: FakeCluster, client: Client) -> None:
    description = await client.describe()
    assert (description["machine"], description["version"]) == ("mcast.machine.kv:KeyValue", 1)
    cas = next(one for one in description["commands"] if one["name"] == "cas")
    assert [argument["name"] for argument in cas["arguments"]] == ["key", "expected", "value"]
    for shell in cluster.shells.values():
        shell.engine.machine.version = "x"  # type: ignore[assignment, misc]
        type(shell.engine.machine).version = "x"  # type: ignore[assignment]
    try:
        with pytest.raises(DecodeError, match="bad description"):
            await client.describe()
    finally:
        KeyValue.version = 1


async def test_nobody_to_describe_it(cluster: FakeCluster, tmp_path: Path) -> None:
    nobody = connect(FakeCluster(tmp_path / "other", KeyValue).config)
    with pytest.raises(NotSent, match=r"no node answered; asked .*n1 at"):
        await nobody.describe()


async def test_the_former_name_of_the_timeout_warns(client: Client) -> None:
    with pytest.warns(DeprecationWarning, match=r"Client\.timeout"):
        assert client.timeout_s == client.timeout == 5
