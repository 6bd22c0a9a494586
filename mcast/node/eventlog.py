"""What this node has applied, for subscribers: frames with the outcomes of their records, from any kept number on.

The newest are in memory. Older frames are read from the journal, and their outcomes, which the journal does not hold,
from a log beside it: one write for each EVENTS_PIECE_BYTES of events, without a sync, for a restart computes them
again.

If those files are lost or damaged, the journal still holds the commands. What the disk does not take at once stays in
memory for a while; beyond that, or if something is not read as it was written, the outcomes are `lost`: the files are
begun anew, and a second machine computes them again (see `recomputing`). Until then there is nothing to read there.
"""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from itertools import chain, pairwise
from typing import Final, NamedTuple, Protocol

import msgpack

from mcast.errors import CorruptionError, DecodeError, Gone
from mcast.limits import EVENTS_CHUNK_BYTES, EVENTS_PIECE_BYTES, EVENTS_RECENT_BYTES, FRAME_BODY_BYTES_MAX
from mcast.storage.outcomes import OutcomeLog
from mcast.wire.events import OUTCOMES_HEAD, Executed, pack_events
from mcast.wire.frame import FRAME_HEADER_BYTES, Frame, chain_after, frames_bytes
from mcast.wire.records import RecordKind, decode_fragment_untrusted, decode_records_untrusted

_log: Final = logging.getLogger("mcast.node")


class FrameSource(Protocol):
    """The part of `storage.store.Store` that is used here."""

    @property
    def low_water(self) -> int:
        """The first event it holds."""

    def read(self, first: int, max_bytes: int) -> list[Frame]:
        """Frames from the one that holds event `first` on. Raises Gone, CorruptionError."""


class EventBatch(NamedTuple):
    """EVENTS messages to send, the event that comes next, and the last one whose outcomes were sent."""

    messages: list[bytes]
    next: int
    outcomes_sent: int


_Applied = tuple[Frame, Executed]


