"""The sequencer's half of a replica: number records, stream them, count acknowledgements, commit.

An epoch begins with a heartbeat (so that everybody can judge its frames) and EPOCH_START, alone in its frame. Until
that has committed nothing else is numbered. Packing is natural: a burst holds what arrived while the last one was on
its way, and at most `window` bytes are numbered beyond what a majority has acknowledged. A slow member beyond the
majority never stalls it.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from itertools import chain as chained
from typing import Final

from mcast.limits import (
    HANDOVER_S,
    HEARTBEAT_HISTORY,
    HEARTBEAT_MIN_S,
    READ_RETRY_S,
    WINDOW_BYTES,
    WINDOW_BYTES_MIN,
)
from mcast.protocol.core import Core
from mcast.protocol.effects import Append, EpochChanged, SequencerReady, SteppedDown, Stream
from mcast.protocol.history import History
from mcast.protocol.logtime import LogTime
from mcast.protocol.membership import Membership
from mcast.protocol.quorum import Progress, reached
from mcast.protocol.reading import ReadAnswers
from mcast.protocol.states import Input, Role
from mcast.protocol.ways import Seeking
from mcast.wire.envelope import Envelope
from mcast.wire.frame import FRAME_HEADER_BYTES, Frame, make_frame
from mcast.wire.messages import (
    Ack,
    Commit,
    Configuration,
    EpochEntry,
    EpochStart,
    Handover,
    Heartbeat,
    PeerState,
    ReadIndex,
    encode_message,
)
from mcast.wire.records import RECORD_HEADER_BYTES, RecordKind, encode_record, record_count

_BEAT_BYTES: Final = 160 + HEARTBEAT_HISTORY * 32  # of a heartbeat without its table of replicas
_PEER_BYTES: Final = 24
_ELSEWHERE_S: Final = 1.0  # after other nodes' clients submitted, for which every commit is sent at once


class Sequencing:
    """At work only while its node leads; `stream_sent` counts DATA datagrams over the life of the process."""

    def __init__(self, core: Core, on_own_index: Callable[[ReadIndex, float], None]) -> None:
        self.on_own_index = on_own_index
        self.core = core
        self.progress: dict[int, Progress] = {}
        self.backlog_bytes = 0
        self.stream_sent = 0
        self._stream_base = 0
        self.reads = ReadAnswers(core)
        self.membership = Membership(core)
        self.seeking = Seeking(core)
        self._successor: tuple[int, float] | None = None
        self._epoch = 0
        self._newest: tuple[EpochEntry, ...] = ()
        """The newest epochs of the own log, this one the last: heartbeats carry them."""
        self._start_seq = 0
        self._pending: deque[bytes] = deque()
        self._in_flight: deque[tuple[int, int]] = deque()
        self._in_flight_bytes = 0
        self._time = LogTime(core)
        self._round = 0
        self._confirmed = 0
        self._confirmed_at = 0.0
        self._rounds: deque[tuple[int, float, int]] = deque(maxlen=256)
        self._announced: tuple[int, int] = (0, 0)
        self._tell_due = float("inf")
        """When a COMMIT is sent, unless frames or a heartbeat have carried the commit by then."""
        self._elsewhere_until = 0.0
        self._last_hand = 0.0
        self._beat_due = float("inf")
        self._beat_interval = HEARTBEAT_MIN_S
        self._last_beat = 0.0

    def begin(self, now: float) -> History:
        """The own epoch begins: heartbeat first, then EPOCH_START."""
        core = self.core
        config = core.config
        assert config is not None, "only a voter of a configuration in its log is elected"
        self._resume(now)
        epoch = core.promised
        core.acknowledged = epoch, core.persisted_seq  # as nodes assume that hear this epoch's heartbeats
        self._start_seq = core.log.last_seq + 1
        own = EpochEntry(epoch, self._start_seq, core.log.last_chain)
        self._epoch, self._newest = epoch, (*core.log.epochs.newest(core.settings.heartbeat_epochs - 1), own)
        self.send_heartbeat(now)
        start = self._number_internal(RecordKind.EPOCH_START, EpochStart(core.settings.node, config), now)
        self._emit([start], now)
        return History(epoch, core.log.epochs)

    def resume(self, now: float) -> History:
        """Go on with an epoch from before a restart: the ablation of `epoch_begins_with_vote`."""
        self._resume(now)
        epochs = self.core.log.epochs
        self._start_seq = epochs[-1].first
        self._epoch, self._newest = self.core.promised, epochs.newest(self.core.settings.heartbeat_epochs)
        return History(self._epoch, epochs)

    def stop(self, now: float) -> None:
        """The epoch is over. What was taken and not numbered is dropped: its gateways send it to the next sequencer."""
        core = self.core
        if core.leads_epoch:
            core.notices.append(SteppedDown(core.promised))
            core.notices.append(EpochChanged(core.promised, None))
        self._pending.clear()
        self.backlog_bytes = 0
        self.progress = {}
        self._successor = None
        self.reads.reset()
        if core.rules.heartbeats_end_with_epoch:
            self._beat_due = float("inf")

    @property
    def is_idle(self) -> bool:
        """Whether this node leads and nothing waits for a majority, or to be numbered."""
        return self.core.role is Role.SEQUENCER and not self._in_flight and not self._pending

    @property
    def confirmed_round(self) -> int:
        """The highest round of this epoch that a majority has answered."""
        return self._confirmed

    def submit(self, groups: Sequence[tuple[bytes, ...]], now: float) -> bool:
        """Take groups of encoded records to be numbered, each group without anything in between."""
        if self.core.role is not Role.SEQUENCER:
            return False
        records = list(chained.from_iterable(groups))
        self._pending += records
        self.backlog_bytes += sum(map(len, records))
        self.number(now)
        return True

    def hasten_commits(self, now: float) -> None:
        """Another node submitted this, and answers its clients when it hears of the commit: send COMMITs at once."""
        self._elsewhere_until = now + _ELSEWHERE_S

    def number(self, now: float) -> None:
        """Number what waits, as far as the window allows, and send it in one burst."""
        if self.core.role is not Role.SEQUENCER or self._successor is not None:
            return
        applicants = self.membership.applicants
        if not self._pending and not applicants:
            return
        frames: list[Frame] = []
        window = self._window()
        while True:
            if applicants and (config := self._config_due()) is not None:
                frames.append(self._number_internal(RecordKind.CONFIG, config, now))
            if not self._pending or self._in_flight_bytes >= window:
                break
            frames += self._pack(now, window)
        if frames:
            self._emit(frames, now)

    def _pack(self, now: float, window: int) -> list[Frame]:
        """Number records, frame by frame, until none waits or the window is full."""
        core, log, pending, room = self.core, self.core.log, self._pending, self.core.settings.frame_body_max
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

    def on_ack(self, envelope: Envelope, ack: Ack, now: float) -> None:
        """A replica says what it holds."""
        core = self.core
        if not core.leads_epoch or (ack.epoch != core.promised and core.rules.ack_of_own_epoch):
            core.counts["ack of another epoch"] += 1
            return
        if ack.round > self._round and core.rules.ack_of_begun_round:
            core.counts["ack of a round never begun"] += 1
            return
        progress = self.progress.get(envelope.sender)
        if progress is None or progress.storage_id != ack.storage_id:
            # acknowledgements of a lost disk do not count for the disk that replaces it
            progress = self.progress[envelope.sender] = Progress(ack.storage_id)
        progress.counted = core.is_voter(envelope.sender, ack.storage_id)
        progress.heard = now
        progress.stamp = ack.stamp
        progress.window = ack.window
        if ack.round > progress.round:
            progress.round = ack.round
            self.seeking.on_answer(envelope.sender, now)
        if not progress.counted:
            self.membership.on_ack(envelope.sender, ack)
        if ack.seq > progress.seq:
            if core.log.chain_at(ack.seq) == ack.chain or not core.rules.ack_chain_checked:
                progress.seq = min(ack.seq, core.log.last_seq)
                if progress.counted:
                    core.heard[envelope.sender] = core.promised, progress.seq, ack.storage_id
            elif ack.seq >= core.log.low_water - 1:  # an older one can't be judged; more will be acknowledged
                core.counts["ack of another chain"] += 1

    def finish_burst(self, now: float) -> None:
        """After a burst of acknowledgements: confirm rounds, commit, open the window, tell."""
        core = self.core
        if not core.leads_epoch:
            return
        if self._rounds or core.commit_seq < core.log.last_seq:
            self._count(now)
            if core.commit_seq == core.log.last_seq and self._may_skip_beat():
                self._skip_beat()
        if self._pending or self.membership.applicants:
            self.number(now)
        if self.reads.waiting:
            self._serve_reads(now)
        if core.commit_seq > self._announced[0] and self._tell_due == float("inf"):
            self._tell_due = now if now < self._elsewhere_until else now + HEARTBEAT_MIN_S
        if now >= self._tell_due or self._announced[1] < self.reads.proving <= self._confirmed:
            self._tell(now)
        if self._successor is not None:
            self._hand_over(now)

    def _count(self, now: float) -> None:
        """Confirm the rounds that a majority has answered; commit what a majority holds."""
        core = self.core
        voters, progress = core.voters(), self.progress.items()
        mine = core.me in voters
        if self._rounds:
            rounds = [one.round for node, one in progress if one.counted and node in voters]
            self._confirm(reached([*rounds, self._round] if mine else rounds, len(voters)), now)
        seqs = [one.seq for node, one in progress if one.counted and node in voters]
        held = reached([*seqs, core.persisted_seq] if mine else seqs, len(voters))
        while self._in_flight and self._in_flight[0][0] <= held:
            self._in_flight_bytes -= self._in_flight.popleft()[1]
        if held > core.commit_seq and (held >= self._start_seq or not core.rules.commit_own_epoch_only):
            core.advance_commit(held)
            if core.role is Role.SEQUENCER_ELECT and core.commit_seq >= self._start_seq:
                core.become_sequencer(Input.STARTED)
                core.notices.append(SequencerReady(core.promised))

    def _confirm(self, confirmed: int, now: float) -> None:
        """A majority has answered all rounds up to this one."""
        if confirmed <= self._confirmed:
            return
        self._confirmed = confirmed
        self._confirmed_at = self.core.in_touch = now
        while self._rounds and self._rounds[0][0] <= confirmed:
            _, began, commit = self._rounds.popleft()
            if commit >= self._start_seq or not self.core.rules.staleness_proven:
                self.core.proofs.add(commit, int(began * 1e9))

    def tick(self, now: float) -> None:
        """Heartbeats; and the end of an epoch that no majority confirms."""
        core = self.core
        if core.leads_epoch and now >= self._confirmed_at + core.settings.election_timeout_s[1]:
            core.counts["quorum lost"] += 1
            self.stop(now)
            core.become_follower(Input.RETREAT)
        self._hand_over(now)
        if now >= self._beat_due and self._may_skip_beat():
            self._skip_beat()
        if now >= self._beat_due or (core.leads_epoch and self._awaits_proof and now >= self._last_beat + READ_RETRY_S):
            self.send_heartbeat(now)
        elif core.leads_epoch and now >= self._tell_due:
            self._tell(now)

    def deadline(self) -> float:
        """When `tick` has work next."""
        if not self.core.leads_epoch:
            return self._beat_due
        due = min(self._beat_due, self._tell_due, self._confirmed_at + self.core.settings.election_timeout_s[1])
        if self._awaits_proof:
            due = min(due, self._last_beat + READ_RETRY_S)
        return due if self._successor is None else min(due, self._hand_due(*self._successor))

    def on_read(self, requester: int, nonce: int) -> None:
        """A node, perhaps this one, wants a read index; `finish_burst` begins the round."""
        if self.core.leads_epoch:
            self.reads.on_read(requester, nonce)

    def hand_over(self, to: int, now: float) -> str | None:
        """Begin to hand the role to a voter; what stands in the way, or None."""
        core = self.core
        if core.role is not Role.SEQUENCER:
            return "this node is not the sequencer"
        if self._successor is not None:
            return "a handover is under way"
        progress = self.progress.get(to)
        if to == core.me or progress is None or not progress.counted:
            return "the successor must be another member that acknowledges"
        if progress.heard < self._alive_since(now):
            return "the successor was not heard lately"
        self._successor = (to, now + HANDOVER_S)
        self._hand_over(now)
        return None

    def successor(self, now: float) -> int | None:
        """The other voter best placed to take over: heard lately, its log the furthest."""
        core = self.core
        voters = core.voters()
        fit = [
            (progress.seq, node)
            for node, progress in self.progress.items()
            if progress.counted and node in voters and node != core.me and progress.heard >= self._alive_since(now)
        ]
        return max(fit)[1] if fit else None

    def _alive_since(self, now: float) -> float:
        """The time since when every living replica has acknowledged."""
        return now - 3 * self.core.settings.heartbeat_max_s

    def send_heartbeat(self, now: float) -> None:
        """One heartbeat; it opens a round."""
        core = self.core
        self._round += 1
        self._rounds.append((self._round, now, core.commit_seq))
        self._note_announced(core.commit_seq, self._confirmed)
        beat = Heartbeat(
            epoch=self._epoch, cluster_uuid=core.cluster_uuid,
            high=core.log.last_seq, high_chain=core.log.last_chain,
            commit=core.commit_seq, commit_chain=core.log.chain_at(core.commit_seq) or bytes(16),
            round=self._round, confirmed=self._confirmed,
            stream_base=self._stream_base, stream_sent=self.stream_sent,
            history=self._newest,
            peers=self._next_peer_states(),
        )  # fmt: skip
        core.multicast(beat)
        self.seeking.tell(beat, now)
        self._last_beat = now
        self._put_off_beat(now)

    def _put_off_beat(self, now: float) -> None:
        self._beat_due = now + min(self._beat_interval, self.core.settings.heartbeat_max_s)
        self._beat_interval *= 2

    def _skip_beat(self) -> None:
        """Wait for the next one after data. Known as soon as all have acknowledged: a timer less for each command."""
        self._beat_due += self._beat_interval
        self._beat_interval *= 2

    def _may_skip_beat(self) -> bool:
        """Whether this is the first after data, and every replica heard of has the log's end: no tail is lost."""
        return (
            self._beat_interval == HEARTBEAT_MIN_S
            and self._beat_due + HEARTBEAT_MIN_S <= self._last_beat + self.core.settings.heartbeat_max_s
            and all(progress.seq == self.core.log.last_seq for progress in self.progress.values())
        )

    @property
    def _awaits_proof(self) -> bool:
        """Whether reads wait for a round that is out; it is begun again after a while: an answer may have been lost."""
        return self._confirmed < self.reads.proving

    def _hand_due(self, to: int, until: float) -> float:
        """When the successor is to be appointed again, or given up; until it holds the whole log its acks decide."""
        progress = self.progress.get(to)
        if progress is None or progress.seq != self.core.log.last_seq:
            return until
        return min(until, self._last_hand + READ_RETRY_S)

    def _serve_reads(self, now: float) -> None:
        core = self.core
        if self.reads.may_begin(self._confirmed, core.commit_seq >= self._start_seq):
            self.send_heartbeat(now)
            for requester, index in self.reads.begin_round(self._round):
                if requester == core.me:
                    self.on_own_index(index, now)
                else:
                    core.send(requester, index)

    def _config_due(self) -> Configuration | None:
        """The configuration that an applicant waits for, unless it would stand inside a command."""
        if self._pending and is_continued(self._pending[0]):
            return None
        return self.membership.next_config(self._start_seq)

    def _number_internal(self, kind: RecordKind, payload: Configuration | EpochStart, now: float) -> Frame:
        """Number an event of the fabric's own, alone in its frame."""
        record = encode_record(kind, 1, 0, 0, 0, encode_message(payload))
        core, log = self.core, self.core.log
        time = self._time.read(now)
        frame = make_frame(core.promised, log.last_seq + 1, 1, core.commit_seq, time, log.last_chain, record)
        log.append(frame)
        core.note_internal(frame)
        return frame

    def _hand_over(self, now: float) -> None:
        """Appoint the successor as soon as it holds the whole log; nothing is numbered meanwhile."""
        if self._successor is None:
            return
        to, until = self._successor
        progress = self.progress.get(to)
        if now >= until or progress is None or not progress.counted:
            self._successor = None
            self.number(now)
        elif progress.seq == self.core.log.last_seq and now >= self._last_hand + READ_RETRY_S:
            self._last_hand = now
            self.core.send(to, Handover(self.core.promised))

    def _next_peer_states(self) -> tuple[PeerState, ...]:
        """As many replicas' progress as fit one datagram; where they don't all, each heartbeat tells the next ones."""
        nodes = sorted(self.progress)
        room = max((self.core.settings.frame_body_max - _BEAT_BYTES) // _PEER_BYTES, 1)
        if len(nodes) > room:
            start = self._round * room % len(nodes)
            nodes = (nodes + nodes)[start : start + room]
        return tuple(PeerState(node, self.progress[node].seq, self.progress[node].stamp) for node in nodes)

    def _resume(self, now: float) -> None:
        core = self.core
        self._in_flight.clear()
        self._in_flight_bytes = 0
        self.membership.reset()
        self.seeking.begin(now)
        self._stream_base = self.stream_sent
        self._confirmed = self._round = 0
        self._confirmed_at = now
        self._rounds.clear()
        self._time.begin(now)
        core.notices.append(EpochChanged(core.promised, core.me))
        self._quicken(now)

    def _emit(self, frames: list[Frame], now: float) -> None:
        core = self.core
        burst = tuple(frames)
        core.effects.append(Stream(burst))
        core.effects.append(Append(core.ticket(self._persisted_callback(frames[-1]), of_append=True), burst))
        self.stream_sent += len(frames)
        self._note_announced(frames[-1].commit, self._announced[1])
        if not core.rules.apply_only_committed:
            core.apply(core.log.last_seq)
        self._quicken(now)

    def _persisted_callback(self, last: Frame) -> Callable[[float], None]:
        def on_persisted(now: float) -> None:  # whoever completes a ticket runs `finish_burst` then
            self.core.persist(last.last, last.chain)

        return on_persisted

    def _quicken(self, now: float) -> None:
        """Data was sent. Its loss must show soon, so heartbeats start again from the shortest interval."""
        self._beat_interval = HEARTBEAT_MIN_S
        self._beat_due = min(now + HEARTBEAT_MIN_S, max(self._last_beat, now) + self.core.settings.heartbeat_max_s)
        if now - self._last_beat >= self.core.settings.heartbeat_max_s:
            self._beat_due = now

    def _tell(self, now: float) -> None:
        core = self.core
        self._tell_due = float("inf")
        chain = core.log.chain_at(core.commit_seq)
        if chain is not None:
            commit = Commit(core.promised, core.commit_seq, chain, self._confirmed)
            core.multicast(commit)
            self.seeking.tell(commit, now)
            self._note_announced(core.commit_seq, self._confirmed)

    def _note_announced(self, commit: int, confirmed: int) -> None:
        self._announced = (commit, confirmed)
        self._tell_due = float("inf")

    def _window(self) -> int:
        windows = [progress.window for progress in self.progress.values() if progress.counted and progress.window]
        return max(min([WINDOW_BYTES, *windows]), WINDOW_BYTES_MIN)


def is_continued(record: bytes) -> bool:
    """Whether an encoded record is a fragment that others of the same command precede."""
    index = record[RECORD_HEADER_BYTES : RECORD_HEADER_BYTES + 4]
    return record[0] == RecordKind.FRAGMENT and any(index)
