import asyncio

import pytest

from mcast.errors import EnvironmentProblem
from mcast.net.link import PeerAddress
from mcast.net.memory import BURST_DATAGRAMS, QUEUE_BYTES_MAX, Hub
from mcast.wire.envelope import CONTROL, STREAM, UNICAST

A, B, C = ("a", 1), ("b", 2), ("c", 3)


def test_multicast_reaches_all_others_and_unicast_one() -> None:
    hub = Hub()
    a, b, c = hub.link(A), hub.link(B), hub.link(C)
    a.send(STREAM, [b"1", b"2"])
    a.send(CONTROL, [b"3"])
    a.send(UNICAST, [b"4"], C)
    assert list(map(bytes, b.receive())) == [b"1", b"2", b"3"]
    assert list(map(bytes, c.receive())) == [b"1", b"2", b"3", b"4"]
    assert a.receive() == []


def test_an_address_is_taken_once_and_free_again_after_close() -> None:
    hub = Hub()
    link = hub.link(A)
    with pytest.raises(EnvironmentProblem, match="in use"):
        hub.link(A)
    link.close()
    link.close()
    hub.link(A).send(UNICAST, [b"to nobody"], B)


def test_passes_cuts_the_network() -> None:
    def passes(source: PeerAddress, target: PeerAddress) -> bool:
        return {source, target} != {A, B}

    hub = Hub(passes)
    a, b, c = hub.link(A), hub.link(B), hub.link(C)
    a.send(STREAM, [b"x"])
    assert b.receive() == [] and len(c.receive()) == 1
    hub.passes = None
    a.send(STREAM, [b"x"])
    assert len(b.receive()) == 1


def test_a_full_queue_drops_and_counts() -> None:
    hub = Hub()
    a, b = hub.link(A), hub.link(B)
    fitting = QUEUE_BYTES_MAX // 1_000_000
    a.send(STREAM, [bytes(1_000_000)] * (fitting + 2))
    assert len(b.receive()) == fitting
    assert b.counters.kernel_drops == 2


async def test_a_receiver_is_rung_until_its_queue_is_empty() -> None:
    hub, heard, done = Hub(), 0, asyncio.Event()
    a, b = hub.link(A), hub.link(B)

    def readable() -> None:
        nonlocal heard
        heard += len(b.receive())
        if heard == 2 * BURST_DATAGRAMS + 1:
            done.set()

    b.attach(asyncio.get_running_loop(), readable)
    a.send(STREAM, [b"x"] * (2 * BURST_DATAGRAMS + 1))
    assert heard == 0, "delivery waits for the loop's next turn"
    async with asyncio.timeout(5):
        await done.wait()
    b.close()
