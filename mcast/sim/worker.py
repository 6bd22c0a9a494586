"""A simulated node's disk at work: jobs in order, one at a time, each taking a while; appends that wait go together.

The end of one job may be told only with that of the next, as a shell takes several completions together. It
is the shell's helper thread: a batch is written when it begins and durable when it ends, and anything may happen to the
process in between, or in the middle of a call.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Final

from mcast.errors import DiskFailed
from mcast.protocol.effects import Append, NoteDoubt, Truncate, WriteMeta
from mcast.sim.disk import Stopped

if TYPE_CHECKING:
    from mcast.sim.node import SimNode

Job = Append | Truncate | WriteMeta | NoteDoubt
WRITE_S: Final = 1e-5  # a write whose sync nobody waits for
HELD_S: Final = 0.001  # between two looks at whether a disk is still held


class DiskWorker:
    """Carries out one life's disk jobs. With `syncs` off, appends complete once written."""

    def __init__(self, node: SimNode, *, syncs: bool) -> None:
        self._node = node
        self._syncs = syncs
        self._jobs: deque[Job] = deque()
        self._done: list[Job] = []
        """Durable, but not told of yet."""
        self._busy = False

    def order(self, job: Job) -> None:
        """Do this after all that was ordered before."""
        self._jobs.append(job)
        self.go_on()

    def clear_suspect(self) -> bool:
        """Note at once that the log is whole again; False when the disk failed, and the node with it."""
        return self._do(self._node.store.clear_suspect)

    def go_on(self) -> None:
        """Begin the next job, if nothing is in the way."""
        node = self._node
        if self._busy or node.held or node.paused or not self._jobs:
            return
        self._busy = True
        batch = [self._jobs.popleft()]
        if isinstance(batch[0], Append):
            while self._jobs and isinstance(self._jobs[0], Append):
                batch.append(self._jobs.popleft())
            if not self._do(node.store.append, [frame for append in _appends(batch) for frame in append.frames]):
                return
        random, speed = node.world.random, node.speed
        delay_s = speed.least_s + (speed.most_s - speed.least_s) * random.random()
        if not self._syncs and isinstance(batch[0], Append):
            delay_s = WRITE_S
        node.world.loop.call_later(delay_s, self._end, node.life, batch)
        if not node.settings.rules.sync_before_ack and isinstance(batch[0], Append):
            node.complete(batch)

    def _end(self, life: int, batch: list[Job]) -> None:
        node, first = self._node, batch[0]
        if life != node.life:
            return
        if node.held or node.paused:
            node.world.loop.call_later(HELD_S, self._end, life, batch)
            return
        checker, book = node.world.checker, node.book
        if isinstance(first, Truncate):
            if not self._do(node.store.truncate, first.last):
                return
            checker.on_cut(book)
        elif isinstance(first, WriteMeta):
            book.writing = first.meta
            if not self._do(node.store.write_meta, first.meta):
                return
            checker.on_meta_written(book, first.meta)
        elif isinstance(first, NoteDoubt):
            if not self._do(node.store.note_suspect):
                return
        else:
            if not self._do(node.store.sync if self._syncs else node.store.cover):
                return
            for append in _appends(batch):
                checker.on_persisted(book, append.frames)
        self._busy = False
        if node.settings.rules.sync_before_ack or not isinstance(first, Append):
            self._done += batch
        if not self._jobs or node.world.random.random() >= node.gathered:
            done, self._done = self._done, []
            node.complete(done)
        if life == node.life:
            self.go_on()

    def _do(self, work: Callable[..., object], *arguments: object) -> bool:
        """Let the store work; False when the node died of it: cut off in the middle of a call, or of a failed sync."""
        node = self._node
        try:
            work(*arguments)
        except Stopped:
            node.world.marks["died in a disk call"] += 1
            node.crash(power=node.world.random.random() < 0.5 and node.may_darken(node))
        except (DiskFailed, OSError) as failure:
            node.fail(failure)
        else:
            return True
        return False


def _appends(batch: Sequence[Job]) -> list[Append]:
    return [job for job in batch if isinstance(job, Append)]