class EventLog:
    """Install `take` as the engine's `on_frames` before it applies anything."""

    def __init__(self, journal: FrameSource, outcomes: OutcomeLog) -> None:
        self.last = 0
        """The last event taken."""
        self._journal = journal
        self._log = outcomes
        self._low = 1
        self.lost: str | None = None
        """Why outcomes are to be computed again; None when all are there."""
        self.failing: str | None = None
        """Why the disk took no outcomes when it was last tried."""
        self.recomputed = 0
        """Of what was lost: up to this event outcomes can be read again."""
        self.on_lost: Callable[[], None] = _nothing
        """Called when outcomes have been lost."""
        self.on_failing: Callable[[], None] = _nothing
        """Called when the disk took no outcomes: `retry` after a while."""
        self.on_more: Callable[[], None] = _nothing
        """Called when some of them can be read again."""
        self._recent: deque[_Applied] = deque()
        self._pieces: deque[tuple[int, int]] = deque()
        """Of those that are written: how many frames went in one piece, and their bytes."""
        self._recent_bytes = 0
        """Of those that are written."""
        self._unwritten: list[_Applied] = []
        self._unwritten_bytes = 0
        self._packed: tuple[tuple[int, int], list[bytes]] = ((0, 0), [])

    @property
    def low_water(self) -> int:
        """The first event that `read` still gives."""
        kept = self._journal.low_water
        return max(self._low, min(kept, self._recent[0][0].first) if self._recent else kept)

    def take(self, frames: Sequence[Frame], executed: Sequence[Executed]) -> None:
        """Frames were applied. What a broken disk does to older outcomes is no reason to stop applying."""
        if not frames:
            return
        if not self.last:
            self._low = frames[0].first
        applied = list(zip(frames, executed, strict=True))
        size = frames_bytes(frames) + _outcomes_bytes(chain.from_iterable(executed))
        if self._unwritten_bytes + size < EVENTS_PIECE_BYTES:
            self._keep(applied, size)
            return
        for one in applied:
            self._keep([one], _size(one))
            if self._unwritten_bytes >= EVENTS_PIECE_BYTES:
                self._end_piece()

    def _keep(self, applied: list[_Applied], size: int) -> None:
        self.last = applied[-1][0].last
        self._recent += applied
        self._unwritten += applied
        self._unwritten_bytes += size

    def _end_piece(self) -> None:
        """Write what is not written yet; of what is, forget the oldest if there is too much."""
        if self.lost is not None:
            self._hold_in_memory()
            return
        try:
            self._write(self._unwritten, self._unwritten_bytes)
        except OSError as error:
            self._note_failure(error)
            if self._unwritten_bytes + EVENTS_PIECE_BYTES > EVENTS_RECENT_BYTES:
                self._lose(f"the disk took no more of them: {error.strerror or error}")
            return
        self._note_success()
        self._hold_in_memory()

    def _hold_in_memory(self) -> None:
        """What is not written is from now on held as if it were; the oldest is forgotten if there is too much."""
        self._pieces.append((len(self._unwritten), self._unwritten_bytes))
        self._recent_bytes += self._unwritten_bytes
        self._unwritten, self._unwritten_bytes = [], 0
        while self._recent_bytes > EVENTS_RECENT_BYTES and len(self._pieces) > 1:
            frames, size = self._pieces.popleft()
            self._recent_bytes -= size
            for _ in range(frames):
                self._recent.popleft()

    def _write(self, applied: Sequence[_Applied], size: int) -> None:
        """Put outcomes behind those on disk. Raises OSError: none of them are there."""
        try:
            self._append(applied, size)
        except OSError:
            self._log.drop_from(applied[0][0].first)
            raise
        self._log.forget(self._journal.low_water)

    def _append(self, applied: Sequence[_Applied], size: int) -> None:
        if size <= EVENTS_PIECE_BYTES + FRAME_BODY_BYTES_MAX:
            if every := [one for _, executed in applied for one in executed]:
                self._log.append(applied[0][0].first, applied[-1][0].last, msgpack.packb(every))
        else:
            for frame, executed in applied:
                for part in _divided(executed):
                    self._log.append(frame.first, frame.last, msgpack.packb(part))

    def _note_failure(self, error: OSError) -> None:
        if self.failing is None:
            _log.warning("outcomes for subscribers cannot be written: %s; they are kept in memory for now", error)
        self.failing = str(error.strerror or error)
        if self.lost is None:
            self.on_failing()

    def retry(self) -> None:
        """Write what the disk did not take before."""
        if self.failing is not None and self.lost is None and self._unwritten:
            self._end_piece()

    def _note_success(self) -> None:
        if self.failing is not None:
            _log.warning("outcomes for subscribers can be written again")
        self.failing = None

    def _lose(self, why: str) -> None:
        """The outcomes on disk cannot be relied on any more: begin them anew."""
        _log.warning("outcomes for subscribers are lost and computed again from the journal: %s", why)
        self.lost, self.recomputed = why, 0
        self._log.clear()
        self._hold_in_memory()
        self.on_lost()

    def recompute(self, frames: Sequence[Frame], executed: Sequence[Executed]) -> bool:
        """What was computed again of the frames behind `recomputed`; whether all that was lost is there now.

        Raises OSError: not yet, the same again later.
        """
        applied = list(zip(frames, executed, strict=True))
        try:
            self._write(applied, sum(map(_size, applied)))
        except OSError as error:
            self._note_failure(error)
            raise
        self._note_success()
        self.recomputed = frames[-1].last
        whole = self._follows_disk()
        self.on_more()
        return whole

    def _follows_disk(self) -> bool:
        """Whether what is in memory follows what is on disk; then it is to be written as ever."""
        if self._recent and self.recomputed + 1 < self._recent[0][0].first:
            return False
        while self._recent and self._recent[0][0].last <= self.recomputed:
            self._recent.popleft()
        self._go_on()
        return True

    def _go_on(self) -> None:
        self._pieces.clear()
        self._recent_bytes = 0
        self._unwritten = list(self._recent)
        self._unwritten_bytes = sum(map(_size, self._unwritten))
        self.lost = None

    def give_up(self, why: str) -> None:
        """Lost outcomes cannot be computed again here: keep only what is in memory from now on."""
        _log.error("outcomes for subscribers cannot be computed again: %s", why)
        self._low = self._recent[0][0].first if self._recent else self.last + 1
        self.recomputed = self._low - 1
        self._go_on()
        self.on_more()

    def beginning(self, first: int) -> int:
        """Where to begin so that the event that is, or holds, number `first` is whole: its command's first fragment.

        Raises:
            Gone: that is no longer kept. CorruptionError, OSError: the disk failed.
        """
        frame = self._frame_at(first)
        if frame is None:
            return first
        try:
            index, total = _fragment_at(frame, first)
        except DecodeError:  # such a frame has no effect
            return first
        begin = first - index
        if begin < self.low_water:
            raise _gone(first, begin + total)
        return begin

    def read(self, first: int, outcomes_sent: int) -> EventBatch:
        """About a chunk of events from the frame with event `first` on; no messages when there are none yet.

        Raises:
            Gone: they are no longer kept. CorruptionError, OSError: the disk failed.
        """
        if first > self.last:
            return EventBatch([], first, outcomes_sent)
        if first < self.low_water:
            raise _gone(first, self.low_water)
        if self._recent and first >= self._recent[0][0].first:
            return self._read_recent(first)
        if self.lost is not None and first > self.recomputed:
            return EventBatch([], first, outcomes_sent)
        frames = self._read_journal(first)
        if self.lost is not None:
            frames = [frame for frame in frames if frame.last <= self.recomputed]
        if not frames:
            return EventBatch([], first, outcomes_sent)
        pieces = [piece for piece in self._log.pieces(frames[0].first, frames[-1].last) if piece.last > outcomes_sent]
        ends = outcomes_sent
        if pieces:  # one piece's range at a time, so that no more outcomes are in memory than one frame may have
            ends = pieces[0].last
            pieces = [piece for piece in pieces if piece.last == ends]
            frames = [frame for frame in frames if frame.last <= ends]
        try:
            executed = [one for piece in pieces for one in _unpack(self._log.read(piece))]
        except (OSError, CorruptionError) as error:
            self._lose(str(error))
            return EventBatch([], first, outcomes_sent)
        return EventBatch(_messages(executed, frames), frames[-1].last + 1, ends)

    def close(self) -> None:
        """Give the outcomes' room on disk back."""
        try:
            self._log.close()
        except OSError as error:
            _log.warning("outcomes kept for subscribers could not be removed: %s", error)

    def _read_journal(self, first: int) -> list[Frame]:
        """A chunk of frames, proven by the chain: what a disk has changed since it was written is told to nobody."""
        frames = self._journal.read(first, EVENTS_CHUNK_BYTES)
        before = frames[0].first - 1 if frames else 0
        known = self._journal.read(before, 0) if before >= self._journal.low_water else []
        for one, after in pairwise([*known, *frames]):
            if chain_after(one.chain, after.head, after.body) != after.chain:
                raise CorruptionError(
                    f"the journal's events {after.first} to {after.last} are not as they were written"
                )
        return frames

    def _frame_at(self, seq: int) -> Frame | None:
        if seq < self.low_water:
            raise _gone(seq, self.low_water)
        if seq > self.last:
            return None
        if self._recent and seq >= self._recent[0][0].first:
            return next(frame for frame, _ in reversed(self._recent) if frame.first <= seq)
        return next(iter(self._journal.read(seq, 0)), None)

    def _read_recent(self, first: int) -> EventBatch:
        taken: list[_Applied] = []
        for one in reversed(self._recent):
            taken.append(one)
            if one[0].first <= first:
                break
        taken.reverse()
        end = size = 0
        while end < len(taken) and (not end or size + _size(taken[end]) <= EVENTS_CHUNK_BYTES):
            size += _size(taken[end])
            end += 1
        del taken[end:]
        last = taken[-1][0].last
        key = taken[0][0].first, last
        if self._packed[0] != key:  # subscribers who read as it happens all get the same bytes
            every = [one for _, executed in taken for one in executed]
            self._packed = key, _messages(every, [frame for frame, _ in taken])
        return EventBatch(self._packed[1], last + 1, last)


