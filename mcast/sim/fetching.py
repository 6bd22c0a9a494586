"""What a simulated node fetches over TCP: frames of others' journals, and the epoch history that precedes an epoch.

As `mcast.node.gateway.catchup` does it, piece by piece, each asked for when the one before it has been taken in.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Final

from mcast.protocol.effects import CatchUp, FetchEpochs
from mcast.wire.envelope import name_hash
from mcast.wire.epochs import decode_epochs_untrusted
from mcast.wire.frame import Frame

if TYPE_CHECKING:
    from mcast.sim.node import SimNode

FETCH_BYTES_MAX: Final = 4_096  # small, so that a transfer takes several messages and can break in between
PAGE_ENTRIES: Final = 4  # as small: most runs have some ten epochs
NOTHING_S: Final = 0.01  # until a peer that gave nothing is held to have failed


class Fetching:
    """One life's fetches: of each kind one at a time, and a new one replaces the one before it."""

    def __init__(self, node: SimNode) -> None:
        self._node = node
        self._life = node.life
        self._frames = 0
        self._pages = 0

    def catch_up(self, effect: CatchUp) -> None:
        """Fetch frames."""
        self._node.world.marks["catch-up"] += 1
        self._frames += 1
        self._fetch_from(self._frames, effect, effect.first)

    def fetch_history(self, effect: FetchEpochs) -> None:
        """Fetch pages until none is wanted, or no peer has given one."""
        self._node.world.marks["history fetch"] += 1
        self._pages += 1
        self._fetch_pages(self._pages, effect.peers)

    def _fetch_from(self, fetch: int, effect: CatchUp, first: int) -> None:
        node, world = self._node, self._node.world
        peers = [world.index[peer] for peer in effect.peers if peer in world.index]
        if fetch != self._frames or not peers:
            return
        peer = world.nodes[peers[int(world.random.random() * len(peers))]]
        peer_hash = name_hash(peer.name)

        def on_failed() -> None:
            if fetch == self._frames and not node.paused:
                node.driver.tell(lambda now: node.replica.on_transfer_failed(peer_hash, now))

        def read() -> Sequence[Frame]:
            peer.meet(node)
            try:
                return () if peer.paused else peer.store.read(first, FETCH_BYTES_MAX)
            except OSError as error:
                peer.fail(error)
                return ()

        def on_arrived(frames: Sequence[Frame]) -> None:
            if fetch != self._frames:
                return
            if node.paused or not frames:
                world.loop.call_later(NOTHING_S, self._if_alive(on_failed))
                return
            world.marks["transfer"] += 1
            node.meet(peer)
            node.driver.tell(lambda now: node.replica.on_transfer(frames, peer_hash, now))
            if fetch == self._frames and frames[-1].last < effect.until:
                self._fetch_from(fetch, effect, frames[-1].last + 1)

        world.network.exchange(node.index, peer.index, read, on_arrived, on_failed)

    def _fetch_pages(self, fetch: int, peers: Sequence[int]) -> None:
        node, world = self._node, self._node.world
        before = node.replica.wanted_history
        if fetch != self._pages or before is None:
            return
        if not peers:
            node.driver.tell(node.replica.on_history_failed)
            return
        peer = world.nodes[world.index[peers[0]]]

        def on_failed() -> None:
            if not node.paused:
                self._fetch_pages(fetch, peers[1:])

        def read() -> bytes | None:
            page = None if peer.paused else peer.replica.history_page(before, PAGE_ENTRIES)
            return None if page is None else page.pack()

        def on_arrived(page: bytes | None) -> None:
            if node.paused or page is None:
                world.loop.call_later(NOTHING_S, self._if_alive(on_failed))
                return
            world.marks["history page"] += 1
            node.driver.tell(lambda now: node.replica.on_history_page(before, decode_epochs_untrusted(page), now))
            self._fetch_pages(fetch, peers)

        world.network.exchange(node.index, peer.index, read, on_arrived, on_failed)

    def _if_alive(self, action: Callable[[], None]) -> Callable[[], None]:
        return lambda: action() if self._node.life == self._life else None
