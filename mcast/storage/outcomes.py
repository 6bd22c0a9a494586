"""Outcomes of applied events, kept beside the journal for subscribers who read from far back.

The journal holds commands; what they came to is known only to whoever applied them. After a restart all of it is
computed again, so nothing here is synced, nothing is read at a start, and whatever an earlier process left is removed.
What stands in the way, such as a file where the directory should be, is set aside under a new name. The index stays in
memory: one entry for each piece written.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from contextlib import suppress
from itertools import count
from typing import Final, NamedTuple
from zlib import crc32

from mcast.errors import CorruptionError
from mcast.storage.files import Files, write_all

SEGMENT_BYTES: Final = 64 << 20
_SUFFIX: Final = ".outcomes"


class Piece(NamedTuple):
    """Some bytes about events `first` to `last`; several may share one range, in order."""

    first: int
    last: int
    segment: int
    offset: int
    size: int
    checksum: int


class OutcomeLog:
    """Append-only files in a directory of their own; one thread."""

    def __init__(self, files: Files, directory: str, segment_bytes: int = SEGMENT_BYTES) -> None:
        """Begin empty. A directory that cannot be made yet is tried again by `append`."""
        self._files = files
        self._directory = directory
        self._segment_bytes = segment_bytes
        self._pieces: list[Piece] = []
        self._newest: dict[int, int] = {}
        """The last event that something in a segment is about; the oldest segment first."""
        self._segment = 0
        self._fd: int | None = None
        self._end = 0
        self._begun = False
        self.set_aside: list[str] = []
        """The new names of what was in the way and was set aside."""
        with suppress(OSError):
            self._begin()

    def _begin(self) -> None:
        try:
            self._files.mkdir(self._directory)
            self._remove_all()
        except OSError:
            if not self._files.exists(self._directory):
                raise
            self._set_aside()
            self._files.mkdir(self._directory)
        self._begun = True

    def _remove_all(self) -> None:
        for name in self._files.listdir(self._directory):
            if name.endswith(_SUFFIX):
                self._files.unlink(f"{self._directory}/{name}")

    def _set_aside(self) -> None:
        number = next(number for number in count(1) if not self._files.exists(f"{self._directory}.damaged-{number}"))
        self._files.rename(self._directory, f"{self._directory}.damaged-{number}")
        self.set_aside.append(f"{self._directory}.damaged-{number}")

    def append(self, first: int, last: int, data: bytes) -> None:
        """Write one piece behind the others. Raises OSError; what was written before can still be read."""
        if not self._begun:
            self._begin()
        if self._fd is None or self._end >= self._segment_bytes:
            self._roll()
        assert self._fd is not None
        write_all(self._files, self._fd, [data], self._end)
        self._pieces.append(Piece(first, last, self._segment, self._end, len(data), crc32(data)))
        self._newest[self._segment] = last
        self._end += len(data)

    def drop_from(self, first: int) -> None:
        """Forget the newest pieces, those about events from `first` on."""
        while self._pieces and self._pieces[-1].first >= first:
            self._pieces.pop()

    def pieces(self, first: int, last: int) -> list[Piece]:
        """The pieces about any of these events, in order."""
        start = end = bisect_left(self._pieces, first, key=lambda piece: piece.last)
        while end < len(self._pieces) and self._pieces[end].first <= last:
            end += 1
        return self._pieces[start:end]

    def read(self, piece: Piece) -> bytes:
        """A piece's bytes. Raises OSError, or CorruptionError when the disk gives back something else."""
        fd = self._files.open(self._path(piece.segment))
        try:
            data = self._files.pread(fd, piece.size, piece.offset)
        finally:
            self._files.close(fd)
        if crc32(data) != piece.checksum:
            raise CorruptionError(f"{self._path(piece.segment)}: outcomes of events {piece.first} to {piece.last}")
        return data

    def forget(self, first: int) -> None:
        """Give back the room of segments that hold nothing about event `first` or later. Raises OSError."""
        while len(self._newest) > 1:
            segment, last = next(iter(self._newest.items()))
            if last >= first:
                break
            self._files.unlink(self._path(segment))
            del self._newest[segment]
            del self._pieces[: bisect_right(self._pieces, segment, key=lambda piece: piece.segment)]

    def clear(self) -> None:
        """Forget everything, and remove it as far as that can be done; `append` begins anew."""
        with suppress(OSError):
            self.close()
        self._begun = False

    def close(self) -> None:
        """Remove everything. Raises OSError."""
        fd, self._fd = self._fd, None
        self._pieces = []
        self._newest = {}
        if fd is not None:
            self._files.close(fd)
        if self._begun:
            self._remove_all()

    def _roll(self) -> None:
        fd, self._fd = self._fd, None
        if fd is not None:
            self._files.close(fd)
        self._segment += 1
        self._end = 0
        self._fd = self._files.open(self._path(self._segment), create=True)

    def _path(self, segment: int) -> str:
        return f"{self._directory}/{segment:08d}{_SUFFIX}"
