"""The few file operations that storage is made of, so that a simulated disk can stand in for the real one."""

from __future__ import annotations

import errno
import fcntl
import os
import sys
from collections.abc import Sequence
from typing import Final, Protocol

from mcast.storage.descriptors import keep, open_own
from mcast.storage.kernelsync import KernelSync, open_kernel_sync

NEW: Final = ".new"  # the ending of a file's name while the file is not yet whole
IOV_MAX: Final = 1_024  # buffers of one pwritev; Linux and macOS both stop there


class Locked(Exception):  # noqa: N818 - a state, met by one caller that turns it into an error with a remedy
    """Another process holds the lock; `owner` is the text it left."""

    def __init__(self, owner: str) -> None:
        super().__init__(owner)
        self.owner = owner


class Files(Protocol):
    """A file system. Paths are absolute strings; every method raises OSError as its system call does.

    What is written survives the end of the process. It survives a loss of power only after `fdatasync` (content) and
    `fsync_dir` (names).
    """

    def open(self, path: str, *, create: bool = False) -> int:
        """Open for reading and writing; `create` starts an empty file, whatever stood there."""
        ...

    def close(self, fd: int) -> None:
        """Release a descriptor; a lock taken with it ends."""
        ...

    def pread(self, fd: int, size: int, offset: int) -> bytes:
        """At most `size` bytes; fewer only at the end of the file."""
        ...

    def pwritev(self, fd: int, buffers: Sequence[bytes], offset: int) -> int:
        """Write up to IOV_MAX buffers; returns bytes written, which may be fewer than asked."""
        ...

    def fdatasync(self, fd: int) -> None:
        """Make content and size durable."""
        ...

    def background_sync(self) -> KernelSync | None:
        """What does `fdatasync` and `fsync_dir` while the caller goes on; None where nothing does."""
        ...

    def fsync_dir(self, path: str) -> None:
        """Make the names in a directory durable."""
        ...

    def ftruncate(self, fd: int, size: int) -> None:
        """Cut, or extend with zeros."""
        ...

    def allocate(self, fd: int, size: int) -> None:
        """Reserve space so that the file has at least `size` bytes; new ones read as zeros."""
        ...

    def unlink(self, path: str) -> None:
        """Remove a name."""
        ...

    def rename(self, source: str, target: str) -> None:
        """Rename a file or directory, atomically replacing a file at `target`."""
        ...

    def listdir(self, path: str) -> list[str]:
        """Names in a directory, in no order."""
        ...

    def mkdir(self, path: str) -> None:
        """Create a directory and its parents; one that exists is fine."""
        ...

    def exists(self, path: str) -> bool:
        """Whether a file or directory has this name."""
        ...

    def size(self, fd: int) -> int:
        """Bytes in the file."""
        ...

    def lock(self, path: str, owner: str | None) -> int:
        """Hold this file's lock until `close`, leaving `owner` in it; None only looks, and writes nothing.

        Raises Locked.
        """
        ...


