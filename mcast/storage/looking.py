"""A directory to look at: it can be opened as at a start, and mended, and nothing of that reaches the disk."""

from __future__ import annotations

import errno
import os
from collections.abc import Sequence

from mcast.storage.files import Files


class _LookedFile:
    """One that the base has under this path, until it is changed: then what it holds, whole."""

    __slots__ = ("content", "path")

    def __init__(self, path: str, content: bytearray | None) -> None:
        self.path = path
        self.content = content


class Unwritten:
    """Files whose changes stay in memory, above those that `base` has in one directory; for looking, not for long.

    The base's lock is held, but no name left in it: nobody changes the files meanwhile.
    """

    def __init__(self, base: Files, directory: str) -> None:
        self._base = base
        self._directories: set[str] = set()
        self._files: dict[str, _LookedFile] = {}
        self._open: dict[int, tuple[_LookedFile, int | None]] = {}
        """Descriptor -> the file, and the base's descriptor of it."""
        self._next_fd = -1
        self._read_names(directory)

    def _read_names(self, directory: str) -> None:
        names = self._base.listdir(directory)
        self._directories.add(directory)
        for name in names:
            path = f"{directory}/{name}"
            try:
                self._read_names(path)
            except OSError:  # it is no directory
                self._files[path] = _LookedFile(path, None)

    def open(self, path: str, *, create: bool = False) -> int:
        """See Files.open."""
        if create:
            file = self._files[path] = _LookedFile(path, bytearray())
            return self._new_handle(file, None)
        file = self._file(path)
        return self._new_handle(file, None if file.content is not None else self._base.open(file.path))

    def close(self, fd: int) -> None:
        """See Files.close."""
        _, base_fd = self._open.pop(fd)
        if base_fd is not None:
            self._base.close(base_fd)

    def pread(self, fd: int, size: int, offset: int) -> bytes:
        """See Files.pread."""
        file, base_fd = self._open[fd]
        if file.content is not None:
            return bytes(file.content[offset : offset + size])
        assert base_fd is not None
        return self._base.pread(base_fd, size, offset)

    def pwritev(self, fd: int, buffers: Sequence[bytes], offset: int) -> int:
        """See Files.pwritev."""
        content, data = self._content_of(fd), b"".join(buffers)
        content.extend(bytes(max(offset - len(content), 0)))
        content[offset : offset + len(data)] = data
        return len(data)

    def fdatasync(self, fd: int) -> None:
        """See Files.fdatasync."""

    def background_sync(self) -> None:
        """See Files.background_sync."""

    def fsync_dir(self, path: str) -> None:
        """See Files.fsync_dir."""

    def ftruncate(self, fd: int, size: int) -> None:
        """See Files.ftruncate."""
        content = self._content_of(fd)
        del content[size:]
        content.extend(bytes(size - len(content)))

    def allocate(self, fd: int, size: int) -> None:
        """See Files.allocate."""
        content = self._content_of(fd)
        content.extend(bytes(max(size - len(content), 0)))

    def unlink(self, path: str) -> None:
        """See Files.unlink."""
        self._file(path)
        del self._files[path]

    def rename(self, source: str, target: str) -> None:
        """See Files.rename."""
        if source in self._directories:
            self._directories = {_moved(path, source, target) for path in self._directories}
            self._files = {_moved(path, source, target): file for path, file in self._files.items()}
        else:
            file = self._file(source)
            del self._files[source]
            self._files[target] = file

    def listdir(self, path: str) -> list[str]:
        """See Files.listdir."""
        if path not in self._directories:
            raise _missing(path)
        return [os.path.basename(name) for name in (*self._files, *self._directories) if os.path.dirname(name) == path]

    def mkdir(self, path: str) -> None:
        """See Files.mkdir."""
        self._directories.add(path)

    def exists(self, path: str) -> bool:
        """See Files.exists."""
        return path in self._files or path in self._directories

    def size(self, fd: int) -> int:
        """See Files.size."""
        file, base_fd = self._open[fd]
        if file.content is not None:
            return len(file.content)
        assert base_fd is not None
        return self._base.size(base_fd)

    def lock(self, path: str, owner: str | None) -> int:
        """See Files.lock; where the base has no such file, nobody can hold it."""
        file = self._files.setdefault(path, _LookedFile(path, bytearray()))
        return self._new_handle(file, None if file.content is not None else self._base.lock(path, None))

    def _new_handle(self, file: _LookedFile, base_fd: int | None) -> int:
        fd, self._next_fd = self._next_fd, self._next_fd - 1
        self._open[fd] = file, base_fd
        return fd

    def _file(self, path: str) -> _LookedFile:
        if path not in self._files:
            raise _missing(path)
        return self._files[path]

    def _content_of(self, fd: int) -> bytearray:
        """What the file holds, from now on in memory."""
        file, base_fd = self._open[fd]
        if file.content is None:
            assert base_fd is not None
            file.content = bytearray(self._base.pread(base_fd, self._base.size(base_fd), 0))
        return file.content


def _moved(path: str, source: str, target: str) -> str:
    return target + path[len(source) :] if path == source or path.startswith(f"{source}/") else path


def _missing(path: str) -> OSError:
    return FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), path)
