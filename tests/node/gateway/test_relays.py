"""Datagrams over TCP, between real gateways: they arrive as such, both ways, and nothing hangs on who dialled."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from mcast.errors import DecodeError
from mcast.limits import RELAYED_BYTES_MAX
from mcast.machine.kv import KeyValue
from mcast.node.gateway import relays
from mcast.node.node import Node
from mcast.protocol.effects import Relay
from mcast.testing import cluster
from mcast.testing.cluster import Cluster
from mcast.wire.envelope import name_hash
from mcast.wire.messages import Knock

PATIENCE_S = 5.0


def noting(node: Node, monkeypatch: pytest.MonkeyPatch) -> list[tuple[Any, bool]]:
    """What the node's protocol is given from now on: messages, and whether they came over TCP."""
    taken: list[tuple[Any, bool]] = []
    receive = node.shell.replica.receive

    def note(arrivals: Any, now: float, *, relayed: bool = False) -> None:
        taken.extend((message, relayed) for _, message in arrivals)
        receive(arrivals, now, relayed=relayed)

    monkeypatch.setattr(node.shell.replica, "receive", note)
    return taken


async def until(holds: Any) -> None:
    async with asyncio.timeout(PATIENCE_S):
        while not holds():
            await asyncio.sleep(0.01)


def relay(lab: Cluster, source: str, target: str, nonce: int) -> None:
    send = lab.node(source).shell.on_relay
    assert send is not None
    send(Relay(name_hash(target), Knock(nonce)))


async def test_a_datagram_over_tcp_reaches_the_protocol_as_one(monkeypatch: pytest.MonkeyPatch) -> None:
    async with cluster(KeyValue, nodes=3) as lab:
        taken = noting(lab.node("n2"), monkeypatch)
        for nonce in (1, 2, 3):
            relay(lab, "n1", "n2", nonce)
        await until(lambda: sum(relayed for _, relayed in taken) >= 3)
        assert [message.nonce for message, relayed in taken if relayed] == [1, 2, 3]


async def test_a_cut_is_one_over_tcp_too(monkeypatch: pytest.MonkeyPatch) -> None:
    async with cluster(KeyValue, nodes=3) as lab:
        taken = noting(lab.node("n2"), monkeypatch)
        lab.node("n2").shell.fault("cut=n1")
        relay(lab, "n1", "n2", 1)
        await asyncio.sleep(0.1)
        lab.node("n2").shell.fault("clear")
        relay(lab, "n1", "n2", 2)
        await until(lambda: [message.nonce for message, relayed in taken if relayed] == [2])


async def test_the_way_that_one_side_dialled_serves_both(monkeypatch: pytest.MonkeyPatch) -> None:
    """As where a firewall lets a node dial out, and nobody in."""
    async with cluster(KeyValue, nodes=3) as lab:
        relay(lab, "n1", "n2", 1)
        theirs = lab.node("n2").gateway._relays
        way = theirs._ways[name_hash("n1")]
        await until(lambda: way.inbound is not None)
        monkeypatch.setattr(theirs, "_dial", lambda way: None)
        taken = noting(lab.node("n1"), monkeypatch)
        relay(lab, "n2", "n1", 7)
        await until(lambda: (Knock(7), True) in taken)


async def test_a_peer_that_is_down_is_dialled_seldom_and_nothing_piles_up(monkeypatch: pytest.MonkeyPatch) -> None:
    async with cluster(KeyValue, nodes=3) as lab:
        await lab.kill("n3")
        theirs = lab.node("n1").gateway._relays
        way, dials = theirs._ways[name_hash("n3")], 0
        dial = theirs._dialer.open

        async def counting(*how: Any) -> Any:
            nonlocal dials
            dials += 1
            return await dial(*how)

        monkeypatch.setattr(theirs._dialer, "open", counting)
        for nonce in range(100):
            relay(lab, "n1", "n3", nonce)
            assert len(way.waiting) <= 16
            await asyncio.sleep(0.005)
        assert 1 <= dials <= 6


async def test_a_datagram_that_is_too_long_is_refused() -> None:
    async with cluster(KeyValue, nodes=2) as lab:
        theirs = lab.node("n1").gateway._relays
        with pytest.raises(DecodeError, match="message too long"):
            theirs._take(theirs._ways[name_hash("n2")], bytes(RELAYED_BYTES_MAX + 1))


async def test_a_connection_over_which_nothing_comes_back_is_given_up_and_dialled_anew(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(relays, "PING_S", 0.0)
    async with cluster(KeyValue, nodes=3) as lab:
        way = lab.node("n1").gateway._relays._ways[name_hash("n2")]
        relay(lab, "n1", "n2", 1)
        await until(lambda: way.link is not None)
        before = way.link
        for nonce in range(2 * relays.SILENT_PINGS):  # it answers, though it has nothing to say
            relay(lab, "n1", "n2", nonce)
            await asyncio.sleep(0.05)
        assert way.link is before
        for connection in list(lab.node("n2").gateway._connections):
            connection.pause(True)
        taken = noting(lab.node("n2"), monkeypatch)
        for nonce in range(100, 103 + relays.SILENT_PINGS):
            relay(lab, "n1", "n2", nonce)
            await asyncio.sleep(0.05)
        await until(lambda: (Knock(nonce), True) in taken)
        assert way.link not in (None, before)
