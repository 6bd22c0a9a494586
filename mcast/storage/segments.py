"""The journal's segment files: which are open, which have unsynced writes, where an event stands in them.

The lock guards the list and its descriptors. It is never held during a write or an fdatasync of an append's path, only
while something is read, or cut.
"""

from __future__ import annotations

import errno
import threading
from bisect import bisect_right
from collections.abc import Generator, Sequence
from typing import Final

from mcast.errors import CorruptionError
from mcast.storage.descriptors import SHORT, UNOPENED
from mcast.storage.files import Files, write_all
from mcast.storage.recovery import INDEX_STRIDE_BYTES, SegmentState
from mcast.storage.segment import (
    ENTRY_BYTES_MAX,
    ENTRY_EXTRA_BYTES,
    HEADER_BYTES,
    SegmentHeader,
    encode_header,
    read_entries,
    segment_name,
)
from mcast.wire.frame import Frame

OPEN_SEGMENTS_MAX: Final = 16  # descriptors kept; a long journal has more segments than a process may have files
BURST_BYTES: Final = 4 << 20  # read at once when everything is read
FULL: Final = frozenset({errno.ENOSPC, errno.EDQUOT}) | SHORT
"""Errors of a full disk, and of a system short of something: a sync is never tried again, all else is."""
_READ_SLACK: Final = INDEX_STRIDE_BYTES + 2 * ENTRY_BYTES_MAX  # bytes before the wanted entry, and that entry
_NEW: Final = ".new"


class Segment:
    """One segment file. `written` counts writes to it and `synced` those known durable; `fd` may be closed."""

    __slots__ = ("fd", "state", "synced", "written")

    def __init__(self, state: SegmentState, fd: int | None = None) -> None:
        self.state = state
        self.fd = fd
        self.written = 0
        self.synced = 0


