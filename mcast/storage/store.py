"""One node's data directory as a whole: lock, meta and journal; and who the node still is after what it finds there.

Layout: `lock` (held while the node runs), `meta.json`, `journal/`. What is damaged is set aside under a new name, never
deleted: `journal.damaged-N`, `meta.damaged-N.json`.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Callable, Generator, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Final

from mcast.errors import CorruptionError, DecodeError, DiskFailed, DiskFull, EnvironmentProblem, InUse
from mcast.limits import CACHE_BYTES_MAX
from mcast.protocol.effects import Meta
from mcast.protocol.recovered import Recovered
from mcast.storage.files import Files, Locked
from mcast.storage.journal import Journal, SyncMark
from mcast.storage.kernelsync import KernelSync
from mcast.storage.meta import META_NAME, STORAGE_ID_BYTES, DirectoryMeta, kernel_boot_id, load_meta, store_meta
from mcast.storage.recovery import Recovery, recover
from mcast.storage.segment import SEGMENT_BYTES
from mcast.storage.segments import FULL
from mcast.storage.verdict import Fault, Verdict
from mcast.wire.frame import Frame

LOCK_NAME: Final = "lock"
JOURNAL_NAME: Final = "journal"
_DAMAGED_MAX: Final = 1_000  # sets of damaged data kept side by side


def draw_storage_id() -> bytes:
    """A new random storage id."""
    return os.urandom(STORAGE_ID_BYTES)


class Store:
    """A node's durable memory. Threads as in `journal`; `write_meta` belongs to the thread that truncates."""

    def __init__(self, files: Files, directory: str, lock: int, state: DirectoryMeta, journal: Journal) -> None:
        """For `open` only."""
        self._files = files
        self._directory = directory
        self._lock = lock
        self._state = state
        self._journal = journal
        self._failure: DiskFailed | None = None
        self._closed = False
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
        truncation_durable: bool = True,
        cache_bytes: int = CACHE_BYTES_MAX,
    ) -> tuple[Store, Recovered]:
        """Open, or create, the data directory of `node` in `cluster`.

        `sync` is the mode the owner will write under; `owner` names this process to others that find the lock taken
        (by default its pid). Tests replace the rest.

        Raises:
            EnvironmentProblem: another node's or cluster's directory, locked by another process, or not writable.
        """
        path = str(directory)
        opening = _Opening(files, path, cluster, node, sync, read_boot_id(), draw_id)
        try:
            files.mkdir(path)
            files.fsync_dir(os.path.dirname(path) or ".")
            lock = files.lock(f"{path}/{LOCK_NAME}", owner or f"pid {os.getpid()}")
        except Locked as held:
            raise InUse(
                f"{path}: in use by another process ({held.owner or 'unknown'})",
                "stop that node, or give this one its own data_dir",
            ) from None
        except OSError as error:
            raise _unusable(path, error) from error
        try:
            journal, recovery = opening.run(segment_bytes, truncation_durable, cache_bytes)
        except OSError as error:
            files.close(lock)
            raise _unusable(path, error) from error
        except BaseException:
            files.close(lock)
            raise
        store = cls(files, path, lock, opening.state, journal)
        store.findings = tuple(opening.findings)
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
    def suspect(self) -> bool:
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
        self._journal.append(frames)

    def sync(self) -> int:
        """Make what is written now durable; returns the last durable seq. Raises DiskFailed (stop)."""
        return self._journal.sync()

    def sync_begin(self) -> SyncMark:
        """See Journal.sync_begin."""
        return self._journal.sync_begin()

    def sync_finish(self, mark: SyncMark) -> int:
        """See Journal.sync_finish."""
        return self._journal.sync_finish(mark)

    def sync_steps(self, mark: SyncMark) -> Generator[int | str, None, None]:
        """See Journal.sync_steps."""
        return self._journal.sync_steps(mark)

    def background_sync(self) -> KernelSync | None:
        """What can carry out the steps of a sync while the caller goes on; None: only a thread can."""
        return self._files.background_sync()

    def truncate(self, last: int) -> None:
        """Durably forget every event behind `last`.

        Raises ValueError, DiskFull (not yet: to be called again when there is room), DiskFailed (stop).
        """
        if self._state.synced_seq > last:
            self._write(retriable=True, synced_seq=last)  # first, or a crash between the two would look like a loss
        self._journal.truncate(last)

    def write_meta(self, meta: Meta) -> None:
        """Replace the meta; durable on return.

        Raises DiskFull (try again when there is room), DiskFailed (stop); whether it was written is unknown then.
        """
        self._write(retriable=True, meta=meta, synced_seq=self._journal.synced_seq)

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
            synced = self._journal.sync()
            self._write(clean=True, synced_seq=synced)
        finally:
            self._journal.close()
            self._files.close(self._lock)

    def _write(self, *, retriable: bool = False, **changes: object) -> None:
        if self._failure is not None:
            raise self._failure
        state = replace(self._state, **changes)  # type: ignore[arg-type]
        try:
            store_meta(self._files, self._directory, state)
        except OSError as error:
            if retriable and error.errno in FULL:
                raise DiskFull(f"{self._directory}/{META_NAME}: {error.strerror}", "free some space") from error
            self._failure = DiskFailed(
                f"{self._directory}/{META_NAME}: {error.strerror}", "check the disk, then start the node again"
            )
            raise self._failure from error
        self._state = state


