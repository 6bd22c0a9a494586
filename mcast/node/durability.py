"""Carries out the effects that must last: appends with group commit, truncations, the meta.

Appends are written at once, by the event loop's thread. With `sync = "always"` a sync goes on in the background; while
it does, further appends gather, and the next sync covers them all. Truncations and the meta are rare: the loop waits.
A ticket is answered only when the watermark, too, covers what it wrote: one small write for all that come together.

Being told of a sync in the background costs a turn of the loop, as much as a good disk's sync itself. So who may stand
still for a moment waits for that of little, if the last one was quick.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Final, Protocol

from mcast.clock import monotonic_s
from mcast.errors import DiskFailed, DiskFull
from mcast.node.syncing import SyncedStore, Syncer, open_syncer
from mcast.protocol.effects import Meta, NoteDoubt, Truncate, WriteMeta
from mcast.storage.journal import SyncMark
from mcast.wire.frame import Frame, frames_bytes

LITTLE_BYTES: Final = 16 << 10  # of appends; syncing so much is all waiting, and no transfer
QUICK_S: Final = 0.001  # what the last sync may have taken, for the next to be waited for; and for how long
UNWRITTEN_BYTES_MAX: Final = 64 << 20  # bytes kept for a full disk to take later; beyond, the node halts


class DurableStore(SyncedStore, Protocol):
    """The part of `storage.store.Store` that is used here."""

    def append(self, frames: Sequence[Frame]) -> None:
        """Write frames behind the journal's end. This and what is said to be durable below may raise DiskFull."""

    def sync_begin(self) -> SyncMark:
        """Note what a sync will cover."""

    def cover(self) -> None:
        """Let the watermark cover what is written, where no sync does that. May raise DiskFull."""

    def covers(self, mark: SyncMark) -> bool:
        """Whether a sync that has ended could let the watermark cover it; a full disk may have refused that."""

    def truncate(self, last: int) -> None:
        """Durably forget every event behind `last`."""

    def write_meta(self, meta: Meta) -> None:
        """Durably replace the meta."""

    def note_suspect(self) -> None:
        """Durably note that the log may lack what was acknowledged."""

    def clear_suspect(self) -> None:
        """Durably note that the log is known whole again."""


