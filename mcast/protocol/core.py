"""What the parts of the protocol share: the log, the durable promise, the role, and the way out.

Each part (bootstrap, election, sequencing, following, repairing) is a class that holds a `Core` and owns its own rules;
`replica` wires them together. Nothing here opens a socket, reads a clock or draws a random number of its own.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from mcast.errors import DecodeError
from mcast.limits import (
    CACHE_BYTES_MAX,
    CALLS_DATAGRAMS,
    CALLS_MULTICAST,
    DEEP_GAP_FRAMES,
    HEARTBEAT_HISTORY,
    LEARNED_S,
    LEDGER_RANGES_MAX,
    REORDER_FRAMES_MAX,
)
from mcast.protocol.configs import Configs
from mcast.protocol.effects import (
    Apply,
    Contradicted,
    Effect,
    EpochChanged,
    HaltRequired,
    LogDoubted,
    LogRecovered,
    MembersChanged,
    Meta,
    Multicast,
    NoteDoubt,
    Notice,
    Promise,
    Relay,
    Send,
    SteppedDown,
    WriteMeta,
)
from mcast.protocol.log import Log
from mcast.protocol.recovered import Recovered
from mcast.protocol.rules import Rules
from mcast.protocol.staleness import Proofs
from mcast.protocol.states import Input, Role, move
from mcast.wire.envelope import name_hash
from mcast.wire.frame import Frame
from mcast.wire.messages import (
    Configuration,
    EpochStart,
    Heartbeat,
    Message,
    decode_config_untrusted,
    decode_epoch_start_untrusted,
    decode_genesis_untrusted,
    decode_recovery_untrusted,
)
from mcast.wire.records import RecordKind, decode_records_untrusted

if TYPE_CHECKING:
    import random as random_module

    from mcast.protocol.rounds import Rounds
    from mcast.protocol.sequencing import Sequencing


WALL_MAX_NS: Final = 2**62  # of 2**63 that a frame holds
FABRICS_OWN: Final = int(RecordKind.GENESIS)  # the kinds from here on; a member of an enum is slow to look up


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """One node's part in its cluster. Times in seconds, sizes in bytes."""

    node: str
    cluster: str
    members: tuple[tuple[str, str], ...]
    """(id, address) of the configured members, in file order: the first one founds."""
    address: str
    is_member: bool
    frame_body_max: int
    receive_window: int
    """What this node's receive buffer takes in one go."""
    wall_offset_ns: int
    """Added to the protocol's clock, gives the time of day, to begin with; see `Replica.set_wall_offset`."""
    heartbeat_max_s: float
    election_timeout_s: tuple[float, float]
    observers: tuple[int, ...] = ()
    """Hashes of the configured nodes that are no members: the sequencer looks for them, too."""
    cache_bytes_max: int = CACHE_BYTES_MAX
    """Frames kept in memory for repairs."""
    deep_gap_frames: int = DEEP_GAP_FRAMES
    """Behind by more than so many datagrams, a replica fetches over TCP."""
    reorder_frames_max: int = REORDER_FRAMES_MAX
    """Kept while what precedes them is missing."""
    heartbeat_epochs: int = HEARTBEAT_HISTORY
    """The newest epochs that each heartbeat tells."""
    ledger_ranges_max: int = LEDGER_RANGES_MAX
    """Ranges of each kind that the ledger remembers of an epoch."""
    rules: Rules = field(default_factory=Rules)


