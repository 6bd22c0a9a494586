"""One replica: the protocol's parts wired together, behind a handful of verbs.

    receive(arrivals, now)   on_transfer(frames, peer, now)   submit(groups, now)   complete(ticket, now)   tick(now)
                                               |
                                 take_effects()   take_notices()   next_deadline()

Sans-I/O: time comes in as an argument (seconds of any monotonic clock), randomness as an object, and what is to be
done goes out as effects, to be carried out in order. One burst is received at a time, so that journaling,
acknowledging and committing cost once per burst.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, Final

from mcast.protocol.arrivals import Arrival
from mcast.protocol.bootstrap import Bootstrap
from mcast.protocol.caution import Caution
from mcast.protocol.climb import spent
from mcast.protocol.core import Core, Settings
from mcast.protocol.doubt import step_aside
from mcast.protocol.effects import Effect, Notice
from mcast.protocol.election import Election
from mcast.protocol.fencing import Fencing
from mcast.protocol.following import Following
from mcast.protocol.handover import NOT_THE_SEQUENCER
from mcast.protocol.log_recovery import LogRecovery
from mcast.protocol.logtime import LogTime
from mcast.protocol.paths import Paths
from mcast.protocol.reading import answer_log_position
from mcast.protocol.recovered import Recovered
from mcast.protocol.repair.ledger import Ledger, LedgerReport
from mcast.protocol.repair.retransmitter import Repairing
from mcast.protocol.sequencing import Acknowledgements, Sequencing, epochs_with_own
from mcast.protocol.states import Input, Role
from mcast.protocol.statistics import Statistics
from mcast.protocol.touch import Touch
from mcast.protocol.ways import MULTICAST, TCP, UNICAST, Reception, forget_relayed, note_relayed
from mcast.wire.envelope import Envelope
from mcast.wire.epochs import Epochs
from mcast.wire.frame import Frame
from mcast.wire.messages import (
    EpochEntry,
    Handover,
    Heard,
    Kind,
    News,
    Read,
    Standing,
)

if TYPE_CHECKING:
    import random as random_module

__all__ = ["Recovered", "Replica", "Settings"]

_STALE_PEERS_MAX: Final = 1_024


class Replica:
    """The protocol's whole surface; nothing else of the package need be called by an owner."""

    def __init__(self, settings: Settings, recovered: Recovered, random: random_module.Random, now: float) -> None:
        core = self._core = Core(settings, recovered, random)
        core.dated_at = now
        self._ledger = Ledger(settings.ledger_ranges_max)
        self._log_recovery = LogRecovery(core, now)
        self._caution = Caution(
            core, now, lambda: self.high_seq,
            lambda reported, now: step_aside(core, self._following.reading, self._election, reported, now),
        )  # fmt: skip
        self._election = Election(core, self._log_recovery, self._caution, now, self._on_promised, self._on_won)
        self._following = Following(core, self._ledger, self._election.on_round_confirmed, self._on_rival)
        self._log_time = LogTime(core)
        self._repairing = Repairing(core, now)
        self._bootstrap = Bootstrap(core, now, self._election.call)
        self._touch = Touch(core, now)
        self._paths = Paths(core)
        self._fencing = Fencing(core, self._election, now, self._on_promised)
        following, election, bootstrap = self._following, self._election, self._bootstrap
        self._handlers: dict[int, Callable[[Envelope, Any, float], None]] = {
            Kind.DATA: following.on_data,
            Kind.REPAIR: following.on_frame,
            Kind.HEARTBEAT: following.on_heartbeat,
            Kind.COMMIT: following.on_commit,
            Kind.ACK: Acknowledgements(core).on_ack,
            Kind.NAK: self._repairing.on_nak,
            Kind.BUSY: lambda envelope, busy, now: following.asking.on_busy(busy, now),
            Kind.GONE: lambda envelope, gone, now: following.asking.on_gone(gone, now),
            Kind.STALE: lambda envelope, stale, now: None,  # the envelope's promise has said it all
            Kind.PRE_VOTE_REQUEST: election.on_pre_vote_request,
            Kind.PRE_VOTE: election.on_pre_vote,
            Kind.VOTE_REQUEST: election.on_vote_request,
            Kind.VOTE: election.on_vote,
            Kind.FOUND: lambda envelope, found, now: bootstrap.on_found(envelope, found),
            Kind.VIRGIN: bootstrap.on_virgin,
            Kind.GENESIS: bootstrap.on_genesis_offer,
            Kind.CONFIRM: bootstrap.on_confirm,
            Kind.READ: self._on_read,
            Kind.READ_INDEX: following.reading.on_read_index,
            Kind.HANDOVER: self._on_handover,
            Kind.SURVEY: lambda envelope, question, now: answer_log_position(core, envelope, question),
            Kind.STANDING: self._on_standing,
            Kind.HEARD: self._on_heard,
            Kind.KNOCK: lambda envelope, knock, now: self._touch.on_knock(envelope, knock),
            Kind.NEWS: self._on_news,
            Kind.PATH_REQUEST: self._paths.on_path_request,
            Kind.PATH_PROBE: lambda envelope, probe, now: self._paths.on_path_probe(envelope, probe),
        }
        if problem := spent(core.promised):
            core.halt(problem)
        if not settings.rules.epoch_begins_with_vote and core.log.last_epoch == core.promised > 0:
            self._resume(now)

    def receive(self, arrivals: Sequence[Arrival], now: float, *, relayed: bool = False) -> None:
        """Take one burst of opened, authenticated datagrams, none of them this node's own. `relayed`: over TCP."""
        core, handlers = self._core, self._handlers
        if core.relayed:
            forget_relayed(core, now)
        if relayed:
            note_relayed(core, [envelope for envelope, _ in arrivals], now)
        core.relaying = relayed
        for envelope, message in arrivals:
            if core.role is Role.HALTED:
                return
            if envelope.promised != core.promised and not self._fencing.may_pass(envelope, message, now):
                continue
            handler = handlers.get(envelope.kind)
            if handler is None:
                core.counts["unexpected kind"] += 1
                continue
            handler(envelope, message, now)
        self._finish_burst(now)

    def on_transfer(self, frames: Sequence[Frame], peer: int, now: float) -> None:
        """Take frames that were fetched over TCP, in order; they are judged like any other."""
        if self._core.role is not Role.HALTED and not self._core.leads_epoch:
            self._following.on_transfer(frames, peer, now)
            self._finish_burst(now)

    def on_transfer_failed(self, peer: int, now: float) -> None:
        """A catch-up from this peer broke off."""
        self._core.counts["transfers failed"] += 1
        self._following.asking.on_transfer_failed(now)

    @property
    def wanted_history(self) -> EpochEntry | None:
        """The epoch whose predecessors are wanted, before frames can be judged; None when all that matters is known."""
        return self._following.wanted_history

    def history_page(self, entry: EpochEntry, most: int) -> Epochs | None:
        """The `most` epochs that precede this one in the own log, for another node; None unless it stands there."""
        return self._core.log.epochs.page_before(entry, most)

    def on_history_page(self, before: EpochEntry, page: Epochs, now: float) -> None:
        """Take a page of epochs that precede `before`; one that is not the page wanted now changes nothing."""
        self._following.on_history_page(before, page, now)
        self._finish_burst(now)

    def on_history_failed(self, now: float) -> None:
        """No node had the page that is wanted."""
        self._core.counts["histories not had"] += 1
        self._following.backfill.on_history_failed(now)

    def set_wall_offset(self, offset_ns: int) -> None:
        """The time of day is so far ahead of the protocol's clock from now on: somebody set the machine's clock."""
        self._core.wall_offset_ns = offset_ns

    def log_ahead_s(self, now: float) -> float:
        """How far the log's newest time is ahead of this node's clock; negative where it is behind, as an idle one."""
        return (self._core.log.last_time - self._core.wall_ns(now)) / 1e9

    def submit(self, groups: Sequence[tuple[bytes, ...]], now: float) -> bool:
        """Take encoded records to be numbered, each group contiguously. False: not the sequencer; nothing was taken."""
        sequencing = self._core.sequencing
        return sequencing is not None and sequencing.numbering.submit(groups, now)

    def hasten_commits(self, now: float) -> None:
        """What is submitted now came from another node: it is to hear of the commit at once."""
        if self._core.sequencing is not None:
            self._core.sequencing.rounds.hasten_commits(now)

    def ask_read(self, now: float) -> int | None:
        """Begin a linearizable read: ReadReady will name the token returned here. None: too many wait already."""
        token = self._following.reading.ask(now)
        self._finish_burst(now)
        return token

    def on_peer_died(self, node: int, now: float) -> None:
        """`node` is dead: its TCP connection closed, and a new one was refused or met another incarnation."""
        core = self._core
        if node == core.sequencer and not core.leads_epoch and core.role is not Role.HALTED:
            self._election.on_sequencer_died(self._following.rank(), now)

    def hand_over(self, to: int, now: float) -> str | None:
        """Give the sequencer's role to another member; None when that is under way, else what stands in the way."""
        sequencing = self._core.sequencing
        refusal = NOT_THE_SEQUENCER if sequencing is None else sequencing.handing_over.begin(to, now)
        self._finish_burst(now)
        return refusal

    def successor(self, now: float) -> int | None:
        """Whom this node, which leads, had best hand over to; None when no other voter was heard lately."""
        sequencing = self._core.sequencing
        return sequencing.handing_over.best(now) if sequencing is not None and self.is_sequencer else None

    def complete(self, ticket: int, now: float) -> None:
        """An effect with this ticket is durable."""
        if self._core.role is Role.HALTED:
            return
        self._core.complete(ticket, now)
        held = self._fencing.held
        if held and held[0][0].promised <= self._core.promised:
            self._fencing.held = []
            self.receive(held, now, relayed=any(envelope.sender in self._core.relayed for envelope, _ in held))
        else:
            self._finish_burst(now)

    def tick(self, now: float) -> None:
        """Do what is due."""
        if self._core.role is Role.HALTED:
            return
        if self._core.relayed:
            forget_relayed(self._core, now)
        self._bootstrap.tick(now)
        self._touch.tick(now)
        self._paths.tick(self._following.asking.stuck, now)
        self._log_recovery.tick(now)
        self._caution.tick(now)
        self._following.gaps.declare(now)
        self._following.reading.tick(now)
        if not self._core.leads_epoch:
            self._following.asking.tick(now)
        self._election.tick(now)
        if self._core.sequencing is not None:
            self._core.sequencing.tick(now)
        elif self._core.ghost is not None:
            self._core.ghost.tick(now)
        self._finish_burst(now)

    def next_deadline(self) -> float:
        """When `tick` wants to be called, at the latest; infinity when never."""
        core = self._core
        if core.role is Role.HALTED:
            return float("inf")
        due = min(
            self._election.deadline(), self._following.reading.deadline(), self._touch.deadline(),
            self._paths.deadline(), self._caution.deadline(),
        )  # fmt: skip
        if core.sequencing is not None:
            due = min(due, core.sequencing.deadline())
        else:
            due = min(due, self._following.asking.deadline(), core.ghost.deadline() if core.ghost else due)
        if core.suspect:
            due = min(due, self._log_recovery.deadline())
        return min(due, self._bootstrap.deadline()) if core.role is Role.BOOTSTRAP else due

    def take_effects(self) -> list[Effect]:
        """The effects gathered since the last call, to be carried out in order."""
        effects, self._core.effects = self._core.effects, []
        return effects

    def take_notices(self) -> list[Notice]:
        """The notices gathered since the last call."""
        notices, self._core.notices = self._core.notices, []
        return notices

    def note_injected(self, fate: str, incarnation: bytes, counter: int) -> None:
        """The faulty transport lost, duplicated, reordered or corrupted a first-sent DATA datagram."""
        self._ledger.note_injected(fate, incarnation, counter)

    @property
    def promised(self) -> int:
        """The newest epoch promised here, durably: the one this node follows or leads, once it knows a sequencer."""
        return self._core.promised

    @property
    def sequencer(self) -> int | None:
        """The node that numbers, as far as is known here."""
        return self._core.sequencer

    @property
    def votes(self) -> bool:
        """Whether the newest configuration in the log counts this node's vote."""
        return self._core.is_voter(self._core.me, self._core.meta.storage_id)

    @property
    def leads_epoch(self) -> bool:
        """Whether this node is the sequencer, or about to be."""
        return self._core.leads_epoch

    @property
    def is_sequencer(self) -> bool:
        """Whether this node numbers commands."""
        return self._core.role is Role.SEQUENCER

    @property
    def is_idle(self) -> bool:
        """Whether this node leads and what is submitted now need not wait for anything before it."""
        sequencing = self._core.sequencing
        return sequencing is not None and sequencing.numbering.is_idle

    @property
    def last_seq(self) -> int:
        """The log's end."""
        return self._core.log.last_seq

    @property
    def last_chain(self) -> bytes:
        """The chain at the log's end."""
        return self._core.log.last_chain

    def chain_at(self, seq: int) -> bytes | None:
        """The chain behind event `seq`, where that is the end of a frame that is still in memory."""
        return self._core.log.chain_at(seq)

    @property
    def commit_seq(self) -> int:
        """The highest event proven committed."""
        return self._core.commit_seq

    @property
    def high_seq(self) -> int:
        """The highest event known to exist."""
        core = self._core
        return max(core.log.last_seq, core.known_commit, 0 if core.leads_epoch else self._following.high_seq)

    def in_touch_s(self, now: float) -> float:
        """How long ago a round, a proof or a quorum's read last showed that this node is in touch with a majority."""
        return max(now - self._core.in_touch, 0.0)

    def is_isolated(self, now: float) -> bool:
        """Whether that is too long ago for anything but `any` queries."""
        return self._touch.is_isolated(now)

    def reception(self, now: float) -> Reception:
        """By which ways datagrams arrive here."""
        hearing = self._following.hearing
        multicast_s, unicast_s, tcp_s = (now - hearing.last(way) for way in (MULTICAST, UNICAST, TCP))
        stuck, carried = self._following.asking.stuck, self._paths.carried
        return Reception(multicast_s, unicast_s, tcp_s, hearing.unheard, tuple(self._core.relayed), stuck, carried)

    @property
    def backlog_bytes(self) -> int:
        """Bytes of records waiting to be numbered: gateways stop reading while it is large."""
        sequencing = self._core.sequencing
        return 0 if sequencing is None else sequencing.numbering.backlog_bytes

    @property
    def cluster_uuid(self) -> bytes:
        """The uuid of this log's GENESIS; zeros before there is one."""
        return self._core.cluster_uuid

    def staleness(self, now: float, applied_seq: int) -> float | None:
        """How old, in seconds, the state at `applied_seq` can be at most; None without a proof."""
        return self._core.proofs.age_s(now, applied_seq)

    def proof(self, now: float) -> tuple[int, float] | None:
        """The newest staleness proof: all committed up to its age in seconds ago is at or below its commit."""
        proofs = self._core.proofs
        return (proofs.commit, max(now - proofs.stamp / 1e9, 0.0)) if proofs.stamp else None

    def ledger_report(self) -> LedgerReport:
        """Every gap, and the reconciliation of what was lost."""
        return self._ledger.report(
            tuple((gap.first, gap.last) for gap in self._following.gaps if not self._core.leads_epoch)
        )

    def statistics(self) -> Statistics:
        """All counters at this moment."""
        core, following = self._core, self._following
        report = self._ledger.report(())
        return Statistics(
            role=core.role.value,
            votes=self.votes,
            suspect=core.suspect,
            doubted=core.doubted,
            config_number=core.config.number if core.config else 0,
            epoch=core.promised,
            last_seq=core.log.last_seq,
            commit_seq=core.commit_seq,
            persisted_seq=core.persisted_seq,
            high_seq=self.high_seq,
            gaps_open=0 if core.leads_epoch else len(following.gaps),
            catching_up=following.asking.catching_up,
            history_wanted=following.wanted_history,
            histories_failed=following.backfill.failures,
            naks_sent=following.asking.naks_sent,
            repairs_sent=self._repairing.repairs_sent,
            repairs_received=report.repaired,
            log_recovery_waits_for=self._log_recovery.waits_for,
            bootstrap_waits_for=self._bootstrap.waiting_for if core.role is Role.BOOTSTRAP else (),
            sought=core.sequencing.rounds.seeking.sought if core.sequencing is not None else (),
            counts=dict(core.counts),
        )

    def _on_promised(self, now: float) -> None:
        """A higher epoch has become this node's durable promise."""
        core = self._core
        own_call = core.role is Role.CANDIDATE and core.planned_meta.voted_for == core.me
        if core.role is Role.BOOTSTRAP or (own_call and core.planned_meta.voted_epoch == core.promised):
            core.become_candidate(None, reconciled=False)  # a founder goes on until it hears that somebody leads
        else:
            core.become_follower(Input.JOIN if core.role is Role.EMPTY else Input.RETREAT, reconciled=False)
        self._following.flush(now)
        self._following.on_new_epoch()
        self._election.restart_timeout(now)

    def _on_won(self, now: float) -> None:
        core = self._core
        sequencing = self._sequencing(epochs_with_own(core), now)
        core.become_sequencer(Input.VOTED, sequencing)
        self._following.lead(sequencing.begin(now))
        sequencing.finish_burst(now)

    def _sequencing(self, newest: tuple[EpochEntry, ...], now: float) -> Sequencing:
        return Sequencing(self._core, self._log_time, newest, self._following.reading.take_index, now)

    def _resume(self, now: float) -> None:
        core = self._core
        if core.log_sequencer == core.settings.node:
            for event in (Input.SILENCE, Input.PRE_VOTED):
                core.become_candidate(event)
            sequencing = self._sequencing(core.log.epochs.newest(core.settings.heartbeat_epochs), now)
            core.become_sequencer(Input.VOTED, sequencing)
            core.become_sequencer(Input.STARTED)
            self._following.lead(sequencing.resume())

    def _on_handover(self, envelope: Envelope, handover: Handover, now: float) -> None:
        if envelope.sender == self._core.sequencer and handover.epoch == self._core.promised:
            self._election.on_appointment(now)

    def _on_rival(self, rival: int, now: float) -> None:
        """Another node speaks as the sequencer of this one's epoch: one of the two is false, so the epoch is over.

        Nothing is numbered under it any more, here. A vote for the next one says whose log goes on; should both have
        numbered, the chains tell their events apart.
        """
        core = self._core
        core.counts["heartbeat of a rival"] += 1
        words = f"two sequencers lead epoch {core.promised}"
        if not core.rules.lone_word_halts_nobody:
            core.halt(words)
            return
        core.tell_contradiction(f"{words}: another one is {rival:016x}; this node stands for the next")
        core.become_follower(Input.RETREAT)
        self._election.on_appointment(now)

    def _on_read(self, envelope: Envelope, read: Read, now: float) -> None:
        """A node wants a read index; `_finish_burst` begins the round."""
        if self._core.sequencing is not None:
            self._core.sequencing.rounds.reads.on_read(envelope.sender, read.nonce)

    def _on_standing(self, envelope: Envelope, position: Standing, now: float) -> None:
        self._following.reading.on_standing(envelope, position, now)
        self._log_recovery.on_standing(envelope, position)
        self._caution.on_standing(envelope, position, now)

    def _on_heard(self, envelope: Envelope, message: Heard, now: float) -> None:
        core = self._core
        if core.sequencing is not None and message.epoch == core.promised and not core.relaying:
            core.sequencing.rounds.seeking.on_heard(envelope.sender, message, now)

    def _on_news(self, envelope: Envelope, news: News, now: float) -> None:
        if self._touch.answers(news) and not self._core.leads_epoch:
            self._following.on_news(envelope, news, now)

    def _finish_burst(self, now: float) -> None:
        """Once per burst: what single datagrams only gathered."""
        core, reading, sequencing = self._core, self._following.reading, self._core.sequencing
        if sequencing is not None:
            if reading.out and (nonce := reading.awaited_nonce) is not None:
                sequencing.rounds.reads.on_read(core.me, nonce)
            sequencing.finish_burst(now)
            if reading.out and core.commit_seq:
                reading.on_round_confirmed(sequencing.rounds.confirmed, now)
            self._repairing.note_streamed(core.stream_sent, now)
        else:
            self._following.flush(now)
            if core.suspect:
                self._log_recovery.review()
                reading.prove(now)