class GroupCommit:
    """Answers each ticket once its effect is durable: `take_completed`, in the order of the effects.

    When a sync has ended, the descriptor `fileno` is readable. If there is none, `wake` is called, in another thread.
    The owner then calls `take_completed` in its own.
    All methods may raise DiskFailed: nothing is durable from then on, and the owner must stop.
    """

    def __init__(
        self,
        store: DurableStore,
        *,
        always: bool,
        wake: Callable[[], None],
        clock: Callable[[], float] = monotonic_s,
        syncer: Callable[[SyncedStore, Callable[[], None]], Syncer] = open_syncer,
    ) -> None:
        """`clock` and `syncer` are for who has a time and a disk of its own."""
        self._store = store
        self._completed: list[int] = []
        self._written: list[int] = []
        """Tickets of appends that no sync covers yet."""
        self._written_bytes = 0
        self._clock = clock
        self._began_s = 0.0
        self._took_s = float("inf")
        """The last sync, as this thread saw it."""
        self._syncing: list[int] = []
        self._mark: SyncMark | None = None
        """What the sync under way covers."""
        self._uncovered = False
        """Whether a full disk refused the watermark of what is written."""
        self._unwritten: deque[tuple[int, Sequence[Frame]]] = deque()
        """Appends that a full disk refused."""
        self._unwritten_bytes = 0
        self._unpromised: deque[tuple[int, Meta]] = deque()
        """Metas that a full disk refused."""
        self._uncut: tuple[list[int], int] | None = None
        """Truncations that a full disk refused: their tickets, and the least event they cut behind."""
        self._undoubted: list[int] = []
        """Tickets of doubts about the log that a full disk refused."""
        self._unclear = False
        """Whether it is yet to be noted that the log is known whole: a full disk refused that, or a part of the log."""
        self._syncer: Syncer | None = syncer(store, wake) if always else None
        self.syncs = 0

    def fileno(self) -> int | None:
        """Readable when a sync has ended; None if that is told in another way, or not at all."""
        return None if self._syncer is None else self._syncer.fileno()

    @property
    def is_full(self) -> bool:
        """Whether the disk is full: this node acknowledges nothing more until there is room."""
        return bool(
            self._unwritten or self._unpromised or self._uncut or self._undoubted or self._unclear or self._uncovered
        )

    def append(self, ticket: int, frames: Sequence[Frame]) -> None:
        """Write frames behind the journal's end; complete the ticket once they are as durable as the mode says."""
        if self._unwritten or self._uncut or self._undoubted:
            self._keep_unwritten(ticket, frames)
            return
        try:
            self._store.append(frames)
        except DiskFull:
            self._keep_unwritten(ticket, frames)
        else:
            if self._syncer is None and frames[0].epoch == 0:
                self._store.sync_finish(self._store.sync_begin())  # who loses GENESIS but not its promise never founds
            self._note_written(ticket, frames)

    def truncate(self, ticket: int, last: int) -> None:
        """Durably cut the journal behind event `last`. On a full disk it waits for room, and what follows with it."""
        self._make_durable()
        kept = [(number, frames) for number, frames in self._unwritten if frames[0].first <= last]
        self._unwritten = deque((number, [frame for frame in frames if frame.last <= last]) for number, frames in kept)
        self._unwritten_bytes = sum(frames_bytes(frames) for _, frames in self._unwritten)
        tickets, least = self._uncut or ([], last)
        if self._uncut or not kept:
            self._uncut = ([*tickets, ticket], min(least, last))
            self._cut()
        else:  # the journal ends before the cut: what was to follow it ends at the cut, for cuts fall between frames
            self._completed.append(ticket)

    def write_meta(self, ticket: int, meta: Meta) -> None:
        """Durably replace the meta. On a full disk it waits for room: nothing is promised meanwhile."""
        self._wait()
        self._unpromised.append((ticket, meta))
        self._promise()

    def note_suspect(self, ticket: int) -> None:
        """Durably note that the log may lack what was acknowledged; on a full disk it waits for room."""
        self._wait()
        self._unclear = False
        self._undoubted.append(ticket)
        self._doubt()

    def order(self, effect: Truncate | WriteMeta | NoteDoubt) -> None:
        """Carry out one of the rare effects."""
        if isinstance(effect, Truncate):
            self.truncate(effect.ticket, effect.last)
        elif isinstance(effect, WriteMeta):
            self.write_meta(effect.ticket, effect.meta)
        else:
            self.note_suspect(effect.ticket)

    def clear_suspect(self) -> None:
        """Durably note that the log is known whole again, once all of it lies on disk; a start before finds it anew.

        It is whole only with what was appended last: noted before that is durable, it could be lost unnoticed.
        """
        self._make_durable()
        self._unclear = True
        self._clear()

    def retry(self) -> None:
        """Do what a full disk refused, if there is room by now."""
        self._uncovered = False
        self._wait()
        self._doubt()
        self._promise()
        self._cut()
        while self._unwritten and not self._uncut and not self._undoubted:
            ticket, frames = self._unwritten[0]
            try:
                self._store.append(frames)
            except DiskFull:
                return
            self._unwritten.popleft()
            self._unwritten_bytes -= frames_bytes(frames)
            self._note_written(ticket, frames)
        if self._unclear:
            self._make_durable()
            self._clear()

    def _doubt(self) -> None:
        if self._undoubted:
            with suppress(DiskFull):
                self._store.note_suspect()
                self._completed += self._undoubted
                self._undoubted = []

    def _cut(self) -> None:
        if self._uncut is not None:
            tickets, last = self._uncut
            with suppress(DiskFull):
                self._store.truncate(last)
                self._completed += tickets
                self._uncut = None

    def _clear(self) -> None:
        if self._unclear and not self._unwritten and not self._uncut and not self._uncovered:
            with suppress(DiskFull):
                self._store.clear_suspect()
                self._unclear = False

    def _promise(self) -> None:
        while self._unpromised:
            ticket, meta = self._unpromised[0]
            try:
                self._store.write_meta(meta)
            except DiskFull:
                return
            self._unpromised.popleft()
            self._completed.append(ticket)

    def take_completed(self, *, patient: bool = False) -> list[int]:
        """Tickets whose effects are durable, since the last call; sets the next sync going.

        `patient` says that this may wait for it, QUICK_S at most, if it should be quick.
        """
        if self._syncer is None:
            if self._written:
                self._cover()
        elif self._syncer.is_idle():
            self._collect()
            if self._written and not self._uncovered:
                self._sync(self._syncer, patient and self._written_bytes <= LITTLE_BYTES and self._took_s <= QUICK_S)
        completed, self._completed = self._completed, []
        return completed

    def _note_written(self, ticket: int, frames: Sequence[Frame]) -> None:
        self._written.append(ticket)
        if self._syncer is not None:
            self._written_bytes += frames_bytes(frames)

    def _sync(self, syncer: Syncer, wait: bool) -> None:
        self._began_s = self._clock()
        self._syncing, self._written, self._written_bytes = self._written, [], 0
        self._mark = self._store.sync_begin()
        goes_on = syncer.begin(self._mark)
        if not goes_on or (wait and syncer.wait(QUICK_S)):
            self._collect()

    def close(self) -> None:
        """Let go of the disk; what was written is not made durable by this."""
        if self._syncer is not None:
            self._syncer.close()

    def _make_durable(self) -> None:
        """Make durable what was written so far."""
        self._wait()
        if self._syncer is None:
            self._cover()
        elif self._written:
            mark = self._store.sync_begin()
            written, self._written, self._written_bytes = self._written, [], 0
            self._store.sync_finish(mark)
            self._complete(written, mark)

    def _cover(self) -> None:
        """Let the watermark cover what is written, so that it may be acknowledged."""
        if self._written and not self._uncovered:
            try:
                self._store.cover()
            except DiskFull:
                self._uncovered = True
            else:
                self._completed += self._written
                self._written = []

    def _wait(self) -> None:
        if self._syncer is not None:
            self._syncer.wait()
        self._collect()

    def _collect(self) -> None:
        if self._mark is not None:
            syncing, mark = self._syncing, self._mark
            self._syncing, self._mark = [], None
            self._complete(syncing, mark)
            self._took_s = self._clock() - self._began_s
            self.syncs += 1

    def _complete(self, synced: list[int], mark: SyncMark) -> None:
        """These tickets' sync has ended: they are done, or the next one is to cover them, too."""
        if self._store.covers(mark):
            self._completed += synced
        else:
            self._uncovered = True
            self._written = synced + self._written

    def _keep_unwritten(self, ticket: int, frames: Sequence[Frame]) -> None:
        self._unwritten.append((ticket, frames))
        self._unwritten_bytes += frames_bytes(frames)
        if self._unwritten_bytes > UNWRITTEN_BYTES_MAX:
            raise DiskFailed(
                f"the disk has been full for {self._unwritten_bytes} bytes of events",
                "free some space, then start the node again",
            )
