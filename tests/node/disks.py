"""Disks for group commit that note what is done to them, and sync when they may."""

import errno
import threading
from collections.abc import Generator, Sequence

from mcast.errors import DiskFailed, DiskFull
from mcast.protocol.effects import Meta
from mcast.storage.journal import SyncMark
from mcast.storage.kernelsync import KernelSync
from mcast.wire.frame import CHAIN_ZERO, Frame, make_frame


def frames(first: int, count: int = 1) -> list[Frame]:
    return [make_frame(1, first + n, 1, 0, 0, CHAIN_ZERO, b"body") for n in range(count)]


class Disk:
    """A store that notes what is done to it, and syncs only when it may."""

    def __init__(self) -> None:
        self.done: list[tuple[object, ...]] = []
        self.may_sync = threading.Event()
        self.may_sync.set()
        self.synced = threading.Event()
        self.full = False
        self.uncuttable = False
        self.failing = False
        self.sync_threads: set[int] = set()
        self.uncoverable = False
        self.covered = 0

    def append(self, frames: Sequence[Frame]) -> None:
        if self.full:
            raise DiskFull("no space", "free some")
        self.done.append(("append", frames[0].first, frames[-1].last))

    def sync_begin(self) -> SyncMark:
        return SyncMark(len(self.done), 0, (), 0)

    def sync_finish(self, mark: SyncMark) -> int:
        self.may_sync.wait(5)
        self.sync_threads.add(threading.get_ident())
        if self.failing:
            raise DiskFailed("fdatasync: Input/output error", "replace the disk")
        self.done.append(("sync", mark.seq))
        return 0

    def sync_steps(self, mark: SyncMark) -> Generator[int | str, None, None]:
        try:
            yield 7
        except OSError as error:
            raise DiskFailed(f"fdatasync: {error.strerror}", "replace the disk") from error
        self.done.append(("sync", mark.seq))

    def background_sync(self) -> KernelSync | None:
        return None

    def cover(self) -> None:
        if self.uncoverable:
            raise DiskFull("no space", "free some")
        self.covered = len(self.done)

    def covers(self, mark: SyncMark) -> bool:
        return not self.uncoverable

    def until_ended(self) -> None:
        """The sync under way has ended."""
        assert self.synced.wait(5)
        self.synced.clear()

    def truncate(self, last: int) -> None:
        if self.uncuttable:
            raise DiskFull("no space", "free some")
        self.done.append(("truncate", last))

    def write_meta(self, meta: Meta) -> None:
        if self.full:
            raise DiskFull("no space", "free some")
        self.done.append(("meta", meta.promised))

    def note_suspect(self) -> None:
        if self.full:
            raise DiskFull("no space", "free some")
        self.done.append(("doubted",))

    def clear_suspect(self) -> None:
        if self.full:
            raise DiskFull("no space", "free some")
        self.done.append(("trusted",))


class Kernel(KernelSync):
    """The kernel's background fdatasync, which ends when the disk may sync."""

    def __init__(self, disk: Disk) -> None:
        self.disk = disk
        self.under_way = self.closed = False

    def fileno(self) -> int:
        return 17

    def begin(self, what: int | str) -> bool:
        assert what == 7 and not self.under_way
        self.under_way = True
        return True

    def has_ended(self) -> bool:
        if self.under_way and self.disk.may_sync.is_set():
            self.under_way = False
            if self.disk.failing:
                raise OSError(errno.EIO, "Input/output error")
        return not self.under_way

    def wait(self, timeout_s: float | None = None) -> None:
        self.disk.may_sync.wait(5 if timeout_s is None else timeout_s)

    def close(self) -> None:
        self.closed = True


class KernelDisk(Disk):
    """The same where the kernel syncs by itself."""

    def __init__(self) -> None:
        super().__init__()
        self.kernel = Kernel(self)

    def background_sync(self) -> KernelSync | None:
        return self.kernel

    def until_ended(self) -> None:
        assert self.may_sync.wait(5)
