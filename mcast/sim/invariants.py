"""What must hold at every step of every run, judged from outside the protocol.

The checker keeps its own account of what each disk durably holds and what the cluster has committed; it believes no
replica. A broken invariant raises Violation at the first step that shows it, long before a client could.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Sequence
from typing import Final

from mcast.errors import Error
from mcast.protocol.effects import Effect, Meta, Relay, Send
from mcast.protocol.quorum import majority
from mcast.sim.voters import config_in, differ, disks, suffices
from mcast.wire.frame import Frame, follows
from mcast.wire.messages import (
    Ack,
    Commit,
    Configuration,
    Confirm,
    Handover,
    Heartbeat,
    Message,
    Nak,
    Read,
    ReadIndex,
    Stale,
    Vote,
    VoteRequest,
)
from mcast.wire.records import RecordKind

_OF_ONE_EPOCH: Final = (
    Heartbeat, Commit, Ack, Nak, VoteRequest, Vote, Read, ReadIndex, Handover,
)  # fmt: skip
"""Messages that speak for the epoch that their sender has promised, and leave under no other promise."""
MOVES_WITHIN_S: Final = 1.0  # time moves between events that are so far apart
ROUNDING_S: Final = 1e-6  # of the stamps that ages are computed from


class Violation(Error):  # noqa: N818 - what was found, not a failure of the one who looked
    """A promise of the fabric was broken."""


class Book:
    """One node's disk and memory as the checker knows them; survives the node's crashes, as a disk does."""

    __slots__ = (
        "aged", "applied", "bit", "chains", "commit", "configs", "cutting", "durable", "forgetful", "meta", "name",
        "owes", "rotten", "spoken", "trusted", "votes", "writing",
    )  # fmt: skip

    def __init__(self, name: str) -> None:
        self.name = name
        self.bit = 0
        """Stands for the disk (its storage id), not for the node: an empty disk is another one."""
        self.chains: dict[int, bytes] = {0: bytes(16)}
        """The log as the replica ordered it written: last event of each frame, oldest first -> chain."""
        self.cutting: set[bytes] = set()
        """Chains of a tail that is being cut: until that is done, a crash may bring them back."""
        self.durable = 0
        """Last event that a crash can't take back."""
        self.meta: Meta | None = None
        """The durable meta."""
        self.writing: Meta | None = None
        """The meta being written: until that is done, a crash may leave either."""
        self.votes: dict[int, int] = {}
        """Epoch -> whom it voted for, of every meta that was durable since it started: one may leave after the next."""
        self.rotten = False
        """Its files were damaged: it must either notice, and be another one, or have lost nothing."""
        self.forgetful = False
        """Its machine lost power before what it wrote was synced: it may lack that, if it then says so."""
        self.aged = False
        """Its disk was replaced by one of an older moment."""
        self.trusted = True
        """Whether the log is known to hold all that was acknowledged from it."""
        self.owes = 0
        """The commit when it came back as a suspect: it must remain suspect until its log holds that much."""
        self.configs: list[tuple[int, Configuration]] = []
        """The configurations in the log, oldest first: (event, configuration)."""
        self.commit = 0
        self.applied = 0
        self.spoken = 0
        """The promise in its newest envelope since it started."""

    @property
    def config(self) -> Configuration | None:
        """The newest one in the log: effective."""
        return self.configs[-1][1] if self.configs else None


