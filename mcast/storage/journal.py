"""The journal: every frame of a node's log, in order, in preallocated segments.

Threads: one thread appends; `sync_finish` and `truncate` belong to one other (or the same) thread, which syncs while
appending goes on; anyone may read. A truncation must have returned before a later append is called.
"""

from __future__ import annotations

from collections.abc import Generator, Iterator, Sequence
from typing import Final, NamedTuple

from mcast.errors import CorruptionError, DiskFailed, DiskFull, EnvironmentProblem, Gone
from mcast.storage.descriptors import UNOPENED
from mcast.storage.files import IOV_MAX, Files, write_all
from mcast.storage.recovery import CLUSTER_START_KINDS, UUID_UNKNOWN, ScannedLog, begun, founded_uuid
from mcast.storage.segment import ENTRY_EXTRA_BYTES, SEGMENT_BYTES, SEGMENT_BYTES_MIN, SegmentHeader, encode_entries
from mcast.storage.segments import BURST_BYTES, FULL, Segment, Segments, create_segment, remove_segments
from mcast.storage.verdict import LogFault, Verdict
from mcast.wire.frame import CHAIN_ZERO, FRAME_HEADER_BYTES, Frame

NEWER_REMEDY: Final = "start the version of mcast that wrote it, or a later one"
_CLUSTER_START_MIN: Final = int(min(CLUSTER_START_KINDS))  # most frames' first record is of a lower kind


class SyncMark(NamedTuple):
    """What a sync that begins now will cover."""

    seq: int
    generation: int
    segments: tuple[Segment, ...]
    names: int
    epoch: int = 0
    chain: bytes = CHAIN_ZERO


