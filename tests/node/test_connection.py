"""A connection writes once a turn, and everything it was given before it closes."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

from mcast.errors import DecodeError
from mcast.node.connection import Connection
from mcast.wire.stream import Splitter, StreamKind


class Owner:
    """Takes what a gateway would."""

    def __init__(self) -> None:
        self.reasons: list[str] = []

    def greet(self, connection: Connection, hello: Any) -> bytes:
        """Nobody says hello here."""
        raise AssertionError

    def burst(self, connection: Connection, messages: Sequence[tuple[int, bytes]]) -> None:
        """Nobody sends anything here."""
        raise AssertionError

    def writable(self, connection: Connection) -> None:
        """Of no interest."""

    def gone(self, connection: Connection) -> None:
        """Of no interest."""

    def hostile(self, reason: str) -> None:
        """Remember."""
        self.reasons.append(reason)


class Wire(asyncio.Transport):
    """Remembers what was written."""

    def __init__(self) -> None:
        super().__init__()
        self.written: list[bytes] = []
        self.closed = False

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
