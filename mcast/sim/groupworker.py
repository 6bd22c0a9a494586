"""A simulated node's disk behind the shell's own group commit, in the place of `worker`: for full disks above all.

As in the shell, writes are done at once and the event loop stands still for truncations and metas; a sync goes on in
the background, and what is done meanwhile is completed together.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence
from typing import TYPE_CHECKING, Final

from mcast.errors import DiskFailed
from mcast.node.durability import GroupCommit
from mcast.node.syncing import SyncedStore
from mcast.protocol.effects import Append, Meta
from mcast.sim.disk import Stopped
from mcast.sim.worker import HELD_S, Job
from mcast.storage.journal import SyncMark
from mcast.wire.frame import Frame

if TYPE_CHECKING:
    from mcast.sim.node import SimNode

RETRY_S: Final = 0.05  # between attempts to write what a full disk refused


class GroupWorker:
    """Carries out one life's disk jobs by a GroupCommit."""

    def __init__(self, node: SimNode, *, syncs: bool) -> None:
        self._node = node
        self._life = node.life
        self._jobs: dict[int, Job] = {}
        self._sync = _Sync(node, self._do, self._collect)
        self._commit = GroupCommit(
            _Reported(node), always=syncs, wake=lambda: None, clock=lambda: node.now, syncer=self._open_sync
        )
        self._awaited = self._retrying = False

    def order(self, job: Job) -> None:
        """Do this now."""
        self._jobs[job.ticket] = job
        if isinstance(job, Append):
            self._do(self._commit.append, job.ticket, job.frames)
        else:
            self._do(self._commit.order, job)
        self.go_on()

    def clear_suspect(self) -> bool:
        """Note that the log is whole again; False when that is not done yet, or the node died of it."""
        return self._do(self._commit.clear_suspect) and not self._commit.is_full

    def go_on(self) -> None:
        """Look for what is done, at the end of this turn."""
        if not self._awaited:
            self._awaited = True
            self._node.world.loop.call_later(0.0, self._on_turn)

    def _on_turn(self) -> None:
        self._awaited = False
        self._collect()

    def _open_sync(self, store: SyncedStore, wake: Callable[[], None]) -> _Sync:
        return self._sync

    def _collect(self) -> None:
        node = self._node
        if node.life != self._life or node.paused or not self._do(self._take):
            return
        if self._commit.is_full and not self._retrying:
            node.world.marks["disk full"] += 1
            self._retrying = True
            node.world.loop.call_later(RETRY_S, self._retry)

    def _take(self) -> None:
        done = [self._jobs.pop(ticket) for ticket in self._commit.take_completed()]
        checker, book = self._node.world.checker, self._node.book
        for job in done:
            if isinstance(job, Append):
                checker.on_persisted(book, job.frames)
        if done:
            self._node.complete(done)

    def _retry(self) -> None:
        self._retrying = False
        if self._node.life == self._life and self._do(self._commit.retry):
            self._collect()

    def _do(self, work: Callable[..., object], *arguments: object) -> bool:
        node = self._node
        if node.life != self._life:
            return False
        try:
            work(*arguments)
        except Stopped:
            node.world.marks["died in a disk call"] += 1
            node.crash(power=node.world.random.random() < 0.5 and node.may_darken(node))
        except (DiskFailed, OSError) as failure:
            node.fail(failure)
        return node.life == self._life


class _Reported:
    """A node's store; the checker is told of what is durable when it is."""

    def __init__(self, node: SimNode) -> None:
        self._node = node
        self._store = node.store

    def append(self, frames: Sequence[Frame]) -> None:
        self._store.append(frames)

    def sync_begin(self) -> SyncMark:
        return self._store.sync_begin()

    def sync_finish(self, mark: SyncMark) -> int:
        return self._store.sync_finish(mark)

    def sync_steps(self, mark: SyncMark) -> Generator[int | str, None, None]:
        return self._store.sync_steps(mark)

    def background_sync(self) -> None:
        return

    def cover(self) -> None:
        self._store.cover()

    def covers(self, mark: SyncMark) -> bool:
        return self._store.covers(mark)

    def truncate(self, last: int) -> None:
        self._store.truncate(last)
        self._node.world.checker.on_cut(self._node.book)

    def write_meta(self, meta: Meta) -> None:
        book = self._node.book
        book.writing = meta
        self._store.write_meta(meta)
        self._node.world.checker.on_meta_written(book, meta)

    def note_suspect(self) -> None:
        self._store.note_suspect()

    def clear_suspect(self) -> None:
        self._store.clear_suspect()


class _Sync:
    """A sync that takes a while of the simulated time; whoever waits for it makes it end."""

    def __init__(self, node: SimNode, do: Callable[..., bool], ended: Callable[[], None]) -> None:
        self._node = node
        self._do = do
        self._ended = ended
        self._mark: SyncMark | None = None

    def fileno(self) -> None:
        """See Syncer.fileno."""
        return

    def begin(self, mark: SyncMark) -> bool:
        """See Syncer.begin."""
        self._mark = mark
        speed = self._node.speed
        delay_s = speed.least_s + (speed.most_s - speed.least_s) * self._node.world.random.random()
        self._node.world.loop.call_later(delay_s, self._end, self._node.life, mark)
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
        elif self._do(self.wait):
            self._ended()
