"""One node's data directory as a whole: lock, meta, journal and watermark.

Layout: `lock` (held while the node runs), `meta.json`, `watermark`, `journal/`. What is damaged is set aside under a
new name, never deleted: `journal.damaged-N`, `meta.damaged-N.json`. `opening` tells who the node is after a start.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Callable, Generator, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Final

from mcast.errors import DiskFailed, DiskFull, EnvironmentProblem, InUse
from mcast.limits import CACHE_BYTES_MAX
from mcast.protocol.effects import Meta
from mcast.protocol.recovered import Recovered
from mcast.protocol.rules import Rules
from mcast.storage.files import Files, Locked
from mcast.storage.journal import Journal, SyncMark
from mcast.storage.kernelsync import KernelSync
from mcast.storage.meta import META_NAME, STORAGE_ID_BYTES, DirectoryMeta, kernel_boot_id, store_meta
from mcast.storage.opening import DAMAGED, Opening, make_directory
from mcast.storage.segment import SEGMENT_BYTES
from mcast.storage.segments import FULL
from mcast.storage.watermark import WATERMARK_NAME, Watermark, WatermarkFile
from mcast.wire.frame import Frame

LOCK_NAME: Final = "lock"
RULES: Final = Rules()


def draw_storage_id() -> bytes:
    """A new random storage id."""
    return os.urandom(STORAGE_ID_BYTES)


class Store:
    """A node's durable memory. Threads as in `journal`; `write_meta` belongs to the thread that truncates."""

    def __init__(  # noqa: PLR0913
        self, files: Files, directory: str, lock: int, state: DirectoryMeta, journal: Journal, watermark: WatermarkFile,
        rules: Rules,
    ) -> None:  # fmt: skip
        """For `open` only."""
        self._files = files
        self._directory = directory
        self._lock = lock
        self._state = state
        self._journal = journal
        self._watermark = watermark
        self._covered = watermark.written.seq
        """The last event that the watermark covers as durably as the caller's mode wants it."""
        self._rules = rules
        self._failure: DiskFailed | None = None
        self._closed = False
        self.set_aside: tuple[str, ...] = ()
        """The names of damaged data that this start or an earlier one set aside, and that are still there."""
        self.findings: tuple[str, ...] = ()
        """What `open` found amiss and did about it, one sentence each."""

    @classmethod
    def open(  # noqa: PLR0913 - what a simulator replaces, each by name
        cls,
        files: Files,
        directory: Path | str,
        cluster: str,
        node: str,
        *,
        sync: str = "always",
        read_boot_id: Callable[[], str] = kernel_boot_id,
        draw_id: Callable[[], bytes] = draw_storage_id,
        owner: str | None = None,
        segment_bytes: int = SEGMENT_BYTES,
        rules: Rules = RULES,
        cache_bytes: int = CACHE_BYTES_MAX,
    ) -> tuple[Store, Recovered]:
        """Open, or create, the data directory of `node` in `cluster`.

        `sync` is the mode the owner will write under; `owner` names this process to others that find the lock taken
        (by default its pid). Tests replace the rest, and switch off `rules` to show what that would do.

        Raises:
            EnvironmentProblem: another node's or cluster's directory, locked by another process, or not writable.
        """
        path = str(directory)
        opening = Opening(files, path, cluster, node, sync, read_boot_id(), draw_id, rules)
        try:
            make_directory(files, path)
            lock = files.lock(f"{path}/{LOCK_NAME}", owner or f"pid {os.getpid()}")
        except Locked as held:
            raise InUse(
                f"{path}: in use by another process ({held.owner or 'unknown'})",
                "stop that node, or give this one its own data_dir",
            ) from None
        except OSError as error:
            raise _unusable(path, error) from error
        try:
            journal, watermark, recovery = opening.run(segment_bytes, cache_bytes)
        except OSError as error:
            files.close(lock)
            raise _unusable(path, error) from error
        except BaseException:
            files.close(lock)
            raise
        store = cls(files, path, lock, opening.state, journal, watermark, rules)
        store.findings = tuple(opening.findings)
        store.set_aside = tuple(
            sorted(name for name in files.listdir(path) if DAMAGED in name and not name.startswith("outcomes"))
        )
        return store, Recovered(
            meta=opening.state.meta,
            base_seq=recovery.base_seq,
            base_chain=recovery.base_chain,
            history=recovery.history,
            frames=recovery.frames,
            suspect=opening.state.suspect,
            genesis=recovery.genesis,
            config=recovery.config,
        )

    @property
    def meta(self) -> Meta:
        """As last written."""
        return self._state.meta

    @property
    def is_suspect(self) -> bool:
        """Acknowledged events may be missing here, and the log has not been known whole since."""
        return self._state.suspect

    @property
    def last_seq(self) -> int:
        """See Journal.last_seq."""
        return self._journal.last_seq

    @property
    def last_chain(self) -> bytes:
        """See Journal.last_chain."""
        return self._journal.last_chain

    @property
    def low_water(self) -> int:
        """See Journal.low_water."""
        return self._journal.low_water

    @property
    def synced_seq(self) -> int:
        """See Journal.synced_seq."""
        return self._journal.synced_seq

    @property
    def cluster_uuid(self) -> bytes:
        """See Journal.cluster_uuid."""
        return self._journal.cluster_uuid

    def append(self, frames: Sequence[Frame]) -> None:
        """Write frames behind the journal's end. Raises DiskFull (nothing was written), DiskFailed (stop)."""
        self._check_usable()
        self._journal.append(frames)

    def sync(self) -> int:
        """Make what is written now durable; returns the last durable seq. Raises DiskFailed (stop)."""
        return self.sync_finish(self.sync_begin())

    def sync_begin(self) -> SyncMark:
        """See Journal.sync_begin."""
        return self._journal.sync_begin()

    def sync_finish(self, mark: SyncMark) -> int:
        """See Journal.sync_finish. The watermark follows the journal; whether it could, `covers` tells."""
        self._check_usable()
        synced = self._journal.sync_finish(mark)
        if self._raise_to(mark):
            self._sync_watermark()
        return synced

    def sync_steps(self, mark: SyncMark) -> Generator[int | str, None, None]:
        """See Journal.sync_steps; as `sync_finish`."""
        self._check_usable()
        yield from self._journal.sync_steps(mark)
        if self._raise_to(mark):
            try:
                yield self._watermark.fd
            except OSError as error:
                raise self._fail(WATERMARK_NAME, error) from error
            self._covered = self._watermark.written.seq

    def cover(self) -> None:
        """Let the watermark cover all that is written, for who acknowledges what is only written.

        Raises DiskFull (not yet: to be called again when there is room), DiskFailed (stop).
        """
        self._check_usable()
        seq, epoch, chain = self._journal.log_end
        if self._raise_watermark(seq, epoch, chain):
            self._covered = seq
        elif self._covered < seq and self._rules.watermark_before_ack:
            raise DiskFull(f"{self._directory}/{WATERMARK_NAME}: no room", "free some space")

    def covers(self, mark: SyncMark) -> bool:
        """Whether what the mark covers may be acknowledged, its sync having ended: the watermark is beyond it."""
        old = mark.generation != self._journal.generation
        return old or self._covered >= mark.seq or not self._rules.watermark_before_ack

    def background_sync(self) -> KernelSync | None:
        """What can carry out the steps of a sync while the caller goes on; None: only a thread can."""
        return self._files.background_sync()

    def truncate(self, last: int) -> None:
        """Durably forget every event behind `last`.

        Raises ValueError, DiskFull (not yet: to be called again when there is room), DiskFailed (stop).
        """
        self._check_usable()
        lowered = self._lowered_watermark(last)
        if self._rules.watermark_lowered_first:
            self._lower(lowered)
        if self._state.synced_seq > last:
            self._write(retriable=True, synced_seq=last)  # first, or a crash between the two would look like a loss
        self._journal.truncate(last)
        self._lower(lowered)

    def write_meta(self, meta: Meta) -> None:
        """Replace the meta; durable on return.

        Raises DiskFull (try again when there is room), DiskFailed (stop); whether it was written is unknown then.
        """
        self._write(retriable=True, meta=meta, synced_seq=self._journal.synced_seq)

    def note_suspect(self) -> None:
        """The log may lack what was acknowledged; durable on return. Raises as `write_meta`."""
        if not self._state.suspect:
            self._write(retriable=True, suspect=True)

    def clear_suspect(self) -> None:
        """The log is known whole again; durable on return. Raises as `write_meta`."""
        if self._state.suspect:
            self._write(retriable=True, suspect=False)

    def read(self, first: int, max_bytes: int) -> list[Frame]:
        """See Journal.read. Raises Gone, CorruptionError."""
        return self._journal.read(first, max_bytes)

    def frames_from(self, first: int) -> Iterator[list[Frame]]:
        """See Journal.frames_from."""
        return self._journal.frames_from(first)

    def close(self) -> None:
        """Make all durable, say so in the meta, and release the directory. Raises DiskFailed; released all the same."""
        if self._closed:
            return
        self._closed = True
        try:
            self._check_usable()
            synced = self._journal.sync()
            self._raise_watermark(*self._journal.log_end)
            self._sync_watermark()
            self._write(clean=True, synced_seq=synced)
        finally:
            self._journal.close()
            self._watermark.close()
            self._files.close(self._lock)

    def _raise_to(self, mark: SyncMark) -> bool:
        """Write that what the mark covers may be acknowledged, unless a truncation has voided it since."""
        if mark.generation != self._journal.generation:
            return False
        return self._raise_watermark(mark.seq, mark.epoch, mark.chain)

    def _raise_watermark(self, seq: int, epoch: int, chain: bytes) -> bool:
        """Write that events up to `seq` may be acknowledged. False: nothing new, or no room: `_covered` tells which.

        Raises DiskFailed (stop).
        """
        written, storage_id = self._watermark.written, self._state.meta.storage_id
        if not self._rules.watermark_before_ack:
            return False
        if written.seq >= seq and written.storage_id == storage_id:
            return self._covered < seq
        try:
            self._watermark.write(Watermark(storage_id, epoch, seq, chain, self._state.turn))
        except OSError as error:
            if error.errno in FULL:
                return False
            raise self._fail(WATERMARK_NAME, error) from error
        return True

    def _sync_watermark(self) -> None:
        try:
            self._files.fdatasync(self._watermark.fd)
        except OSError as error:
            raise self._fail(WATERMARK_NAME, error) from error
        self._covered = self._watermark.written.seq

    def _lowered_watermark(self, last: int) -> Watermark | None:
        """What the watermark is to say before the journal is cut behind event `last`; None where it says less."""
        if last >= self._watermark.written.seq:
            return None
        chain, epoch = self._journal.ending_at(last)
        return Watermark(self._state.meta.storage_id, epoch, last, chain, self._state.turn)

    def _lower(self, watermark: Watermark | None) -> None:
        """Durably take the watermark back. Raises DiskFull (again later), DiskFailed."""
        written = self._watermark.written
        if watermark is None or written[:-1] == watermark[:-1]:  # all but the meta's turn
            return
        self._write_watermark(watermark)
        self._sync_watermark()

    def _write_watermark(self, watermark: Watermark, *, retriable: bool = True) -> None:
        """Raises DiskFull (again later; where that is of no use, never), DiskFailed."""
        try:
            self._watermark.write(watermark)
        except OSError as error:
            if retriable and error.errno in FULL:
                raise DiskFull(f"{self._directory}/{WATERMARK_NAME}: {error.strerror}", "free some space") from error
            raise self._fail(WATERMARK_NAME, error) from error

    def _write(self, *, retriable: bool = False, **changes: object) -> None:
        """Replace the meta, then let the watermark know of it: else an older one could be put back, unnoticed."""
        self._check_usable()
        state = replace(self._state, turn=self._state.turn + 1, **changes)  # type: ignore[arg-type]
        try:
            store_meta(self._files, self._directory, state)
        except OSError as error:
            if retriable and error.errno in FULL:
                raise DiskFull(f"{self._directory}/{META_NAME}: {error.strerror}", "free some space") from error
            raise self._fail(META_NAME, error) from error
        self._state = state
        self._write_watermark(self._watermark.written._replace(meta_turn=state.turn), retriable=retriable)
        if state.sync == "always":
            self._sync_watermark()

    def _check_usable(self) -> None:
        """After a sync that failed, another would say that all is well: nothing more is written, nor synced."""
        if self._failure is not None:
            raise self._failure

    def _fail(self, name: str, error: OSError) -> DiskFailed:
        self._failure = DiskFailed(
            f"{self._directory}/{name}: {error.strerror}", "check the disk, then start the node again"
        )
        return self._failure


def _unusable(path: str, error: OSError) -> EnvironmentProblem:
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return EnvironmentProblem(
            f"{path}: {error.strerror}", f"free some space: a segment takes {SEGMENT_BYTES >> 20} MiB"
        )
    return EnvironmentProblem(
        f"{path}: cannot be used as data directory: {error.strerror or error}",
        "let this user write it, or set data_dir to a directory that can be written",
    )
