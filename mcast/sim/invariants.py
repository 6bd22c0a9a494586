"""What must hold at every step of every run, judged from outside the protocol.

The checker keeps its own account of what each disk durably holds and what the cluster has committed; it believes no
replica. A broken invariant raises Violation at the first step that shows it, long before a client could.
"""

from __future__ import annotations

from collections.abc import Sequence

from mcast.errors import Error
from mcast.protocol.effects import Effect, Meta, Send
from mcast.protocol.quorum import majority
from mcast.wire.frame import Frame, follows
from mcast.wire.messages import Ack, Confirm, Message, Stale, Vote, VoteRequest, decode_genesis_untrusted
from mcast.wire.records import decode_records_untrusted


class Violation(Error):  # noqa: N818 - what was found, not a failure of the one who looked
    """A promise of the fabric was broken."""


class Book:
    """One node's disk and memory as the checker knows them; survives the node's crashes, as a disk does."""

    __slots__ = ("applied", "bit", "chains", "commit", "cutting", "durable", "meta", "name", "rotten", "writing")

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
        self.rotten = False
        """Its files were damaged: it must either notice, and be another one, or have lost nothing."""
        self.commit = 0
        self.applied = 0


class Checker:
    """Every invariant of a run. Methods are told what happens, and raise Violation."""

    def __init__(self, names: Sequence[str]) -> None:
        self.books = [Book(name) for name in names]
        self.last = 0
        """The last event known committed anywhere, ever."""
        self._need = 0
        self._voters = 0
        """Bits of the disks that GENESIS lists."""
        self._bits: dict[bytes, int] = {}
        self._committed: dict[int, tuple[int, bytes]] = {}
        self._chains: dict[int, bytes] = {}
        self._committed_in: dict[int, int] = {}
        """Epoch of the reign that committed -> the last event it did."""
        self._results: dict[int, bytes] = {}
        self._holders: dict[bytes, int] = {}
        self._numbered: dict[tuple[int, int], bytes] = {}
        self._owners: dict[int, tuple[str, int]] = {}
        self._laws: dict[int, dict[int, bytes]] = {}
        self._acknowledged: dict[tuple[int, int], int] = {}

    def started(self, book: Book, meta: Meta, frames: Sequence[Frame], base: tuple[int, bytes]) -> None:
        """A node opened its disk: everything durable must be there."""
        if book.rotten and book.meta is not None and meta.storage_id != book.meta.storage_id:
            self.wiped(book)
        book.rotten = False
        if book.meta is not None and meta not in (book.meta, book.writing):
            raise Violation(f"{book.name} came back with {meta}, having durably written {book.meta}")
        book.bit = self._bits.setdefault(meta.storage_id, 1 << len(self._bits))
        known = dict(book.chains)
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
        if last < book.durable or book.chains.get(book.durable) != known[book.durable]:
            raise Violation(f"{book.name} recovered events to {last}, having durably written {book.durable}")
        book.meta = meta
        book.writing = None
        book.durable = last
        for chain in book.chains.values():
            self._holders[chain] = self._holders.get(chain, 0) | book.bit
        book.commit = book.applied = 0

    def wiped(self, book: Book) -> None:
        """A node lost its disk."""
        book.meta = book.writing = None
        book.chains = {0: bytes(16)}
        book.cutting.clear()
        book.durable = 0

    def streamed(self, book: Book, life: int, frames: Sequence[Frame]) -> None:
        """A node multicasts frames as their sequencer."""
        for frame in frames:
            owner = self._owners.setdefault(frame.epoch, (book.name, life))
            if owner != (book.name, life):
                raise Violation(f"{owner[0]} and {book.name} both number in epoch {frame.epoch}")
            if self._numbered.setdefault((frame.epoch, frame.first), frame.chain) != frame.chain:
                raise Violation(f"event {frame.first} has two contents in epoch {frame.epoch}")

    def appended(self, book: Book, frames: Sequence[Frame]) -> None:
        """A node puts frames behind the end of its log."""
        at = next(reversed(book.chains))
        for frame in frames:
            if frame.first != at + 1 or not follows(frame, book.chains[at]):
                raise Violation(
                    f"{book.name} appended a frame at {frame.first} that does not follow its log's end, {at}"
                )
            if frame.first > 1:  # a GENESIS that was never confirmed may be replaced
                self._follow_law(book, frame)
            at = frame.last
            book.chains[at] = frame.chain

    def truncated(self, book: Book, last: int) -> None:
        """A node cuts its log behind event `last`."""
        if last not in book.chains:
            raise Violation(f"{book.name} cuts its log inside a frame, at {last}")
        while (end := next(reversed(book.chains))) > last:
            chain = book.chains.pop(end)
            if self._chains.get(end) == chain:
                raise Violation(f"{book.name} cuts the committed event {end} from its log")
            self._holders[chain] = self._holders.get(chain, 0) & ~book.bit
            book.cutting.add(chain)
        book.durable = min(book.durable, last)

    def cut(self, book: Book) -> None:
        """All that was cut from a node's log is off its disk for good."""
        book.cutting.clear()

    def persisted(self, book: Book, frames: Sequence[Frame]) -> None:
        """Frames of a node's log are on its disk for good."""
        for frame in frames:
            if book.chains.get(frame.last) != frame.chain:
                continue  # cut meanwhile
            book.durable = max(book.durable, frame.last)
            self._holders[frame.chain] = self._holders.get(frame.chain, 0) | book.bit

    def meta_written(self, book: Book, meta: Meta) -> None:
        """A node's meta is on its disk for good."""
        old = book.meta
        assert old is not None
        if meta.storage_id != old.storage_id or meta.promised < old.promised or meta.voted_epoch < old.voted_epoch:
            raise Violation(f"{book.name} forgot: {meta} after {old}")
        if meta.voted_epoch == old.voted_epoch and meta.voted_for != old.voted_for:
            raise Violation(f"{book.name} voted twice in epoch {meta.voted_epoch}")
        book.meta = meta
        book.writing = None

    def said(self, book: Book, message: Message, to: int) -> None:
        """A node sends a control message; what it claims must be durable and true."""
        meta = book.meta
        assert meta is not None
        if type(message) is Ack:
            self._acked(book, meta, message)
        elif type(message) is Vote:
            if message.granted and (meta.voted_epoch, meta.voted_for) != (message.epoch, to):
                raise Violation(f"{book.name} sent a vote in epoch {message.epoch} that is not on its disk")
        elif type(message) is Confirm:
            if not self._holders.get(message.chain, 0) & book.bit:
                raise Violation(f"{book.name} confirmed a GENESIS that is not on its disk")
        elif type(message) is VoteRequest and meta.voted_epoch != message.epoch:
            raise Violation(f"{book.name} asks for votes in epoch {message.epoch} before its own is on its disk")

    def fenced(self, book: Book, effects: Sequence[Effect]) -> None:
        """A datagram below a node's promise has arrived alone: it may be answered with STALE, and move nothing."""
        for effect in effects:
            if not (isinstance(effect, Send) and isinstance(effect.message, Stale)):
                raise Violation(f"{book.name} obeyed a datagram below its promise: {type(effect).__name__}")

    def committed(self, book: Book, commit: int) -> None:
        """A node's commit moved."""
        if commit < book.commit:
            raise Violation(f"{book.name} took back its commit, {book.commit} to {commit}")
        book.commit = commit

    def applied(self, book: Book, frames: Sequence[Frame], epoch: int) -> None:
        """A node that obeys the reign of `epoch` applies frames."""
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

    def computed(self, book: Book, seq: int, result_chain: bytes, broken: str) -> None:
        """A node's state machine stands behind event `seq` with these results."""
        if broken:
            raise Violation(f"{book.name}: {broken}")
        if self._results.setdefault(seq, result_chain) != result_chain:
            raise Violation(f"{book.name} computed other results up to event {seq}")

    def acknowledged(self, client: int, number: int, seq: int) -> None:
        """A client was told that its command is event `seq`."""
        if seq > self.last:
            raise Violation(f"client {client} was told of event {seq} before it committed")
        if self._acknowledged.setdefault((client, number), seq) != seq:
            raise Violation(f"client {client} was told two numbers for command {number}")

    def _acked(self, book: Book, meta: Meta, ack: Ack) -> None:
        if ack.epoch != meta.promised:
            raise Violation(f"{book.name} acknowledged in epoch {ack.epoch}, its durable promise being {meta.promised}")
        if not ack.seq:
            return
        if ack.seq > book.durable or book.chains.get(ack.seq) != ack.chain:
            raise Violation(f"{book.name} acknowledged event {ack.seq}, its disk holding {book.durable}")
        law = self._laws.get(ack.epoch)
        if law is not None and law.get(ack.seq) != ack.chain:
            raise Violation(f"{book.name} acknowledged event {ack.seq}, which is not the reign's of epoch {ack.epoch}")

    def _follow_law(self, book: Book, frame: Frame) -> None:
        if self._numbered.setdefault((frame.epoch, frame.first), frame.chain) != frame.chain:
            raise Violation(f"event {frame.first} has two contents in epoch {frame.epoch}")
        if frame.epoch not in self._laws:
            self._begin_reign(book, frame)
        self._laws[frame.epoch][frame.last] = frame.chain

    def _begin_reign(self, book: Book, frame: Frame) -> None:
        # A reign that was voted for long ago may begin late; it need not know what newer ones have committed.
        must_hold = max((last for epoch, last in self._committed_in.items() if epoch < frame.epoch), default=0)
        if must_hold and book.chains.get(must_hold) != self._chains[must_hold]:
            raise Violation(f"the log of {book.name} lacks committed events as epoch {frame.epoch} begins")
        self._laws[frame.epoch] = dict(book.chains)

    def _commit(self, book: Book, frame: Frame) -> None:
        if frame.first != self.last + 1:
            raise Violation(f"{book.name} applied a frame at {frame.first} that crosses a committed one")
        if frame.first == 1:
            record = next(decode_records_untrusted(frame.body))
            listed = decode_genesis_untrusted(record.payload).config.members
            self._voters = sum(self._bits[member.storage_id] for member in listed)
            self._need = majority(len(listed))
        holders = (self._holders.get(frame.chain, 0) & self._voters).bit_count()
        if holders < self._need:
            raise Violation(f"{book.name} applied event {frame.first}, which {holders} members hold durably")
        self._committed[frame.first] = (frame.last, frame.chain)
        self._chains[frame.last] = frame.chain
        self.last = frame.last
