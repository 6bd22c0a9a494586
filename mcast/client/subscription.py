"""One subscriber's stream of events, from gateway to gateway: what one did not send any more, the next one does."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncGenerator, Generator
from types import TracebackType
from typing import Any, Final

from mcast.client.connection import ALONE_MS, Keeper
from mcast.config import NodeConfig
from mcast.errors import DecodeError, Error, Gone, NotSent
from mcast.limits import EVENTS_UNREAD_BYTES, SEQ_MAX
from mcast.machine.events import Event, EventReader
from mcast.net.tcp import Dialer, StreamLink, key_problem
from mcast.wire.events import decode_events_untrusted
from mcast.wire.stream import (
    UNFOUNDED,
    Ask,
    Failure,
    FetchGone,
    Pong,
    Report,
    StreamKind,
    Subscribe,
    decode_stream_untrusted,
    pack_message,
)

BAD_STREAMS_MAX: Final = 3  # gateways in a row whose events could not be read before the subscription gives up
NOW: Final = 0  # the first number wanted, where that is the one after all that has happened


class Events(AsyncGenerator[Event, None]):
    """What `Client.subscribe` gives: an asynchronous generator of events; to await and to enter, too.

    Both return once it is fixed with which number it begins; leaving closes it.
    """

    def __init__(self, batches: AsyncGenerator[list[Event], None]) -> None:
        self._batches = batches
        self._begun = False
        self._unread: deque[Event] = deque()

    def __await__(self) -> Generator[Any, None, Events]:
        return self._begin().__await__()

    async def __aenter__(self) -> Events:
        return await self._begin()

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.aclose()

    async def _begin(self) -> Events:
        if not self._begun:
            self._begun = True
            self._unread += await anext(self._batches)
        return self

    async def __anext__(self) -> Event:
        unread = self._unread
        while not unread:
            self._begun = True
            unread += await anext(self._batches)
        return unread.popleft()

    async def batch(self) -> list[Event]:
        """The next events, at least one; none at the end of the stream."""
        while not self._unread:
            self._begun = True
            try:
                self._unread += await anext(self._batches)
            except StopAsyncIteration:
                return []
        batch = list(self._unread)
        self._unread.clear()
        return batch

    async def asend(self, value: None) -> Event:
        """The next event."""
        return await anext(self)

    async def athrow(self, typ: Any, val: Any = None, tb: Any = None) -> Event:
        """End the stream with this exception."""
        self._unread.clear()
        self._unread += await self._batches.athrow(typ, val, tb)
        return await anext(self)

    async def aclose(self) -> None:
        """End the stream and its connection."""
        self._unread.clear()
        await self._batches.aclose()


class Subscription:
    """A connection of its own. It reads no further than EVENTS_UNREAD_BYTES ahead of who takes the events."""

    def __init__(
        self, dialer: Dialer, nodes: tuple[NodeConfig, ...], first: int, timeout_s: float, founded: bytes = UNFOUNDED
    ) -> None:
        self._reader = EventReader(first)
        self.after = 0
        """An event that is known to have happened: NOW is not before it."""
        self._dialer = dialer
        self._count = len(nodes)
        self._keeper = Keeper(dialer, nodes, self)
        self._founded = founded
        """The uuid of the cluster whose numbers these are, once it is known."""
        self._timeout_s = timeout_s
        self._unread: deque[bytes] = deque()
        self._unread_bytes = 0
        self._changed = asyncio.Event()
        self._without_link_s = 0.0
        self._gone: dict[str, int] = {}
        """The low waters of nodes that no longer keep what is wanted."""
        self._bad = 0
        self._answers = 0
        self._fresh = 0
        """Answers of gateways that had events, or none only because there were none."""
        self._greeted = 0
        self._error: Error | None = None

    def start(self) -> None:
        """Begin to look for a gateway."""
        self._without_link_s = asyncio.get_running_loop().time()
        self._keeper.start()

    async def stop(self) -> None:
        """Close the connection; whoever still waits gets an error."""
        self._end(Error("the client was closed"))
        await self._keeper.stop()

    async def wait_until_placed(self) -> None:
        """Until the first number wanted is known. Raises as `next`."""
        while self._reader.next == NOW:
            if self._error is not None:
                raise self._error
            await self._wait()

    async def next(self) -> list[Event]:
        """The next events, at least one.

        Raises:
            Gone, NotSent, ConfigError, DecodeError: as `Client.subscribe`.
        """
        while True:
            if self._unread:
                events = self._read(self._unread.popleft())
                if events:
                    return events
            elif self._error is not None:
                raise self._error
            else:
                await self._wait()

    async def _wait(self) -> None:
        """Until something changes; without a gateway, not for ever."""
        self._changed.clear()
        served = self._keeper.link is not None and self._reader.next != NOW
        try:
            async with asyncio.timeout_at(None if served else self._without_link_s + self._timeout_s):
                await self._changed.wait()
        except TimeoutError:
            if self._keeper.link is None or self._reader.next == NOW:
                tried = self._keeper.attempts_in_words()
                self._end(
                    NotSent(f"no node took the subscription within {self._timeout_s:g} s: {tried}")
                    if self._keeper.mismatch is None
                    else key_problem(self._dialer.config, self._keeper.mismatch)
                )

    def _read(self, payload: bytes) -> list[Event]:
        self._unread_bytes -= len(payload)
        link = self._keeper.link
        if link is not None and self._unread_bytes <= EVENTS_UNREAD_BYTES // 2:
            link.pause(False)
            self._keeper.watch()
        try:
            outcomes, frames = decode_events_untrusted(payload)
            events = self._reader.read(outcomes, frames)
        except DecodeError as error:
            self._forget_unread()
            self._reader.restart()
            self._bad += 1
            if self._bad >= BAD_STREAMS_MAX:
                self._end(error)
            elif link is not None:
                link.close(f"{link.node.id} sent what cannot be read: {error}")
            return []
        if frames:
            self._gone.clear()
            self._bad = 0
        return events

    def _forget_unread(self) -> None:
        self._unread.clear()
        self._unread_bytes = 0

    def _end(self, error: Error) -> None:
        if self._error is None:
            self._error = error
        self._changed.set()

    def on_link_ready(self, link: StreamLink) -> None:
        """A gateway was found: go on after the last event that was read."""
        if link.node.id in self._gone:  # all that could be reached were asked
            self._end_gone()
            return
        if link.welcome.cluster_uuid != self._founded and self._founded != UNFOUNDED:
            self._on_other_cluster(link)
            return
        self._founded = link.welcome.cluster_uuid
        self._greeted = self._answers
        self._forget_unread()
        self._reader.restart()
        if self._reader.next == NOW:
            link.write([pack_message(StreamKind.STATUS, Ask(0))])
        else:
            link.write([pack_message(StreamKind.SUBSCRIBE, Subscribe(self._reader.next))])
        self._keeper.watch()
        self._changed.set()

    def on_link_message(self, link: StreamLink, kind: int, payload: bytes) -> None:
        """Keep events for who takes them; stop reading while they are many."""
        if link is not self._keeper.link or self._error is not None:
            return
        self._answers += kind in (StreamKind.EVENTS, StreamKind.PONG)
        if kind == StreamKind.EVENTS:
            self._fresh += 1
            self._unread.append(payload)
            self._unread_bytes += len(payload)
            if self._unread_bytes > EVENTS_UNREAD_BYTES:
                link.pause(True)
            self._changed.set()
            return
        message = decode_stream_untrusted(kind, payload)
        if isinstance(message, Pong):
            self._keeper.on_pong(message)
            self._fresh += message.alone_ms < ALONE_MS
        elif isinstance(message, Report) and self._reader.next == NOW:
            self._place(link, message.report)
        elif isinstance(message, FetchGone):
            self._gone[link.node.id] = message.low_water
            if len(self._gone) == self._count:
                self._end_gone()
            else:
                link.close(f"{link.node.id} keeps nothing before event {message.low_water}")
        elif isinstance(message, Failure) and kind == StreamKind.ERROR:
            link.close(message.text)
        else:
            raise DecodeError("unexpected message", str(kind))

    def _place(self, link: StreamLink, report: dict[str, Any]) -> None:
        """What is now, a node says that is live: another one's past may be long."""
        row = report.get("node")
        state, commit = (row.get("state"), row.get("commit_seq")) if isinstance(row, dict) else (None, None)
        if state != "live" or type(commit) is not int or not 0 <= commit < SEQ_MAX:
            link.close(f"{link.node.id} is {state}: it does not know what has happened by now")
            return
        self._reader = EventReader(max(commit, self.after) + 1)
        link.write([pack_message(StreamKind.SUBSCRIBE, Subscribe(self._reader.next))])
        self._changed.set()

    def _on_other_cluster(self, link: StreamLink) -> None:
        """The numbers so far are another cluster's; but a node that has no log yet says nothing about that."""
        if link.welcome.cluster_uuid == UNFOUNDED:
            link.close(f"{link.node.id} has no log yet")
            return
        words = f"the cluster was recovered or founded anew: its event {self._reader.next} may follow other events"
        self._end(Gone(f"{words}; begin again from event 1", 1))

    def _end_gone(self) -> None:
        low_water = min(self._gone.values())
        kept = f"the oldest kept is {low_water}, at {min(self._gone, key=self._gone.__getitem__)}"
        self._end(Gone(f"event {self._reader.next} is no longer kept; {kept}", low_water))

    def on_link_writable(self, link: StreamLink) -> None:
        """One small message is all that is ever written."""

    def on_link_lost(self, link: StreamLink, reason: str) -> None:
        """Another gateway is looked for at once."""
        if self._answers != self._greeted and self._reader.next != NOW:  # else it took the connection only to end it
            self._without_link_s = asyncio.get_running_loop().time()
        self._keeper.on_link_lost(link, reason)
        self._changed.set()

    def is_waiting(self) -> bool:
        """Whether the gateway's silence means anything: not while it may not send."""
        return self._error is None and self._unread_bytes <= EVENTS_UNREAD_BYTES

    def progress(self) -> int:
        """A number that changes with events, and with proof that there are none: else they may be elsewhere."""
        return self._fresh