class Checker:
    """Every invariant of a run. Methods are told what happens, and raise Violation. `clock` gives virtual seconds."""

    def __init__(self, names: Sequence[str], clock: Callable[[], float] = lambda: 0.0) -> None:
        self.books = [Book(name) for name in names]
        self.last = 0
        """The last event known committed anywhere, ever."""
        self.config: Configuration | None = None
        """The newest committed one."""
        self.extinct = False
        """A blackout took all there was, GENESIS included: nothing is left to go on from."""
        self.era = 0
        """How many blackouts have been got over."""
        self.survived = 0
        """The last committed event that the last one of them left."""
        self.readmissions = 0
        """Lost disks replaced, as the logs say."""
        self._clock = clock
        self._commits: tuple[list[float], list[int]] = ([], [])
        """When which event was the last one committed."""
        self._carried: dict[bytes, Configuration] = {}
        """Chain of a frame -> the configuration in it."""
        self._begun: dict[int, int] = {}
        """Epoch -> its first event."""
        self._epochs: dict[bytes, int] = {}
        self._made: dict[bytes, float] = {}
        """Chain of a frame -> when it was first seen; see `_dates`."""
        self._dates: dict[bytes, int] = {}
        """Chain of a frame -> its time."""
        self._dark: set[str] | None = None
        """Since a loss of power that hit everybody: who has not come back yet."""
        self._bits: dict[bytes, int] = {}
        self._committed: dict[int, tuple[int, bytes]] = {}
        self._chains: dict[int, bytes] = {}
        self._committed_in: dict[int, int] = {}
        """Epoch that committed -> the last event it did."""
        self._results: dict[int, bytes] = {}
        self._holders: dict[bytes, int] = {}
        self._numbered: dict[tuple[int, int], bytes] = {}
        self._owners: dict[int, tuple[str, int]] = {}
        self._laws: dict[int, dict[int, bytes]] = {}
        self._acknowledged: dict[tuple[int, int], int] = {}

    def on_start(
        self, book: Book, meta: Meta, frames: Sequence[Frame], base: tuple[int, bytes], *, suspect: bool = False
    ) -> None:
        """A node opened its disk: everything durable must be there, or the node must suspect itself."""
        held: dict[int, bytes] = {}
        if book.rotten and book.meta is not None and meta.storage_id != book.meta.storage_id:
            held = book.chains  # a start that is cut short between its new identity and an empty log leaves some of it
            self.on_wipe(book)
        may_lack = suspect and (book.rotten or book.forgetful)
        book.rotten = book.forgetful = False
        if book.meta is not None and meta not in (book.meta, book.writing):
            raise Violation(f"{book.name} came back with {meta}, having durably written {book.meta}")
        book.bit = self._bits.setdefault(meta.storage_id, 1 << len(self._bits))
        known = held | book.chains
        book.chains = {seq: chain for seq, chain in book.chains.items() if seq < base[0]}
        book.chains[base[0]] = base[1]
        chain = base[1]
        for frame in frames:
            if not follows(frame, chain):
                raise Violation(f"{book.name} recovered a frame at {frame.first} that does not follow its log")
            chain = book.chains[frame.last] = frame.chain
            if known.get(frame.last) != chain and chain not in book.cutting:
                raise Violation(f"{book.name} recovered event {frame.last} after having durably cut it")
        book.cutting.clear()
        last = max(book.chains)
        if not may_lack and (last < book.durable or book.chains.get(book.durable) != known[book.durable]):
            raise Violation(f"{book.name} recovered events to {last}, having durably written {book.durable}")
        book.meta = meta
        book.votes = {meta.voted_epoch: meta.voted_for}
        book.writing = None
        book.durable = last
        for chain in book.chains.values():
            self._holders[chain] = self._holders.get(chain, 0) | book.bit
        book.commit = book.applied = book.spoken = 0
        book.configs = [(seq, self._carried[chain]) for seq, chain in book.chains.items() if chain in self._carried]
        book.trusted = not suspect
        book.owes = self.last if suspect else 0
        if self._dark is not None:
            self._dark.discard(book.name)
            if not self._dark:
                self._end_blackout()

    def on_wipe(self, book: Book) -> None:
        """A node lost its disk."""
        book.meta = book.writing = None
        book.chains = {0: bytes(16)}
        book.configs = []
        book.cutting.clear()
        book.durable = 0
        book.trusted = True

    def on_power_loss(self, book: Book, *, synced: bool) -> None:
        """A node's machine lost power; with `synced`, nothing that counts as durable may be lost by that."""
        book.trusted = False
        book.forgetful = book.forgetful or not synced

    def on_rot(self, book: Book) -> None:
        """A byte on a node's disk has changed: it may be another one when it comes back, or a suspect."""
        book.rotten = True
        book.trusted = False

    def on_went_back(self, book: Book) -> None:
        """A node's disk is that of an older moment: what it wrote since then is gone, and it cannot know."""
        book.writing = None
        book.durable = 0
        book.aged = True

    def on_doubt(self, book: Book, *, lied_to: bool = False) -> None:
        """A node was told that its disk is that of an older moment; who is honest tells it of no other."""
        if not book.aged and not lied_to:
            raise Violation(f"{book.name} doubts its log, which lacks nothing that it acknowledged")
        book.trusted = False
        book.owes = self.last

    def on_cleared(self, book: Book, *, noted: bool = True) -> None:
        """A suspect holds its log for whole again; unless that is noted on its disk, it comes back as a suspect."""
        if book.owes and book.chains.get(book.owes) != self._chains[book.owes]:
            raise Violation(f"{book.name} trusts its log, which lacks event {book.owes}, committed before it restarted")
        book.trusted = noted
        book.owes = 0

    def on_blackout(self) -> None:
        """All machines lost power at once, unsynced: what is in no disk any more may be gone, once all are back."""
        self._dark = {book.name for book in self.books}

    def _end_blackout(self) -> None:
        """All are back: the best log is the cluster's, and what is not in it never was."""
        self._dark = None
        best = max(self.books, key=lambda book: (self._epochs.get(book.chains[book.durable], 0), book.durable))
        # Its end may be an older epoch's, in the place of a newer one's committed event that no disk holds any more.
        end = max((seq for seq, chain in self._chains.items() if best.chains.get(seq) == chain), default=0)
        for seq in [seq for seq in self._chains if seq > end]:
            del self._chains[seq]
        for seq in [seq for seq in self._committed if seq > end]:
            del self._committed[seq]
        for seq in [seq for seq in self._results if seq > end]:
            del self._results[seq]
        self.extinct = best.durable == 0
        self.last = self.survived = min(self.last, end)
        self.era += 1
        self._committed_in = {epoch: min(last, self.last) for epoch, last in self._committed_in.items()}
        times, lasts = self._commits
        while lasts and lasts[-1] > self.last:
            lasts.pop()
            times.pop()
        for book in self.books:
            book.owes = min(book.owes, self.last)

    # What may be taken away without breaking the promises' own condition, a majority that lives

    def intact_disks(self, without: Book | None = None) -> set[bytes]:
        """The disks that are there, and whose logs are trusted."""
        return {book.meta.storage_id for book in self.books if book.meta and book.trusted and book is not without}

    def effective_configs(self) -> list[Configuration]:
        """Every configuration that may decide: the newest committed one, and what newer ones the logs hold."""
        least = self.config.number if self.config else 0
        configs = [book.config for book in self.books if book.config is not None and book.config.number >= least]
        return [*configs, self.config] if self.config else configs

    def spares(self, book: Book) -> bool:
        """Whether a majority stays, of every configuration that may decide, if this disk is lost or suspect."""
        left = self.intact_disks(without=book)
        return all(suffices(left, config) for config in self.effective_configs())

    def is_complete(self) -> bool:
        """Whether every member's disk is there, and a member in every configuration that may decide."""
        present = {book.meta.storage_id for book in self.books if book.meta is not None and not book.rotten}
        return all(disks(config) <= present for config in self.effective_configs())

    def on_stream(self, book: Book, life: int, frames: Sequence[Frame], promised: int | None = None) -> None:
        """A node multicasts frames as their sequencer, in envelopes that carry `promised`."""
        for frame in frames:
            if promised is not None and frame.epoch != promised:
                raise Violation(f"{book.name} streams a frame of epoch {frame.epoch} under the promise of {promised}")
            owner = self._owners.setdefault(frame.epoch, (book.name, life))
            if owner != (book.name, life):
                raise Violation(f"{owner[0]} and {book.name} both number in epoch {frame.epoch}")
            if self._numbered.setdefault((frame.epoch, frame.first), frame.chain) != frame.chain:
                raise Violation(f"event {frame.first} has two contents in epoch {frame.epoch}")

    def on_append(self, book: Book, frames: Sequence[Frame]) -> None:
        """A node puts frames behind the end of its log."""
        at = next(reversed(book.chains))
        for frame in frames:
            if frame.first != at + 1 or not follows(frame, book.chains[at]):
                raise Violation(
                    f"{book.name} appended a frame at {frame.first} that does not follow its log's end, {at}"
                )
            self._note(book, frame, book.chains[at])
            if frame.first > 1:  # a GENESIS that was never confirmed may be replaced
                self._follow_law(book, frame)
            at = frame.last
            book.chains[at] = frame.chain

    def on_truncate(self, book: Book, last: int) -> None:
        """A node cuts its log behind event `last`."""
        if last not in book.chains:
            raise Violation(f"{book.name} cuts its log inside a frame, at {last}")
        while (end := next(reversed(book.chains))) > last:
            chain = book.chains.pop(end)
            if self._chains.get(end) == chain:
                raise Violation(f"{book.name} cuts the committed event {end} from its log")
            self._holders[chain] = self._holders.get(chain, 0) & ~book.bit
            book.cutting.add(chain)
        while book.configs and book.configs[-1][0] > last:
            book.configs.pop()
        book.durable = min(book.durable, last)

    def on_cut(self, book: Book) -> None:
        """All that was cut from a node's log is off its disk for good."""
        book.cutting.clear()

    def on_persisted(self, book: Book, frames: Sequence[Frame]) -> None:
        """Frames of a node's log are on its disk for good."""
        for frame in frames:
            if book.chains.get(frame.last) != frame.chain:
                continue  # cut meanwhile
            book.durable = max(book.durable, frame.last)
            self._holders[frame.chain] = self._holders.get(frame.chain, 0) | book.bit

    def on_meta_written(self, book: Book, meta: Meta) -> None:
        """A node's meta is on its disk for good."""
        old = book.meta
        assert old is not None
        if meta.storage_id != old.storage_id or meta.promised < old.promised or meta.voted_epoch < old.voted_epoch:
            raise Violation(f"{book.name} forgot: {meta} after {old}")
        if meta.voted_epoch == old.voted_epoch and meta.voted_for != old.voted_for:
            raise Violation(f"{book.name} voted twice in epoch {meta.voted_epoch}")
        book.meta = meta
        book.votes[meta.voted_epoch] = meta.voted_for
        book.writing = None

    def on_message(self, book: Book, message: Message, to: int, promised: int | None = None) -> None:
        """A node sends a control message under a promise; what it claims must be durable and true."""
        meta = book.meta
        assert meta is not None
        promised = meta.promised if promised is None else promised
        if not book.spoken <= promised <= meta.promised:
            words = f"having spoken under that of {book.spoken}, and {meta.promised} being on its disk"
            raise Violation(f"{book.name} speaks under the promise of epoch {promised}, {words}")
        book.spoken = promised
        if isinstance(message, _OF_ONE_EPOCH) and message.epoch != promised:
            what = f"{type(message).__name__} of epoch {message.epoch}"
            raise Violation(f"{book.name} sends a {what} under the promise of {promised}")
        if type(message) is Ack:
            self._check_ack(book, message)
        elif type(message) is Vote:
            if message.granted and book.votes.get(message.epoch) != to:
                raise Violation(f"{book.name} sent a vote in epoch {message.epoch} that is not on its disk")
        elif type(message) is Confirm:
            if not self._holders.get(message.chain, 0) & book.bit:
                raise Violation(f"{book.name} confirmed a GENESIS that is not on its disk")
        elif type(message) is VoteRequest and meta.voted_epoch != message.epoch:
            raise Violation(f"{book.name} asks for votes in epoch {message.epoch} before its own is on its disk")

    def on_fenced(self, book: Book, effects: Sequence[Effect]) -> None:
        """A datagram below a node's promise has arrived alone: it may be answered with STALE, and move nothing."""
        for effect in effects:
            if not (isinstance(effect, Send | Relay) and isinstance(effect.message, Stale)):
                raise Violation(f"{book.name} obeyed a datagram below its promise: {type(effect).__name__}")

    def on_commit(self, book: Book, commit: int) -> None:
        """A node's commit moved."""
        if commit < book.commit:
            raise Violation(f"{book.name} took back its commit, {book.commit} to {commit}")
        book.commit = commit

    def on_apply(self, book: Book, frames: Sequence[Frame], epoch: int) -> None:
        """A node that obeys `epoch` applies frames."""
        for frame in frames:
            if frame.first != book.applied + 1:
                raise Violation(f"{book.name} applied event {frame.first} after {book.applied}")
            known = self._committed.get(frame.first)
            if known is None:
                self._commit(book, frame)
                self._committed_in[epoch] = frame.last
            elif known != (frame.last, frame.chain):
                raise Violation(f"event {frame.first} has two contents: {book.name} applied another one")
            book.applied = frame.last
        if book.applied > book.commit:
            raise Violation(f"{book.name} applied event {book.applied}, its commit being {book.commit}")

    def on_computed(self, book: Book, seq: int, result_chain: bytes, broken: str) -> None:
        """A node's state machine stands behind event `seq` with these results."""
        if broken:
            raise Violation(f"{book.name}: {broken}")
        if self._results.setdefault(seq, result_chain) != result_chain:
            raise Violation(f"{book.name} computed other results up to event {seq}")

    def on_acknowledged(self, client: int, number: int, seq: int) -> None:
        """A client was told that its command is event `seq`."""
        if seq > self.last:
            raise Violation(f"client {client} was told of event {seq} before it committed")
        if self._acknowledged.setdefault((client, number), seq) != seq:
            raise Violation(f"client {client} was told two numbers for command {number}")

    def on_age_claim(self, book: Book, applied: int, age_s: float) -> None:
        """A node claims that its state at event `applied` is no older than this."""
        times, lasts = self._commits
        at = bisect_right(lasts, applied)
        true_s = self._clock() - times[at] if at < len(lasts) else 0.0
        if age_s < true_s - ROUNDING_S:
            raise Violation(f"{book.name} holds a state {true_s:.4f} s old for no older than {age_s:.4f} s")

    def on_proof_claim(self, book: Book, commit: int, age_s: float) -> None:
        """A node claims that all committed up to `age_s` seconds ago is at or below `commit`."""
        times, lasts = self._commits
        at = bisect_right(times, self._clock() - age_s - ROUNDING_S)
        if at and lasts[at - 1] > commit:
            raise Violation(f"{book.name} proves event {commit} for {age_s:.4f} s ago, when it was {lasts[at - 1]}")

    def _note(self, book: Book, frame: Frame, before: bytes) -> None:
        """Look at what a new frame says of itself: its time, and the configuration it may carry."""
        if frame.time < self._dates.get(before, 0):
            raise Violation(f"event {frame.first} has an earlier time than the event before it")
        if frame.chain not in self._dates:
            made, now = self._made.get(before), self._clock()
            if made is not None and now >= made + MOVES_WITHIN_S and frame.time == self._dates[before]:
                raise Violation(f"event {frame.first} has the time of the event before it, {now - made:.1f} s later")
            self._made[frame.chain] = now
        self._dates[frame.chain] = frame.time
        self._epochs[frame.chain] = frame.epoch
        carried = config_in(frame)
        if carried is None:
            return
        kind, config = carried
        if kind == RecordKind.EPOCH_START:
            self._begun[frame.epoch] = frame.first
            if config != book.config:
                raise Violation(f"epoch {frame.epoch} begins with another configuration than its log's newest")
        elif kind == RecordKind.CONFIG and frame.chain not in self._carried:
            self._check_config(book, frame, config)
        self._carried[frame.chain] = config
        book.configs.append((frame.last, config))

    def _check_config(self, book: Book, frame: Frame, config: Configuration) -> None:
        seq, older = book.configs[-1]
        self.readmissions += len(config.members) > len(older.members)
        if wrong := differ(older, config):
            raise Violation(wrong)
        begun = self._begun.get(frame.epoch, frame.first)
        for needed, what in ((seq, "the one before"), (begun, "its epoch's beginning")):
            if needed > self.last or self._chains.get(needed) != book.chains.get(needed):
                raise Violation(f"configuration {config.number} is written before {what} has committed")

    def _check_ack(self, book: Book, ack: Ack) -> None:
        if not ack.seq:
            return
        if ack.seq > book.durable or book.chains.get(ack.seq) != ack.chain:
            raise Violation(f"{book.name} acknowledged event {ack.seq}, its disk holding {book.durable}")
        law = self._laws.get(ack.epoch)
        if law is not None and law.get(ack.seq) != ack.chain:
            raise Violation(f"{book.name} acknowledged event {ack.seq}, which is not of epoch {ack.epoch}")

    def _follow_law(self, book: Book, frame: Frame) -> None:
        if self._numbered.setdefault((frame.epoch, frame.first), frame.chain) != frame.chain:
            raise Violation(f"event {frame.first} has two contents in epoch {frame.epoch}")
        if frame.epoch not in self._laws:
            self._begin_epoch(book, frame)
        self._laws[frame.epoch][frame.last] = frame.chain

    def _begin_epoch(self, book: Book, frame: Frame) -> None:
        # An epoch that was voted for long ago may begin late; it need not know what newer ones have committed.
        must_hold = max((last for epoch, last in self._committed_in.items() if epoch < frame.epoch), default=0)
        if must_hold and book.chains.get(must_hold) != self._chains[must_hold]:
            raise Violation(f"the log of {book.name} lacks committed events as epoch {frame.epoch} begins")
        self._laws[frame.epoch] = dict(book.chains)

    def _commit(self, book: Book, frame: Frame) -> None:
        if frame.first != self.last + 1:
            raise Violation(f"{book.name} applied a frame at {frame.first} that crosses a committed one")
        config = book.config
        if config is None:
            raise Violation(f"{book.name} applied event {frame.first}, but its log knows no members")
        voters = sum({self._bits[disk] for disk in disks(config) if disk in self._bits})
        holders = (self._holders.get(frame.chain, 0) & voters).bit_count()
        if holders < majority(len(config.members)):
            raise Violation(f"{book.name} applied event {frame.first}, which {holders} members hold durably")
        self.config = self._carried.get(frame.chain, self.config)
        self._committed[frame.first] = (frame.last, frame.chain)
        self._chains[frame.last] = frame.chain
        self.last = frame.last
        times, lasts = self._commits
        times.append(self._clock())
        lasts.append(self.last)
