"""Numbering: what was submitted becomes frames of the log, as far as the window allows, and is sent in one burst.

Packing is natural: a burst holds what arrived while the last one was on its way, and at most `window` bytes are
numbered beyond what a majority has acknowledged. A slow member beyond the majority never stalls it.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Mapping, Sequence
from itertools import chain as chained

from mcast.limits import WINDOW_BYTES, WINDOW_BYTES_MIN
from mcast.protocol.core import Core
from mcast.protocol.effects import Append, Stream
from mcast.protocol.logtime import LogTime
from mcast.protocol.membership import Membership
from mcast.protocol.quorum import Progress
from mcast.protocol.rounds import Rounds
from mcast.protocol.states import Role
from mcast.wire.frame import FRAME_HEADER_BYTES, Frame, make_frame
from mcast.wire.messages import Configuration, EpochStart, encode_message
from mcast.wire.records import RECORD_HEADER_BYTES, RecordKind, encode_record, record_count


class Numbering:
    """Of one epoch that this node leads. Membership says which configuration is due; rounds hear what was sent."""

    def __init__(
        self, core: Core, progress: Mapping[int, Progress], rounds: Rounds, membership: Membership, time: LogTime
    ) -> None:
        self.core = core
        self.backlog_bytes = 0
        """Bytes of the records that wait to be numbered."""
        self.pending: deque[bytes] = deque()
        """Those records, encoded, in the order in which they were taken."""
        self.is_paused = False
        """Whether the role is being handed over: until that is done or given up nothing is numbered."""
        self._progress = progress
        self._rounds = rounds
        self._membership = membership
        self._time = time
        self._in_flight: deque[tuple[int, int]] = deque()
        """Frames of commands that no majority holds yet, oldest first: (last event, bytes as a datagram)."""
        self._in_flight_bytes = 0
        """Their bytes: what is held against the window."""

    @property
    def is_idle(self) -> bool:
        """Whether commands are taken, and none waits for a majority, or to be numbered."""
        return self.core.role is Role.SEQUENCER and not self._in_flight and not self.pending

    def submit(self, groups: Sequence[tuple[bytes, ...]], now: float) -> bool:
        """Take groups of encoded records to be numbered, each group without anything in between."""
        if self.core.role is not Role.SEQUENCER:
            return False
        records = list(chained.from_iterable(groups))
        self.pending += records
        self.backlog_bytes += sum(map(len, records))
        self.number(now)
        return True

    def start(self, config: Configuration, now: float) -> None:
        """The epoch's first event: EPOCH_START, alone in its frame."""
        start = EpochStart(self.core.settings.node, config)
        self._emit([self._number_internal(RecordKind.EPOCH_START, start, now)], now)

    def number(self, now: float) -> None:
        """Number what waits, as far as the window allows, and send it in one burst."""
        if self.core.role is not Role.SEQUENCER or self.is_paused:
            return
        applicants = self._membership.applicants
        if not self.pending and not applicants:
            return
        frames: list[Frame] = []
        window = self._window()
        while True:
            if applicants and (config := self._config_due()) is not None:
                frames.append(self._number_internal(RecordKind.CONFIG, config, now))
            if not self.pending or self._in_flight_bytes >= window:
                break
            frames += self._pack(now, window)
        if frames:
            self._emit(frames, now)

    def on_held(self, held: int) -> None:
        """A majority holds all events up to `held`: they take no more room in the window."""
        while self._in_flight and self._in_flight[0][0] <= held:
            self._in_flight_bytes -= self._in_flight.popleft()[1]

    def _pack(self, now: float, window: int) -> list[Frame]:
        """Number records, frame by frame, until none waits or the window is full."""
        core, log, pending, room = self.core, self.core.log, self.pending, self.core.settings.frame_body_max
        epoch, commit, time = core.promised, core.commit_seq, self._time.read(now)
        first, chain, in_flight = log.last_seq + 1, log.last_chain, self._in_flight_bytes
        frames: list[Frame] = []
        while pending and in_flight < window:
            body = pending.popleft()
            size, count = len(body), record_count(body)
            assert size <= room, f"a record of {size} bytes in frames of {room}"
            if pending and size + len(pending[0]) <= room:
                parts = [body]
                while pending and size + len(pending[0]) <= room:
                    parts.append(pending.popleft())
                    size += len(parts[-1])
                    count += record_count(parts[-1])
                body = b"".join(parts)
            frame = make_frame(epoch, first, count, commit, time, chain, body)
            frames.append(frame)
            first += count
            chain = frame.chain
            in_flight += FRAME_HEADER_BYTES + size
            self._in_flight.append((first - 1, FRAME_HEADER_BYTES + size))
        self.backlog_bytes -= in_flight - self._in_flight_bytes - FRAME_HEADER_BYTES * len(frames)
        self._in_flight_bytes = in_flight
        log.extend(frames)
        return frames

    def _config_due(self) -> Configuration | None:
        """The configuration that an applicant waits for, unless it would stand inside a command."""
        if self.pending and is_continued(self.pending[0]):
            return None
        return self._membership.next_config(self._rounds.start_seq)

    def _number_internal(self, kind: RecordKind, payload: Configuration | EpochStart, now: float) -> Frame:
        """Number an event of the fabric's own, alone in its frame."""
        record = encode_record(kind, 1, 0, 0, 0, encode_message(payload))
        core, log = self.core, self.core.log
        time = self._time.read(now)
        frame = make_frame(core.promised, log.last_seq + 1, 1, core.commit_seq, time, log.last_chain, record)
        log.append(frame)
        core.note_internal(frame)
        return frame

    def _emit(self, frames: list[Frame], now: float) -> None:
        core = self.core
        burst = tuple(frames)
        core.effects.append(Stream(burst))
        core.effects.append(Append(core.ticket(self._persisted_callback(frames[-1]), of_append=True), burst))
        core.stream_sent += len(frames)
        self._rounds.on_streamed(frames[-1].commit, now)
        if not core.rules.apply_only_committed:
            core.apply(core.log.last_seq)

    def _persisted_callback(self, last: Frame) -> Callable[[float], None]:
        def on_persisted(now: float) -> None:  # whoever completes a ticket runs `finish_burst` then
            self.core.persist(last.last, last.chain)

        return on_persisted

    def _window(self) -> int:
        windows = [progress.window for progress in self._progress.values() if progress.counted and progress.window]
        return max(min([WINDOW_BYTES, *windows]), WINDOW_BYTES_MIN)


def is_continued(record: bytes) -> bool:
    """Whether an encoded record is a fragment that others of the same command precede."""
    index = record[RECORD_HEADER_BYTES : RECORD_HEADER_BYTES + 4]
    return record[0] == RecordKind.FRAGMENT and any(index)
