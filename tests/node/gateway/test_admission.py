"""No limit hangs on what a connection says of itself: places, and sessions by the address they come from."""

from __future__ import annotations

import asyncio
import dataclasses

import pytest

from mcast.client.client import connect
from mcast.errors import Refused
from mcast.limits import ADDRESS_SESSIONS_MIN
from mcast.node.fake import FakeCluster
from mcast.node.gateway import admission
from mcast.node.gateway.admission import OPENING_S, PEER_CONNECTIONS, PRUNE_S, Openings
from mcast.node.gateway.gateway import Gateway
from mcast.wire.envelope import name_hash
from mcast.wire.records import RecordKind, encode_record
from mcast.wire.stream import Hello, Ping, StreamKind, pack_message, pack_raw
from tests.node.gateway.raw import NONCE, Raw, hello, opening, raws

__all__ = ["raws"]  # a fixture, used by all

MOST = 6


@pytest.fixture(autouse=True)
def few(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(admission, "ADDRESS_SESSIONS_MAX", MOST)


class Table:
    """Sessions that are known, and a clock."""

    def __init__(self, room: int = 100_000, nodes: int = 3) -> None:
        self.known: set[int] = set()
        self.now_s = 0.0
        self.openings = Openings(self.known.__contains__, lambda: room - len(self.known), nodes, lambda: self.now_s)
        self._next = 1

    def open(self, host: str = "10.0.0.1", lost: bool = False) -> bool:
        """One more from there, applied unless it is lost."""
        nonce = self._next.to_bytes(16, "big")
        self._next += 1
        if not self.openings.begin(host, nonce):
            return False
        assert self.openings.begin(host, nonce), "sent again it is the same"
        if not lost:
            self.known.add(self._next)
            self.openings.on_open_applied(nonce, self._next)
        return True


def test_one_address_opens_so_many_and_more_when_some_have_ended() -> None:
    table = Table()
    assert [table.open() for _ in range(MOST + 1)] == [True] * MOST + [False]
    assert table.open("10.0.0.2"), "another address is not concerned"
    table.now_s += PRUNE_S
    table.known.clear()
    assert [table.open() for _ in range(MOST + 1)] == [True] * MOST + [False]
    assert table.openings.refused == 2


@pytest.mark.parametrize("nodes", [3, 8, 64])
def test_no_address_fills_the_table_through_however_many_nodes(monkeypatch: pytest.MonkeyPatch, nodes: int) -> None:
    monkeypatch.setattr(admission, "ADDRESS_SESSIONS_MAX", 1_250)
    most, known, now_s = 10_000, set[int](), 0.0
    gateways = [Openings(known.__contains__, lambda: most - len(known), nodes, lambda: now_s) for _ in range(nodes)]

    def open_all(address: str) -> int:
        before = len(known)
        for gateway in gateways:
            while gateway.begin(address, nonce := len(known).to_bytes(16, "big")):
                known.add(len(known) + 1)
                gateway.on_open_applied(nonce, len(known))
        return len(known) - before

    first = open_all("10.0.0.1")
    assert min(1_250 * nodes, 0.6 * most) <= first <= 0.65 * most, "one machine of many clients is served all the same"
    now_s += PRUNE_S
    second = open_all("10.0.0.2")
    assert second <= 0.68 * (most - first), "and whoever comes next leaves as much of what is left"


def test_an_address_may_always_open_some_for_the_table_itself_may_make_room(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(admission, "ADDRESS_SESSIONS_MAX", 12_500)
    table = Table(room=0)
    assert [table.open() for _ in range(ADDRESS_SESSIONS_MIN + 1)] == [True] * ADDRESS_SESSIONS_MIN + [False]


def test_an_open_that_was_lost_is_forgotten_after_a_while() -> None:
    table = Table()
    assert [table.open(lost=True) for _ in range(MOST + 1)] == [True] * MOST + [False]
    table.now_s += OPENING_S + 1
    assert table.open()


def test_a_network_of_ipv6_counts_as_one_address_and_so_do_too_many(monkeypatch: pytest.MonkeyPatch) -> None:
    table = Table()
    hosts = [f"2001:db8::{number:x}" for number in range(MOST + 1)]
    assert [table.open(host) for host in hosts] == [True] * MOST + [False]
    assert table.open("2001:db8:0:1::1") and table.open("fe80::1%eth0") and table.open("::1")
    monkeypatch.setattr(admission, "ADDRESSES_MAX", 5)
    assert table.open("10.0.0.5")
    strangers = [table.open(f"10.0.1.{number}") for number in range(MOST + 1)]
    assert strangers == [True] * MOST + [False]
    table.now_s += PRUNE_S
    table.known.clear()
    assert table.open("10.0.2.1"), "who has nothing left makes room"
    assert len(table.openings._of) <= 5 + 1


@pytest.mark.parametrize("claim", ["client", "peer"])
async def test_an_address_that_opened_too_many_sessions_opens_no_more_whatever_it_calls_itself(
    cluster: FakeCluster, gateways: dict[str, Gateway], claim: str
) -> None:
    elsewhere = dataclasses.replace(cluster.config.nodes[1], address="192.0.2.7:7711")
    config = dataclasses.replace(cluster.config, nodes=(cluster.config.nodes[0], elsewhere))
    gateways["n1"]._places._config = config
    gateways["n1"]._places.learn({name_hash("n2"): ("192.0.2.7", 7711)})
    raw = await Raw.open(cluster, "n1", hello(claim, "n2" if claim == "peer" else ""))
    kind = StreamKind.FORWARD if claim == "peer" else StreamKind.SUBMIT
    for number in range(MOST + 3):
        record = encode_record(RecordKind.OPEN, 1, 0, 0, 0, number.to_bytes(16, "big"))
        raw.send(pack_raw(kind, record))
    reported = [(await raw.message())[1].session for _ in range(MOST + 3)] if claim == "client" else []
    assert reported.count(0) == (3 if reported else 0)
    while gateways["n1"]._submissions.openings.refused < 3:
        await asyncio.sleep(0.001)
    assert len(cluster.shells["n3"].engine.sessions) == MOST
    assert gateways["n1"].status()["refused_sessions"] == 3


async def test_a_client_is_told_that_its_address_has_opened_enough(
    cluster: FakeCluster, gateways: dict[str, Gateway]
) -> None:
    for number in range(MOST):
        raw = await Raw.open(cluster, "n1", hello())
        raw.send(opening(number.to_bytes(16, "big")))
        assert (await raw.message())[1].session
    async with connect(cluster.config, at="n1", strict=True) as client:
        with pytest.raises(Refused, match="as one address may open"):
            await client.submit("incr", "k")
    async with connect(cluster.config, at="n2", strict=True) as client:
        assert (await client.submit("incr", "k")).value == 1, "what another gateway forwards from its own address"


async def test_who_calls_itself_a_peer_from_elsewhere_takes_a_clients_place(
    cluster: FakeCluster, gateways: dict[str, Gateway]
) -> None:
    gateway = gateways["n1"]
    gateway.clients_max = 2
    peer = Hello(hello().version, "lab", "peer", "n2", NONCE)
    gateway._places._addresses["n2"] = "192.0.2.7"
    for _ in range(2):
        await Raw.open(cluster, "n1", peer)
    third = await Raw.open(cluster, "n1")
    third.send(pack_message(StreamKind.HELLO, peer))
    assert "serves 2 clients" in await third.ended()
    gateway._places._addresses["n2"] = "127.0.0.1"
    trusted = [await Raw.open(cluster, "n1", peer) for _ in range(PEER_CONNECTIONS)]
    fourth = await Raw.open(cluster, "n1")
    fourth.send(pack_message(StreamKind.HELLO, peer))
    assert "serves 2 clients" in await fourth.ended(), "no more of one node than it needs"
    trusted[0].writer.close()
    await trusted[0].writer.wait_closed()
    trusted[1].send(pack_message(StreamKind.PING, Ping(1)))
    await trusted[1].message()
    await Raw.open(cluster, "n1", peer)