class Journal:
    """A node's log on disk. Not for two processes at once: the owner holds the directory's lock."""

    def __init__(
        self, files: Files, directory: str, recovery: ScannedLog, *, segment_bytes: int, truncation_durable: bool
    ) -> None:
        """For `open` and `create` only."""
        assert segment_bytes >= SEGMENT_BYTES_MIN, f"segments of {segment_bytes} bytes do not fit every frame"
        self._files = files
        self._directory = directory
        self._segment_bytes = segment_bytes
        self._truncation_durable = truncation_durable
        self._segments = Segments(files, directory, recovery.segments, segment_bytes)
        self._low_water = recovery.low_water
        self._base_chain = recovery.segments[0].header.chain_before
        self._last_seq = recovery.last_seq
        self._last_chain = recovery.last_chain
        self._last_epoch = recovery.last_epoch
        self._synced_seq = recovery.synced_seq
        self._base_uuid = recovery.segments[0].header.cluster_uuid
        self._cluster_starts = list(recovery.cluster_starts)
        self._generation = 0  # counts truncations: a sync begun before one proves nothing after it
        self._failure: DiskFailed | None = None
        self._uncut: tuple[int, int] | None = None
        """Where (segment by its place, byte) the journal is to end, once a full disk lets it be cut there."""

    @classmethod
    def create(
        cls, files: Files, directory: str, *, segment_bytes: int = SEGMENT_BYTES, truncation_durable: bool = True
    ) -> tuple[Journal, ScannedLog]:
        """Begin an empty journal in a directory without one; durable on return.

        Raises:
            OSError: the directory or its first segment cannot be written.
        """
        files.mkdir(directory)
        header = SegmentHeader(UUID_UNKNOWN, 1, 1, CHAIN_ZERO, 0)
        fd = create_segment(files, directory, header, segment_bytes)
        try:
            files.fdatasync(fd)
            files.fsync_dir(directory)
        finally:
            files.close(fd)
        recovery = begun(directory, header)
        journal = cls(files, directory, recovery, segment_bytes=segment_bytes, truncation_durable=truncation_durable)
        return journal, recovery

    @classmethod
    def open(  # noqa: PLR0913 - each by name
        cls,
        files: Files,
        directory: str,
        recovery: ScannedLog,
        *,
        segment_bytes: int = SEGMENT_BYTES,
        truncation_durable: bool = True,
        rewrite_unsynced: bool = True,
    ) -> Journal:
        """Go on with the journal in `directory`, mended as the verdict of `recovery` allows; all it holds is durable.

        `truncation_durable`: False leaves stale bytes behind a truncation, for tests that show what they would do.
        `rewrite_unsynced`: write the events behind the synced point again, in case an fdatasync of the process before
        failed.

        Raises:
            CorruptionError: events that were acknowledged are damaged or missing; nothing was changed.
            EnvironmentProblem: a segment of another cluster, or of a later format.
            OSError: the files cannot be mended.
        """
        if recovery.verdict is Verdict.CORRUPT:
            raise CorruptionError(recovery.detail)
        if recovery.verdict is Verdict.FOREIGN:
            newer = recovery.fault is LogFault.SEGMENT_NEWER
            remedy = NEWER_REMEDY if newer else "move that file away, or use another data_dir"
            raise EnvironmentProblem(recovery.detail, remedy)
        journal = cls(files, directory, recovery, segment_bytes=segment_bytes, truncation_durable=truncation_durable)
        journal._carry_out_verdict(recovery, rewrite=rewrite_unsynced)
        return journal

    @property
    def last_seq(self) -> int:
        """The last event written; 0 or the event before `low_water` when there is none."""
        return self._last_seq

    @property
    def last_chain(self) -> bytes:
        """The chain at `last_seq`."""
        return self._last_chain

    @property
    def last_epoch(self) -> int:
        """The last event's epoch."""
        return self._last_epoch

    @property
    def generation(self) -> int:
        """Counts truncations, as a SyncMark names them."""
        return self._generation

    @property
    def low_water(self) -> int:
        """The first event the journal holds, or would."""
        return self._low_water

    @property
    def synced_seq(self) -> int:
        """The last event known to be durable."""
        return self._synced_seq

    @property
    def cluster_uuid(self) -> bytes:
        """As the newest GENESIS or RECOVERY says it; UUID_UNKNOWN before the first."""
        return self._cluster_starts[-1][1] if self._cluster_starts else self._base_uuid

    def append(self, frames: Sequence[Frame]) -> None:
        """Write frames behind the last one, in one system call a burst; they are not durable until `sync`.

        Raises:
            ValueError: a frame does not follow the one before it; nothing was written.
            DiskFull: no room; the journal is as it was before the call, and usable.
            DiskFailed: the disk fails, now or earlier; the journal takes nothing more.
        """
        if not frames:
            return
        self._check_usable()
        segments, end = len(self._segments), self._segments.active.state.end
        try:
            at = 0
            while at < len(frames):
                at = self._write_run(frames, at)
        except ValueError:
            self._undo(segments, end)
            raise
        except OSError as error:
            self._undo(segments, end)
            raise self._disk_error(error) from error
        last = frames[-1]
        self._last_chain, self._last_epoch = last.chain, last.epoch
        self._last_seq = last.last

    def sync_begin(self) -> SyncMark:
        """Note what is written now; `sync_finish` makes that durable, and claims nothing appended later."""
        segments, names = self._segments.unsynced_segments()
        return SyncMark(self._last_seq, self._generation, segments, names, self._last_epoch, self._last_chain)

    @property
    def log_end(self) -> tuple[int, int, bytes]:
        """The last event written, its epoch and the chain behind it."""
        return self._last_seq, self._last_epoch, self._last_chain

    def sync_finish(self, mark: SyncMark) -> int:
        """Make durable what `mark` covers; returns the seq up to which the journal is now known durable.

        Raises:
            DiskFailed: the disk fails, now or earlier. An fdatasync that failed is never tried again: the kernel may
                have dropped the data, and the next call would succeed without it.
        """
        if self._failure is not None:
            raise self._failure
        try:
            self._segments.sync(mark.segments, mark.names)
        except OSError as error:
            raise self._fail(error) from error
        return self._note_synced(mark)

    def sync_steps(self, mark: SyncMark) -> Generator[int | str, None, None]:
        """`sync_finish`, left to the caller: to fdatasync each descriptor, fsync each path, before asking for the next.

        An OSError that one of them fails with is to be thrown in here. Raises as `sync_finish`.
        """
        if self._failure is not None:
            raise self._failure
        try:
            yield from self._segments.sync_steps(mark.segments, mark.names)
        except OSError as error:
            raise self._fail(error) from error
        self._note_synced(mark)

    def _note_synced(self, mark: SyncMark) -> int:
        if mark.generation == self._generation:
            self._synced_seq = max(self._synced_seq, mark.seq)
        return self._synced_seq

    def sync(self) -> int:
        """Make all that is written at the time of the call durable; returns the last such seq. Raises DiskFailed."""
        return self.sync_finish(self.sync_begin())

    def truncate(self, last: int) -> None:
        """Durably forget every event behind `last`, which ends a frame. What remains is durable too.

        Raises:
            ValueError: `last` lies before the journal, or inside a frame.
            DiskFull: not cut yet, for want of room: to be called again. Nothing behind `last` is read or added to
                until then, but a restart may find it.
            DiskFailed: the disk fails, now or earlier.
        """
        if self._failure is not None:
            raise self._failure
        if last >= self._last_seq:
            if self._uncut is not None:
                self._check_usable()
                self.sync()
            return
        chain, epoch = self.ending_at(last)
        index, offset = self._segments.locate(last + 1)
        self._generation += 1
        self._last_seq, self._last_chain, self._last_epoch = last, chain, epoch
        self._synced_seq = min(self._synced_seq, last)
        self._forget_cluster_starts(last)
        if not self._truncation_durable:
            self._segments.forget(index, offset)
            return
        self._uncut = (index, offset)
        self._check_usable()
        self.sync()

    def read(self, first: int, max_bytes: int) -> list[Frame]:
        """The frames from the one that holds event `first` on: at most `max_bytes`, but at least one if there is any.

        Raises:
            Gone: `first` lies before the journal.
            CorruptionError: the disk gave back something else than was written.
        """
        if first < self._low_water:
            raise Gone(f"event {first} is older than the journal, which begins at {self._low_water}", self._low_water)
        frames: list[Frame] = []
        size, last_seq = 0, self._last_seq
        while first <= last_seq:
            for frame in self._segments.read_around(first, min(max_bytes - size, BURST_BYTES)):
                _, begin, count, _, _, _, body, _ = frame
                behind = begin + count
                if behind <= first:
                    continue
                if begin > last_seq:
                    return frames
                size += FRAME_HEADER_BYTES + len(body)
                if size > max_bytes and frames:
                    return frames
                frames.append(frame)
                first = behind
        return frames

    def frames_from(self, first: int) -> Iterator[list[Frame]]:
        """Every frame from the one that holds event `first` on, in bursts of some MiB. Raises as `read`."""
        while first <= self._last_seq:
            frames = self.read(first, BURST_BYTES)
            if not frames:
                return
            yield frames
            first = frames[-1].last + 1

    def close(self) -> None:
        """Release the files, without a sync."""
        self._segments.close()

    def _write_run(self, frames: Sequence[Frame], at: int) -> int:
        """Write from frames[at] on what fits the active segment, rolling it first if nothing does; returns the next.

        Checks that they follow: a frame out of order would be found only at the next start, as corruption.
        """
        state = self._segments.active.state
        begin = offset = state.end
        limit, due = self._segment_bytes, state.due
        seq, epoch = (frames[at - 1].last, frames[at - 1].epoch) if at else (self._last_seq, self._last_epoch)
        run, starts_cluster = 0, False
        for entry_epoch, first, count, _, _, _, body, _ in frames[at:] if at else frames:
            if first != seq + 1 or entry_epoch < epoch:
                raise ValueError(f"event {first} of epoch {entry_epoch} cannot follow {seq} of epoch {epoch}")
            behind = offset + ENTRY_EXTRA_BYTES + len(body)
            if behind > limit:
                break
            if offset >= due:
                state.note(first, offset)
                due = state.due
            if body[0] >= _CLUSTER_START_MIN:
                starts_cluster = True
            seq, epoch, offset = seq + count, entry_epoch, behind
            run += 1
        if not run:
            self._roll(frames[at].first, frames[at - 1].chain if at else self._last_chain)
            return at
        written = frames if run == len(frames) else frames[at : at + run]
        self._write(encode_entries(written, self._synced_seq, state.seed), begin, offset)
        if starts_cluster:
            self._note_cluster_starts(written)
        return at + run

    def _write(self, buffers: Sequence[bytes], begin: int, end: int) -> None:
        """Write bytes `begin` to `end` of the active segment: in one call, or, where that falls short, again in all."""
        segment = self._segments.active
        fd = segment.fd
        assert fd is not None, "the active segment stays open"
        try:
            if len(buffers) > IOV_MAX or self._files.pwritev(fd, buffers, begin) != end - begin:
                write_all(self._files, fd, buffers, begin)
        finally:
            segment.written += 1
        segment.state.end = end

    def _note_cluster_starts(self, frames: Sequence[Frame]) -> None:
        """Segments begun behind a GENESIS or RECOVERY name the cluster that it names."""
        for frame in frames:
            if frame.body[0] in CLUSTER_START_KINDS and (uuid := founded_uuid(frame)) != UUID_UNKNOWN:
                self._cluster_starts.append((frame.first, uuid))

    def _forget_cluster_starts(self, last: int) -> None:
        while self._cluster_starts and self._cluster_starts[-1][0] > last:
            self._cluster_starts.pop()

    def _roll(self, first: int, chain_before: bytes) -> None:
        number = self._segments.active.state.header.number + 1
        self._segments.add(SegmentHeader(self.cluster_uuid, number, first, chain_before, self._synced_seq))

    def _undo(self, segments: int, end: int) -> None:
        """Return to `segments` segments of which the last ends at `end`, after a write that failed."""
        self._forget_cluster_starts(self._last_seq)
        self._uncut = (segments - 1, end)
        try:
            self._segments.cut(segments - 1, end, durable=False)
            self._uncut = None
        except OSError as error:
            self._disk_error(error)

    def _check_usable(self) -> None:
        """Carry out a cut that a full disk put off. Raises DiskFull (again later), DiskFailed."""
        if self._failure is not None:
            raise self._failure
        if self._uncut is not None:
            try:
                self._segments.cut(*self._uncut, durable=True)
            except OSError as error:
                raise self._disk_error(error) from error
            self._uncut = None

    def _carry_out_verdict(self, recovery: ScannedLog, *, rewrite: bool) -> None:
        """Carry out the verdict, and make what was found durable: the process before may not have come to it."""
        remove_segments(self._files, self._directory, recovery.excess)
        if recovery.verdict.cuts:
            self._segments.cut(len(self._segments) - 1, self._segments.active.state.end, durable=True)
        if self._last_seq > recovery.synced_seq:
            self._segments.rewrite(recovery.synced_seq + 1, data=rewrite)
        self._segments.touch()
        self._segments.sync(*self._segments.unsynced_segments())
        self._synced_seq = self._last_seq

    def ending_at(self, last: int) -> tuple[bytes, int]:
        """Chain and epoch behind event `last`. Raises ValueError: it lies before the journal, or ends no frame."""
        if last == self._low_water - 1:
            return self._base_chain, 0
        if last < self._low_water:
            raise ValueError(f"event {last} lies before the journal, which begins at {self._low_water}")
        (frame,) = self.read(last, 0)
        if frame.last != last:
            raise ValueError(f"event {last} lies inside the frame {frame.first} to {frame.last}")
        return frame.chain, frame.epoch

    def _disk_error(self, error: OSError) -> DiskFull | DiskFailed:
        if self._failure is None and error.errno in FULL:
            remedy = "let this process open more files" if error.errno in UNOPENED else "free some space"
            return DiskFull(f"{self._directory}: {error.strerror}", f"{remedy}; this node goes on by itself")
        return self._failure or self._fail(error)

    def _fail(self, error: OSError) -> DiskFailed:
        if self._failure is None:
            self._failure = DiskFailed(
                f"{self._directory}: {error.strerror}", "check the disk, then start the node again"
            )
        return self._failure
