"""A peer of servers: one client that writes to them, and three readers that follow what they hold."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Protocol

from tools.other_systems.crew import Crew
from tools.other_systems.peer import Flood, make_events


class Writer(Protocol):
    """A client's connection to a server."""

    def send(self, events: Sequence[bytes]) -> None:
        """Submit them in order, many on the way at a time, until every one is acknowledged. Raises BrokenRun."""


class ServedPeer:
    """A `Peer` out of a writer and a crew of readers."""

    def __init__(self, writer: Writer, readers: Crew) -> None:
        self._writer = writer
        self._readers = readers

    def flood(self, events: int, size: int) -> Flood:
        """As Peer says."""
        work = make_events(events, size)
        self._readers.submitted += events
        began = time.perf_counter()
        self._writer.send(work)
        acknowledged = time.perf_counter()
        return Flood(acknowledged - began, max(acknowledged, self._readers.wait_until_applied()) - began)

    def submit_alone(self, calls: int, size: int) -> list[float]:
        """As Peer says."""
        took = []
        for event in make_events(calls + 1, size)[:-1]:
            began = time.perf_counter()
            self._writer.send((event,))
            took.append(time.perf_counter() - began)
        self._readers.submitted += calls
        return took
