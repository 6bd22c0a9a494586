"""What was said under one promise leaves under it, whatever completes before it does."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from mcast.config import Config, NodeConfig
from mcast.net.memory import Hub, MemoryLink
from mcast.node.shell import Shell
from mcast.protocol.effects import Multicast, Promise, Send
from mcast.wire.envelope import decode_envelope_untrusted, name_hash
from mcast.wire.messages import Ack, Commit, Kind, Stale


@pytest.fixture
async def shell(tmp_path: Path) -> AsyncIterator[tuple[Shell, MemoryLink]]:
    """One of two nodes, and the network's end of the other, which does not run."""
    nodes = tuple(NodeConfig(id=f"n{n}", address=f"127.0.0.1:{7710 + n}") for n in (1, 2))
    hub = Hub()
    other = hub.link(("127.0.0.1", 7712))
    one = Shell(Config(name="lab", nodes=nodes, folder=tmp_path, data_dir=tmp_path / "data", sync="os"), "n1", hub=hub)
    await one.start()
    yield one, other
    await one.stop()


def heard(link: MemoryLink, kinds: set[Kind]) -> list[tuple[int, int]]:
    """(kind, promise) of what arrived, in order."""
    envelopes = [decode_envelope_untrusted(datagram) for datagram in link.receive()]
    return [(envelope.kind, envelope.promised) for envelope in envelopes if envelope.kind in kinds]


async def test_envelopes_carry_the_promise_as_of_the_effects_before_them(shell: tuple[Shell, MemoryLink]) -> None:
    one, other = shell
    to = name_hash("n2")
    ack = Ack(1, bytes(16), 1, bytes(16), 1, 1, 1)
    one._driver.carry_out([Promise(1), Send(to, ack), Promise(2), Send(to, Stale(1))])
    assert heard(other, {Kind.ACK, Kind.STALE}) == [(Kind.ACK, 1), (Kind.STALE, 2)]


async def test_a_commit_that_waits_to_be_told_is_told_before_the_next_promise(shell: tuple[Shell, MemoryLink]) -> None:
    one, other = shell
    one._driver.carry_out([Promise(1), Multicast(Commit(1, 1, bytes(16), 0)), Promise(2)])
    one.transport.tell_commit()
    await asyncio.sleep(0)
    assert heard(other, {Kind.COMMIT}) == [(Kind.COMMIT, 1)]