class Segments:
    """The segment files of one journal, oldest first; the last one, the active one, is open and takes the writes."""

    def __init__(self, files: Files, directory: str, states: Sequence[SegmentState], size: int) -> None:
        self._files = files
        self._directory = directory
        self._size = size
        self._lock = threading.Lock()
        self._list = [Segment(state) for state in states]
        self._open(self._list[-1])
        self._names_written = 0  # counts changes of the directory, as Segment.written
        self._names_synced = 0
        self._cut_unsynced = False
        """Whether a name that a cut removed may come back."""

    def __len__(self) -> int:
        return len(self._list)

    @property
    def active(self) -> Segment:
        """The newest segment."""
        return self._list[-1]

    def add(self, header: SegmentHeader) -> None:
        """Begin a new segment, behind the others. It becomes durable with the next sync, as the entries in it do."""
        try:
            fd = create_segment(self._files, self._directory, header, self._size)
        except OSError as error:
            if error.errno not in UNOPENED:
                raise
            with self._lock:
                self._close_idle(0)
            fd = create_segment(self._files, self._directory, header, self._size)
        segment = Segment(SegmentState(header), fd)
        segment.written = 1
        with self._lock:
            self._names_written += 1
            self._list.append(segment)
            self._close_idle()

    def unsynced_segments(self) -> tuple[tuple[Segment, ...], int]:
        """The segments with writes that may not be durable, and the count of changed names."""
        with self._lock:
            first = len(self._list)
            while first and self._list[first - 1].written != self._list[first - 1].synced:
                first -= 1  # the oldest is synced first: once one is, all before it are
            return tuple(self._list[first:]), self._names_written

    def sync(self, segments: Sequence[Segment], names: int) -> None:
        """Make durable what `unsynced_segments` gave."""
        for step in self.sync_steps(segments, names):
            if isinstance(step, int):
                self._files.fdatasync(step)
            else:
                self._files.fsync_dir(step)

    def sync_steps(self, segments: Sequence[Segment], names: int) -> Generator[int | str, None, None]:
        """`sync`, left to the caller: to fdatasync each descriptor, fsync each path, before it asks for the next.

        Oldest first: what a name or a later segment proves must hold.
        """
        for segment in segments:
            written = segment.written
            if segment.fd is not None and written != segment.synced:
                yield segment.fd
                segment.synced = written
        if names > self._names_synced:
            yield self._directory
            self._names_synced = names

    def cut(self, index: int, offset: int, *, durable: bool) -> None:
        """Let segment `index` be the last and end at `offset`, behind it zeros.

        With `durable` each later segment's name is gone for good before the one before it goes: a crash leaves no hole.
        The zeros still need a sync. May be called again after an error that says the disk is full.
        """
        with self._lock:
            if durable and self._cut_unsynced:
                self._sync_names()
            while len(self._list) > index + 1:
                segment = self._list[-1]
                self._files.unlink(self._path(segment))
                self._close(self._list.pop())
                self._names_written += 1
                if durable:
                    self._sync_names()
            active = self._list[-1]
            active.state.forget(offset)
            fd = self._open(active)
            size = max(self._size, offset)  # a segment of an earlier, larger size may end behind ours
            self._files.ftruncate(fd, offset)
            self._files.ftruncate(fd, size)
            active.written += 1
            try:
                self._files.allocate(fd, size)
            except OSError as error:
                if error.errno not in FULL:  # the zeros are there; only the room for them is not reserved
                    raise

    def forget(self, index: int, offset: int) -> None:
        """As `cut`, in memory only: stale bytes stay behind the end. For tests that show what they would do."""
        with self._lock:
            for segment in self._list[index + 1 :]:
                self._close(segment)
            del self._list[index + 1 :]
            self._list[-1].state.forget(offset)
            self._open(self._list[-1])

    def rewrite(self, first: int, *, data: bool) -> None:
        """Make everything from event `first` on durable; with `data` by writing it again.

        After a failed fdatasync the page cache holds as clean what the disk never took; a new sync would pass it over.
        """
        index, offset = self.locate(first)
        for segment in self._list[index:]:
            fd = self._files.open(self._path(segment))
            try:
                end = segment.state.end
                while data and offset < end:
                    again = self._files.pread(fd, min(BURST_BYTES, end - offset), offset)
                    offset = write_all(self._files, fd, [again], offset)
                self._files.fdatasync(fd)
            finally:
                self._files.close(fd)
            offset = HEADER_BYTES

    def touch(self) -> None:
        """Count the active segment and the names as changed, so that the next sync covers them."""
        self.active.written += 1
        self._names_written += 1

    def locate(self, first: int) -> tuple[int, int]:
        """The segment (by its place in the list) and byte offset where the frame beginning with `first` stands."""
        with self._lock:
            index, segment, offset = self._find(first)
            size = min(_READ_SLACK, segment.state.end - offset)
            data = self._files.pread(self._open(segment), size, offset)
        for frame in read_entries(data)[0]:
            if frame.first == first:
                break
            offset += ENTRY_EXTRA_BYTES + len(frame.body)
        return index, offset

    def read_around(self, first: int, max_bytes: int) -> list[Frame]:
        """Some frames that follow one another, the one that holds event `first` among them.

        Raises:
            CorruptionError: the disk gave back something else than was written.
        """
        with self._lock:
            _, segment, offset = self._find(first)
            size = min(max(max_bytes, 0) + _READ_SLACK, segment.state.end - offset)
            data = self._files.pread(self._open(segment), size, offset)
        frames, _ = read_entries(data)
        if not frames or not frames[0].first <= first <= frames[-1].last:
            raise CorruptionError(f"{self._path(segment)}: no intact entry of event {first} from byte {offset} on")
        return frames

    def close(self) -> None:
        """Close every descriptor."""
        with self._lock:
            for segment in self._list:
                self._close(segment)

    def _find(self, seq: int) -> tuple[int, Segment, int]:
        """The segment that holds event `seq`, or would, and an offset in it at or before that event's entry."""
        index = bisect_right(self._list, seq, key=lambda segment: segment.state.header.first) - 1
        segment = self._list[index]
        place = bisect_right(segment.state.seqs, seq) - 1
        return index, segment, segment.state.offsets[place] if place >= 0 else HEADER_BYTES

    def _sync_names(self) -> None:
        """Whatever a sync fails with, it must not be tried again: the kernel may have dropped what it did not write."""
        self._cut_unsynced = True
        try:
            self._files.fsync_dir(self._directory)
            self._cut_unsynced = False
        except OSError as error:
            if error.errno in UNOPENED:  # it was not even begun
                raise
            raise OSError(errno.EIO, error.strerror or str(error)) from error

    def _open(self, segment: Segment) -> int:
        if segment.fd is None:
            segment.fd = self._files.open(self._path(segment))
        return segment.fd

    def _close(self, segment: Segment) -> None:
        if segment.fd is not None:
            self._files.close(segment.fd)
            segment.fd = None

    def _close_idle(self, most: int = OPEN_SEGMENTS_MAX) -> None:
        """Close the oldest descriptors beyond `most`, except where writes wait for their sync."""
        opened = [segment for segment in self._list[:-1] if segment.fd is not None]
        for segment in opened[: max(len(opened) - most, 0)]:
            if segment.written == segment.synced:
                self._close(segment)

    def _path(self, segment: Segment) -> str:
        return f"{self._directory}/{segment_name(segment.state.header.number)}"


def create_segment(files: Files, directory: str, header: SegmentHeader, size: int) -> int:
    """Begin a segment file under its name, header written; returns its descriptor. Nothing is durable yet."""
    path = f"{directory}/{segment_name(header.number)}"
    fd = files.open(path + _NEW, create=True)
    try:
        files.allocate(fd, size)
        write_all(files, fd, [encode_header(header)], 0)
        files.rename(path + _NEW, path)
    except OSError:
        files.close(fd)
        files.unlink(path + _NEW)
        raise
    return fd


def remove_segments(files: Files, directory: str, numbers: Sequence[int]) -> None:
    """Remove segments that a cut leaves behind the log, and what was left half made; not durable yet.

    In any order: none of them proves a synced point beyond the cut, so a hole among them is cut again.
    """
    for number in numbers:
        files.unlink(f"{directory}/{segment_name(number)}")
    for name in files.listdir(directory):
        if name.endswith(_NEW):
            files.unlink(f"{directory}/{name}")