class Core:
    """The replica's shared state. Nodes are told apart by the hash of their id, `me` is this one's."""

    # What follows from the role. It changes in `become_follower`, `become_candidate`, `become_sequencer` and `halt`.
    role: Role
    """What this node does for the group."""
    leads_epoch: bool
    """Whether this node's epoch is under way here."""
    sequencer: int | None
    """Hash of the node that leads the promised epoch; None where that is not known here."""
    sequencing: Sequencing | None
    """What only a sequencer has: made when a vote is won, dropped when the role is."""
    ghost: Rounds | None
    """The heartbeats of an epoch that has ended here: the ablation of `heartbeats_end_with_epoch`."""
    reconciled: bool
    """Whether the log has been cut to what the promised epoch's history allows."""

    def __init__(self, settings: Settings, recovered: Recovered, random: random_module.Random) -> None:
        self.settings = settings
        self.rules = settings.rules
        self.random = random
        self.me = name_hash(settings.node)
        self.log = Log(recovered, settings.cache_bytes_max)
        self.meta = recovered.meta
        self.promised = recovered.meta.promised
        """The durable promise: no datagram of a lower epoch is obeyed."""
        self.role = Role.EMPTY
        self.leads_epoch, self.reconciled = False, False
        self.sequencer = self.sequencing = self.ghost = None
        self.stream_sent = 0
        """DATA datagrams that this process has sent, in whatever epochs."""
        self.commit_seq = 0
        """The highest event proven committed."""
        self.handed_seq = 0
        """The highest event given to the owner to apply."""
        self.persisted_seq = self.log.last_seq
        """The highest event that is durable, as the sync mode says."""
        self.persisted_chain = self.log.last_chain
        """The chain behind event `persisted_seq`, which a slow disk may leave far behind what is in memory."""
        self.suspect = recovered.suspect and settings.rules.suspect_abstains
        """Events acknowledged here before a restart may be missing: no vote, no acknowledgement, no log position."""
        self.doubted: LogDoubted | None = None
        """Why it is suspect, if another node reported that; None once the log is known to be whole."""
        self._noting = False
        """Whether the doubt is being written to disk. What was never written need not be taken back."""
        self.heard: dict[int, tuple[int, int, bytes]] = {}
        """Voter -> the newest epoch in which it was heard to acknowledge or to lead, how far, and its storage id."""
        self.acknowledged = 0, 0
        """The newest epoch that this process acknowledged or led, and how far its log was persisted then."""
        self.proofs = Proofs()
        self.known: dict[int, tuple[str, str]] = {}
        """Hash -> (id, address) of every node that ever was a member in this log."""
        self.cluster_uuid = bytes(16)
        self.log_sequencer = ""
        """The node that began the newest epoch in the log."""
        self.relayed: dict[int, float] = {}
        """Node whose datagrams came over TCP -> until when it is sent datagrams over TCP."""
        self.relaying = False
        """Whether what is being received came over TCP."""
        self.in_touch = 0.0
        """When a majority last proved here, by a round or a quorum's read, that this node is not cut off."""
        self.known_commit = 0
        """An event known to be committed, by whatever way that came to be known; it may not have arrived."""
        self.known_commit_due = float("inf")
        """When it is fetched, if it has not arrived until then."""
        self.wall_offset_ns = settings.wall_offset_ns
        """Added to the protocol's clock, gives the time of day; the owner set it last."""
        self.dated_at = 0.0
        """When the log's newest frame joined it, or this process began."""
        self.counts: Counter[str] = Counter()
        """What arrived and was not obeyed, and other rare things, by name: how often since the start."""
        self.effects: list[Effect] = []
        """What the owner has yet to carry out, in order."""
        self.notices: list[Notice] = []
        """What the owner has yet to be told, in order."""
        self.configs = Configs()
        self._start = b"", EpochStart("", Configuration(0, ()))
        """The newest EPOCH_START read, and what it says."""
        self._planned_meta = recovered.meta
        self._tickets: dict[int, tuple[Callable[[float], None], bool]] = {}
        """Ticket -> what runs once its effect is durable, and whether a truncation voids it."""
        self._last_ticket = 0
        self._read(recovered)

    def _read(self, recovered: Recovered) -> None:
        """What storage kept says of commits and configurations."""
        if recovered.frames:
            self.commit_seq = self.handed_seq = max(recovered.frames[-1].commit, 0)
        elif recovered.base_seq:
            self.commit_seq = self.handed_seq = recovered.base_seq
        for frame in (recovered.genesis, recovered.config, *recovered.frames):
            if frame is not None:
                self.note_internal(frame)  # knows the commit: drop what is older than the newest committed

    @property
    def planned_meta(self) -> Meta:
        """The newest meta asked to be written; the durable one may still lag behind it."""
        return self._planned_meta

    @property
    def config(self) -> Configuration | None:
        """The newest configuration in the log: effective when appended."""
        return self.configs.newest

    def voters(self) -> dict[int, bytes]:
        """Node hash -> storage id of the newest configuration's members."""
        return self.configs.voters

    def is_voter(self, node: int, storage_id: bytes) -> bool:
        """Whether an answer under this storage id counts."""
        known = self.voters().get(node)
        return known is not None and (known == storage_id or not self.rules.storage_id_checked)

    def wall_ns(self, now: float) -> int:
        """What the wall clock shows, in ns from 1970 to 2116; one beyond that counts as there, and the log has room."""
        return min(max(int(now * 1e9) + self.wall_offset_ns, 0), WALL_MAX_NS)

    def become_follower(
        self, because: Input | None, sequencer: int | None = None, *, reconciled: bool | None = None
    ) -> None:
        """Follow `sequencer`, or whoever will be heard. Without `because` the role stays, without `reconciled` that.

        An epoch that this node leads is over: what was taken and not numbered is dropped, and its gateways send it to
        the next sequencer.
        """
        if because is not None:
            if self.sequencing is not None:
                self.notices += (SteppedDown(self.promised), EpochChanged(self.promised, None))
                self.ghost = None if self.rules.heartbeats_end_with_epoch else self.sequencing.rounds
            self.role = move(self.role, because)
            self.leads_epoch = False
            self.sequencing = None
        self.sequencer = sequencer
        if reconciled is not None:
            self.reconciled = reconciled

    def become_candidate(
        self, because: Input | None, sequencer: int | None = None, *, reconciled: bool | None = None
    ) -> None:
        """Stand for an epoch, or found the cluster; an appointed one obeys its `sequencer` until its own promise."""
        if because is not None:
            self.role = move(self.role, because)
        self.sequencer = sequencer
        if reconciled is not None:
            self.reconciled = reconciled

    def become_sequencer(self, because: Input, sequencing: Sequencing | None = None) -> None:
        """Lead the promised epoch, by `sequencing` from its beginning: this node's own log is its history."""
        self.role = move(self.role, because)
        if sequencing is not None:
            self.sequencing, self.ghost = sequencing, None
        self.leads_epoch = True
        self.sequencer = self.me
        self.reconciled = True

    def halt(self, reason: str) -> None:
        """Stop: a safety rule is broken."""
        if self.role is not Role.HALTED:
            self.role = move(self.role, Input.BREAK)
            self.leads_epoch = False
            self.sequencing = None
            self.notices.append(HaltRequired(reason))

    def tell_contradiction(self, words: str) -> None:
        """Report to the owner what another node said that contradicts the rules; it was not obeyed."""
        self.notices.append(Contradicted(words))

    def send(self, to: int, message: Message) -> None:
        """Send one datagram to one node; over TCP if its own datagrams came over TCP."""
        self.effects.append(Relay(to, message) if to in self.relayed else Send(to, message))

    def multicast(self, message: Message) -> None:
        """Multicast one datagram."""
        self.effects.append(Multicast(message))

    def call(self, message: Message, missing: Iterable[int], calls: int) -> None:
        """Ask all. Those who have not answered after some `calls` are asked by unicast too, and then over TCP."""
        self.multicast(message)
        for node in missing:
            if node == self.me:
                continue
            if calls >= CALLS_MULTICAST:
                self.effects.append(Send(node, message))
            if calls >= CALLS_DATAGRAMS or node in self.relayed:
                self.effects.append(Relay(node, message))

    def note_commit(self, commit: int, now: float) -> None:
        """A node that must know says that events up to `commit` are committed."""
        if commit > max(self.known_commit, self.log.last_seq):
            self.known_commit = commit
            self.known_commit_due = min(self.known_commit_due, now + LEARNED_S)

    def ticket(self, done: Callable[[float], None], *, of_append: bool = False) -> int:
        """A number under which the owner reports that an effect is durable."""
        self._last_ticket += 1
        self._tickets[self._last_ticket] = (done, of_append)
        return self._last_ticket

    def complete(self, ticket: int, now: float) -> None:
        """An effect is durable. Unknown tickets are those a truncation has voided."""
        entry = self._tickets.pop(ticket, None)
        if entry is not None:
            entry[0](now)

    def void_appends(self) -> None:
        """A truncation: completions of earlier appends prove nothing about the log that follows."""
        if self.rules.ticket_named:
            self._tickets = {ticket: entry for ticket, entry in self._tickets.items() if not entry[1]}

    def write_meta(self, meta: Meta, done: Callable[[float], None], now: float, *, durable: bool = True) -> None:
        """Make a promise or vote durable, then go on with `done`. `durable=False` is the ablation."""
        self._planned_meta = meta

        def on_written(now: float) -> None:
            self.meta = meta  # writes complete in the order they were asked for
            if meta.promised != self.promised:
                self.promised = meta.promised
                self.effects.append(Promise(self.promised))
            done(now)

        if not durable:
            on_written(now)
            return
        self.effects.append(WriteMeta(self.ticket(on_written), meta))

    def note_internal(self, frame: Frame) -> None:
        """Read a frame of the fabric's own events for the configuration it carries."""
        if not frame.body or frame.body[0] < FABRICS_OWN:
            return
        try:
            for record in decode_records_untrusted(frame.body):
                if record.kind == RecordKind.GENESIS:
                    genesis = decode_genesis_untrusted(record.payload)
                    self.cluster_uuid = genesis.cluster_uuid
                    self._adopt_config(frame, genesis.config)
                elif record.kind == RecordKind.RECOVERY:
                    recovery = decode_recovery_untrusted(record.payload)
                    self.cluster_uuid = recovery.cluster_uuid
                    self.known.update({name_hash(one.node): (one.node, one.address) for one in recovery.former})
                    self._adopt_config(frame, recovery.config)
                elif record.kind == RecordKind.EPOCH_START:
                    self._note_start(frame, bytes(record.payload))
                elif record.kind == RecordKind.CONFIG:
                    self._adopt_config(frame, decode_config_untrusted(record.payload))
        except DecodeError as error:
            self.halt(f"event {frame.first} is not what its kind says: {error}")
        self.configs.trim(self.commit_seq)

    def _note_start(self, frame: Frame, payload: bytes) -> None:
        """One EPOCH_START is mostly like the last, and a restart meets very many of them: then it is not read anew."""
        if payload != self._start[0]:
            self._start = payload, decode_epoch_start_untrusted(payload)
        start = self._start[1]
        self.log_sequencer = start.node
        self._adopt_config(frame, start.config)

    def _adopt_config(self, frame: Frame, config: Configuration) -> None:
        """A configuration is effective as soon as it is in the log."""
        before = self.config
        self.configs.adopt(frame, config)
        if config is not before:
            self.known.update({name_hash(member.node): (member.node, member.address) for member in config.members})
            self._tell_members(before)

    def _tell_members(self, before: Configuration | None) -> None:
        config = self.config
        if config is not None and config != before:
            self.notices.append(MembersChanged(config.number, tuple(member.node for member in config.members)))

    def note_heard(self, sequencer: int, beat: Heartbeat) -> None:
        """Remember how far others acknowledged, to tell them after a restart: see `caution`."""
        voters = self.voters()
        for node, acked in ((sequencer, 0), *((peer.node, peer.acked) for peer in beat.peers)):
            if (storage_id := voters.get(node)) is not None:
                self.heard[node] = beat.epoch, acked, storage_id

    def doubt(self, reported: LogDoubted, now: float) -> None:
        """Another node knows that this log lacks what it acknowledged: noted before anything is done about it."""

        def on_noted(_: float) -> None:
            self._noting = False

        self.suspect = self._noting = True
        self.doubted = reported
        self.effects.append(NoteDoubt(self.ticket(on_noted)))
        self.notices.append(reported)

    def trust(self) -> None:
        """This log is known to hold all that was acknowledged."""
        if self.suspect and not self._noting:
            self.suspect = False
            self.doubted = None
            self.notices.append(LogRecovered())

    def forget_configs(self, last: int) -> None:
        """A truncation behind event `last` takes its configurations with it."""
        before = self.config
        self.configs.forget(last)
        self._tell_members(before)

    def persist(self, last: int, chain: bytes) -> None:
        """Events up to `last`, behind which the chain is `chain`, are durable as the sync mode says."""
        if last > self.persisted_seq:
            self.persisted_seq, self.persisted_chain = last, chain

    def cut_persisted(self) -> None:
        """The log was cut: nothing behind its end is persisted."""
        if self.persisted_seq > self.log.last_seq:
            self.persisted_seq, self.persisted_chain = self.log.last_seq, self.log.last_chain

    def advance_commit(self, commit: int) -> bool:
        """Commit up to `commit`, which is proven and within the log; hand the owner what became applicable."""
        if commit <= self.commit_seq:
            return False
        assert commit <= self.log.last_seq
        self.commit_seq = commit
        if self.rules.apply_only_committed:
            self.apply(commit)
        return True

    def apply(self, until: int) -> None:
        """Hand over the frames from the last applied event on, up to `until`."""
        if until <= self.handed_seq:
            return
        frames = self.log.frames_between(self.handed_seq + 1, until, frames_max=1 << 30)
        self.effects.append(Apply(tuple(frames)))
        self.handed_seq = frames[-1].last
        self.log.trim(self.handed_seq + 1)
