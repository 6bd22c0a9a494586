"""Catch-up: frames come from whichever peer has them, in order, in bounded pieces, and go on where they stopped."""

from __future__ import annotations

import asyncio
import errno
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from mcast.config import NodeConfig
from mcast.machine.kv import KeyValue
from mcast.net.tcp import Dialer, StreamLink, Unreachable
from mcast.node.fake import FakeCluster, FakeShell, serving
from mcast.node.gateway import catchup as catchup_module
from mcast.node.gateway.catchup import Fetcher, FetchServer
from mcast.node.gateway.gateway import Gateway
from mcast.protocol.effects import CatchUp
from mcast.wire.envelope import name_hash
from mcast.wire.frame import Frame
from mcast.wire.records import RecordKind, encode_record
from mcast.wire.stream import Fetch

N1, N2, N3 = (name_hash(f"n{number}") for number in (1, 2, 3))
EVENTS = 600


@pytest.fixture
async def cluster(tmp_path: Path) -> FakeCluster:
    """A cluster in which n3 has heard nothing of what the others hold."""
    fake = FakeCluster(tmp_path, KeyValue)
    behind = fake.shells.pop("n3")
    for _ in range(EVENTS):
        fake.take([(encode_record(RecordKind.OPEN, 1, 0, 0, 0, bytes(16)),)])
    fake.pump()
    fake.shells["n3"] = behind
    return fake


@pytest.fixture
async def gateways(cluster: FakeCluster) -> AsyncIterator[dict[str, Gateway]]:
    async with serving(cluster) as started:
        yield started


async def caught_up(shell: FakeShell, until: int = EVENTS) -> None:
    while shell.engine.applied_seq < until:
        await asyncio.sleep(0.001)
    assert shell.engine.chain == shell.store.frames[-1].chain


def ask(shell: FakeShell, *peers: int, until: int = EVENTS) -> None:
    assert shell.on_catch_up is not None
    shell.on_catch_up(CatchUp(shell.replica.last_seq + 1, until, peers))


