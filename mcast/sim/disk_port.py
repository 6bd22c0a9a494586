"""A simulated node's disk, as its driver sees it: the production group commit over a store whose syncs take a while.

Writes are done at once, and the node stands still for truncations and metas, as a real one does; a sync goes on in the
background, and what is done meanwhile is completed together. The checker learns what is durable when it is.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence
from typing import TYPE_CHECKING, Final

from mcast.node.durability import GroupCommit
from mcast.node.syncing import SyncedStore
from mcast.protocol.effects import Meta, NoteDoubt, Truncate, WriteMeta
from mcast.storage.journal import SyncMark
from mcast.wire.frame import Frame

if TYPE_CHECKING:
    from mcast.sim.node import SimNode

HELD_S: Final = 0.001  # between two looks at whether a disk is still held


class DiskPort(GroupCommit):
    """One life's disk, for `protocol.driver`."""

    def __init__(self, node: SimNode, *, syncs: bool) -> None:
        self._node = node
        self._appended: dict[int, Sequence[Frame]] = {}
        """By ticket, until it is completed."""
        self._early: list[int] = []
        """Tickets that are completed before they are durable, where that rule is off."""
        self._sync_first = node.settings.rules.sync_before_ack
        super().__init__(
            _ReportedStore(node), always=syncs, wake=lambda: None, clock=lambda: node.now, syncer=self._open_sync
        )

    def append(self, ticket: int, frames: Sequence[Frame]) -> None:
        """See GroupCommit.append."""
        self._node.world.checker.on_append(self._node.book, frames)
        self._appended[ticket] = frames
        super().append(ticket, frames)
        if not self._sync_first:
            self._early.append(ticket)

    def order(self, effect: Truncate | WriteMeta | NoteDoubt) -> None:
        """See GroupCommit.order."""
        if isinstance(effect, Truncate):
            self._node.world.checker.on_truncate(self._node.book, effect.last)
        super().order(effect)

    def take_completed(self, *, patient: bool = False) -> list[int]:
        """See GroupCommit.take_completed."""
        completed, self._early = self._early, []
        for ticket in super().take_completed(patient=patient):
            frames = self._appended.pop(ticket, None)
            if frames is not None:
                self._node.world.checker.on_persisted(self._node.book, frames)
            if frames is None or self._sync_first:
                completed.append(ticket)
        return completed

    def clear_suspect(self) -> None:
        """See GroupCommit.clear_suspect."""
        super().clear_suspect()
        self._node.world.checker.on_cleared(self._node.book, noted=not self.is_full)

    def _open_sync(self, store: SyncedStore, wake: Callable[[], None]) -> _Sync:
        return _Sync(self._node)


class _ReportedStore:
    """A node's store; the checker is told of what is durable when it is."""

    def __init__(self, node: SimNode) -> None:
        self._node = node
        store = self._store = node.store
        self.append = store.append
        self.sync_begin = store.sync_begin
        self.sync_finish = store.sync_finish
        self.sync_steps: Callable[[SyncMark], Generator[int | str, None, None]] = store.sync_steps
        self.cover = store.cover
        self.covers = store.covers
        self.note_suspect = store.note_suspect
        self.clear_suspect = store.clear_suspect

    def background_sync(self) -> None:
        return

    def truncate(self, last: int) -> None:
        self._store.truncate(last)
        self._node.world.checker.on_cut(self._node.book)

    def write_meta(self, meta: Meta) -> None:
        book = self._node.book
        book.writing = meta
        self._store.write_meta(meta)
        self._node.world.checker.on_meta_written(book, meta)


class _Sync:
    """A sync that takes a while of the simulated time; whoever waits for it makes it end."""

    def __init__(self, node: SimNode) -> None:
        self._node = node
        self._mark: SyncMark | None = None

    def fileno(self) -> None:
        """See Syncer.fileno."""
        return

    def begin(self, mark: SyncMark) -> bool:
        """See Syncer.begin."""
        self._mark = mark
        self._node.world.loop.call_later(self._node.disk_delay_s(), self._end, self._node.life, mark)
        return True

    def is_idle(self) -> bool:
        """See Syncer.is_idle."""
        return self._mark is None

    def wait(self, limit_s: float | None = None) -> bool:
        """See Syncer.wait."""
        if self._mark is not None and limit_s is None:
            mark, self._mark = self._mark, None
            self._node.store.sync_finish(mark)
        return self._mark is None

    def close(self) -> None:
        """See Syncer.close."""

    def _end(self, life: int, mark: SyncMark) -> None:
        node = self._node
        if life != node.life or mark is not self._mark:
            return
        if node.held or node.paused:
            node.world.loop.call_later(HELD_S, self._end, life, mark)
            return
        with node.guard:
            self.wait()
            node.driver.on_synced()
