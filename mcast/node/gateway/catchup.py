"""Catch-up over TCP: frames from one replica's journal to another's log, for restarts and gaps too deep for datagrams.

The serving side reads the journal in chunks with a turn of the event loop between them, and waits while the other side
reads slowly: a node that serves a catch-up goes on applying and answering. The fetching side asks for a bounded window
at a time from where its log ends, so it resumes where it stopped, at whichever peer it is. Its connection stays open
for a while: where datagrams do not arrive, every command is fetched, and a connection is much dearer than a fetch.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from functools import partial
from typing import TYPE_CHECKING, Any, Final

from mcast.errors import CorruptionError, DecodeError, Gone
from mcast.limits import FETCH_CHUNK_BYTES, FETCH_WINDOW_BYTES, HISTORY_PAGE_ENTRIES
from mcast.net.tcp import Dialer, StreamLink, Unreachable
from mcast.node.gateway.connection import Connection
from mcast.protocol.effects import CatchUp
from mcast.wire.envelope import name_hash
from mcast.wire.messages import EpochEntry
from mcast.wire.stream import (
    Fetch,
    FetchEnd,
    FetchGone,
    FetchHistory,
    StreamKind,
    decode_frames_untrusted,
    decode_stream_untrusted,
    pack_frames,
    pack_message,
    pack_raw,
)

if TYPE_CHECKING:
    from mcast.node.shell import Shell

FETCHES_MAX: Final = 4  # served at a time by one node; a fifth waits its turn
FETCH_STALL_S: Final = 10.0  # one that reads nothing for this long gives its place to others
APPLYING_POLL_S: Final = 0.01  # between looks whether enough has been applied to fetch more
ANSWER_S: Final = 2.0  # without a byte from the peer, another one is tried
FAILED_S: Final = (
    10.0  # for which one that failed is asked after all others: the next request begins at the front again
)
KEPT_S: Final = 10.0  # a connection that nothing was fetched over for so long is closed


class FetchServer:
    """Answers FETCH and FETCH_HISTORY. One a connection is under way; the next begins when it has ended."""

    def __init__(self, shell: Shell) -> None:
        self._shell = shell
        self._tasks: dict[Connection, asyncio.Task[None]] = {}
        self._drained: dict[Connection, asyncio.Event] = {}
        self._slots = asyncio.Semaphore(FETCHES_MAX)
        self._others = asyncio.Semaphore(1)
        """For those who are peers by their own word only: they must not keep the others waiting."""

    def on_fetch(self, connection: Connection, fetch: Fetch) -> None:
        """Begin to send frames. Raises DecodeError for a second request before the first has been served."""
        self._begin(connection, partial(self._send_frames, connection, fetch))

    def on_fetch_history(self, connection: Connection, wanted: FetchHistory) -> None:
        """Send the page of the epoch history that precedes an epoch, empty if that is unknown. Raises as `on_fetch`."""
        self._begin(connection, partial(self._history_page, wanted))

    def _begin(self, connection: Connection, serve: Callable[[], Awaitable[bytes]]) -> None:
        if connection in self._tasks:
            raise DecodeError("unexpected message", "a fetch before the last one ended")
        self._drained[connection] = asyncio.Event()
        self._tasks[connection] = asyncio.get_running_loop().create_task(self._serve(connection, serve))

    def on_writable(self, connection: Connection) -> None:
        """The connection's write buffer has drained."""
        if connection in self._drained:
            self._drained[connection].set()

    def on_disconnect(self, connection: Connection) -> None:
        """The connection has ended."""
        task = self._tasks.pop(connection, None)
        if task is not None:
            task.cancel()

    async def stop(self) -> None:
        """End all fetches."""
        tasks = list(self._tasks.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _serve(self, connection: Connection, serve: Callable[[], Awaitable[bytes]]) -> None:
        try:
            async with self._slots if connection.trusted else self._others:
                end = await serve()
        except Gone as gone:
            end = pack_message(StreamKind.GONE, FetchGone(gone.low_water))
        except TimeoutError:
            connection.drop("does not read")
            return
        except (OSError, CorruptionError):  # another replica may be better off
            connection.close()
            return
        finally:
            self._tasks.pop(connection, None)
            self._drained.pop(connection, None)
        connection.send([end])

    async def _history_page(self, wanted: FetchHistory) -> bytes:
        page = self._shell.replica.history_page(EpochEntry(*wanted), HISTORY_PAGE_ENTRIES)
        return pack_raw(StreamKind.HISTORY, page.pack() if page is not None else b"")

    async def _send_frames(self, connection: Connection, fetch: Fetch) -> bytes:
        first, left = fetch.first, min(fetch.max_bytes, FETCH_WINDOW_BYTES)
        while left > 0:
            frames = self._shell.store.read(first, min(left, FETCH_CHUNK_BYTES))
            if not frames:
                break
            message = pack_frames(frames)
            first, left = frames[-1].last + 1, left - len(message)
            connection.send([message])
            while connection.congested:
                self._drained[connection].clear()
                async with asyncio.timeout(FETCH_STALL_S):
                    await self._drained[connection].wait()
            await asyncio.sleep(0)
        return pack_message(StreamKind.FETCH_END, FetchEnd(first))


class Fetcher:
    """Carries out CatchUp: install `fetch` as the shell's `on_catch_up`. A newer request replaces the older one."""

    def __init__(self, shell: Shell, dialer: Dialer) -> None:
        self._shell = shell
        self._dialer = dialer
        self._nodes = {name_hash(node.id): node for node in shell.config.nodes if node.id != shell.node_id}
        self._request: CatchUp | None = None
        self._from: str | None = None
        self._task: asyncio.Task[None] | None = None
        self._kept: tuple[int, StreamLink, FetchQueue] | None = None
        """The connection that was fetched over last, and whose it is; while it is open, nobody waits for an answer."""
        self._closing: asyncio.TimerHandle | None = None
        self._failed: dict[int, float] = {}
        """Until when a peer counts as one that lately failed."""

    def fetch(self, request: CatchUp) -> None:
        """Fetch what is asked for, unless a fetch under way already gets there."""
        self._request = request
        if self._task is None:
            self._task = asyncio.get_running_loop().create_task(self._run())
            self._task.add_done_callback(self._on_done)

    def progress(self) -> dict[str, Any] | None:
        """What is being fetched: from whom, the next event and the one to reach; None when nothing is."""
        if self._task is None or self._request is None:
            return None
        return {"from": self._from, "next": self._shell.replica.last_seq + 1, "until": self._request.until}

    def on_address_change(self) -> None:
        """Somebody has another address: the connection may lead nowhere, and the next fetch dials anew."""
        self._close_kept()

    async def stop(self) -> None:
        """End the fetch under way."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
        self._close_kept()

    def _on_done(self, task: asyncio.Task[None]) -> None:
        self._task = self._from = None
        request, self._request = self._request, None
        if task.cancelled():
            return
        task.result()
        if request is not None:  # it came when the fetch was over, and nobody had seen that yet
            self.fetch(request)

    async def _run(self) -> None:
        """Ask one peer after the other until the log reaches `until`, or all have failed."""
        request = self._request
        tried: set[int] = set()
        while request is not None and self._shell.replica.last_seq < request.until:
            if (peer := self._next_peer(request, tried)) is None:
                break
            tried.add(peer)
            if await self._fetch_from(peer):
                self._failed.pop(peer, None)
            else:
                self._failed[peer] = asyncio.get_running_loop().time() + FAILED_S
                self._shell.on_transfer_failed(peer)
            if self._request is not request:
                request, tried = self._request, set()
        self._request = None

    def _next_peer(self, request: CatchUp, tried: set[int]) -> int | None:
        """Who is asked next: whoever has it and is connected already, whoever has it, then all others; none first that
        lately failed, for a request is repeated sooner than one who does not answer is given up.
        """
        peers = [peer for peer in (*request.peers, *self._nodes) if peer in self._nodes and peer not in tried]
        now = asyncio.get_running_loop().time()
        peers.sort(key=lambda peer: self._failed.get(peer, 0.0) > now)
        if self._kept is not None and self._kept[0] in peers and (not request.peers or self._kept[0] in request.peers):
            return self._kept[0]
        return peers[0] if peers else None

    async def _fetch_from(self, peer: int) -> bool:
        """Fetch from one peer as long as that helps; whether it did not fail."""
        self._from = self._nodes[peer].id
        link: StreamLink | None = None
        helped = False
        try:
            link, stream = await self._line(peer)
            helped = await self._fetch_windows(link, stream, peer)
        except (TimeoutError, DecodeError, Unreachable, Gone):
            pass
        finally:
            if link is not None and helped and not link.lost:
                self._keep(peer, link, stream)
            elif link is not None:
                link.close()
        return helped

    async def _line(self, peer: int) -> tuple[StreamLink, FetchQueue]:
        """The connection to a peer that is kept, or a new one. Raises Unreachable."""
        kept, self._kept = self._kept, None
        if kept is not None and kept[0] == peer and not kept[1].lost:
            return kept[1], kept[2]
        if kept is not None:
            kept[1].close()
        stream = FetchQueue()
        return await self._dialer.open(self._nodes[peer], stream), stream

    def _keep(self, peer: int, link: StreamLink, stream: FetchQueue) -> None:
        self._kept = peer, link, stream
        if self._closing is not None:
            self._closing.cancel()
        self._closing = asyncio.get_running_loop().call_later(KEPT_S, self._close_kept)

    def _close_kept(self) -> None:
        if self._closing is not None:
            self._closing.cancel()
        kept, self._kept, self._closing = self._kept, None, None
        if kept is not None:
            kept[1].close()

    async def _fetch_windows(self, link: StreamLink, stream: FetchQueue, peer: int) -> bool:
        replica = self._shell.replica
        while self._request is not None and replica.last_seq < self._request.until:
            while self._shell.is_apply_backlog_full:
                await asyncio.sleep(APPLYING_POLL_S)
            before = replica.last_seq
            link.write([pack_message(StreamKind.FETCH, Fetch(before + 1, FETCH_WINDOW_BYTES))])
            while True:
                kind, payload = await stream.next()
                if kind == StreamKind.FRAMES:
                    self._shell.on_transfer(decode_frames_untrusted(payload), peer)
                    continue
                message = decode_stream_untrusted(kind, payload)
                if isinstance(message, FetchGone):
                    raise Gone(f"{link.node.id} keeps nothing before event {message.low_water}", message.low_water)
                if not isinstance(message, FetchEnd):
                    raise DecodeError("unexpected message", str(kind))
                break
            if replica.last_seq == before:
                return False
        return True


class FetchQueue:
    """Owns a fetching link: what comes on it, in a bounded queue, for no more than one window is ever asked for."""

    def __init__(self) -> None:
        self._queue: asyncio.Queue[tuple[int, bytes] | Unreachable] = asyncio.Queue()

    async def next(self) -> tuple[int, bytes]:
        """The next message. Raises Unreachable at the link's end and TimeoutError after ANSWER_S of silence."""
        async with asyncio.timeout(ANSWER_S):
            item = await self._queue.get()
        if isinstance(item, Unreachable):
            raise item
        return item

    def on_link_message(self, link: StreamLink, kind: int, payload: bytes) -> None:
        """Line it up. Raises DecodeError when a peer sends more than a window."""
        if self._queue.qsize() > 2 * FETCH_WINDOW_BYTES // FETCH_CHUNK_BYTES:
            raise DecodeError("too many frames", "beyond the window asked for")
        self._queue.put_nowait((kind, payload))

    def on_link_writable(self, link: StreamLink) -> None:
        """Requests are small; nothing waits to be written."""

    def on_link_lost(self, link: StreamLink, reason: str) -> None:
        """No more will come."""
        self._queue.put_nowait(Unreachable(f"{link.node.id} at {link.node.address}: {reason}"))