async def test_all_that_is_missing_is_fetched(
    cluster: FakeCluster, gateways: dict[str, Gateway], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(catchup_module, "FETCH_CHUNK_BYTES", 3_000)
    monkeypatch.setattr(catchup_module, "FETCH_WINDOW_BYTES", 10_000)
    behind, fetched = cluster.shells["n3"], list[Frame]()
    take = behind.on_transfer

    def transferred(frames: Sequence[Frame], peer: int) -> None:
        fetched.extend(frames)
        take(frames, peer)

    monkeypatch.setattr(behind, "on_transfer", transferred)
    ask(behind, N2)
    await caught_up(behind)
    assert behind.engine.result_chain == cluster.shells["n1"].engine.result_chain
    assert behind.failed == []
    assert len(fetched) == len(behind.store.frames), "each came once"


async def test_pieces_of_single_events_follow_one_another(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(catchup_module, "FETCH_CHUNK_BYTES", 500)
    fake = FakeCluster(tmp_path, KeyValue)
    behind = fake.shells.pop("n3")
    for _ in range(20):
        fake.take([(encode_record(RecordKind.OPEN, 1, 0, 0, 0, bytes(16)),)])
        fake.pump()
    fake.shells["n3"] = behind
    fetched: list[int] = []
    take = behind.on_transfer

    def transferred(frames: Sequence[Frame], peer: int) -> None:
        fetched.extend(frame.first for frame in frames)
        take(frames, peer)

    monkeypatch.setattr(behind, "on_transfer", transferred)
    async with serving(fake):
        ask(behind, N2, until=20)
        await caught_up(behind, until=20)
    assert fetched == list(range(1, 21))


async def test_a_dead_peer_and_one_that_keeps_too_little_are_passed_over(
    cluster: FakeCluster, gateways: dict[str, Gateway]
) -> None:
    behind = cluster.shells["n3"]
    cluster.shells["n2"].store.low_water = 100
    ask(behind, N2, N1)
    await caught_up(behind)
    assert behind.failed == [N2]


async def test_a_peer_that_cannot_read_its_journal_now_is_passed_over(
    cluster: FakeCluster, gateways: dict[str, Gateway], monkeypatch: pytest.MonkeyPatch
) -> None:
    def too_many_open_files(first: int, max_bytes: int) -> list[Frame]:
        raise OSError(errno.EMFILE, "too many open files")

    monkeypatch.setattr(cluster.shells["n2"].store, "read", too_many_open_files)
    monkeypatch.setattr(catchup_module, "ANSWER_S", 60.0)
    ask(cluster.shells["n3"], N2, N1)
    async with asyncio.timeout(10):  # without waiting for an answer that never comes
        await caught_up(cluster.shells["n3"])
    assert cluster.shells["n3"].failed == [N2]


async def test_peers_beyond_those_named_are_tried_too(cluster: FakeCluster, gateways: dict[str, Gateway]) -> None:
    behind = cluster.shells["n3"]
    await gateways["n1"].stop(drain_s=0)
    ask(behind)
    await caught_up(behind)
    assert behind.failed == [N1]


async def test_it_goes_on_at_another_peer_where_the_first_broke_off(
    cluster: FakeCluster, gateways: dict[str, Gateway], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(catchup_module, "FETCH_CHUNK_BYTES", 2_000)
    behind = cluster.shells["n3"]
    read: list[int] = []
    store = cluster.shells["n1"].store
    whole = store.read

    def breaking(first: int, max_bytes: int) -> object:
        read.append(first)
        if len(read) == 4:
            for connection in list(gateways["n1"]._connections):
                connection.abort()
        return whole(first, max_bytes)

    monkeypatch.setattr(store, "read", breaking)
    ask(behind, N1, N2)
    await caught_up(behind)
    assert behind.failed == [N1] and len(read) >= 4
    seqs = [frame.first for frame in behind.store.frames]
    assert seqs == sorted(set(seqs))


async def test_when_all_fail_it_stops_and_a_new_request_begins_anew(
    cluster: FakeCluster, gateways: dict[str, Gateway]
) -> None:
    behind = cluster.shells["n3"]
    for name in ("n1", "n2"):
        cluster.shells[name].store.low_water = 100
    ask(behind, N1, N2)
    while len(behind.failed) < 2:
        await asyncio.sleep(0.001)
    await asyncio.sleep(0.01)
    assert sorted(behind.failed) == sorted([N1, N2]) and behind.engine.applied_seq == 0
    cluster.shells["n2"].store.low_water = 1
    ask(behind, N1, N2)
    await caught_up(behind)


@pytest.fixture
def dialled(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Whom connections were opened to."""
    opened: list[str] = []
    dial = Dialer.open

    async def counted(self: Dialer, node: NodeConfig, *args: Any) -> StreamLink:
        opened.append(node.id)
        return await dial(self, node, *args)

    monkeypatch.setattr(Dialer, "open", counted)
    return opened


async def fetched(behind: FakeShell, fetcher: Fetcher, *peers: int, until: int) -> None:
    fetcher.fetch(CatchUp(behind.replica.last_seq + 1, until, peers))
    async with asyncio.timeout(5):
        while fetcher.progress() is not None or behind.replica.last_seq < until:
            await asyncio.sleep(0.001)


def one_more(fake: FakeCluster) -> int:
    """The number of one more event, in a frame of its own."""
    fake.take([(encode_record(RecordKind.OPEN, 1, 0, 0, 0, bytes(16)),)])
    fake.pump()
    return fake.shells["n1"].replica.last_seq


async def test_one_connection_serves_as_long_as_it_is_used(
    tmp_path: Path, dialled: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where datagrams do not arrive, each command is a fetch."""
    monkeypatch.setattr(catchup_module, "KEPT_S", 0.3)
    fake = FakeCluster(tmp_path, KeyValue)
    behind = fake.shells.pop("n3")

    one_more(fake)
    async with serving(fake) as gateways:
        fetcher = Fetcher(behind, Dialer(fake.config, "peer", "n3", behind.incarnation))  # type: ignore[arg-type]
        for peers in ((N1, N2), (N2, N1), (), (N2, N1)):
            await fetched(behind, fetcher, *peers, until=one_more(fake))
        assert dialled == ["n1"], "whoever is connected goes on serving"
        await fetched(behind, fetcher, N2, until=one_more(fake))
        assert dialled == ["n1", "n2"], "unless it has not got that"
        for connection in list(gateways["n2"]._connections):
            connection.abort()
        await asyncio.sleep(0.05)
        await fetched(behind, fetcher, N2, until=one_more(fake))
        assert dialled == ["n1", "n2", "n2"], "an ended one is replaced"
        fetcher.on_address_change()
        await fetched(behind, fetcher, N2, until=one_more(fake))
        assert dialled == ["n1", "n2", "n2", "n2"], "one to where a node no longer is, too"
        assert behind.failed == []
        async with asyncio.timeout(5):
            while gateways["n1"]._connections or gateways["n2"]._connections:
                await asyncio.sleep(0.01)
        await fetcher.stop()


async def test_what_is_asked_for_as_a_fetch_ends_is_not_forgotten(tmp_path: Path) -> None:
    fake = FakeCluster(tmp_path, KeyValue)
    behind = fake.shells.pop("n3")
    one_more(fake)
    async with serving(fake):
        fetcher = Fetcher(behind, Dialer(fake.config, "peer", "n3", behind.incarnation))  # type: ignore[arg-type]
        fetcher.fetch(CatchUp(1, 1, (N1,)))
        task = fetcher._task
        assert task is not None
        task.remove_done_callback(fetcher._on_done)
        await task
        fetcher.fetch(CatchUp(2, one_more(fake), (N1,)))
        fetcher._on_done(task)
        async with asyncio.timeout(5):
            await caught_up(behind, until=2)
        await fetcher.stop()


async def test_who_does_not_answer_keeps_no_repeated_request_from_the_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Who falls behind asks anew once a second, and a connection that is blocked fails after a second."""
    fake = FakeCluster(tmp_path, KeyValue)
    behind = fake.shells.pop("n3")
    dial = Dialer.open

    async def blocked(self: Dialer, node: NodeConfig, *args: Any) -> StreamLink:
        if node.id == "n1":
            await asyncio.sleep(0.05)
            raise Unreachable("no answer")
        return await dial(self, node, *args)

    monkeypatch.setattr(Dialer, "open", blocked)
    async with serving(fake), asyncio.timeout(5):
        fetcher = Fetcher(behind, Dialer(fake.config, "peer", "n3", behind.incarnation))  # type: ignore[arg-type]
        until = one_more(fake)
        while behind.replica.last_seq < until:
            fetcher.fetch(CatchUp(1, until, ()))
            await asyncio.sleep(0.02)
        await fetcher.stop()
    assert behind.failed == [N1]


async def test_progress_shows_while_it_lasts_and_only_then(cluster: FakeCluster, gateways: dict[str, Gateway]) -> None:
    shell: FakeShell = cluster.shells["n3"]
    fetcher = Fetcher(shell, Dialer(cluster.config, "peer", "n3", shell.incarnation))  # type: ignore[arg-type]
    assert fetcher.progress() is None
    fetcher.fetch(CatchUp(1, EVENTS, (N1,)))
    assert fetcher.progress() == {"from": None, "next": 1, "until": EVENTS}
    await caught_up(shell)
    await asyncio.sleep(0.01)
    assert fetcher.progress() is None
    await fetcher.stop()


async def test_nothing_more_is_fetched_while_much_waits_to_be_applied(
    cluster: FakeCluster, gateways: dict[str, Gateway]
) -> None:
    """A log may be larger than the memory of who catches up with it."""
    behind = cluster.shells["n3"]
    behind.is_apply_backlog_full = True
    ask(behind, N1)
    await asyncio.sleep(0.1)
    assert behind.replica.last_seq == 0
    behind.is_apply_backlog_full = False
    await caught_up(behind)


class Reader:
    """A connection whose other side reads, or does not."""

    def __init__(self, *, reads: bool) -> None:
        self.congested = not reads
        self.trusted = True
        self.sent: list[bytes] = []
        self.dropped: list[str] = []

    def send(self, messages: Sequence[bytes]) -> None:
        self.sent += messages

    def drop(self, reason: str) -> None:
        self.dropped.append(reason)


async def test_who_reads_nothing_gives_its_place_to_others(
    cluster: FakeCluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(catchup_module, "FETCH_STALL_S", 0.02)
    server: Any = FetchServer(cluster.shells["n1"])  # type: ignore[arg-type] # a fake shell
    stuck = [Reader(reads=False) for _ in range(catchup_module.FETCHES_MAX)]
    reader = Reader(reads=True)
    for connection in (*stuck, reader):
        server.on_fetch(connection, Fetch(1, 1_000_000))
    async with asyncio.timeout(5):
        while len(reader.sent) < 2:
            await asyncio.sleep(0.001)
    assert [one.dropped for one in stuck] == [["does not read"]] * len(stuck)
    assert not reader.dropped
    await server.stop()


async def test_a_peer_that_goes_silent_is_left(
    cluster: FakeCluster, gateways: dict[str, Gateway], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(catchup_module, "ANSWER_S", 0.02)
    monkeypatch.setattr(gateways["n1"], "on_messages", lambda connection, messages: None)
    behind = cluster.shells["n3"]
    ask(behind, N1)
    await caught_up(behind)
    assert behind.failed == [N1]
