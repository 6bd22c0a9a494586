"""Following the stream: frames in, a contiguous log, acknowledgements out.

A frame joins the log when the current epoch's history assigns its whole range to the epoch that numbered it, and its
chain follows from the log's own end: then it is intact, and the log equals the sequencer's up to here. What arrives
early waits in the reorder buffer; what is missing is the business of `Asking`.

Before anything is acknowledged in a new epoch the log is reconciled: cut back to the last event that it shares with the
new sequencer's history. A cut at or below commit would mean that a committed event is gone, and halts the node.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final

from mcast.protocol.backfill import Backfill
from mcast.protocol.belief import Beliefs
from mcast.protocol.core import Core
from mcast.protocol.effects import Append, EpochChanged, Truncate, Truncated
from mcast.protocol.endings import Endings
from mcast.protocol.history import History
from mcast.protocol.reading import Reading
from mcast.protocol.repair.books import Books
from mcast.protocol.repair.gaps import Gaps
from mcast.protocol.repair.ledger import Ledger
from mcast.protocol.repair.losses import Fate
from mcast.protocol.repair.nak_sender import Asking
from mcast.protocol.repair.reorder_buffer import Reorder
from mcast.protocol.runs import chained, continuous
from mcast.protocol.staleness import Staleness
from mcast.protocol.states import ELECTING, Input, Role
from mcast.protocol.ways import MULTICAST, TCP, UNICAST, Hearing
from mcast.wire.envelope import UNICAST as _UNICAST
from mcast.wire.envelope import Envelope
from mcast.wire.epochs import Epochs
from mcast.wire.frame import Frame, FrameRun, follows
from mcast.wire.messages import Ack, Commit, EpochEntry, Heartbeat, Kind, News

_DATA: Final = int(Kind.DATA)  # a member of an enum is slow to look up
RUN_FRAMES_MAX: Final = 64  # taken at once; some that can't be are tried again one frame later


class Following:
    """The receiving half of a replica. `on_confirmed` runs when a heartbeat proves a majority hears the sequencer.

    `on_rival` runs when another node speaks as the sequencer of the epoch that this one leads.
    """

    def __init__(
        self, core: Core, ledger: Ledger, on_confirmed: Callable[[float], None], on_rival: Callable[[int, float], None]
    ) -> None:
        self.core = core
        self.ledger = ledger
        self.gaps = Gaps(core.log.last_seq, core.random.uniform)
        self._books = Books(core, ledger, self.gaps)
        self.reorder = Reorder(frames_max=core.settings.reorder_frames_max)
        self.hearing = Hearing(core)
        self.asking = Asking(core, self.gaps, self.reorder, self.hearing)
        self.backfill = Backfill(core, self.asking.peers)
        self.staleness = Staleness(core.rules.staleness_proven, core.proofs)
        self.reading = Reading(core)
        self.history: History | None = None
        """Which epoch numbered what, as the promised epoch's sequencer tells; None before its first heartbeat."""
        self._on_confirmed = on_confirmed
        self._on_rival = on_rival
        self.beliefs = Beliefs(core.settings.heartbeat_max_s, doubting=core.rules.lone_word_doubted)
        self._endings = Endings(core)
        self._claim: tuple[int, bytes] = (0, b"")
        """A commit beyond the log's end, and the chain that must stand there for it to be believed."""
        self._appended: list[Frame] = []
        """Frames that joined the log in this burst, to be journalled at its end."""

    def on_new_epoch(self) -> None:
        """A higher epoch was promised: forget what belongs to the last one, for nothing is known of the new one yet."""
        self.history = None
        self.beliefs.reset()
        self._claim = (0, b"")
        self.asking.peers.clear()
        self.staleness.reset()
        self.hearing.reset()
        self.reading.on_new_epoch()
        self.ledger.on_new_epoch(self.core.promised)

    def lead(self, history: History) -> None:
        """This node's own epoch begins: its own log is the epoch's history."""
        self.history = history
        self.beliefs.take_history(())
        self._rebase(self.core.log.last_seq, 0.0)
        self.ledger.on_epoch_entered(history.epoch)

    def on_heartbeat(self, envelope: Envelope, beat: Heartbeat, now: float) -> None:
        """Take a heartbeat of the epoch's sequencer."""
        core = self.core
        if beat.epoch != core.promised:
            core.counts["heartbeat of another epoch"] += 1
            return
        if beat.confirmed >= beat.round or beat.commit > beat.high:
            core.counts["impossible heartbeat"] += 1
            return
        if any(core.cluster_uuid) and not self._endings.belongs(envelope.sender, beat.cluster_uuid, now):
            core.counts["foreign cluster"] += 1
            return
        if core.leads_epoch:
            if envelope.sender != core.me:
                self._on_rival(envelope.sender, now)
            return
        if not self._tells_known_history(beat):
            return
        if core.sequencer != envelope.sender:
            self._adopt(envelope.sender)
            self.hearing.reset()
        self.hearing.on_heartbeat(TCP if core.relaying else UNICAST if envelope.channel == _UNICAST else MULTICAST, now)
        self.asking.peers.update({peer.node: peer.acked for peer in beat.peers})
        self.asking.peers[envelope.sender] = beat.high
        core.note_heard(envelope.sender, beat)
        if not core.reconciled:
            self._reconcile(now)
            if self.history is None:
                return
        self._believe(beat, now)
        self.staleness.on_heartbeat(beat, core.me)
        self.reading.on_round_confirmed(beat.confirmed, now)
        sent = (beat.stream_base, beat.stream_sent, beat.high)
        self.hearing.on_announced(beat.stream_sent)
        self.ledger.on_heartbeat(beat.epoch, envelope.incarnation, *sent, core.log.last_seq)
        if core.reconciled:
            self._books.tell_gap(self.gaps.expect(beat.high, now))
            self.asking.judge(now)
        self._adopt_commit(beat.commit, beat.commit_chain)
        self.acknowledge(now)

    def on_commit(self, envelope: Envelope, message: Commit, now: float) -> None:
        """Commit, or the confirmed round, moved on without data."""
        if message.epoch == self.core.promised and envelope.sender == self.core.sequencer:
            confirmed = min(message.confirmed, self.beliefs.round)  # a round not heard of is not confirmed here
            self.staleness.on_round_confirmed(confirmed)
            self._adopt_commit(message.commit, message.commit_chain)
            self.reading.on_round_confirmed(confirmed, now)

    def on_news(self, envelope: Envelope, news: News, now: float) -> None:
        """Take a commit that any node knows, not only the sequencer: what is committed stays committed."""
        core = self.core
        if news.cluster_uuid == core.cluster_uuid and any(core.cluster_uuid):
            core.note_commit(news.commit, now)
            self._adopt_commit(news.commit, news.commit_chain)

    @property
    def high_seq(self) -> int:
        """The highest event heard of: in this epoch's frames and heartbeats, whether they can be judged yet or not."""
        return max(self.gaps.frontier, self.beliefs.high)

    @property
    def wanted_history(self) -> EpochEntry | None:
        """The epoch whose predecessors must be fetched before this log can be reconciled."""
        core = self.core
        if core.reconciled or core.leads_epoch or self.history is None or core.role is Role.HALTED:
            return None
        return self.backfill.oldest

    def on_history_page(self, before: EpochEntry, page: Epochs, now: float) -> None:
        """The epochs that precede `before` came over TCP."""
        if self.wanted_history is not None and self.backfill.take(before, page, now):
            self._reconcile(now)

    def on_data(self, envelope: Envelope, arrived: Frame | FrameRun, now: float) -> None:
        """One DATA datagram, or a run of them; what of it just goes on from the log's end is taken at once."""
        self.hearing.on_data()
        if isinstance(arrived, Frame):
            self.on_frame(envelope, arrived, now)
            return
        at, is_its = 0, self._is_of_sequencer(envelope)
        while at < len(arrived):
            taken = self._take(arrived[at : at + RUN_FRAMES_MAX], envelope.counter + at, now) if is_its else 0
            if not taken:
                self.on_frame(envelope._replace(counter=envelope.counter + at), arrived[at], now)
            at += taken or 1

    def on_frame(self, envelope: Envelope, frame: Frame, now: float) -> None:
        """One DATA or REPAIR datagram."""
        core = self.core
        original = envelope.kind == _DATA
        if original and frame.epoch != core.promised:
            core.counts["data of another epoch"] += 1  # only a repair brings what an older epoch numbered
            return
        if original and not self._is_of_sequencer(envelope):
            core.counts["data of another sequencer"] += 1
            return
        last = frame.first + frame.count - 1
        is_held = last <= core.log.last_seq or (
            frame.first > core.log.last_seq and not self.gaps.lacks(frame.first, frame.first)
        )
        if original:
            fate = self.ledger.on_data(frame, envelope.incarnation, envelope.counter, core.log.last_seq)
            if fate is Fate.DUPLICATE and is_held:
                return
            if fate is Fate.DUPLICATE:
                self.ledger.on_original_after_all(frame)
        if not core.reconciled:
            self._books.on_refused(envelope, frame, "unreconciled")
            return
        if is_held:
            self._books.on_surplus(envelope, frame)
            return
        if not self._is_lawful(frame):
            self._books.on_refused(envelope, frame, "unassigned frame")
            return
        if frame.first == core.log.last_seq + 1:
            if core.rules.log_matching and not follows(frame, core.log.last_chain):
                self._books.on_refused(envelope, frame, "chain")
                return
            self._drop_overlapping(frame.first, last, now)
            self._books.on_arrival(envelope, frame, last, now)
            self._accept(frame)
            if len(self.reorder):
                self._drain(now)
        elif frame.first > core.log.last_seq and self.gaps.lacks(frame.first, last) and self.reorder.offer([frame]):
            self._books.on_arrival(envelope, frame, last, now)
        else:
            self._books.on_refused(envelope, frame, "no room beyond a gap")

    def on_transfer(self, frames: Sequence[Frame], peer: int, now: float) -> None:
        """Frames that came over TCP, in order."""
        core = self.core
        for frame in frames:
            if frame.first != core.log.last_seq + 1:
                continue
            if not self._is_lawful(frame) or (core.rules.log_matching and not follows(frame, core.log.last_chain)):
                core.counts["transfer refused"] += 1
                break
            held = self.reorder.pop(frame.first)
            if held is not None and held.chain != frame.chain:  # of another log: the events it covers are missing
                self.ledger.note_disproved(held)
                self._books.tell_gap(self.gaps.reopen(held.first, held.last, now))
                held = None
            if held is None:
                self._drop_overlapping(frame.first, frame.last, now)
                self.ledger.on_transfer(frame)
                self._books.on_filled(frame.first, frame.last, peer, now)
            self._accept(frame)
        self._drain(now)
        self.flush(now)
        self.asking.judge(now)

    def rank(self) -> int:
        """How many other voters' logs are ahead of this one, ties by their order in the configuration."""
        core = self.core
        order = {node: index for index, node in enumerate(core.voters())}
        peers = self.asking.peers  # as the sequencer told all alike: by its own count each would rank first
        own = (-peers.get(core.me, 0), order.get(core.me, len(order)))
        ahead = [
            node for node in order if node not in (core.me, core.sequencer) and (-peers.get(node, 0), order[node]) < own
        ]
        return len(ahead)

    def flush(self, now: float) -> None:
        """After a burst: journal what joined the log, adopt the commits it proves."""
        core = self.core
        appended, self._appended = self._appended, []
        if appended:
            last = appended[-1]
            core.dated_at = now
            core.effects.append(
                Append(core.ticket(lambda then: self._on_persisted(last, then), of_append=True), tuple(appended))
            )
            core.advance_commit(appended[-1].commit)
            if not core.rules.apply_only_committed:
                core.apply(core.log.last_seq)
            self._adopt_commit(*self._claim)
            self.gaps.on_progress(core.log.last_seq)
        self.gaps.declare(now)

    def acknowledge(self, now: float) -> None:
        """Tell the sequencer what is persisted here, and that its newest round was heard."""
        core = self.core
        if core.sequencer in (None, core.me) or core.role is Role.HALTED:
            return
        if (not core.reconciled and core.rules.reconcile_before_ack) or core.suspect:
            return
        assert core.sequencer is not None
        stamp = int(now * 1e9)
        self.staleness.note_stamp(stamp)
        persisted, window = (core.persisted_seq, core.persisted_chain), core.settings.receive_window
        ack = Ack(core.promised, core.meta.storage_id, *persisted, self.beliefs.round, stamp, window)
        core.acknowledged = core.promised, core.persisted_seq
        core.send(core.sequencer, ack)

    def _is_of_sequencer(self, envelope: Envelope) -> bool:
        """Whether the sender is the sequencer, or nobody is known to be."""
        return self.core.sequencer in (None, envelope.sender)

    def _tells_known_history(self, beat: Heartbeat) -> bool:
        """Whether a heartbeat tells this epoch's history as it is known here; the first one does, whatever it tells."""
        core, history = self.core, self.history
        if history is not None and history.epoch == beat.epoch:
            if self.beliefs.tells_history(beat):
                return True
            core.counts["heartbeat of another history"] += 1
            if not self.beliefs.is_disputed:
                return False
            core.become_follower(None, core.sequencer, reconciled=False)
        newest = Epochs(beat.history)
        if not newest.is_rising:
            core.counts["heartbeat without a history"] += 1
            return False
        self.beliefs.take_history(beat.history)
        self.backfill.begin(newest)
        self.history = History(beat.epoch, newest)
        return True

    def _believe(self, beat: Heartbeat, now: float) -> None:
        """A newly confirmed round proves a living sequencer; numbers that it no longer reports are taken back."""
        core = self.core
        known = max(self.high_seq, core.known_commit), self.ledger.highest(beat.epoch)
        is_alive, is_newer, too_high, too_many = self.beliefs.hear(beat, *known, now)
        if is_newer:
            core.in_touch = now
        if is_alive:
            self._on_confirmed(now)
        if too_high or too_many:
            self.ledger.lower(beat.epoch, beat.stream_sent, beat.high)
        if too_high:
            self._lower(max(beat.high, core.log.last_seq), now)

    def _lower(self, high: int, now: float) -> None:
        """The sequencer knows of no event beyond `high`: forget the higher ones that others reported."""
        core = self.core
        core.counts["high water taken back"] += 1
        core.known_commit = min(core.known_commit, high)
        for frame in self.reorder.drop_unless(lambda frame: frame.last <= high):
            self.ledger.note_disproved(frame)
            if frame.first <= high:
                self._books.tell_gap(self.gaps.reopen(frame.first, high, now))
        self.gaps.lower(high)
        self.asking.lower(high)

    def _adopt(self, sequencer: int) -> None:
        core = self.core
        if core.role in ELECTING:
            core.become_follower(Input.RETREAT, sequencer)
        else:
            core.become_follower(Input.JOIN if core.role is Role.BOOTSTRAP else None, sequencer)
        core.notices.append(EpochChanged(core.promised, sequencer))

    def _reconcile(self, now: float) -> None:
        """Cut the log back to what it shares with the epoch's history, as soon as that is known far enough back."""
        core, history = self.core, self.history
        assert history is not None
        if not self.backfill.suffices():
            self.backfill.request_page(now)
            return
        history = self.history = History(history.epoch, self.backfill.epochs)
        point = history.common_point(core.log.epochs, core.log.last_seq)
        assert point is not None
        if point < core.log.last_seq:
            if point < core.commit_seq:
                reason = f"epoch {core.promised} would cut committed event {core.commit_seq} back to {point}"
                self._endings.end((core.sequencer, core.promised, point), reason, now)
                self.history = None
                return
            for frame in core.log.frames_between(point + 1, core.log.last_seq, core.log.last_seq):
                self.ledger.note_unkept(frame)
            core.log.truncate(point)
            core.forget_configs(point)
            core.void_appends()
            core.cut_persisted()
            core.effects.append(Truncate(core.ticket(lambda _: None), point))
            core.notices.append(Truncated(point))
        core.become_follower(None, core.sequencer, reconciled=True)
        self._rebase(point, now)

    def _rebase(self, last: int, now: float) -> None:
        """Begin anew behind event `last`: keep of the early frames what this epoch's history assigns."""
        self.asking.stop()
        for frame in self.reorder.drop_unless(self._is_lawful):
            self.ledger.note_unkept(frame)
        self.reorder.drop_unless(lambda frame: frame.first > last)
        self.gaps.restart(last)
        for first, end in self.reorder.ends():
            self._books.tell_gap(self.gaps.on_early_frame(first, end, now))

    def _is_lawful(self, frame: Frame) -> bool:
        if not self.core.rules.assigned_frames_only:
            return self.core.reconciled
        return self.core.reconciled and self.history is not None and self.history.assigns(frame)

    def _accept(self, frame: Frame) -> None:
        core = self.core
        if frame.epoch != core.log.last_epoch:
            self.ledger.on_epoch_entered(frame.epoch)
        core.log.append(frame)
        core.note_internal(frame)
        self._appended.append(frame)

    def _drop_overlapping(self, first: int, last: int, now: float) -> None:
        """The chain proves what events `first` to `last` are: drop held frames that overlap them, as not this log's."""
        if self.gaps.lacks(first, last):
            return
        for frame in self.reorder.drop_unless(lambda frame: frame.first > last):
            self.ledger.note_disproved(frame)
            if frame.last > last:
                self._books.tell_gap(self.gaps.reopen(last + 1, frame.last, now))

    def _drain(self, now: float) -> None:
        """Take from the reorder buffer what now follows."""
        core = self.core
        while (frame := self.reorder.pop(core.log.last_seq + 1)) is not None:
            if core.rules.log_matching and not follows(frame, core.log.last_chain):
                core.counts["chain"] += 1
                self.ledger.note_disproved(frame)
                self._books.tell_gap(self.gaps.reopen(frame.first, frame.last, now))
                return
            self._accept(frame)

    def _take(self, run: FrameRun, counter: int, now: float) -> int:
        """Take frames, from the first on, as long as they need none of `on_frame`'s special cases; returns how many.

        Nothing is there of what they bring: all of it is missing, in one gap, or lies just beyond the highest event
        known. At the log's end they join it, behind a gap they wait.
        """
        core, log, gaps, epoch, first = self.core, self.core.log, self.gaps, run[0].epoch, run[0].first
        room = gaps.room(first)
        if not room or epoch != core.promised or not core.rules.log_matching or not self._is_lawful(run[0]):
            return 0
        run = run[: self.ledger.alike_count(epoch, counter, len(run))]
        joins = first == log.last_seq + 1
        if joins:
            run = chained(run, epoch, first + room, log.last_chain) if epoch == log.last_epoch else []
        else:
            run = continuous(run, epoch, first + room)
            if run and not self.reorder.offer(run):
                return 0
        if not run:
            return 0
        last = run[-1].first + run[-1].count - 1
        self.ledger.on_stream(epoch, counter, len(run))
        if first > gaps.frontier:
            gaps.on_stream(last, len(run))
        else:
            self._books.on_filled(first, last, 0, now)
        if joins:
            log.extend(run)
            self._appended += run
            if len(self.reorder):
                self._drain(now)
        return len(run)

    def _adopt_commit(self, commit: int, chain: bytes) -> None:
        core = self.core
        if commit <= core.commit_seq:
            return
        if not core.rules.commit_proven:
            core.advance_commit(min(commit, core.log.last_seq))
        elif commit > core.log.last_seq:
            self._claim = (commit, chain)
        elif core.log.chain_at(commit) == chain:
            core.advance_commit(commit)
        else:
            core.counts["unproven commit"] += 1

    def _on_persisted(self, last: Frame, now: float) -> None:
        self.core.persist(last.last, last.chain)
        self.acknowledge(now)
