"""The epoch history beyond what a heartbeat carries, fetched over TCP page by page, from the newest to the oldest.

A heartbeat tells the newest epochs, each with the chain before it. That chain covers all of the log before it, so
whoever has the same epoch in its log, begun at the same event on the same chain, has the same older ones, too: any
replica can give the page that precedes it, and nothing that it gives can belong to another log. So pages prove
themselves from the heartbeat down, and what was fetched in one epoch still holds in the next, as soon as one epoch is
found that stands in both.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from mcast.protocol.core import Core
from mcast.protocol.effects import FetchEpochs
from mcast.wire.epochs import Epochs
from mcast.wire.messages import EpochEntry

_RETRY_S: Final = 1.0  # a fetch without progress is asked for anew after this long ...
_FAILED_RETRY_S: Final = 0.05  # ... and one that all peers failed after this long


class Backfill:
    """What is known of one epoch's history, and the way to more of it. Begun anew by each epoch's first heartbeat."""

    def __init__(self, core: Core, peers: Mapping[int, int]) -> None:
        self._core = core
        self._peers = peers
        """Up to where each replica has acknowledged."""
        self._pages: list[Epochs] = []
        """Newest first; each ends where the one before it begins."""
        self._earlier = Epochs()
        """What was fetched in an earlier epoch."""
        self._due = 0.0
        self.failures = 0
        """Fetches that ended without a page, since the last page."""

    def begin(self, newest: Epochs) -> None:
        """The epoch's first heartbeat says that these are its newest epochs."""
        self._keep()
        self._pages = [newest]
        self._due = 0.0
        self.failures = 0

    @property
    def epochs(self) -> Epochs:
        """All that is known, as one list."""
        if len(self._pages) > 1:
            joined = Epochs()
            for page in reversed(self._pages):
                joined.extend(page)
            self._pages = [joined]
        return self._pages[0]

    @property
    def oldest(self) -> EpochEntry:
        """The oldest one known: a page that precedes it is wanted."""
        return self._pages[-1][0]

    def suffices(self) -> bool:
        """Whether what is known tells where this node's log leaves the sequencer's; what it knew before may help."""
        if self._meets() or (self._recall() and self._meets()):
            self._earlier = Epochs()
            return True
        return False

    def request_page(self, now: float) -> None:
        """Ask the owner to fetch the next page, unless a fetch is under way."""
        if now < self._due:
            return
        self._due = now + _RETRY_S
        core, first = self._core, self.oldest.first
        peers = [node for node, acked in self._peers.items() if acked >= first and node != core.me]
        core.random.shuffle(peers)
        core.effects.append(FetchEpochs(tuple(peers)))

    def take(self, before: EpochEntry, page: Epochs, now: float) -> bool:
        """Take the page that precedes `before`; False when another page is wanted now."""
        if before != self.oldest or not len(page):
            return False
        newest = page[-1]
        if newest.first >= before.first or newest.epoch >= before.epoch:
            return False
        self._pages.append(page)
        self._due = now + _RETRY_S
        self.failures = 0
        return True

    def on_history_failed(self, now: float) -> None:
        """No node had the page that is wanted; ask again a little later."""
        self._due = min(self._due, now + _FAILED_RETRY_S)
        self.failures += 1

    def _meets(self) -> bool:
        oldest = self._pages[-1]
        return oldest.firsts[0] == 1 or self._core.log.epochs.newest_common(oldest) is not None

    def _recall(self) -> bool:
        """Go on with what an earlier epoch's sequencer told, if it has an epoch in common with the oldest page."""
        shared = self._earlier.newest_common(self._pages[-1])
        if shared is None:
            return False
        earlier, self._earlier = self._earlier, Epochs()
        there, here = shared
        if there <= here:
            return False
        self._pages.append(earlier.part(0, there - here))
        return True

    def _keep(self) -> None:
        """The epoch is over: what was fetched in it may save the next one from fetching it again."""
        if self._pages and len(self.epochs) >= len(self._earlier):
            self._earlier = self.epochs
