"""A simulated disk: the file operations of `storage.files`, in memory, with everything a disk may lose.

Writes, truncations and names are visible at once and durable only when synced. `crash` is a loss of power: of what was
not synced any part survives, in any order, writes torn at sectors. `kill` ends the process only: the page cache stays,
so nothing is lost but what a call in progress had not yet written (see `stop_after`). A write within one sector is done
whole or not at all, whatever ends.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from random import Random
from typing import Final

from mcast.storage.files import Locked

SECTOR_BYTES: Final = 512  # what a disk writes whole or not at all


class Stopped(Exception):  # noqa: N818 - not an error of the code under test
    """The process ends here, in the middle of a call, because a test said so."""


@dataclass(slots=True, eq=False)
class _Inode:
    data: bytearray = field(default_factory=bytearray)
    size: int = 0  # the bytes from len(data) up to here are zeros
    undo: list[tuple[int, bytes, int, int, bytes]] = field(default_factory=list)
    # unsynced changes: offset, bytes that stood there, len(data) and size before, bytes written (none: a truncation)


@dataclass(slots=True, frozen=True)
class _Rename:
    """A change of names: `inode` leaves `source` (None: it is new) for `target` (None: it is gone)."""

    inode: _Inode
    source: str | None
    target: str | None
    replaced: _Inode | None


class SimFiles:
    """Files in memory, for one machine. `random` (or its seed) decides what a crash keeps; nothing else does."""

    def __init__(self, random: Random | int, *, boot: int = 1) -> None:
        self._random = Random(random) if isinstance(random, int) else random
        self._names: dict[str, _Inode] = {}
        self._directories: set[str] = {"/", "."}
        self._unsynced_names: dict[str, list[_Rename]] = {}
        self._unsynced_directories: set[str] = set()
        self._handles: dict[int, _Inode] = {}
        self._locks: dict[int, tuple[str, str]] = {}
        self._next_fd = 3
        self._boot = boot
        self._failures: dict[str, list[int]] = {}
        self._short = 0
        self._stop_in: int | None = None
        self._stop_at: tuple[str, int] | None = None
        self.syncs = 0
        """Calls of fdatasync so far."""

    # What may go wrong

    def read_boot_id(self) -> str:
        """Changes with each `crash`."""
        return f"boot-{self._boot}"

    def kill(self) -> None:
        """The process ends: its descriptors and locks go, its completed writes stay."""
        self._handles.clear()
        self._locks.clear()
        self._stop_in = self._stop_at = None

    def crash(self) -> None:
        """The power fails: of what was not synced, any part survives."""
        self.kill()
        self._boot += 1
        inodes = {id(inode): inode for inode in self._names.values()}
        for path in sorted(self._unsynced_names):
            for change in self._unsynced_names[path]:
                inodes.setdefault(id(change.inode), change.inode)
        for path in sorted(self._unsynced_names):
            self._crash_names(self._unsynced_names[path])
        self._unsynced_names.clear()
        for inode in inodes.values():
            self._crash_inode(inode)
        for path in sorted(self._unsynced_directories):
            if self._random.random() < 0.5:
                self._lose_directory(path)
        self._unsynced_directories.clear()

    def write_back(self) -> None:
        """The kernel has written its page cache to the disk, unasked."""
        self._unsynced_names.clear()
        self._unsynced_directories.clear()
        for inode in self._names.values():
            inode.undo.clear()

    def fail(self, operation: str, error: int, *, after: int = 0, times: int = 1) -> None:
        """Let `times` calls of the method named `operation` raise OSError(error), after `after` good ones."""
        self._failures[operation] = [after, times, error]

    def shorten(self, writes: int) -> None:
        """Let so many writes fall short: a part is done, and said to be."""
        self._short = writes

    def stop_after(self, changes: int) -> None:
        """Raise Stopped in the change of the disk that follows `changes` others; of a write a part may be done."""
        self._stop_in = changes

    def stop_at(self, operation: str, *, after: int = 0) -> None:
        """Raise Stopped in the call of the method named `operation` that follows `after` others of it."""
        self._stop_at = (operation, after)

    def mend(self) -> None:
        """Fail no more, and stop nobody."""
        self._failures.clear()
        self._short = 0
        self._stop_in = self._stop_at = None

    def corrupt(self, path: str, offset: int, *, flip: int = 0xFF, size: int = 1) -> None:
        """Flip bits of bytes at rest, durably."""
        inode = self._names[path]
        _materialise(inode, offset + size)
        for at in range(offset, offset + size):
            inode.data[at] ^= flip
        for at, entry in enumerate(inode.undo):
            inode.undo[at] = (*entry[:2], max(entry[2], offset + size), *entry[3:])

    def lose_tail(self, path: str, begin: int, *, zeroed: bool) -> None:
        """All of a file from a byte on is gone, durably: zeros stand there, or the file ends."""
        inode = self._names[path]
        size = inode.size if zeroed else min(begin, inode.size)
        self._names[path] = _Inode(inode.data[:begin], size)

    def paths(self) -> list[str]:
        """The names of all files, in order."""
        return sorted(self._names)

    def contents(self, path: str) -> bytes:
        """A file's bytes, as a program would read them."""
        inode = self._names[path]
        return bytes(inode.data) + bytes(inode.size - len(inode.data))

    def replace(self, path: str, data: bytes) -> None:
        """Put a file there, durably."""
        self._names[path] = _Inode(bytearray(data), len(data))

    def copy(self, random: Random | None = None) -> SimFiles:
        """The same disk again, with nothing open; sharing nothing. All counts as synced."""
        other = SimFiles(random or self._random, boot=self._boot)
        other._names = {path: _Inode(bytearray(inode.data), inode.size) for path, inode in self._names.items()}
        other._directories = set(self._directories)
        other.syncs = self.syncs
        return other

    # The Files protocol

    def open(self, path: str, *, create: bool = False) -> int:
        """See Files.open."""
        if create:
            self._change("open")
            if os.path.dirname(path) not in self._directories:
                raise _error(errno.ENOENT, path)
            inode = self._names.get(path)
            if inode is None:
                inode = self._names[path] = _Inode()
                self._note(path, _Rename(inode, None, path, None))
            else:
                self._truncate(inode, 0)
        else:
            self._maybe_fail("open")
            inode = self._inode(path)
        fd = self._next_fd
        self._next_fd += 1
        self._handles[fd] = inode
        return fd

    def close(self, fd: int) -> None:
        """See Files.close."""
        if self._locks.pop(fd, None) is None:
            self._handle(fd)
            del self._handles[fd]

    def pread(self, fd: int, size: int, offset: int) -> bytes:
        """See Files.pread."""
        self._maybe_fail("pread")
        inode = self._handle(fd)
        wanted = max(min(size, inode.size - offset), 0)
        return bytes(inode.data[offset : offset + wanted]).ljust(wanted, b"\0")

    def pwritev(self, fd: int, buffers: Sequence[bytes], offset: int) -> int:
        """See Files.pwritev."""
        inode = self._handle(fd)
        data = b"".join(buffers)
        try:
            self._change("pwritev")
        except Stopped:
            done = self._random.randrange(len(data) + 1)
            if offset // SECTOR_BYTES == (offset + len(data) - 1) // SECTOR_BYTES:
                done = len(data) * (2 * done > len(data))
            self._write(inode, offset, data[:done])
            raise
        if self._short > 0 and len(data) > 1:
            self._short -= 1
            data = data[: 1 + self._random.randrange(len(data) - 1)]
        self._write(inode, offset, data)
        return len(data)

    def fdatasync(self, fd: int) -> None:
        """See Files.fdatasync."""
        inode = self._handle(fd)
        self._change("fdatasync")
        self.syncs += 1
        inode.undo.clear()

    def background_sync(self) -> None:
        """See Files.background_sync."""
        return

    def fsync_dir(self, path: str) -> None:
        """See Files.fsync_dir."""
        self._change("fsync_dir")
        if path not in self._directories:
            raise _error(errno.ENOENT, path)
        self._unsynced_names.pop(path, None)
        self._unsynced_directories = {made for made in self._unsynced_directories if os.path.dirname(made) != path}

    def ftruncate(self, fd: int, size: int) -> None:
        """See Files.ftruncate."""
        inode = self._handle(fd)
        self._change("ftruncate")
        self._truncate(inode, size)

    def allocate(self, fd: int, size: int) -> None:
        """See Files.allocate."""
        inode = self._handle(fd)
        self._change("allocate")
        if size > inode.size:
            self._truncate(inode, size)

    def unlink(self, path: str) -> None:
        """See Files.unlink."""
        inode = self._inode(path)
        self._change("unlink")
        del self._names[path]
        self._note(path, _Rename(inode, path, None, None))

    def rename(self, source: str, target: str) -> None:
        """See Files.rename. A directory's new name is durable at once, which no caller may rely on."""
        self._change("rename")
        if source in self._directories:
            self._rename_directory(source, target)
            return
        inode = self._inode(source)
        replaced = self._names.get(target)
        del self._names[source]
        self._names[target] = inode
        self._note(target, _Rename(inode, source, target, replaced))

    def listdir(self, path: str) -> list[str]:
        """See Files.listdir."""
        if path not in self._directories:
            raise _error(errno.ENOENT, path)
        names = [name for name in (*self._names, *self._directories) if os.path.dirname(name) == path and name != path]
        return sorted(map(os.path.basename, names))

    def mkdir(self, path: str) -> None:
        """See Files.mkdir."""
        self._maybe_fail("mkdir")
        while path not in self._directories and path:
            if path in self._names:
                raise _error(errno.ENOTDIR, path)
            self._directories.add(path)
            self._unsynced_directories.add(path)
            path = os.path.dirname(path)

    def exists(self, path: str) -> bool:
        """See Files.exists."""
        return path in self._names or path in self._directories

    def size(self, fd: int) -> int:
        """See Files.size."""
        return self._handle(fd).size

    def lock(self, path: str, owner: str | None) -> int:
        """See Files.lock."""
        self._maybe_fail("lock")
        for held, holder in self._locks.values():
            if held == path:
                raise Locked(holder)
        fd = self._next_fd
        self._next_fd += 1
        self._locks[fd] = (path, owner or "")
        return fd

    # Inside

    def _inode(self, path: str) -> _Inode:
        inode = self._names.get(path)
        if inode is None:
            raise _error(errno.ENOENT, path)
        return inode

    def _handle(self, fd: int) -> _Inode:
        inode = self._handles.get(fd)
        if inode is None:
            raise _error(errno.EBADF, str(fd))
        return inode

    def _maybe_fail(self, operation: str) -> None:
        failure = self._failures.get(operation)
        if failure is None:
            return
        if failure[0] > 0:
            failure[0] -= 1
            return
        failure[1] -= 1
        if failure[1] <= 0:
            del self._failures[operation]
        raise _error(failure[2], operation)

    def _change(self, operation: str) -> None:
        if self._failures:
            self._maybe_fail(operation)
        if self._stop_in is not None:
            if self._stop_in <= 0:
                self._stop_in = None
                raise Stopped(operation)
            self._stop_in -= 1
        if self._stop_at is not None and self._stop_at[0] == operation:
            if self._stop_at[1] <= 0:
                self._stop_at = None
                raise Stopped(operation)
            self._stop_at = (operation, self._stop_at[1] - 1)

    def _write(self, inode: _Inode, offset: int, data: bytes) -> None:
        if not data:
            return
        end = offset + len(data)
        before = len(inode.data)
        inode.undo.append((offset, bytes(inode.data[offset:end]), before, inode.size, data))
        if before < offset:
            inode.data += bytes(offset - before)
        inode.data[offset:end] = data
        inode.size = max(inode.size, end)

    def _truncate(self, inode: _Inode, size: int) -> None:
        inode.undo.append((size, bytes(inode.data[size:]), len(inode.data), inode.size, b""))
        del inode.data[size:]
        inode.size = size

    def _note(self, path: str, change: _Rename) -> None:
        self._unsynced_names.setdefault(os.path.dirname(path), []).append(change)

    def _rename_directory(self, source: str, target: str) -> None:
        def new_path(path: str) -> str:
            return target + path[len(source) :] if path == source or path.startswith(source + "/") else path

        self._names = {new_path(path): inode for path, inode in self._names.items()}
        self._directories = {new_path(path) for path in self._directories}
        self._unsynced_names.pop(source, None)
        self._unsynced_directories = {new_path(path) for path in self._unsynced_directories}

    def _lose_directory(self, path: str) -> None:
        """Its name was not durable: with it, all in it is gone."""
        inside = path + "/"
        self._names = {name: inode for name, inode in self._names.items() if not name.startswith(inside)}
        self._directories = {name for name in self._directories if name != path and not name.startswith(inside)}

    def _crash_names(self, changes: list[_Rename]) -> None:
        """Undo all changes, then make those again that survive: of each file's a first part."""
        for change in reversed(changes):
            if change.target is not None:
                del self._names[change.target]
                if change.replaced is not None:
                    self._names[change.target] = change.replaced
            if change.source is not None:
                self._names[change.source] = change.inode
        lost: set[int] = set()
        for change in changes:
            if id(change.inode) in lost or self._random.random() < 0.5:
                lost.add(id(change.inode))
                continue
            if change.source is not None and self._names.get(change.source) is change.inode:
                del self._names[change.source]
            if change.target is not None:
                self._names[change.target] = change.inode

    def _crash_inode(self, inode: _Inode) -> None:
        """Undo all unsynced changes, then make any part of them again, sector by sector."""
        changes = inode.undo
        if not changes:
            return
        sizes = [change[3] for change in changes[1:]] + [inode.size]
        for offset, old, before, size, _ in reversed(changes):
            inode.data[offset : offset + len(old)] = old
            del inode.data[before:]
            inode.size = size
        inode.undo = []
        for (offset, _, _, _, data), size in zip(changes, sizes, strict=True):
            if not data:
                if self._random.random() < 0.5:
                    del inode.data[size:]
                    inode.size = size
                continue
            keep = self._random.choice((0.0, 0.5, 1.0))
            for start in range(offset - offset % SECTOR_BYTES, offset + len(data), SECTOR_BYTES):
                if self._random.random() < keep:
                    first, end = max(start, offset), min(start + SECTOR_BYTES, offset + len(data))
                    _materialise(inode, end)
                    inode.data[first:end] = data[first - offset : end - offset]


def _materialise(inode: _Inode, end: int) -> None:
    if len(inode.data) < end:
        inode.data += bytes(end - len(inode.data))
    inode.size = max(inode.size, end)


def _error(code: int, what: str) -> OSError:
    return OSError(code, os.strerror(code), what)
