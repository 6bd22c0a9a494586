"""What a journal on disk holds: a scan in order, up to the end of the log or the first thing that is wrong.

The scan checks every entry against the log before it; `verdict` says what a fault then means. It reads only: the
journal carries the verdict out.
"""

from __future__ import annotations

from array import array
from collections import deque
from dataclasses import dataclass
from typing import Final

from mcast.errors import DecodeError, NewerFormat
from mcast.limits import CACHE_BYTES_MAX, FRAME_BODY_BYTES_MAX
from mcast.storage.files import Files
from mcast.storage.segment import (
    END_MARK,
    ENTRY_BYTES_MAX,
    ENTRY_EXTRA_BYTES,
    ENTRY_HEAD_BYTES,
    ENTRY_MAGIC,
    HEADER_BYTES,
    PREFIX_BYTES,
    SegmentHeader,
    body_length,
    decode_header_untrusted,
    entry_seed,
    entry_synced,
    segment_name,
    segment_number,
    sound_entry,
)
from mcast.storage.verdict import RECOVERY_TABLE, LogFault, Mark, Past, Verdict
from mcast.storage.watermark import Watermark
from mcast.wire.epochs import Epochs
from mcast.wire.frame import CHAIN_ZERO, FRAME_HEADER_BYTES, Frame, decode_frame_untrusted
from mcast.wire.messages import decode_genesis_untrusted, decode_recovery_untrusted
from mcast.wire.records import RecordKind, decode_records_untrusted

UUID_UNKNOWN: Final = bytes(16)
INDEX_STRIDE_BYTES: Final = 64 << 10  # between two entries of a sparse index
WINDOW_BYTES: Final = 4 << 20  # read at once; memory against system calls


class SegmentState:
    """A segment's place in the log, and a sparse index of its entries: `seqs[i]` begins at byte `offsets[i]`."""

    __slots__ = ("due", "end", "header", "offsets", "seed", "seqs")

    def __init__(self, header: SegmentHeader) -> None:
        self.header = header
        self.seed = header.seed
        self.end = HEADER_BYTES
        """Byte offset behind the last good entry."""
        self.due = 0
        """The first entry at or behind this offset is to be remembered."""
        self.seqs = array("Q")
        self.offsets = array("Q")

    def note(self, first: int, offset: int) -> None:
        """An entry of event `first` begins at `offset`; remembered when far enough behind the last remembered one."""
        if offset >= self.due:
            self.seqs.append(first)
            self.offsets.append(offset)
            self.due = offset + INDEX_STRIDE_BYTES

    def forget(self, offset: int) -> None:
        """The segment now ends at `offset`."""
        self.end = offset
        while self.offsets and self.offsets[-1] >= offset:
            self.seqs.pop()
            self.offsets.pop()
        self.due = self.offsets[-1] + INDEX_STRIDE_BYTES if self.offsets else 0


@dataclass(frozen=True, slots=True, kw_only=True)
class ScannedLog:
    """What a scan found. With verdict CORRUPT or FOREIGN the rest describes the log up to the fault."""

    verdict: Verdict
    fault: LogFault
    mark: Mark
    detail: str
    """Where the log ends and why, for an operator."""
    low_water: int
    last_seq: int
    last_chain: bytes
    last_epoch: int
    synced_seq: int
    """The highest seq proven to have been durable."""
    cluster_uuid: bytes
    cluster_starts: tuple[tuple[int, bytes], ...]
    """(seq, cluster uuid) of GENESIS and of every RECOVERY in the log, oldest first."""
    base_seq: int
    base_chain: bytes
    history: Epochs
    frames: tuple[Frame, ...]
    genesis: Frame | None
    """The newest frame below `frames` that names the cluster's uuid: event 1's, or a RECOVERY's."""
    config: Frame | None
    """The newest frame below `frames` that carries a configuration."""
    segments: tuple[SegmentState, ...]
    """Those that hold the log up to `last_seq`, in order."""
    excess: tuple[int, ...]
    """Numbers of segments behind them, to be removed by a cut."""

    @property
    def is_suspect(self) -> bool:
        """Whether events that were acknowledged may be missing."""
        return self.verdict.is_suspect


def recover(  # noqa: PLR0913 - each by name
    files: Files,
    directory: str,
    *,
    past: Past,
    watermark: Watermark | None = None,
    doubtful: bool = False,
    synced_floor: int = 0,
    cache_bytes: int = CACHE_BYTES_MAX,
) -> ScannedLog:
    """Scan the journal in `directory` and judge it; changes nothing.

    `watermark` is what the log must reach; `doubtful` says that it may have been higher, or of another storage id.
    `synced_floor` is a seq known from elsewhere to have been durable. `cache_bytes` bounds the frames returned.

    Raises:
        OSError: a file cannot be read.
    """
    return _Scan(files, directory, cache_bytes, watermark).run(past, synced_floor, doubtful=doubtful)


