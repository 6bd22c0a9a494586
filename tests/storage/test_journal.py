import errno
import threading
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from random import Random

import pytest

from mcast.errors import CorruptionError, DiskFailed, Gone
from mcast.sim.disk import SimFiles, Stopped
from mcast.storage.files import IOV_MAX, RealFiles
from mcast.storage.journal import Journal
from mcast.storage.recovery import INDEX_STRIDE_BYTES, UUID_UNKNOWN
from mcast.storage.segment import decode_header_untrusted, segment_name
from mcast.storage.segments import OPEN_SEGMENTS_MAX
from mcast.storage.verdict import Past, Verdict
from mcast.wire.frame import CHAIN_ZERO, Frame, make_frame
from mcast.wire.messages import Configuration, Recovery, encode_message
from mcast.wire.records import RecordKind, encode_record

from .logs import JOURNAL, UUID, a_frame, a_log, begin, everything, genesis_frame, open_journal, reopen

OTHER = bytes(reversed(UUID))
SIZE = 20_000  # three entries a segment


class CountingFiles(SimFiles):
    """Counts writes, and may hold a sync until told."""

    def __init__(self) -> None:
        super().__init__(Random(1))
        self.writes: list[int] = []
        self.in_sync = threading.Event()
        self.go_on = threading.Event()
        self.go_on.set()

    def pwritev(self, fd: int, buffers: Sequence[bytes], offset: int) -> int:
        self.writes.append(len(buffers))
        return super().pwritev(fd, buffers, offset)

    def fdatasync(self, fd: int) -> None:
        self.in_sync.set()
        assert self.go_on.wait(5)
        super().fdatasync(fd)


class ShortFiles(SimFiles):
    """Writes at most `at_most` bytes a call."""

    def __init__(self) -> None:
        super().__init__(Random(1))
        self.at_most = 1 << 30

    def pwritev(self, fd: int, buffers: Sequence[bytes], offset: int) -> int:
        return super().pwritev(fd, [b"".join(buffers)[: self.at_most]], offset)


def test_a_new_journal_is_empty() -> None:
    _, journal = begin()
    assert (journal.last_seq, journal.last_chain, journal.low_water) == (0, CHAIN_ZERO, 1)
    assert (journal.synced_seq, journal.cluster_uuid) == (0, UUID_UNKNOWN)
    assert journal.read(1, 1_000) == [] == everything(journal)


def test_a_burst_is_one_write_without_copies_of_bodies() -> None:
    files = CountingFiles()
    _, journal = begin(files)
    files.writes.clear()
    journal.append(a_log(200))
    assert files.writes == [401]
    journal.append([])
    assert files.writes == [401]


def test_a_burst_beyond_iov_max_is_a_few_writes() -> None:
    files = CountingFiles()
    _, journal = begin(files, 1 << 20)
    files.writes.clear()
    log = a_log(1_000)
    journal.append(log)
    assert files.writes == [IOV_MAX, 2_001 - IOV_MAX]
    assert everything(journal) == log


def test_segments_roll_and_continue_the_chain() -> None:
    files, journal = begin()
    log = [genesis_frame()]
    log += a_log(9, size=SIZE, after=log[0])
    journal.append(log)
    assert journal.last_chain == log[-1].chain
    assert everything(journal) == log
    headers = [decode_header_untrusted(files.contents(f"{JOURNAL}/{segment_name(n)}")) for n in (1, 2, 3)]
    assert [header.first for header in headers] == [1, 5, 8]
    assert [header.cluster_uuid for header in headers] == [UUID_UNKNOWN, UUID, UUID]


def test_the_largest_frame_fits_the_smallest_segment() -> None:
    _, journal = begin()
    log = a_log(3, size=65_535)
    journal.append(log)
    assert everything(journal) == log


