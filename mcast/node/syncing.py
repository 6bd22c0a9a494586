"""Who runs fdatasync while the event loop goes on: the kernel by itself where it can, else a thread of ours."""

from __future__ import annotations

import threading
from collections.abc import Callable, Generator
from contextlib import suppress
from queue import SimpleQueue
from typing import Final, Protocol

from mcast.clock import monotonic_s
from mcast.storage.journal import SyncMark
from mcast.storage.kernelsync import KernelSync

STOP_S: Final = 10.0  # an fdatasync that outlasts this is left behind


class SyncedStore(Protocol):
    """The part of `storage.store.Store` that is used here."""

    def sync_finish(self, mark: SyncMark) -> int:
        """Sync what the mark covers, in any thread."""

    def sync_steps(self, mark: SyncMark) -> Generator[int | str, None, None]:
        """The same, each step left to the caller."""

    def background_sync(self) -> KernelSync | None:
        """The kernel's own background fdatasync, if it has one for this store."""


class Syncer(Protocol):
    """Carries out one sync at a time. What one failed with is raised by every `is_idle` and `wait` from then on."""

    def fileno(self) -> int | None:
        """Readable when `is_idle` has news. None: it calls `wake` instead, in a thread of its own."""

    def begin(self, mark: SyncMark) -> bool:
        """Sync what the mark covers, none being under way. False: it is durable already."""

    def is_idle(self) -> bool:
        """Whether none is under way. What was begun before is durable then."""

    def wait(self, limit_s: float | None = None) -> bool:
        """Until `is_idle`; for `limit_s` at most, if that is given. Whether it is."""

    def close(self) -> None:
        """Let go of what it holds; at most STOP_S are waited for a sync under way."""


def open_syncer(store: SyncedStore, wake: Callable[[], None]) -> Syncer:
    """The better one that the system offers."""
    kernel = store.background_sync()
    return ThreadSyncer(store, wake) if kernel is None else KernelSyncer(store, kernel)


class ThreadSyncer:
    """A helper thread. `wake` is called there when a sync has ended."""

    def __init__(self, store: SyncedStore, wake: Callable[[], None]) -> None:
        self._store = store
        self._wake = wake
        self._idle = threading.Event()
        self._idle.set()
        self._failure: BaseException | None = None
        self._marks: SimpleQueue[SyncMark | None] = SimpleQueue()
        self._thread = threading.Thread(target=self._run, name="mcast-fdatasync", daemon=True)
        self._thread.start()

    def fileno(self) -> None:
        """See Syncer.fileno."""
        return

    def begin(self, mark: SyncMark) -> bool:
        """See Syncer.begin."""
        self._idle.clear()
        self._marks.put(mark)
        return True

    def is_idle(self) -> bool:
        """See Syncer.is_idle."""
        idle = self._idle.is_set()  # before the failure is looked at, for the helper sets that first
        if self._failure is not None:
            raise self._failure
        return idle

    def wait(self, limit_s: float | None = None) -> bool:
        """See Syncer.wait."""
        self._idle.wait(limit_s)
        return self.is_idle()

    def close(self) -> None:
        """See Syncer.close."""
        self._marks.put(None)
        self._thread.join(STOP_S)

    def _run(self) -> None:
        while (mark := self._marks.get()) is not None:
            try:
                self._store.sync_finish(mark)
            except BaseException as error:  # whatever it is, the loop's thread must hear of it
                self._failure = error
            self._idle.set()
            self._wake()


class KernelSyncer:
    """The kernel, step after step."""

    def __init__(self, store: SyncedStore, kernel: KernelSync) -> None:
        self._store = store
        self._kernel = kernel
        self._steps: Generator[int | str, None, None] | None = None
        self._failure: BaseException | None = None

    def fileno(self) -> int:
        """See Syncer.fileno."""
        return self._kernel.fileno()

    def begin(self, mark: SyncMark) -> bool:
        """See Syncer.begin."""
        self._steps = self._store.sync_steps(mark)
        self._go_on(self._steps)
        return self._steps is not None

    def is_idle(self) -> bool:
        """See Syncer.is_idle."""
        if self._failure is not None:
            raise self._failure
        if self._steps is not None:
            self._go_on(self._steps)
        return self._steps is None

    def wait(self, limit_s: float | None = None) -> bool:
        """See Syncer.wait."""
        until_s = float("inf") if limit_s is None else monotonic_s() + limit_s
        left_s = limit_s
        while self._steps is not None and (left_s is None or left_s > 0):
            self._kernel.wait(left_s)
            if not self.is_idle() and left_s is not None:
                left_s = until_s - monotonic_s()
        return self.is_idle()

    def close(self) -> None:
        """See Syncer.close."""
        self._kernel.wait(STOP_S)
        with suppress(OSError):
            if not self._kernel.has_ended():
                return
        self._kernel.close()

    def _go_on(self, steps: Generator[int | str, None, None]) -> None:
        """Order the next step, if the one before has ended."""
        try:
            try:
                if not self._kernel.has_ended():
                    return
                for step in steps:
                    if self._kernel.begin(step):
                        return
            except OSError as error:
                steps.throw(error)
        except BaseException as error:
            self._failure = error
            raise
        self._steps = None
