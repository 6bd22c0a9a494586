"""A connection writes once a turn, and everything it was given before it closes; it is served in slices of time."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Sequence
from typing import Any

import pytest

from mcast.errors import DecodeError
from mcast.node.gateway import connection as connection_module
from mcast.node.gateway.connection import Connection
from mcast.node.gateway.turns import SHARE_S, SLICE_S, Turns
from mcast.wire.splitter import Splitter
from mcast.wire.stream import VERSION, Hello, Ping, StreamKind, pack_message

TICK_S = 2**-12  # a quarter of a millisecond, and exact


class Owner:
    """Takes what a gateway would."""

    def __init__(self) -> None:
        self.reasons: list[str] = []
        self.turns = Turns()
        self.now_s = 0.0
        self.handled: list[tuple[Connection, int, bytes]] = []
        self.at_once = 1_000

    def greet(self, connection: Connection, hello: Any) -> bytes:
        """Anybody is welcome."""
        return b"welcome"

    def on_messages(self, connection: Connection, messages: Sequence[tuple[int, bytes]], until_s: float) -> int:
        """Every message takes a TICK_S."""
        taken = list(messages)[: self.at_once]
        self.now_s += len(taken) * TICK_S
        self.handled += [(connection, kind, payload) for kind, payload in taken]
        return len(taken)

    def on_caught_up(self, connection: Connection) -> None:
        """As the gateway."""
        connection.pause(False)

    def on_writable(self, connection: Connection) -> None:
        """Of no interest."""

    def on_disconnect(self, connection: Connection) -> None:
        """Of no interest."""

    def count_hostile(self, reason: str) -> None:
        """Remember."""
        self.reasons.append(reason)


class Wire(asyncio.Transport):
    """Remembers what was written."""

    def __init__(self) -> None:
        super().__init__()
        self.written: list[bytes] = []
        self.closed = False
        self.reading = True

    def pause_reading(self) -> None:
        """As any transport."""
        self.reading = False

    def resume_reading(self) -> None:
        """As any transport."""
        self.reading = True

    def write(self, data: Any) -> None:
        """One write."""
        assert not self.closed
        self.written.append(bytes(data))

    def is_closing(self) -> bool:
        """As any transport."""
        return self.closed

    def close(self) -> None:
        """As any transport."""
        self.closed = True

    def get_write_buffer_size(self) -> int:
        """All has left."""
        return 0


def connected() -> tuple[Connection, Wire, Owner]:
    owner = Owner()
    connection, wire = Connection(owner), Wire()
    connection.connection_made(wire)
    return connection, wire, owner


async def test_what_is_posted_in_one_turn_leaves_in_one_write() -> None:
    connection, wire, _ = connected()
    connection.post(b"a", b"b")
    connection.post(b"c")
    assert wire.written == []
    await asyncio.sleep(0)
    assert wire.written == [b"abc"]
    connection.post(b"d")
    await asyncio.sleep(0)
    assert wire.written == [b"abc", b"d"]


async def test_what_nothing_will_follow_leaves_at_once_and_with_what_was_posted_before() -> None:
    connection, wire, _ = connected()
    connection.post(b"a", last=True)
    assert wire.written == [b"a"]
    connection.post(b"b")
    connection.post(b"c", last=True)
    assert wire.written == [b"a", b"bc"]
    await asyncio.sleep(0)
    connection.post(b"d")
    await asyncio.sleep(0)
    assert wire.written == [b"a", b"bc", b"d"]


async def test_what_was_posted_leaves_before_the_connection_closes() -> None:
    connection, wire, _ = connected()
    connection.post(b"a")
    connection.close()
    assert wire.written == [b"a"] and wire.closed
    await asyncio.sleep(0)
    connection, wire, owner = connected()
    connection.post(b"\0\0\0\1\7")
    connection.fail(DecodeError("bad group", "empty"))
    assert wire.closed and owner.reasons == ["bad group"]
    assert [kind for kind, _ in Splitter().feed(b"".join(wire.written))] == [StreamKind.ANSWER, StreamKind.ERROR]


HELLO = pack_message(StreamKind.HELLO, Hello(VERSION, "lab", "client", "", bytes(16)))
PINGS = [pack_message(StreamKind.PING, Ping(number)) for number in range(100)]
A_SHARE = math.ceil(SHARE_S / TICK_S)
A_TURN = A_SHARE * math.ceil(SLICE_S / (A_SHARE * TICK_S))


@pytest.fixture
async def served(monkeypatch: pytest.MonkeyPatch) -> Owner:
    owner = Owner()
    owner.at_once = 1
    monkeypatch.setattr(connection_module, "monotonic_s", lambda: owner.now_s)
    return owner


def client(owner: Owner) -> tuple[Connection, Wire]:
    connection, wire = Connection(owner), Wire()
    connection.connection_made(wire)
    connection.data_received(HELLO)
    return connection, wire


async def test_who_sends_more_than_there_is_time_for_is_read_no_further_until_it_is_served(served: Owner) -> None:
    connection, wire = client(served)
    last = A_SHARE + A_TURN + 2
    connection.data_received(b"".join(PINGS[:last]) + PINGS[last][:3])
    for handled in (A_SHARE, A_SHARE + A_TURN):
        assert len(served.handled) == handled and not wire.reading
        await asyncio.sleep(0)
    assert len(served.handled) == last and wire.reading
    connection.data_received(PINGS[last][3:] + PINGS[last + 1])
    assert [payload for _, _, payload in served.handled] == [ping[5:] for ping in PINGS[: last + 2]]


async def test_all_connections_share_one_slice_of_a_turn_and_who_was_not_served_comes_first(served: Owner) -> None:
    fit = A_TURN // A_SHARE
    crowd = [client(served)[0] for _ in range(fit + 1)]
    for connection in crowd:
        connection.data_received(b"".join(PINGS[: 2 * A_SHARE]))
    for turns in (1, 2):
        assert len(served.handled) == turns * A_TURN
        await asyncio.sleep(0)
    *others, last = crowd
    assert [one for one, _, _ in served.handled[::A_SHARE]] == [*others, last, *others, last]


async def test_what_comes_though_reading_is_paused_is_served_in_its_order(served: Owner) -> None:
    connection, _ = client(served)
    connection.data_received(b"".join(PINGS[: 2 * A_TURN]))
    connection.data_received(memoryview(bytearray(b"".join(PINGS[2 * A_TURN : 2 * A_TURN + 2]))))
    connection.data_received(PINGS[2 * A_TURN + 2])
    for _ in range(4):
        await asyncio.sleep(0)
    assert [payload for _, _, payload in served.handled] == [ping[5:] for ping in PINGS[: 2 * A_TURN + 3]]


async def test_a_connection_that_ends_leaves_nothing_to_be_done(served: Owner) -> None:
    connection, _ = client(served)
    other, _ = client(served)
    for one in (connection, other):
        one.data_received(b"".join(PINGS[: 2 * A_TURN]))
    connection.connection_lost(None)
    for _ in range(8):
        await asyncio.sleep(0)
    assert len(served.handled) == A_SHARE + 2 * A_TURN
    assert not connection.is_behind and not other.is_behind


async def test_nonsense_behind_good_words_ends_the_connection_when_its_turn_comes(
    served: Owner, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connection_module, "AT_ONCE", A_SHARE)
    connection, wire = client(served)
    connection.data_received(b"".join(PINGS[:A_SHARE]) + bytes(8))
    assert served.reasons == []
    await asyncio.sleep(0)
    assert wire.closed and served.reasons == ["bad message length"] and len(served.handled) == A_SHARE