def test_read_begins_with_the_frame_that_holds_the_event() -> None:
    _, journal = begin()
    log = a_log(40, size=5_000, count=10)
    journal.append(log)
    for seq in (1, 10, 11, 155, 391, 400):
        assert journal.read(seq, 0) == [log[(seq - 1) // 10]]
    assert journal.read(155, 4 * 5_056) == log[15:19]
    assert journal.read(155, 1 << 30) == log[15:]
    assert journal.read(401, 1 << 30) == []


def test_read_below_the_low_water_is_gone() -> None:
    _, journal = begin()
    with pytest.raises(Gone) as caught:
        journal.read(0, 1)
    assert caught.value.low_water == 1


def test_the_sparse_index_serves_large_segments() -> None:
    files, journal = begin(segment_bytes=16 << 20)
    log = a_log(3_000, size=4_000)
    for start in range(0, len(log), 100):
        journal.append(log[start : start + 100])
    for _ in range(2):
        for seq in (1, 2, 17, 18, 1_500, 2_999, 3_000):
            assert journal.read(seq, 8_200) == log[seq - 1 : seq + 1]
        assert everything(journal) == log
        journal = reopen(files)


def test_segments_of_another_size_are_read_and_cut_like_ours() -> None:
    files, journal = begin(segment_bytes=1 << 20)
    log = a_log(40, size=SIZE)
    journal.append(log)
    journal = reopen(files)
    journal.truncate(30)
    behind = a_log(9, size=SIZE, epoch=2, after=log[29])
    journal.append(behind)
    assert everything(journal) == log[:30] + behind
    assert everything(reopen(files)) == log[:30] + behind


def test_a_long_journal_keeps_few_files_open() -> None:
    _, journal = begin()
    log: list[Frame] = []
    for _ in range(3 * OPEN_SEGMENTS_MAX):
        log += a_log(3, size=SIZE, after=log[-1] if log else None)
        journal.append(log[-3:])
        journal.sync()
    opened = sum(segment.fd is not None for segment in journal._segments._list)
    assert opened == OPEN_SEGMENTS_MAX + 1
    assert everything(journal) == log


def test_only_what_follows_is_appended() -> None:
    _, journal = begin()
    log = a_log(3, epoch=4)
    journal.append(log[:1])
    for wrong in (log[:1], log[2:], [log[1], log[1]], [a_frame(log[0], epoch=3)]):
        with pytest.raises(ValueError, match="cannot follow"):
            journal.append(wrong)
    journal.append(log[1:])


def test_a_burst_in_which_one_frame_does_not_follow_leaves_nothing() -> None:
    files, journal = begin()
    log = a_log(9, size=SIZE)
    journal.append(log[:2])
    with pytest.raises(ValueError, match="event 9 of epoch 1 cannot follow 7"):
        journal.append([*log[2:7], log[8]])  # rolls twice before it comes to the wrong one
    assert everything(journal) == log[:2]
    journal.append(log[2:])
    assert everything(journal) == log == everything(reopen(files))


def test_a_write_that_falls_short_is_completed() -> None:
    files = ShortFiles()
    _, journal = begin(files)
    log = a_log(20, size=3_000)
    files.at_most = 1_000
    journal.append(log[:5])
    journal.append(log[5:])
    assert everything(journal) == log == everything(reopen(files))


def test_the_index_remembers_one_entry_a_stride_however_entries_come() -> None:
    log = a_log(2_000, size=1_000)
    indexes = []
    for burst in (1, 7, 2_000):
        _, journal = begin(segment_bytes=16 << 20)
        for start in range(0, len(log), burst):
            journal.append(log[start : start + burst])
        state = journal._segments.active.state
        indexes.append((list(state.seqs), list(state.offsets)))
    offsets = indexes[0][1]
    assert indexes == [indexes[0]] * 3
    assert all(INDEX_STRIDE_BYTES <= b - a < INDEX_STRIDE_BYTES + 2_000 for a, b in pairwise(offsets))


def test_a_sync_looks_only_at_segments_with_writes_that_wait_for_it() -> None:
    _, journal = begin()
    log = a_log(30, size=SIZE)
    journal.append(log[:20])
    assert len(journal.sync_begin().segments) == len(journal._segments) == 7
    journal.sync()
    assert journal.sync_begin().segments == ()
    journal.append(log[20:22])
    assert [segment.state.header.number for segment in journal.sync_begin().segments] == [7, 8]


def test_completed_writes_survive_the_process() -> None:
    files, journal = begin()
    log = a_log(10, size=SIZE)
    journal.append(log)
    again = reopen(files)
    assert everything(again) == log
    assert again.synced_seq == 10


@pytest.mark.parametrize("seed", range(20))
def test_synced_events_survive_the_power(seed: int) -> None:
    files, journal = begin(SimFiles(Random(seed)))
    log = a_log(12, size=SIZE)
    journal.append(log[:5])
    assert journal.sync() == 5
    journal.append(log[5:])
    again = reopen(files, power=True)
    assert again.last_seq >= 5
    assert everything(again) == log[: again.last_seq]


@pytest.mark.parametrize("seed", range(10))
def test_a_process_killed_while_writing_leaves_a_tail_that_is_cut(seed: int) -> None:
    files, journal = begin(SimFiles(Random(seed)))
    log = a_log(4, size=SIZE // 4)
    journal.append(log[:2])
    files.stop_after(0)
    with pytest.raises(Stopped):
        journal.append(log[2:])
    files.kill()
    again, recovery = open_journal(files)
    assert recovery.verdict in (Verdict.CUT, Verdict.INTACT)
    assert not recovery.is_suspect
    assert everything(again) == log[: again.last_seq] and again.last_seq >= 2


def test_a_sync_claims_nothing_appended_after_it_began() -> None:
    _, journal = begin()
    log = a_log(6)
    journal.append(log[:2])
    mark = journal.sync_begin()
    journal.append(log[2:4])
    assert journal.sync_finish(mark) == 2 == journal.synced_seq
    later = journal.sync_begin()
    journal.append(log[4:])
    assert journal.sync_finish(later) == 4
    assert journal.sync_finish(mark) == 4, "an older mark takes nothing back"


def test_a_sync_in_steps_takes_segments_oldest_first_then_names_and_claims_all_at_the_end() -> None:
    files, journal = begin()
    log = a_log(8, size=SIZE)
    journal.append(log[:5])
    steps = journal.sync_steps(journal.sync_begin())
    done: list[int | str] = []
    for step in steps:
        assert journal.synced_seq == 0
        done.append(step)
        if isinstance(step, int):
            files.fdatasync(step)
        else:
            files.fsync_dir(step)
        journal.append(log[4 + len(done) : 5 + len(done)])
    assert done == [*(segment.fd for segment in journal._segments._list[:2]), JOURNAL]
    assert journal.synced_seq == 5
    journal.sync()
    assert everything(reopen(files, power=True)) == log


@pytest.mark.parametrize("good", range(3))
def test_a_step_of_a_sync_that_fails_ends_the_journal(good: int) -> None:
    _, journal = begin()
    journal.append(a_log(5, size=SIZE))
    steps = journal.sync_steps(journal.sync_begin())
    for _ in range(good + 1):
        next(steps)
    with pytest.raises(DiskFailed):
        steps.throw(OSError(errno.EIO, "Input/output error"))
    assert journal.synced_seq == 0
    with pytest.raises(DiskFailed):
        next(journal.sync_steps(journal.sync_begin()))


def test_appending_and_rolling_go_on_during_a_sync_in_a_thread() -> None:
    files = CountingFiles()
    _, journal = begin(files)
    log = a_log(8, size=SIZE)
    journal.append(log[:2])
    files.go_on.clear()
    files.in_sync.clear()
    result: list[int] = []
    thread = threading.Thread(target=lambda: result.append(journal.sync()))
    thread.start()
    assert files.in_sync.wait(5)
    journal.append(log[2:])
    assert journal.read(8, 0) == log[7:]
    files.go_on.set()
    thread.join(5)
    assert result == [2]
    assert journal.sync() == 8
    assert everything(reopen(files, power=True)) == log


def test_entries_name_the_last_synced_point() -> None:
    files, journal = begin()
    log = a_log(6)
    journal.append(log[:3])
    journal.sync()
    journal.append(log[3:])
    journal.close()
    _, recovery = open_journal(files)
    assert recovery.synced_seq == 3


@pytest.mark.parametrize("last", [0, 1, 2, 3, 4, 6, 9])
def test_truncation_is_durable_before_it_returns(last: int) -> None:
    files, journal = begin()
    log = a_log(10, size=SIZE)
    journal.append(log)
    journal.sync()
    journal.truncate(last)
    assert (journal.last_seq, journal.synced_seq) == (last, last)
    assert journal.last_chain == (log[last - 1].chain if last else CHAIN_ZERO)
    again = reopen(files, power=True)
    assert everything(again) == log[:last]
    behind = a_log(5, size=SIZE, epoch=2, after=log[last - 1] if last else None)
    again.append(behind)
    assert everything(again) == log[:last] + behind
    assert everything(reopen(files)) == log[:last] + behind


@pytest.mark.parametrize("stop", range(16))
def test_a_truncation_cut_short_by_the_power_leaves_no_hole(stop: int) -> None:
    for seed in range(6):
        files, journal = begin(SimFiles(Random(seed)))
        log = a_log(15, size=SIZE)
        for frame in log:
            journal.append([frame])
            journal.sync()
        files.stop_after(stop)
        try:
            journal.truncate(2)
        except Stopped:
            assert everything(reopen(files, power=True)) in [log[:2], *(log[:n] for n in range(3, 16, 3))], seed
        else:
            assert everything(reopen(files, power=True)) == log[:2]


def test_truncation_makes_what_remains_durable() -> None:
    files, journal = begin()
    log = a_log(7, size=SIZE)
    journal.append(log)
    journal.truncate(6)
    assert everything(reopen(files, power=True)) == log[:6]


def test_truncation_at_or_behind_the_end_changes_nothing() -> None:
    _, journal = begin()
    journal.append(a_log(3))
    journal.truncate(3)
    journal.truncate(9)
    assert journal.last_seq == 3


def test_truncation_inside_a_frame_is_refused() -> None:
    _, journal = begin()
    journal.append(a_log(3, count=4))
    with pytest.raises(ValueError, match="inside the frame"):
        journal.truncate(6)
    with pytest.raises(ValueError, match="before the journal"):
        journal.truncate(-1)
    assert journal.last_seq == 12


def test_a_sync_begun_before_a_truncation_proves_nothing_after_it() -> None:
    _, journal = begin()
    log = a_log(7, size=SIZE)
    journal.append(log)
    mark = journal.sync_begin()
    journal.truncate(4)
    journal.append(a_log(3, size=SIZE, epoch=2, after=log[3]))
    assert journal.sync_finish(mark) == 4
    assert journal.sync() == 7


def test_a_truncated_genesis_takes_the_uuid_with_it() -> None:
    _, journal = begin()
    journal.append([genesis_frame()])
    assert journal.cluster_uuid == UUID
    journal.truncate(0)
    assert journal.cluster_uuid == UUID_UNKNOWN
    journal.append([genesis_frame(bytes(15) + b"\1")])
    assert journal.cluster_uuid == bytes(15) + b"\1"


def a_recovery(after: Frame, uuid: bytes) -> Frame:
    payload = encode_message(Recovery(uuid, Configuration(2, ()), ()))
    record = encode_record(RecordKind.RECOVERY, 1, 0, 0, 0, payload)
    return make_frame(after.epoch + 1, after.last + 1, 1, after.last, after.time, after.chain, record)


def test_behind_a_recovery_segments_name_its_cluster_and_a_truncation_takes_it_back() -> None:
    files, journal = begin()
    log = [genesis_frame()]
    log += a_log(4, size=SIZE, after=log[0])
    log.append(a_recovery(log[-1], OTHER))
    log += a_log(6, size=SIZE, epoch=3, after=log[-1])
    journal.append(log)  # in one burst: the segments that it rolls before the recovery are still of the first cluster
    journal.sync()
    assert journal.cluster_uuid == OTHER
    names = [segment_name(n) for n in (1, 2, 3, 4)]
    uuids = [decode_header_untrusted(files.contents(f"{JOURNAL}/{name}")).cluster_uuid for name in names]
    assert uuids == [UUID_UNKNOWN, UUID, OTHER, OTHER]
    again, recovery = open_journal(files)
    assert (recovery.verdict, recovery.cluster_starts) == (Verdict.INTACT, ((1, UUID), (6, OTHER)))
    assert (again.cluster_uuid, everything(again)) == (OTHER, log)
    again.truncate(5)
    assert again.cluster_uuid == UUID
    again.append(a_log(1, epoch=2, after=log[4]))
    again.sync()
    assert open_journal(files)[0].cluster_uuid == UUID


def test_a_restart_writes_again_what_no_sync_confirmed() -> None:
    files = CountingFiles()
    _, journal = begin(files)
    log = a_log(7, size=SIZE)
    journal.append(log[:2])
    journal.sync()
    journal.append(log[2:])
    files.kill()
    files.writes.clear()
    again, _ = open_journal(files)
    assert len(files.writes) == 3
    files.crash()
    files.writes.clear()
    again, _ = open_journal(files, rewrite_unsynced=False)
    assert files.writes == []
    assert everything(again) == log


def test_a_disk_that_gives_back_something_else_is_noticed() -> None:
    files, journal = begin()
    journal.append(a_log(3))
    files.corrupt(f"{JOURNAL}/{segment_name(1)}", 512)
    with pytest.raises(CorruptionError):
        journal.read(1, 1)


def test_stale_bytes_after_a_truncation_are_why_it_is_durable() -> None:
    files, journal = begin(SimFiles(Random(3)))
    journal.close()
    journal, _ = open_journal(files, truncation_durable=False)
    log = a_log(6, size=5_000)
    journal.append(log)
    journal.sync()
    journal.truncate(3)
    assert everything(journal) == log[:3]
    files.crash()
    again, _ = open_journal(files, past=Past.OTHER_BOOT)
    assert everything(again) == log, "what was cut is back"


def test_on_real_files(tmp_path: Path) -> None:
    files, directory = RealFiles(), str(tmp_path / "journal")
    journal, _ = Journal.create(files, directory, segment_bytes=1 << 20)
    log = a_log(300, size=20_000)
    for start in range(0, 300, 30):
        journal.append(log[start : start + 30])
        assert journal.sync() == start + 30
    journal.truncate(205)
    assert len(files.listdir(directory)) == 4
    journal.append(a_log(3, epoch=2, after=log[204]))
    journal.sync()
    journal.close()
    again, recovery = open_journal(files, directory, segment_bytes=1 << 20)
    assert recovery.verdict is Verdict.INTACT
    assert everything(again)[:205] == log[:205]
    assert again.last_seq == 208
    assert (tmp_path / "journal" / segment_name(1)).stat().st_size == 1 << 20
    again.close()
