"""Sends subscribers what is applied, at their own pace: nobody who reads slowly, or never, costs the node anything.

A subscriber is a connection, two numbers and a place in a queue; what it has not read yet stays in the event log. It
is sent a chunk only when the last one has left, and all subscribers together get at most a share of the node's time.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from typing import TYPE_CHECKING, Final

from mcast.clock import monotonic_s
from mcast.errors import CorruptionError, DecodeError, Gone
from mcast.node.gateway.connection import Connection
from mcast.wire.stream import Failure, FetchGone, StreamKind, Subscribe, pack_message

if TYPE_CHECKING:
    from mcast.node.shell import Shell

TURN_S: Final = 0.002  # of reading and sending in one turn of the loop
_log: Final = logging.getLogger("mcast.node")
REST: Final = 3.0  # times as long as a turn took, before the next: a quarter of the node's time at most


class _Subscriber:
    __slots__ = ("begun", "next", "outcomes_sent", "queued")

    def __init__(self, first: int) -> None:
        self.next = first
        self.outcomes_sent = 0
        self.begun = False
        self.queued = False


class Subscriptions:
    """All subscribers of one node."""

    def __init__(self, shell: Shell) -> None:
        self._shell = shell
        self._subscribers: dict[Connection, _Subscriber] = {}
        self._ready: deque[Connection] = deque()
        self._waiting: list[Connection] = []
        """Subscribers that were sent all events there are."""
        self._turn_due: asyncio.Handle | None = None
        self._rested_s = 0.0
        self._damaged_from = 0

    def __len__(self) -> int:
        return len(self._subscribers)

    @property
    def behind_count(self) -> int:
        """How many do not read what was sent: they are sent nothing more until they do."""
        return sum(connection.congested for connection in self._subscribers)

    def on_subscribe(self, connection: Connection, message: Subscribe) -> None:
        """Begin to send events. Raises DecodeError for a second SUBSCRIBE on one connection."""
        if connection in self._subscribers:
            raise DecodeError("unexpected message", "a second SUBSCRIBE")
        if self._shell.halted is not None:
            self._refuse(connection, f"{self._shell.node_id} has halted: {self._shell.halted}")
            return
        self._subscribers[connection] = _Subscriber(max(message.first, 1))
        self._queue(connection)

    def on_applied(self) -> None:
        """Events were applied: those who wait for them get them at the end of this turn of the loop."""
        waiting, self._waiting = self._waiting, []
        for connection in waiting:
            self._queue(connection)

    def on_writable(self, connection: Connection) -> None:
        """The connection's write buffer has drained."""
        if connection in self._subscribers:
            self._queue(connection)

    def on_disconnect(self, connection: Connection) -> None:
        """The connection has ended."""
        if self._subscribers.pop(connection, None) is not None and connection in self._waiting:
            self._waiting.remove(connection)

    def on_halted(self) -> None:
        """This node has halted: send its subscribers to other nodes."""
        for connection in list(self._subscribers):
            self._refuse(connection, f"{self._shell.node_id} has halted: {self._shell.halted}")

    def stop(self) -> None:
        """Stop sending."""
        if self._turn_due is not None:
            self._turn_due.cancel()
        self._subscribers.clear()
        self._ready.clear()
        self._waiting.clear()

    def _queue(self, connection: Connection) -> None:
        subscriber = self._subscribers.get(connection)
        if subscriber is None or subscriber.queued:
            return
        subscriber.queued = True
        self._ready.append(connection)
        if self._turn_due is None:
            loop = asyncio.get_running_loop()
            pause_s = self._rested_s - monotonic_s()
            self._turn_due = loop.call_later(pause_s, self._on_turn) if pause_s > 0 else loop.call_soon(self._on_turn)

    def _on_turn(self) -> None:
        self._turn_due = None
        began = monotonic_s()
        while self._ready and monotonic_s() < began + TURN_S:
            connection = self._ready.popleft()
            subscriber = self._subscribers.get(connection)
            if subscriber is not None:
                subscriber.queued = False
                self._send(connection, subscriber)
        ended = monotonic_s()
        self._rested_s = ended + REST * (ended - began)
        if self._ready and self._turn_due is None:
            self._turn_due = asyncio.get_running_loop().call_later(REST * (ended - began), self._on_turn)

    def _send(self, connection: Connection, subscriber: _Subscriber) -> None:
        events = self._shell.events
        if connection.congested:
            return  # `on_writable` queues it again
        try:
            if not subscriber.begun and subscriber.next <= events.last:
                subscriber.next = events.beginning(subscriber.next)
                subscriber.begun = True
            messages, subscriber.next, subscriber.outcomes_sent = events.read(subscriber.next, subscriber.outcomes_sent)
        except Gone as gone:
            del self._subscribers[connection]
            connection.send([pack_message(StreamKind.GONE, FetchGone(gone.low_water))])
            return
        except (OSError, CorruptionError, ValueError) as error:
            if isinstance(error, CorruptionError) and subscriber.next != self._damaged_from:
                self._damaged_from = subscriber.next  # each that tries again would say so again
                _log.error(
                    "%s; subscribers are sent elsewhere. The disk is failing: stop this node, replace the disk, and "
                    "start it with an empty data directory", error,
                )  # fmt: skip
            self._refuse(connection, f"{self._shell.node_id} cannot read events from {subscriber.next} on: {error}")
            return
        if messages:
            connection.send(messages)
            self._queue(connection)
        elif events.lost is not None and events.failing is not None and subscriber.next <= events.last:
            why = f"cannot compute outcomes again yet: {events.failing}"
            self._refuse(connection, f"{self._shell.node_id} {why}")
        else:
            events.on_more = self.on_applied
            self._waiting.append(connection)

    def _refuse(self, connection: Connection, why: str) -> None:
        self._subscribers.pop(connection, None)
        if connection in self._waiting:
            self._waiting.remove(connection)
        connection.send([pack_message(StreamKind.ERROR, Failure(0, why[:1_000]))])
        connection.close()
