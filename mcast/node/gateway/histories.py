"""The epoch history that a heartbeat does not carry, over TCP: asked of one peer after the other, page after page."""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING, Any, Final

from mcast.errors import DecodeError
from mcast.net.tcp import Dialer, StreamLink, Unreachable
from mcast.node.gateway.catchup import FetchQueue
from mcast.node.report import HISTORIES_FAILED_REPORTED
from mcast.protocol.effects import FetchEpochs
from mcast.wire.envelope import name_hash
from mcast.wire.epochs import Epochs, decode_epochs_untrusted
from mcast.wire.messages import EpochEntry
from mcast.wire.stream import FetchHistory as FetchPage
from mcast.wire.stream import StreamKind, pack_message

if TYPE_CHECKING:
    from mcast.node.shell import Shell


_log: Final = logging.getLogger("mcast.node")


class HistoryFetcher:
    """Carries out FetchHistory. What comes while a fetch is under way is part of it: that goes on as far as needed."""

    def __init__(self, shell: Shell, dialer: Dialer) -> None:
        self._shell = shell
        self._dialer = dialer
        self._nodes = {name_hash(node.id): node for node in shell.config.nodes if node.id != shell.node_id}
        self._from: str | None = None
        self._task: asyncio.Task[None] | None = None
        self._failed = 0
        """Rounds in vain since the last page."""

    def fetch(self, request: FetchEpochs) -> None:
        """Fetch what is wanted."""
        if self._task is None:
            self._task = asyncio.get_running_loop().create_task(self._run(request))
            self._task.add_done_callback(self._on_done)

    def progress(self) -> dict[str, Any] | None:
        """What is being fetched: from whom, and before which epoch and event; None when nothing is."""
        wanted = self._wanted_history()
        if self._task is None or wanted is None:
            return None
        return {"from": self._from, "before_epoch": wanted.epoch, "before_event": wanted.first}

    async def stop(self) -> None:
        """End the fetch under way."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    def _on_done(self, task: asyncio.Task[None]) -> None:
        self._task = self._from = None
        if not task.cancelled():
            task.result()

    def _wanted_history(self) -> EpochEntry | None:
        return self._shell.replica.wanted_history

    async def _run(self, request: FetchEpochs) -> None:
        for peer in dict.fromkeys((*request.peers, *self._nodes)):
            if self._wanted_history() is None:
                return
            if peer in self._nodes:
                await self._fetch_from(peer)
        if (wanted := self._wanted_history()) is not None:
            self._failed += 1
            if self._failed == HISTORIES_FAILED_REPORTED:
                _log.warning(
                    "node %s: no node gives the epochs before epoch %d (event %d), without which no event can be "
                    "judged here; it goes on asking", self._shell.node_id, wanted.epoch, wanted.first,
                )  # fmt: skip
            self._shell.tell(self._shell.replica.on_history_failed)

    async def _fetch_from(self, peer: int) -> None:
        """Fetch from one peer as long as that helps."""
        node = self._nodes[peer]
        self._from = node.id
        answers = FetchQueue()
        try:
            link = await self._dialer.open(node, answers)
        except Unreachable:
            return
        try:
            await self._fetch_pages(link, answers)
        except (TimeoutError, DecodeError, Unreachable):
            return
        finally:
            link.close()

    async def _fetch_pages(self, link: StreamLink, answers: FetchQueue) -> None:
        while (before := self._wanted_history()) is not None:
            request = FetchPage(before.epoch, before.first, before.chain_before)
            link.write([pack_message(StreamKind.FETCH_HISTORY, request)])
            kind, payload = await answers.next()
            if kind != StreamKind.HISTORY:
                raise DecodeError("unexpected message", str(kind))
            self._take(before, decode_epochs_untrusted(payload))
            if self._wanted_history() == before:
                return

    def _take(self, before: EpochEntry, page: Epochs) -> None:
        if len(page):
            self._failed = 0
        self._shell.tell(lambda now: self._shell.replica.on_history_page(before, page, now))