class RealFiles:
    """The operating system's files."""

    def __init__(self) -> None:
        self._descriptors: set[int] = set()
        self._disowned = False

    def disown(self) -> set[int]:
        """For a forked child, whose files these are not: change no name any more; the descriptors that are open."""
        self._disowned = True
        return set(self._descriptors)

    def _check_owner(self) -> None:
        if self._disowned:
            raise PermissionError(errno.EPERM, "these files are the parent process's")

    def open(self, path: str, *, create: bool = False) -> int:
        """See Files.open."""
        self._check_owner()
        fd = open_own(path, os.O_RDWR | (os.O_CREAT | os.O_TRUNC if create else 0), 0o600)
        self._descriptors.add(fd)
        return fd

    def close(self, fd: int) -> None:
        """See Files.close."""
        self._descriptors.discard(fd)
        os.close(fd)
        keep()

    def pread(self, fd: int, size: int, offset: int) -> bytes:
        """See Files.pread."""
        data = os.pread(fd, size, offset)
        while len(data) < size and (more := os.pread(fd, size - len(data), offset + len(data))):
            data += more
        return data

    def pwritev(self, fd: int, buffers: Sequence[bytes], offset: int) -> int:
        """See Files.pwritev."""
        return os.pwritev(fd, buffers, offset)

    def fdatasync(self, fd: int) -> None:
        """See Files.fdatasync. macOS's fsync leaves data in the drive's cache; F_FULLFSYNC does not."""
        if sys.platform == "darwin":
            fcntl.fcntl(fd, fcntl.F_FULLFSYNC)
        else:
            os.fdatasync(fd)

    def background_sync(self) -> KernelSync | None:
        """See Files.background_sync."""
        return open_kernel_sync()

    def fsync_dir(self, path: str) -> None:
        """See Files.fsync_dir."""
        fd = open_own(path, os.O_RDONLY | os.O_DIRECTORY, briefly=True)
        try:
            os.fsync(fd)
        finally:
            os.close(fd)
            keep()

    def ftruncate(self, fd: int, size: int) -> None:
        """See Files.ftruncate."""
        os.ftruncate(fd, size)

    def allocate(self, fd: int, size: int) -> None:
        """See Files.allocate."""
        if sys.platform != "darwin":
            try:
                os.posix_fallocate(fd, 0, size)
                return
            except OSError as error:
                if error.errno not in (errno.EINVAL, errno.EOPNOTSUPP):
                    raise
        if os.fstat(fd).st_size < size:
            os.ftruncate(fd, size)

    def unlink(self, path: str) -> None:
        """See Files.unlink."""
        self._check_owner()
        os.unlink(path)

    def rename(self, source: str, target: str) -> None:
        """See Files.rename."""
        self._check_owner()
        os.rename(source, target)

    def listdir(self, path: str) -> list[str]:
        """See Files.listdir."""
        return os.listdir(path)

    def mkdir(self, path: str) -> None:
        """See Files.mkdir."""
        os.makedirs(path, mode=0o700, exist_ok=True)

    def exists(self, path: str) -> bool:
        """See Files.exists."""
        return os.path.exists(path)

    def size(self, fd: int) -> int:
        """See Files.size."""
        return os.fstat(fd).st_size

    def lock(self, path: str, owner: str | None) -> int:
        """See Files.lock. The lock belongs to the open file: it ends with the process, however that ends."""
        keep()
        fd = open_own(path, os.O_RDONLY if owner is None else os.O_RDWR | os.O_CREAT, 0o600)
        try:
            fcntl.flock(fd, (fcntl.LOCK_SH if owner is None else fcntl.LOCK_EX) | fcntl.LOCK_NB)
            if owner is not None:
                os.ftruncate(fd, 0)
                os.pwrite(fd, owner.encode(), 0)
        except BlockingIOError:
            holder = os.pread(fd, 64, 0).decode(errors="replace").strip()
            os.close(fd)
            raise Locked(holder) from None
        except BaseException:
            os.close(fd)
            raise
        self._descriptors.add(fd)
        return fd


def write_all(files: Files, fd: int, buffers: Sequence[bytes], offset: int) -> int:
    """Write buffers behind one another, in as few calls as IOV_MAX allows; returns the offset behind them.

    Raises:
        OSError: with some of it possibly written.
    """
    for start in range(0, len(buffers), IOV_MAX):
        batch = buffers[start : start + IOV_MAX]
        size = sum(map(len, batch))
        written = files.pwritev(fd, batch, offset)
        if written < size:
            rest = b"".join(batch)
            while written < size:
                written += files.pwritev(fd, [rest[written:]], offset + written)
        offset += size
    return offset


def replace_file(files: Files, directory: str, name: str, data: bytes) -> None:
    """Replace a small file whole: written beside, synced, renamed over, the directory synced; durable on return.

    Raises:
        OSError: with the old one still in place, or the new.
    """
    beside = f"{directory}/{name}{NEW}"
    fd = files.open(beside, create=True)
    try:
        write_all(files, fd, [data], 0)
        files.fdatasync(fd)
    finally:
        files.close(fd)
    files.rename(beside, f"{directory}/{name}")
    files.fsync_dir(directory)
