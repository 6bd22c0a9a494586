"""What every system in the comparison is asked to do, and the events it is given."""

from __future__ import annotations

import zlib
from collections.abc import Callable
from typing import Final, NamedTuple, Protocol

NODES: Final = 3
KEYS: Final = 1_000  # distinct events; a replica keeps the newest of each
SIZE_MIN: Final = 10  # bytes
SIZE_MAX: Final = 8_192  # bytes; one frame or message of every peer
SILENCE_S: Final = 20.0  # without a sign of progress, after which a run is broken
START_S: Final = 30.0  # for a peer's processes to be ready for work
MARK: Final = ord("!")  # first byte of the last event of a run
_PLAIN: Final = b"."


class Flood(NamedTuple):
    """How long a run took, from its first submit on."""

    acknowledged_s: float
    """Until the client knew that every event was taken."""
    applied_s: float
    """Until the last of the three replicas had applied, or its reader had read, the last event."""


class Peer(Protocol):
    """A system that is running and ready. Both raise BrokenRun when there can be no number."""

    def flood(self, events: int, size: int) -> Flood:
        """Submit `events` events of `size` bytes, each a message of its own, as fast as they are taken."""

    def submit_alone(self, calls: int, size: int) -> list[float]:
        """Submit `calls` events, each once the one before is acknowledged; the seconds each took."""


def make_events(count: int, size: int) -> list[bytes]:
    """`count` events of `size` bytes; the last one carries the mark that replicas answer."""
    some = [_PLAIN + b"%04d" % key + bytes(size - 5) for key in range(min(count, KEYS))]
    events = (some * (-(-count // len(some))))[:count]
    events[-1] = bytes([MARK]) + events[-1][1:]
    return events


class PeerReplica:
    """The state that events make: the newest of each key. At a mark it tells how many it has applied, and a digest."""

    def __init__(self, tell: Callable[[int, int], None]) -> None:
        self._tell = tell
        self._state: dict[bytes, bytes] = {}
        self._applied = 0

    def apply(self, event: bytes) -> None:
        """Apply the next event of the order."""
        self._state[event[1:5]] = event
        self._applied += 1
        if event[0] == MARK:
            self._tell(self._applied, zlib.crc32(b"".join(self._state.values())))