class _Opening:
    """Decides who the node is, from the meta and the journal together."""

    def __init__(  # noqa: PLR0913
        self, files: Files, path: str, cluster: str, node: str, sync: str, boot_id: str, draw_id: Callable[[], bytes]
    ) -> None:
        self._files = files
        self._path = path
        self._journal_path = f"{path}/{JOURNAL_NAME}"
        self._draw_id = draw_id
        self._fresh = DirectoryMeta(
            cluster=cluster, node=node, meta=Meta(b""), boot_id=boot_id, sync=sync, clean=False, synced_seq=0,
            suspect=False,
        )  # fmt: skip
        self.state = self._fresh
        self.findings: list[str] = []

    def run(self, segment_bytes: int, truncation_durable: bool, cache_bytes: int) -> tuple[Journal, Recovery]:
        before = self._load()
        if before is not None:
            same_boot = before.boot_id != "" and before.boot_id == self._fresh.boot_id
            try:
                journal, recovery = Journal.open(
                    self._files,
                    self._journal_path,
                    same_boot=same_boot,
                    synced_floor=before.synced_seq,
                    segment_bytes=segment_bytes,
                    truncation_durable=truncation_durable,
                    rewrite_unsynced=before.sync == "always",
                    cache_bytes=cache_bytes,
                )
            except CorruptionError as error:
                self._replace_identity(before, str(error))
            else:
                self._keep_identity(before, journal, recovery, same_boot=same_boot)
                return journal, recovery
        elif self._holds_events():
            self._note("the meta is gone: the journal beside it is set aside, and this node takes a new storage id")
        if self._holds_events():
            self._set_aside(JOURNAL_NAME, JOURNAL_NAME + ".damaged-{}")
        made = Journal.create(
            self._files, self._journal_path, segment_bytes=segment_bytes, truncation_durable=truncation_durable
        )
        # Behind the journal: from now on a missing journal is a lost one.
        meta = Meta(self._draw_id()) if before is None else self.state.meta
        self._store(replace(self._fresh, meta=meta))
        return made

    def _load(self) -> DirectoryMeta | None:
        """The meta, if there is an intact one, and it is this node's."""
        try:
            meta = load_meta(self._files, self._path)
        except DecodeError as error:
            self._note(f"{error}: it is set aside, and this node takes a new storage id")
            self._set_aside(META_NAME, "meta.damaged-{}.json")
            return None
        if meta is None:
            return None
        for what, found, wanted in (
            ("cluster", meta.cluster, self._fresh.cluster),
            ("node", meta.node, self._fresh.node),
        ):
            if found != wanted:
                raise EnvironmentProblem(
                    f"{self._path}: belongs to {what} {found!r}, not {wanted!r}",
                    f"set data_dir to another directory, or move {self._path} away",
                )
        return meta

    def _keep_identity(self, before: DirectoryMeta, journal: Journal, recovery: Recovery, *, same_boot: bool) -> None:
        if recovery.verdict is not Verdict.INTACT:
            self._note(f"{recovery.detail}: the tail was cut")
        unsynced = before.sync == "os" and not before.clean and not same_boot
        if unsynced:
            self._note('the machine was restarted under sync = "os": acknowledged events may be missing')
        self._store(
            replace(
                self._fresh,
                meta=before.meta,
                synced_seq=journal.synced_seq,
                suspect=before.suspect or recovery.suspect or unsynced,
            )
        )

    def _replace_identity(self, before: DirectoryMeta, detail: str) -> None:
        """A new storage id, stored before the journal is touched: the old one must never vouch for an emptied log.

        What was known as synced stays in the meta until then, so that a crash here leads to the same verdict again.
        """
        self._note(f"{detail}: the journal is set aside, and this node takes a new storage id")
        meta = replace(before.meta, storage_id=self._draw_id())
        self._store(replace(self._fresh, meta=meta, synced_seq=before.synced_seq))

    def _holds_events(self) -> bool:
        """Whether there is a journal with anything in it; one that was only begun may be begun again."""
        if not self._files.exists(self._journal_path):
            return False
        found = recover(self._files, self._journal_path, same_boot=True)
        return found.last_seq > 0 or (found.fault is not Fault.ZERO_TAIL and bool(found.segments or found.excess))

    def _set_aside(self, name: str, pattern: str) -> None:
        for number in range(1, _DAMAGED_MAX):
            target = f"{self._path}/{pattern.format(number)}"
            if not self._files.exists(target):
                self._files.rename(f"{self._path}/{name}", target)
                self._files.fsync_dir(self._path)
                return
        raise EnvironmentProblem(f"{self._path}: {_DAMAGED_MAX} sets of damaged data", "move them away")

    def _store(self, state: DirectoryMeta) -> None:
        store_meta(self._files, self._path, state)
        self.state = state

    def _note(self, finding: str) -> None:
        self.findings.append(f"{self._path}: {finding}")


def _unusable(path: str, error: OSError) -> EnvironmentProblem:
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return EnvironmentProblem(
            f"{path}: {error.strerror}", f"free some space: a segment takes {SEGMENT_BYTES >> 20} MiB"
        )
    return EnvironmentProblem(
        f"{path}: cannot be used as data directory: {error.strerror or error}",
        "let this user write it, or set data_dir to a directory that can be written",
    )