def _fragment_at(frame: Frame, seq: int) -> tuple[int, int]:
    """Index and total of the fragment that is event `seq`; (0, 1) for anything else. Raises DecodeError."""
    at = frame.first
    for record in decode_records_untrusted(frame.body):
        if seq < at + record.count:
            if record.kind == RecordKind.FRAGMENT:
                index, total, _ = decode_fragment_untrusted(record.payload)
                return (index, total) if index < seq else (0, 1)
            break
        at += record.count
    return 0, 1


def _size(applied: _Applied) -> int:
    frame, executed = applied
    return FRAME_HEADER_BYTES + len(frame.body) + _outcomes_bytes(executed)


def _outcomes_bytes(executed: Iterable[tuple[int, bytes]]) -> int:
    """As EVENTS carries them."""
    return sum([OUTCOMES_HEAD.size + len(outcomes) for _, outcomes in executed])


def _unpack(piece: bytes) -> Executed:
    unpacked: Executed = msgpack.unpackb(piece)
    return unpacked


def _divided(executed: Executed) -> list[Executed]:
    """The same in parts of about a chunk of outcomes; one record's stay together."""
    parts: list[Executed] = []
    start = size = 0
    for index, (_, outcomes) in enumerate(executed):
        more = OUTCOMES_HEAD.size + len(outcomes)
        if index > start and size + more > EVENTS_CHUNK_BYTES:
            parts.append(executed[start:index])
            start, size = index, 0
        size += more
    return [*parts, executed[start:]] if start < len(executed) else parts


def _messages(executed: Executed, frames: Sequence[Frame]) -> list[bytes]:
    """EVENTS messages with all of it, the frames in the last one."""
    *before, last = _divided(executed) or [()]
    if _outcomes_bytes(last) > EVENTS_CHUNK_BYTES:
        before, last = [*before, last], ()
    return [*[pack_events(part, ()) for part in before], pack_events(last, frames)]


def _nothing() -> None:
    pass


def _gone(first: int, low_water: int) -> Gone:
    return Gone(f"event {first} is no longer kept here; the oldest is {low_water}", low_water)
