"""Subscribers of a cluster in trouble, now at one node, now at another, eager or slow: all they get is written down."""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections.abc import AsyncGenerator, Callable, Sequence
from typing import Final, Literal

from mcast.client.client import Client
from mcast.clock import monotonic_s
from mcast.errors import Gone, NotSent
from mcast.history.streams import Given, StreamEnd, Stretch
from mcast.machine.events import Event

STRETCH_S: Final = (0.3, 3.0)  # at one gateway, unless it dies; then the client goes on at another by itself
SLOW_S: Final = 0.02  # between two events of a slow subscriber, on average; it falls behind, and a node must not care
STUCK_S: Final = 1.5  # for which one that is stuck reads nothing at all
AGAIN_SHARE: Final = 0.2  # of the stretches begin anywhere before, and read again what was read already
EVENTS_MAX: Final = 3_000  # of one stretch

Pace = Literal["eager", "slow", "stuck"]


class Subscribers:
    """Runs subscribers until told where to end. `record` hears every stretch; `make` is a client at a node."""

    def __init__(self, record: Callable[[Stretch], None], make: Callable[[str], Client], nodes: Sequence[str]) -> None:
        self._record = record
        self._make = make
        self._nodes = nodes
        self._end: int | None = None
        self._deadline_s = float("inf")
        self.behind: list[str] = []
        """Those who did not get to the end in time, in words."""

    def finish(self, last: int, within_s: float) -> None:
        """Whoever has event `last` is done; whoever has not within so many seconds is `behind`."""
        self._end, self._deadline_s = last, monotonic_s() + within_s

    async def run(self, name: str, seed: int) -> None:
        """One subscription from event 1 to the end, in stretches at changing nodes."""
        draw = random.Random(f"{seed}/{name}")
        following = 1
        while self._end is None or following <= self._end:
            if monotonic_s() > self._deadline_s:
                self.behind.append(f"{name} has the events before {following}; {self._end} was acknowledged")
                return
            again = self._end is None and following > 1 and draw.random() < AGAIN_SHARE
            first = draw.randrange(1, following) if again else following
            pace: Pace = draw.choice(["eager", "slow", "stuck"]) if self._end is None else "eager"
            stretch = await self._stretch(name, first, draw.choice(self._nodes), pace, draw)
            if stretch is not None:
                self._record(stretch)
                following = max(following, stretch.next)

    async def _stretch(self, name: str, first: int, node: str, pace: Pace, draw: random.Random) -> Stretch | None:
        """Events from `first` on, for a while; None when no node could be connected to."""
        given: list[Given] = []
        ended: StreamEnd = "left"
        low_water = None
        async with contextlib.AsyncExitStack() as stack:
            try:
                client = await stack.enter_async_context(self._make(node))
            except NotSent:
                return None
            events = await stack.enter_async_context(contextlib.aclosing(client.subscribe(first)))
            try:
                async with asyncio.timeout(draw.uniform(*STRETCH_S)):
                    await self._take(events, given, pace, draw)
            except TimeoutError:
                pass
            except Gone as gone:
                ended, low_water = "gone", gone.low_water
            except NotSent:
                ended = "not_sent"
        return Stretch(subscriber=name, first=first, events=given, ended=ended, low_water=low_water)

    async def _take(
        self, events: AsyncGenerator[Event, None], given: list[Given], pace: Pace, draw: random.Random
    ) -> None:
        stuck_after = draw.randrange(200) if pace == "stuck" else None
        async for event in events:
            at_ns = int(monotonic_s() * 1e9)
            given.append(Given(event.seq, event.epoch, event.name, event.args, event.outcome, event.value, at_ns))
            if len(given) >= EVENTS_MAX or (self._end is not None and event.seq >= self._end):
                return
            if pace == "slow":
                await asyncio.sleep(draw.uniform(0, 2 * SLOW_S))
            elif len(given) == stuck_after:
                await asyncio.sleep(STUCK_S)
