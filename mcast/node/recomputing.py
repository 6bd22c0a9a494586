"""Computes lost outcomes again: a second machine applies the journal, beside the one that serves, a little at a time.

It gets a quarter of the node's time at most. What it has computed can be subscribed to at once; when it has come as far
as what is still in memory, it is done, and forgotten. Meanwhile the state is in memory twice.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Sequence
from typing import Final

from mcast.clock import monotonic_s, ticks_s
from mcast.errors import CorruptionError, Gone, Halted
from mcast.limits import EVENTS_CHUNK_BYTES, EVENTS_PIECE_BYTES
from mcast.machine.api import StateMachine
from mcast.machine.engine import Engine
from mcast.node.eventlog import EventLog, FrameSource
from mcast.wire.events import Executed
from mcast.wire.frame import Frame, frames_bytes

TURN_S: Final = 0.002  # of applying and writing in one turn of the loop, and the handler that is running then
REST: Final = 3.0  # times as long as a turn took, before the next: a quarter of the node's time at most
RETRY_S: Final = 1.0  # until a disk that took nothing is tried again
BEGIN_S: Final = (0.1, 60.0)  # before beginning anew, the first time; doubles, as long as it is lost again and again
CALM_S: Final = 600.0  # without a loss, before the next one is the first again
FRAMES: Final = 64  # applied at a time

_log: Final = logging.getLogger("mcast.node")


class Recomputing:
    """Makes good what `events` loses. `reached` says how far the journal has been applied by the machine that serves.

    `make` gives a new machine, or None if that cannot be done.
    """

    def __init__(
        self, events: EventLog, journal: FrameSource, reached: Callable[[], int],
        make: Callable[[], StateMachine | None],
    ) -> None:  # fmt: skip
        self._events = events
        self._journal = journal
        self._reached = reached
        self._make = make
        self._engine: Engine | None = None
        self._frames: list[Frame] = []
        self._computed: list[tuple[Frame, Executed]] = []
        """What is not written yet ..."""
        self._bytes = 0
        """... and the bytes of its frames."""
        self._next: asyncio.TimerHandle | None = None
        self._pause_s = 0.0
        self._lost_s = -CALM_S
        self._retrying: asyncio.TimerHandle | None = None
        events.on_lost, events.on_failing = self.begin, self._retry_later

    @property
    def finding(self) -> str | None:
        """A finding about the outcomes on disk; None while all are there."""
        events = self._events
        trouble = f"; the disk takes none ({events.failing}): free some space, or let this user write it"
        if events.lost is not None:
            return (
                f"outcomes for subscribers were lost ({events.lost}) and are computed again, event {events.recomputed} "
                f"of {events.last}: subscribers to others wait{trouble if events.failing else ''}"
            )
        return f"outcomes for subscribers are kept in memory for now{trouble}" if events.failing else None

    def begin(self) -> None:
        """Outcomes were lost: begin with the first event, soon."""
        self.stop()
        now = monotonic_s()
        first, most = BEGIN_S
        self._pause_s = first if now - self._lost_s > CALM_S else min(self._pause_s * 2, most)
        self._lost_s = now
        self._turn_later(self._pause_s)

    def stop(self) -> None:
        """Compute nothing any more."""
        for timer in (self._next, self._retrying):
            if timer is not None:
                timer.cancel()
        self._next = self._retrying = None
        self._engine = None
        self._frames, self._computed, self._bytes = [], [], 0

    def _retry_later(self) -> None:
        if self._retrying is None:
            self._retrying = asyncio.get_running_loop().call_later(RETRY_S, self._retry)

    def _retry(self) -> None:
        self._retrying = None
        self._events.retry()

    def _turn_later(self, pause_s: float) -> None:
        self._next = asyncio.get_running_loop().call_later(pause_s, self._on_turn)

    def _on_turn(self) -> None:
        self._next = None
        began = ticks_s()
        try:
            done = self._step(began + TURN_S)
        except OSError:
            self._turn_later(RETRY_S)  # `finding` says so
            return
        except (Halted, CorruptionError, Gone, MemoryError) as error:
            self.stop()
            self._events.give_up(str(error) or type(error).__name__)
            return
        if done:
            _log.warning("outcomes for subscribers are all there again")
            self.stop()
        else:
            self._turn_later(REST * (ticks_s() - began) if self._frames else RETRY_S)

    def _step(self, until: float) -> bool:
        """Apply for a while, and write what came of it; whether all is there. Raises what the disk and handlers do."""
        if self._bytes >= EVENTS_PIECE_BYTES:
            return self._write()  # the disk did not take it before
        engine = self._engine or self._new_engine()
        while ticks_s() < until and self._bytes < EVENTS_PIECE_BYTES:
            if not self._frames:
                reached = self._reached()
                chunk = self._journal.read(engine.applied_seq + 1, EVENTS_CHUNK_BYTES)
                self._frames = [frame for frame in chunk if frame.last <= reached]
                if not self._frames:
                    return bool(self._computed) and self._write()
            done, _ = engine.apply_until(self._frames[:FRAMES], until)
            del self._frames[:done]
        return self._bytes >= EVENTS_PIECE_BYTES and self._write()

    def _new_engine(self) -> Engine:
        if self._journal.low_water > 1:
            raise Gone("the journal does not begin with event 1", self._journal.low_water)
        if (machine := self._make()) is None:
            raise Halted("the state machine cannot be made a second time")
        engine = self._engine = Engine(machine, clock=ticks_s)
        engine.on_frames = self._on_applied
        return engine

    def _on_applied(self, frames: Sequence[Frame], executed: Sequence[Executed]) -> None:
        self._computed += zip(frames, executed, strict=True)
        self._bytes += frames_bytes(frames)

    def _write(self) -> bool:
        done = self._events.recompute([frame for frame, _ in self._computed], [one for _, one in self._computed])
        self._computed, self._bytes = [], 0
        return done
