"""After Unknown: asked again under its request number, a command's fate is certain. And sessions shared, full, lost."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from mcast.client.client import Client, connect
from mcast.client.receipts import Receipt, Receipts
from mcast.errors import NotSent, Refused, Unknown
from mcast.machine.kv import KeyValue
from mcast.machine.sessions import SessionTable
from mcast.node.fake import FakeCluster, serving
from mcast.node.gateway.gateway import Gateway

DOUBT_S = 0.02


@pytest.fixture
async def client(cluster: FakeCluster, gateways: dict[str, Gateway]) -> AsyncIterator[Client]:
    async with connect(cluster.config, at="n2") as connected:
        await connected.submit("set", "k", 0)
        yield connected


async def doubt(client: Client, *command: Any) -> Unknown:
    with pytest.raises(Unknown) as caught:
        await client.submit(*command, timeout=DOUBT_S)
    return caught.value


async def value_of(client: Client, key: str = "k") -> Any:
    return (await client.query("get", key)).value


async def test_a_command_that_was_numbered_first_has_its_receipt(cluster: FakeCluster, client: Client) -> None:
    cluster.held = True
    unknown = await doubt(client, "incr", "k")
    with pytest.raises(Unknown) as again:
        await client.resolve(unknown, timeout=DOUBT_S)
    cluster.release()
    receipt = await client.resolve(again.value)
    assert isinstance(receipt, Receipt) and (receipt.outcome, receipt.value) == ("ok", 1)
    assert await client.resolve(unknown) == receipt, "as often as one asks"
    assert await value_of(client) == 1


async def test_a_command_whose_number_was_filled_first_never_happens(cluster: FakeCluster, client: Client) -> None:
    cluster.held = True
    unknown = await doubt(client, "set", "k", "never")
    cluster.lose_taken()
    cluster.release()
    cluster.elect("n3")
    with pytest.raises(NotSent, match="never will"):
        await client.resolve(unknown)
    assert await value_of(client) == 0
    assert (await client.submit("incr", "k")).value == 1, "the session goes on"


async def test_a_command_without_a_value_is_told_from_the_noop(cluster: FakeCluster, client: Client) -> None:
    """Both outcomes hold nothing; they must not look alike."""
    cluster.held = True
    unknown = await doubt(client, "set", "k", "did")
    cluster.release()
    receipt = await client.resolve(unknown)
    assert isinstance(receipt, Receipt) and (receipt.outcome, receipt.value) == ("ok", None)
    assert await value_of(client) == "did"


async def test_a_large_command_in_doubt_is_certain_too(cluster: FakeCluster, client: Client) -> None:
    cluster.held = True
    unknown = await doubt(client, "append", "big", "x" * 9_000)
    cluster.release()
    receipt = await client.resolve(unknown)
    assert isinstance(receipt, Receipt) and receipt.value == 1
    assert await value_of(client, "big") == ["x" * 9_000]


async def test_a_batch_in_doubt_is_completed_in_place(cluster: FakeCluster, client: Client) -> None:
    cluster.held = True
    with pytest.raises(Unknown, match="0 of 500") as caught:
        await client.submit_many([("append", "l", number) for number in range(500)], timeout=DOUBT_S)
    cluster.release()
    receipts = await client.resolve(caught.value)
    assert isinstance(receipts, Receipts) and receipts is caught.value.receipts
    assert [receipt and receipt.value for receipt in receipts] == list(range(1, 501))
    assert await value_of(client, "l") == list(range(500))


async def test_what_the_answers_gateway_took_along_is_had_from_another(
    cluster: FakeCluster, gateways: dict[str, Gateway], client: Client
) -> None:
    cluster.shells["n2"].deaf = True
    unknown = await doubt(client, "incr", "k")
    await gateways["n2"].stop(drain_s=0)
    receipt = await client.resolve(unknown)
    assert isinstance(receipt, Receipt) and receipt.value == 1
    assert await value_of(client) == 1


async def test_an_error_that_nobody_can_resolve_says_so(client: Client) -> None:
    final = Unknown("the outcome is no longer kept")
    with pytest.raises(Unknown) as caught:
        await client.resolve(final)
    assert caught.value is final and final.handle is None


@pytest.mark.parametrize("seed", range(4))
async def test_deadlines_that_race_with_answers_leave_nothing_in_doubt(
    cluster: FakeCluster, client: Client, seed: int
) -> None:
    draw = random.Random(seed)
    cluster.copies = draw.choice((1, 2))
    happened: list[Any] = []
    doubted = 0

    async def one(number: int) -> None:
        nonlocal doubted
        await asyncio.sleep(draw.random() * 0.2)
        try:
            try:
                receipt: Any = await client.submit("append", "l", number, timeout=draw.random() * 0.01)
            except Unknown as unknown:
                doubted += 1
                receipt = await client.resolve(unknown)
        except NotSent:
            return
        happened.append((receipt.value, number))

    async def trouble() -> None:
        for _ in range(20):
            cluster.held = True
            await asyncio.sleep(draw.random() * 0.012)
            if draw.random() < 0.3:
                cluster.lose_taken()
                cluster.elect(draw.choice(("n1", "n2", "n3")))
            cluster.release()

    await asyncio.gather(trouble(), *(one(number) for number in range(150)))
    assert doubted
    listed = await value_of(client, "l") or []
    assert [number for _, number in sorted(happened)] == listed
    assert [place for place, _ in sorted(happened)] == list(range(1, len(listed) + 1))


async def test_a_reused_number_is_refused_and_harms_nobody(cluster: FakeCluster, client: Client) -> None:
    """A second client that takes itself for the first: same session, same numbers, other content."""
    async with connect(cluster.config, at="n3") as impostor, connect(cluster.config, at="n1") as bystander:
        await bystander.submit("set", "other", 1)
        session = impostor._session
        await impostor.submit("incr", "k")
        session.id, session._next_request = client._session.id, 1
        with pytest.raises(Refused, match="used for another one"):
            await impostor.submit("set", "k", "stolen")
        assert await value_of(client) == 1
        assert (await client.submit("incr", "k")).value == 2
        with pytest.raises(Refused):
            await impostor.submit("set", "k", "stolen again")
        assert (await bystander.submit("incr", "other")).value == 2
        assert await value_of(client) == 2
        counted = {node["id"]: node["reused_requests"] for node in (await bystander.status())["nodes"]}
        assert counted == {"n1": 0, "n2": 0, "n3": 2}


@pytest.mark.parametrize("at", ["n2", "n3"])
async def test_of_two_that_use_one_number_at_once_only_one_is_told_it_happened(
    cluster: FakeCluster, gateways: dict[str, Gateway], client: Client, at: str
) -> None:
    """Whichever gateways they are connected to: what comes back is compared with what was sent."""
    async with connect(cluster.config, at=at) as duplicate:
        await duplicate.submit("set", "other", 1)
        duplicate._session.id, duplicate._session._next_request = client._session.id, client._session._next_request
        calls = {"ours": client.submit("append", "l", "ours"), "theirs": duplicate.submit("append", "l", "theirs")}
        reported = dict(zip(calls, await asyncio.gather(*calls.values(), return_exceptions=True), strict=True))
        (winner,) = await value_of(client, "l")
        assert isinstance(reported.pop(winner), Receipt)
        assert isinstance(reported.popitem()[1], Refused)


async def test_a_full_table_refuses_new_sessions_and_serves_the_old_ones(
    cluster: FakeCluster, gateways: dict[str, Gateway]
) -> None:
    for shell in cluster.shells.values():
        shell.engine.sessions = SessionTable(sessions_max=1)
    async with connect(cluster.config, at="n3") as late:
        async with connect(cluster.config, at="n2") as early:
            await early.submit("set", "k", 1)
            with pytest.raises(Refused, match="as many sessions as it may"):
                await late.submit("incr", "k")
            with pytest.raises(Refused):
                await late.submit_many([("incr", "k")] * 100)
            assert (await early.submit("incr", "k")).value == 2
        while len(cluster.shells["n3"].engine.sessions):
            await asyncio.sleep(0)
        assert (await late.submit("incr", "k")).value == 3, "one that was closed leaves its place"


async def test_an_evicted_sessions_command_did_not_happen_and_the_next_one_does(
    cluster: FakeCluster, client: Client
) -> None:
    for shell in cluster.shells.values():
        assert client._session.id is not None and shell.engine.sessions.close(client._session.id)
    with pytest.raises(NotSent, match="no longer knows the session"):
        await client.submit("incr", "k")
    assert (await client.submit("incr", "k")).value == 1


async def test_a_lost_open_is_sent_again_and_opens_one_session(
    cluster: FakeCluster, gateways: dict[str, Gateway]
) -> None:
    cluster.held = True
    async with connect(cluster.config, at="n2") as client:
        task = asyncio.create_task(client.submit("incr", "k"))
        while not cluster.shells["n1"].submitted:
            await asyncio.sleep(0)
        cluster.lose_taken()
        await gateways["n2"].stop(drain_s=0)
        cluster.copies = 2
        cluster.release()
        assert (await task).value == 1
        assert len(cluster.shells["n1"].engine.sessions) == 1


async def test_half_a_large_command_is_sent_whole_to_another_gateway(
    cluster: FakeCluster, gateways: dict[str, Gateway], client: Client
) -> None:
    for connection in gateways["n2"]._places.clients:
        connection.pause(True)
    task = asyncio.create_task(client.submit("append", "l", "x" * 3_000_000))
    await asyncio.sleep(0.02)
    assert cluster.shells["n1"].submitted == 2, "the session and the first command; a half command is not forwarded"
    await gateways["n2"].stop(drain_s=0)
    assert (await task).value == 1
    assert len(await value_of(client, "l")) == 1


async def test_a_session_of_the_cluster_before_is_not_used_in_a_new_one_of_that_name(tmp_path: Path) -> None:
    """Its numbers could be another client's there."""
    cluster = FakeCluster(tmp_path, KeyValue)
    for name, shell in cluster.shells.items():
        shell.engine.cluster_uuid = (b"old" if name == "n2" else b"new").ljust(16, b"-")
    async with serving(cluster) as gateways, connect(cluster.config, at="n2") as client:
        await client.submit("set", "k", 1)
        first = client._session.id
        await gateways["n2"].stop(drain_s=0)
        while client.node in (None, "n2"):
            await asyncio.sleep(0.001)
        assert (await client.submit("incr", "k")).value == 2
        second = client._session.id
        assert second != first
        await gateways[client.node or ""].stop(drain_s=0)
        await client.query("get", "k")
        assert client._session.id == second, "the same cluster's nodes share its sessions"