def begun(directory: str, header: SegmentHeader) -> ScannedLog:
    """What a scan finds in a journal that was just begun with this header."""
    last_seq = header.first - 1
    return ScannedLog(
        verdict=Verdict.INTACT, fault=LogFault.ZERO_TAIL, mark=Mark.REACHED, detail=f"{directory}: new",
        low_water=header.first, last_seq=last_seq, last_chain=header.chain_before, last_epoch=0, synced_seq=last_seq,
        cluster_uuid=header.cluster_uuid, cluster_starts=(), base_seq=last_seq, base_chain=header.chain_before,
        history=Epochs(), frames=(), genesis=None, config=None, segments=(SegmentState(header),), excess=(),
    )  # fmt: skip


class _Scan:
    """One walk over a journal: the log as far as it is good, then what lies behind."""

    def __init__(
        self,
        files: Files,
        directory: str,
        cache_bytes: int,
        watermark: Watermark | None = None,
        keep_behind: int | None = None,
    ) -> None:
        self._watermark = watermark
        self._mark_seq = -1 if watermark is None else watermark.seq
        self._mark_chain: bytes | None = CHAIN_ZERO if self._mark_seq == 0 else None
        """The log's chain at the watermark's event."""
        self._keep_behind = keep_behind
        self._files = files
        self._directory = directory
        self._cache_bytes = cache_bytes
        names = files.listdir(directory) if files.exists(directory) else []
        self._numbers = sorted(filter(None, map(segment_number, names)))
        self._segments: list[SegmentState] = []
        self._last_seq = 0
        self._chain = CHAIN_ZERO
        self._epoch = -1
        self._synced = 0
        self._uuid = UUID_UNKNOWN
        self._cluster_starts: list[tuple[int, bytes]] = []
        self._history = Epochs()
        self._frames: deque[Frame] = deque()
        self._frames_bytes = 0
        self._base = (0, CHAIN_ZERO)
        self._genesis: Frame | None = None
        self._config: Frame | None = None

    def run(self, past: Past, synced_floor: int, *, doubtful: bool) -> ScannedLog:
        fault, at = self._walk()
        self._synced = max(self._synced, synced_floor)
        if fault is not LogFault.ZERO_TAIL and self._look_behind(at) and fault in _DAMAGE:
            fault = LogFault.VALID_AFTER_INVALID
        # The first segment was durable before its first event, so its loss is never a write that did not get through.
        behind = bool(self._segments) and self._last_seq + 1 > self._synced
        mark = self._compare(doubtful=doubtful)
        verdict = RECOVERY_TABLE[fault, behind, mark, past]
        low_water = self._segments[0].header.first if self._segments else 1
        self._keep_uncommitted()
        return ScannedLog(
            verdict=verdict,
            fault=fault,
            mark=mark,
            detail=f"{self._directory}: behind event {self._last_seq}: {fault.value} (segment {at[0]}, byte {at[1]}); "
            f"synced up to event {self._synced}; {self._words(mark)}",
            low_water=low_water,
            last_seq=self._last_seq,
            last_chain=self._chain,
            last_epoch=max(self._epoch, 0),
            synced_seq=self._synced,
            cluster_uuid=self._uuid,
            cluster_starts=tuple(self._cluster_starts),
            base_seq=self._base[0],
            base_chain=self._base[1],
            history=self._history,
            frames=tuple(self._frames),
            genesis=self._genesis,
            config=self._config,
            segments=tuple(self._segments),
            excess=tuple(self._numbers[len(self._segments) :]),
        )

    def _compare(self, *, doubtful: bool) -> Mark:
        """Hold the log, as far as it is good, against the watermark."""
        if self._watermark is not None:
            if self._last_seq < self._watermark.seq:
                return Mark.SHORT
            if self._mark_chain != self._watermark.chain:
                return Mark.OTHER
        return Mark.UNKNOWN if doubtful else Mark.REACHED

    def _words(self, mark: Mark) -> str:
        if self._watermark is None:
            return mark.value if mark is Mark.UNKNOWN else "no watermark to judge by"
        epoch, seq = self._watermark.epoch, self._watermark.seq
        return f"acknowledged up to event {seq} of epoch {epoch}: {mark.value}"

    def _walk(self) -> tuple[LogFault, tuple[int, int]]:
        """Read the log up to its end or the first fault; returns that and where (segment number, byte)."""
        at = (1, 0)
        fault = LogFault.SEGMENT_MISSING
        for expected, number in enumerate(self._numbers, start=1):
            at = (expected, 0)
            if number != expected:
                return LogFault.SEGMENT_MISSING, at
            fd = self._files.open(self._path(number))
            try:
                placed = self._place(self._files.pread(fd, HEADER_BYTES, 0), number)
                if isinstance(placed, LogFault):
                    return placed, at
                self._segments.append(placed)
                fault = self._scan_entries(fd, placed, final=number == self._numbers[-1])
            finally:
                self._files.close(fd)
            at = (number, placed.end)
            if fault is not LogFault.ZERO_TAIL:
                return fault, at
        return fault, at

    def _place(self, data: bytes, number: int) -> SegmentState | LogFault:
        """The segment whose header this is, if it continues the log."""
        try:
            header = decode_header_untrusted(data)
        except NewerFormat:
            return LogFault.SEGMENT_NEWER
        except DecodeError:
            return LogFault.SEGMENT_HEADER
        if header.cluster_uuid != UUID_UNKNOWN:
            if self._uuid not in (UUID_UNKNOWN, header.cluster_uuid):
                return LogFault.SEGMENT_FOREIGN
            self._uuid = header.cluster_uuid
        if not self._segments and header.number == number:
            self._last_seq, self._chain = header.first - 1, header.chain_before
            self._base = (self._last_seq, self._chain)
            if self._last_seq == self._mark_seq:
                self._mark_chain = self._chain
        place = (number, self._last_seq + 1, self._chain)
        if (header.number, header.first, header.chain_before) != place:
            return LogFault.SEGMENT_MISPLACED
        self._synced = max(self._synced, header.synced)
        return SegmentState(header)

    def _scan_entries(self, fd: int, segment: SegmentState, *, final: bool) -> LogFault:
        """Take every good entry of one segment into the log; returns what stands behind the last one."""
        size = self._files.size(fd)
        while True:
            offset = segment.end
            data = self._files.pread(fd, WINDOW_BYTES, offset)
            whole = offset + len(data) >= size
            at, enough = 0, len(data) if whole else len(data) - ENTRY_BYTES_MAX
            fault = None
            while at <= enough and fault is None:
                taken = self._check_entry(data, at, segment.seed)
                if isinstance(taken, LogFault):
                    fault = taken
                else:
                    segment.note(taken.first, offset + at)
                    at += ENTRY_EXTRA_BYTES + len(taken.body)
                    self._take(taken)
            segment.end = offset + at
            if fault is not None:
                return self._classify(fd, segment, size, fault, final=final)

    def _check_entry(self, data: bytes, at: int, seed: int) -> Frame | LogFault:
        """The entry at offset `at`, if it continues the log; else what is wrong with it."""
        sound = sound_entry(data, at, seed, self._last_seq, self._epoch, self._chain)
        if sound is None:
            return self._find_fault(data, at, seed)
        frame, synced = sound
        if synced > self._synced:
            self._synced = synced
        return frame

    def _find_fault(self, data: bytes, at: int, seed: int) -> LogFault:
        """What is wrong with the entry at offset `at`, which does not continue the log."""
        head = data[at : at + ENTRY_HEAD_BYTES]
        if not head or head.count(0) == len(head):
            return LogFault.ZERO_TAIL
        if len(head) < ENTRY_HEAD_BYTES:
            return LogFault.HEADER
        length = body_length(data, at)
        end = at + ENTRY_EXTRA_BYTES + length
        if length > FRAME_BODY_BYTES_MAX or end > len(data):
            return LogFault.LENGTH
        synced = entry_synced(data, at, seed)
        if synced is None:
            return LogFault.HEADER
        try:
            frame = decode_frame_untrusted(data, at + PREFIX_BYTES)
        except DecodeError:
            return LogFault.HEADER
        if data[end - 1 : end] != END_MARK:
            return LogFault.CHAIN
        if frame.first != self._last_seq + 1:
            return LogFault.DUPLICATE if frame.first <= self._last_seq else LogFault.GAP
        return LogFault.EPOCH_BACK if frame.epoch < self._epoch else LogFault.CHAIN

    def _take(self, frame: Frame) -> None:
        """The log now ends with this frame."""
        if frame.epoch != self._epoch:
            self._history.add(frame.epoch, frame.first, self._chain)
            self._epoch = frame.epoch
        if frame.body[0] in CLUSTER_START_KINDS and (uuid := founded_uuid(frame)) != UUID_UNKNOWN:
            self._uuid = uuid
            self._cluster_starts.append((frame.first, uuid))
        self._last_seq, self._chain = frame.last, frame.chain
        if self._last_seq == self._mark_seq:
            self._mark_chain = self._chain
        self._frames.append(frame)
        self._frames_bytes += FRAME_HEADER_BYTES + len(frame.body)
        if self._frames_bytes > self._cache_bytes:
            self._forget_frames(frame.commit if self._keep_behind is None else self._keep_behind)

    def _forget_frames(self, behind: int) -> None:
        """Drop the oldest frames up to event `behind` until the rest fits."""
        frames = self._frames
        while self._frames_bytes > self._cache_bytes and frames and frames[0].last <= behind:
            oldest = frames.popleft()
            self._frames_bytes -= oldest.size
            self._base = (oldest.last, oldest.chain)
            if oldest.body[0] >= RecordKind.GENESIS:  # EPOCH_START and CONFIG too carry the configuration
                self._config = oldest
                if any(seq == oldest.first for seq, _ in self._cluster_starts):
                    self._genesis = oldest

    def _classify(self, fd: int, segment: SegmentState, size: int, fault: LogFault, *, final: bool) -> LogFault:
        """Tell a write cut short, and stray bytes behind zeros, from the fault met at the segment's end."""
        last = _last_nonzero(self._files, fd, segment.end, size)
        if last is None:
            return LogFault.ZERO_TAIL
        if fault is LogFault.ZERO_TAIL:
            return LogFault.HEADER
        if not final or fault not in _DAMAGE:
            return fault
        head = self._files.pread(fd, ENTRY_HEAD_BYTES, segment.end)
        if last < segment.end + ENTRY_HEAD_BYTES:
            return LogFault.TORN
        if entry_synced(head, 0, segment.header.seed) is None:
            return fault
        mark = segment.end + ENTRY_EXTRA_BYTES + body_length(head, 0) - 1
        return LogFault.TORN if last < mark else fault

    def _look_behind(self, at: tuple[int, int]) -> bool:
        """Search behind the fault at (segment, byte) for intact entries; they can only raise the synced point."""
        found = False
        for number in self._numbers:
            if number < at[0]:
                continue
            fd = self._files.open(self._path(number))
            try:
                seed = entry_seed(number, self._last_seq + 1, self._chain)
                offset = at[1] + 1 if number == at[0] and at[1] else HEADER_BYTES
                if number == at[0] and at[1]:
                    seed = self._segments[-1].header.seed
                else:
                    try:
                        header = decode_header_untrusted(self._files.pread(fd, HEADER_BYTES, 0))
                        seed = header.seed
                        self._synced = max(self._synced, header.synced)
                    except DecodeError:
                        pass
                found |= self._search_entries(fd, offset, seed)
            finally:
                self._files.close(fd)
        return found

    def _search_entries(self, fd: int, offset: int, seed: int) -> bool:
        found = False
        size = self._files.size(fd)
        while offset < size:
            data = self._files.pread(fd, WINDOW_BYTES, offset)
            if not data:
                break
            at = data.find(ENTRY_MAGIC)
            while at >= 0:
                synced = entry_synced(data, at, seed)
                if synced is not None:
                    found = True
                    self._synced = max(self._synced, synced)
                at = data.find(ENTRY_MAGIC, at + 1)
            offset += max(len(data) - ENTRY_HEAD_BYTES, 1) if offset + len(data) < size else len(data)
        return found

    def _keep_uncommitted(self) -> None:
        """Fetch back frames dropped for room while an older epoch's commit stood higher than the newest frame's."""
        if self._frames and self._base[0] > self._frames[-1].commit:
            again = _Scan(self._files, self._directory, 0, keep_behind=self._frames[-1].commit)
            again._walk()
            self._base, self._frames = again._base, again._frames
            self._genesis, self._config = again._genesis, again._config

    def _path(self, number: int) -> str:
        return f"{self._directory}/{segment_name(number)}"


CLUSTER_START_KINDS: Final = frozenset({RecordKind.GENESIS, RecordKind.RECOVERY})
_DAMAGE: Final = frozenset({LogFault.LENGTH, LogFault.HEADER, LogFault.CHAIN})


def _last_nonzero(files: Files, fd: int, offset: int, size: int) -> int | None:
    """The offset of the last byte from `offset` on that is not zero."""
    zeros = bytes(min(1 << 20, max(size - offset, 0)))
    last = None
    while offset < size:
        data = files.pread(fd, len(zeros), offset)
        if not data:
            break
        if data != zeros[: len(data)]:
            last = offset + len(data.rstrip(b"\0")) - 1
        offset += len(data)
    return last


def founded_uuid(frame: Frame) -> bytes:
    """The cluster uuid that the log has from this GENESIS or RECOVERY frame on; UUID_UNKNOWN when it says none."""
    try:
        for record in decode_records_untrusted(frame.body):
            if record.kind == RecordKind.GENESIS:
                return decode_genesis_untrusted(bytes(record.payload)).cluster_uuid
            if record.kind == RecordKind.RECOVERY:
                return decode_recovery_untrusted(bytes(record.payload)).cluster_uuid
    except DecodeError:
        pass
    return UUID_UNKNOWN
