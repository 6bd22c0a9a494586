"""Who a node is after a start: from what its meta, its watermark and its journal say together.

Three ways: it goes on as it was; it goes on, but as a suspect, until its log is known whole; or its disk lost what it
acknowledged, and it is another one from now on, with a new storage id and an empty journal. Each step is durable before
the next, in an order that leads a start after one that was cut short, wherever it was, to the same end.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from typing import Final

from mcast.errors import DecodeError, EnvironmentProblem, NewerFormat
from mcast.protocol.effects import Meta
from mcast.protocol.rules import Rules
from mcast.storage.files import Files
from mcast.storage.journal import NEWER_REMEDY, Journal
from mcast.storage.meta import META_NAME, DirectoryMeta, load_meta, store_meta
from mcast.storage.recovery import ScannedLog, recover
from mcast.storage.verdict import LogFault, Past, Verdict
from mcast.storage.watermark import WATERMARK_NAME, Watermark, WatermarkFile, load_watermark, open_watermark

JOURNAL_NAME: Final = "journal"
DAMAGED: Final = ".damaged-"  # and a number: what a name gets that is set aside
_DAMAGED_MAX: Final = 1_000  # sets of damaged data kept side by side


def make_directory(files: Files, path: str) -> None:
    """Make a directory and those above it; their names are durable on return. Raises OSError.

    All of them each time: a start that was cut short may have made them. Above its own, some may be unreadable for this
    user, who did not make those.
    """
    files.mkdir(path)
    above = os.path.dirname(path) or "."
    files.fsync_dir(above)
    while (higher := os.path.dirname(above)) not in ("", above):
        above = higher
        with suppress(PermissionError):
            files.fsync_dir(above)


class Opening:
    """Decides who the node is, from the meta, the watermark and the journal together; for one `run`."""

    def __init__(  # noqa: PLR0913
        self, files: Files, path: str, cluster: str, node: str, sync: str, boot_id: str, draw_id: Callable[[], bytes],
        rules: Rules,
    ) -> None:  # fmt: skip
        self._files = files
        self._path = path
        self._journal_path = f"{path}/{JOURNAL_NAME}"
        self._draw_id = draw_id
        self._rules = rules
        self._fresh = DirectoryMeta(
            cluster=cluster, node=node, meta=Meta(b""), boot_id=boot_id, sync=sync, clean=False, synced_seq=0,
            suspect=False,
        )  # fmt: skip
        self.state = self._fresh
        self.findings: list[str] = []
        self._marked: Watermark | None = None
        """The watermark as it was read."""

    def run(self, segment_bytes: int, cache_bytes: int) -> tuple[Journal, WatermarkFile, ScannedLog]:
        """Mend what may be mended, set aside what may not; on return all is durable, and `state` is what was stored.

        Raises:
            EnvironmentProblem: another node's or cluster's directory, or a later version's. OSError.
        """
        self._files.fsync_dir(self._path)  # what is found stays: who renamed it may not have come to sync the name
        before = self._load()
        durable = self._rules.truncation_durable
        if before is not None:
            recovery = self._judge(before, cache_bytes)
            if lost := self._loss(before, recovery):
                self._replace_identity(before, lost)
            else:
                self._doubt(before, recovery)
                journal = Journal.open(
                    self._files,
                    self._journal_path,
                    recovery,
                    segment_bytes=segment_bytes,
                    truncation_durable=durable,
                    rewrite_unsynced=before.sync == "always",
                )
                return journal, self._keep_identity(before, journal, recovery), recovery
        elif self._holds_events():
            self._note("the meta is gone: the journal beside it is set aside, and this node takes a new storage id")
        if self._holds_events():
            self._set_aside(JOURNAL_NAME, JOURNAL_NAME + DAMAGED + "{}")
        journal, recovery = Journal.create(
            self._files, self._journal_path, segment_bytes=segment_bytes, truncation_durable=durable
        )
        meta = Meta(self._draw_id()) if before is None else self.state.meta
        # Behind journal and watermark: from now on a missing one is a lost one.
        return journal, self._finish_opening(journal, replace(self._fresh, meta=meta)), recovery

    def _judge(self, before: DirectoryMeta, cache_bytes: int) -> ScannedLog:
        try:
            found = load_watermark(self._files, self._path)
        except NewerFormat as error:
            raise EnvironmentProblem(f"{self._path}/{WATERMARK_NAME}: {error}", NEWER_REMEDY) from None
        self._marked = found.watermark
        if found.watermark is not None:
            doubtful = not found.whole or found.watermark.storage_id != before.meta.storage_id
        else:  # in a directory from before there were any, the end of a process that closed it is as good
            doubtful = before.watermarked or not before.clean
        return recover(
            self._files,
            self._journal_path,
            past=self._past(before),
            watermark=found.watermark,
            doubtful=doubtful,
            synced_floor=before.synced_seq,
            cache_bytes=cache_bytes,
        )

    def _loss(self, before: DirectoryMeta, recovery: ScannedLog) -> str:
        """What the disk lost that was acknowledged or promised; nothing where it did not.

        The watermark knows which meta was written last, and each event's epoch was promised, durably, before the event
        was written. Either may tell that the meta went back: what was promised and voted since then is forgotten, and
        could be given to another now.
        """
        if recovery.verdict is Verdict.CORRUPT:
            return recovery.detail
        if recovery.verdict is Verdict.FOREIGN:
            return ""
        marked = self._marked
        if (
            marked is not None and marked.storage_id == before.meta.storage_id and marked.meta_turn > before.turn
            and self._rules.meta_held_against_watermark
        ):  # fmt: skip
            return (
                f"{META_NAME} is an older one, put back, or the disk lost a newer one: it is number {before.turn}, and "
                f"number {marked.meta_turn} was written"
            )
        promised, epoch = before.meta.promised, recovery.last_epoch
        if epoch <= promised or not self._rules.promise_held_against_log:
            return ""
        return f"{META_NAME} is older than the journal: it promises epoch {promised}, which ends in epoch {epoch}"

    def _past(self, before: DirectoryMeta) -> Past:
        if before.boot_id != "" and before.boot_id == self._fresh.boot_id:
            return Past.SAME_BOOT
        return Past.UNSYNCED if before.sync == "os" and not before.clean else Past.OTHER_BOOT

    def _load(self) -> DirectoryMeta | None:
        """The meta, if there is an intact one, and it is this node's."""
        try:
            meta = load_meta(self._files, self._path)
        except NewerFormat as error:
            raise EnvironmentProblem(f"{self._path}/{META_NAME}: {error}", NEWER_REMEDY) from None
        except DecodeError as error:
            self._note(f"{error}: it is set aside, and this node takes a new storage id")
            self._set_aside(META_NAME, f"meta{DAMAGED}{{}}.json")
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
        self.state = replace(self._fresh, turn=meta.turn)
        return meta

    def _doubt(self, before: DirectoryMeta, recovery: ScannedLog) -> None:
        """Note the doubt, durably, before anything is mended: a start cut short in between leaves a whole, shorter log.

        All else in the meta stays, so that the next start comes to the same verdict for the same reasons.
        """
        if recovery.is_suspect and not before.suspect and self._rules.doubt_before_mending:
            self._store(replace(before, suspect=True))

    def _keep_identity(self, before: DirectoryMeta, journal: Journal, recovery: ScannedLog) -> WatermarkFile:
        if recovery.verdict.cuts:
            self._note(f"{recovery.detail}: the tail was cut")
        if self._past(before) is Past.UNSYNCED:
            self._note('the machine was restarted under sync = "os": acknowledged events may be missing')
        elif recovery.verdict is Verdict.SUSPECT:
            self._note(f"{recovery.detail}: acknowledged events may be missing")
        suspect = before.suspect or recovery.is_suspect
        state = replace(self._fresh, meta=before.meta, synced_seq=journal.synced_seq, suspect=suspect)
        return self._finish_opening(journal, state)

    def _finish_opening(self, journal: Journal, state: DirectoryMeta) -> WatermarkFile:
        """All that the journal holds may be acknowledged from now on: first the watermark, then the meta say so."""
        storage_id, turn = state.meta.storage_id, self.state.turn
        end = Watermark(storage_id, journal.last_epoch, journal.last_seq, journal.last_chain, turn)
        try:
            watermark = open_watermark(self._files, self._path, end)
            self._store(state)
            watermark.replace(end._replace(meta_turn=self.state.turn))
        except BaseException:
            journal.close()
            raise
        return watermark

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
        found = recover(self._files, self._journal_path, past=Past.SAME_BOOT)
        return found.last_seq > 0 or (found.fault is not LogFault.ZERO_TAIL and bool(found.segments or found.excess))

    def _set_aside(self, name: str, pattern: str) -> None:
        for number in range(1, _DAMAGED_MAX):
            target = f"{self._path}/{pattern.format(number)}"
            if not self._files.exists(target):
                self._files.rename(f"{self._path}/{name}", target)
                self._files.fsync_dir(self._path)
                return
        raise EnvironmentProblem(f"{self._path}: {_DAMAGED_MAX} sets of damaged data", "move them away")

    def _store(self, state: DirectoryMeta) -> None:
        known = max(self.state.turn, 0 if self._marked is None else self._marked.meta_turn)
        state = replace(state, turn=known + 1 if state.watermarked else 0)
        store_meta(self._files, self._path, state)
        self.state = state

    def _note(self, finding: str) -> None:
        self.findings.append(f"{self._path}: {finding}")
