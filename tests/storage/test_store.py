import errno
import os
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from random import Random

import pytest

from mcast.errors import DiskFailed, DiskFull, EnvironmentProblem
from mcast.protocol.effects import Meta
from mcast.sim.disk import SimFiles, Stopped
from mcast.storage.files import RealFiles
from mcast.storage.segment import HEADER_BYTES, SEGMENT_BYTES_MIN, segment_name
from mcast.storage.store import Store
from mcast.wire.epochs import Epochs
from mcast.wire.messages import EpochEntry

from .logs import DATA, JOURNAL, UUID, a_log, all_frames, genesis_frame, open_store

SEGMENT_1 = f"{JOURNAL}/{segment_name(1)}"
META = f"{DATA}/meta.json"


def test_a_new_directory_gets_a_storage_id_and_an_empty_log() -> None:
    files = SimFiles(Random(1))
    store, recovered = open_store(files)
    assert len(recovered.meta.storage_id) == 16
    assert recovered.meta == store.meta == Meta(recovered.meta.storage_id)
    assert (recovered.base_seq, recovered.frames, recovered.history) == (0, (), Epochs())
    assert not recovered.suspect and not store.findings
    assert files.listdir(DATA) == ["journal", "meta.json", "watermark"]


@pytest.mark.parametrize("end", ["close", "kill", "crash"])
def test_everything_durable_is_there_again(end: str) -> None:
    files = SimFiles(Random(1))
    store, first = open_store(files)
    genesis = genesis_frame()
    log = [genesis, *a_log(4, epoch=2, after=genesis)]
    store.append(log)
    assert store.sync() == 5
    meta = replace(first.meta, promised=7, voted_epoch=6, voted_for=1 << 63)
    store.write_meta(meta)
    if end == "close":
        store.close()
    files.kill() if end == "kill" else files.crash()
    again, recovered = open_store(files)
    assert recovered.meta == meta
    assert recovered.frames == tuple(log)
    assert tuple(recovered.history) == (EpochEntry(0, 1, bytes(16)), EpochEntry(2, 2, genesis.chain))
    assert again.cluster_uuid == UUID
    assert not recovered.suspect and not again.findings


def test_the_directory_is_locked() -> None:
    files = SimFiles(Random(1))
    store, _ = open_store(files)
    with pytest.raises(EnvironmentProblem, match=rf"pid {os.getpid()}\b"):
        open_store(files)
    store.close()
    store.close()
    open_store(files)


def test_a_directory_that_could_not_be_opened_is_not_left_locked() -> None:
    files = SimFiles(Random(1))
    store, _ = open_store(files)
    store.close()
    files.fail("pread", errno.EIO)
    with pytest.raises(EnvironmentProblem, match="Input/output error"):
        open_store(files)
    open_store(files)


@pytest.mark.parametrize(
    ("cluster", "node", "message"),
    [("prod", "n1", "belongs to cluster 'lab', not 'prod'"), ("lab", "n2", "belongs to node 'n1', not 'n2'")],
)
def test_a_directory_of_another_cluster_or_node_is_refused(cluster: str, node: str, message: str) -> None:
    files = SimFiles(Random(1))
    open_store(files)[0].close()
    with pytest.raises(EnvironmentProblem, match=message) as caught:
        Store.open(files, DATA, cluster, node, segment_bytes=SEGMENT_BYTES_MIN)
    assert "data_dir" in caught.value.remedy
    open_store(files)


def test_a_segment_of_another_cluster_is_refused_and_nothing_touched() -> None:
    files, other = SimFiles(Random(1)), SimFiles(Random(2))
    for disk, uuid in ((files, UUID), (other, bytes(16 * [9]))):
        store, _ = open_store(disk)
        genesis = genesis_frame(uuid)
        store.append([genesis, *a_log(8, size=20_000, after=genesis)])
        store.close()
    name = f"{JOURNAL}/{segment_name(2)}"
    files.replace(name, other.contents(name))
    with pytest.raises(EnvironmentProblem, match="another cluster"):
        open_store(files)
    assert files.contents(name) == other.contents(name)


def test_a_directory_that_cannot_be_written_is_explained(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(EnvironmentProblem, match="cannot be used as data directory") as caught:
        Store.open(RealFiles(), tmp_path / "file" / "n1", "lab", "n1")
    assert "data_dir" in caught.value.remedy


@pytest.mark.parametrize("operation", ["mkdir", "lock", "open", "pwritev", "allocate", "fdatasync", "fsync_dir"])
def test_whatever_refuses_at_the_start_is_an_environment_problem(operation: str) -> None:
    files = SimFiles(Random(1))
    files.fail(operation, errno.ENOSPC)
    with pytest.raises(EnvironmentProblem, match=DATA):
        open_store(files)
    assert open_store(files)[1].frames == ()


@pytest.mark.parametrize("power", [True, False])
@pytest.mark.parametrize("damage", ["entry", "segment header", "segment", "directory"])
def test_corruption_sets_the_journal_aside_under_a_new_storage_id(damage: str, power: bool) -> None:
    files = SimFiles(Random(1))
    store, first = open_store(files)
    store.append(a_log(5, size=20_000))
    store.write_meta(replace(first.meta, promised=9, voted_epoch=9, voted_for=3))
    store.close()
    if damage == "entry":
        files.corrupt(SEGMENT_1, HEADER_BYTES + 200)
    elif damage == "segment header":
        files.corrupt(SEGMENT_1, 20)
    elif damage == "segment":
        files.unlink(SEGMENT_1)
        files.fsync_dir(JOURNAL)
    else:
        files.rename(JOURNAL, "/elsewhere")
    held = files.copy()
    if power:
        files.crash()
    again, recovered = open_store(files)
    assert recovered.meta.storage_id != first.meta.storage_id
    assert (recovered.meta.promised, recovered.meta.voted_epoch, recovered.meta.voted_for) == (9, 9, 3)
    assert (again.last_seq, recovered.frames, recovered.suspect) == (0, (), False)
    assert "new storage id" in again.findings[0]
    if damage != "directory":
        aside = f"{DATA}/journal.damaged-1"
        for name in held.listdir(JOURNAL):
            assert files.contents(f"{aside}/{name}") == held.contents(f"{JOURNAL}/{name}")
    again.append(a_log(2))
    again.close()
    last, recovered = open_store(files)
    assert (last.last_seq, last.findings) == (2, ())


def test_damaged_data_never_overwrites_older_damaged_data() -> None:
    files = SimFiles(Random(1))
    for _ in range(2):
        store, _ = open_store(files)
        store.append(a_log(3))
        store.close()
        files.corrupt(SEGMENT_1, HEADER_BYTES + 2)
    open_store(files)
    assert {"journal.damaged-1", "journal.damaged-2"} <= set(files.listdir(DATA))


@pytest.mark.parametrize("loss", ["damaged", "gone", "empty"])
def test_without_its_meta_a_node_is_another_one(loss: str) -> None:
    files = SimFiles(Random(1))
    store, first = open_store(files)
    store.append(a_log(3))
    store.close()
    if loss == "gone":
        files.unlink(META)
    elif loss == "empty":
        files.replace(META, b"")
    else:
        files.corrupt(META, 100, flip=1)
    again, recovered = open_store(files)
    assert recovered.meta.storage_id != first.meta.storage_id
    assert (recovered.meta.promised, again.last_seq) == (0, 0)
    assert "journal.damaged-1" in files.listdir(DATA)
    assert ("meta.damaged-1.json" in files.listdir(DATA)) == (loss != "gone")
    assert again.findings


@pytest.mark.parametrize("stop", range(20))
def test_a_first_start_cut_short_is_repeated(stop: int) -> None:
    files = SimFiles(Random(stop))
    files.stop_after(stop)
    with suppress(Stopped):
        open_store(files)
    files.crash()
    store, recovered = open_store(files)
    assert (recovered.frames, recovered.suspect, store.findings) == ((), False, ())
    assert set(files.listdir(DATA)) <= {"journal", "meta.json", "meta.json.new", "watermark", "watermark.new"}


@pytest.mark.parametrize("stop", range(24))
def test_an_identity_given_up_is_never_taken_again(stop: int) -> None:
    files = SimFiles(Random(stop))
    store, first = open_store(files)
    store.append(a_log(3))
    store.close()
    files.corrupt(SEGMENT_1, HEADER_BYTES + 100)
    files.stop_after(stop)
    with suppress(Stopped):
        open_store(files)
    files.crash()
    again, recovered = open_store(files)
    assert recovered.meta.storage_id != first.meta.storage_id
    assert again.last_seq == 0
    assert "journal.damaged-1" in files.listdir(DATA)


def test_a_lost_tail_is_noticed_after_a_clean_end() -> None:
    files = SimFiles(Random(1))
    store, first = open_store(files)
    store.append(a_log(3))
    store.close()
    held = bytearray(files.contents(SEGMENT_1))
    held[HEADER_BYTES + 100 :] = bytes(len(held) - HEADER_BYTES - 100)
    files.replace(SEGMENT_1, bytes(held))
    assert open_store(files)[1].meta.storage_id != first.meta.storage_id


def test_a_lost_tail_is_noticed_after_a_promise() -> None:
    files = SimFiles(Random(1))
    store, first = open_store(files)
    store.append(a_log(3))
    store.sync()
    store.write_meta(replace(first.meta, promised=2))
    files.kill()
    files.replace(SEGMENT_1, files.contents(SEGMENT_1)[:HEADER_BYTES])
    assert open_store(files)[1].meta.storage_id != first.meta.storage_id


def test_what_a_start_made_durable_is_known_at_the_next() -> None:
    files = SimFiles(Random(1))
    store, first = open_store(files)
    store.append(a_log(3))
    files.kill()
    assert open_store(files)[0].synced_seq == 3
    files.kill()
    files.replace(SEGMENT_1, files.contents(SEGMENT_1)[:HEADER_BYTES])
    assert open_store(files)[1].meta.storage_id != first.meta.storage_id


def test_a_truncation_takes_back_what_the_meta_says_was_synced() -> None:
    files = SimFiles(Random(1))
    store, first = open_store(files)
    store.append(a_log(6))
    store.sync()
    store.write_meta(replace(first.meta, promised=2))
    store.truncate(2)
    files.crash()
    again, recovered = open_store(files)
    assert (again.last_seq, recovered.meta.storage_id) == (2, first.meta.storage_id)


@pytest.mark.parametrize(
    ("sync", "end", "suspect"),
    [
        ("os", "crash", True),
        ("os", "kill", False),
        ("os", "close", False),
        ("always", "crash", False),
        ("always", "kill", False),
    ],
)
def test_without_syncs_a_restart_of_the_machine_makes_a_member_suspect(sync: str, end: str, suspect: bool) -> None:
    files = SimFiles(Random(1))
    store, first = open_store(files, sync=sync)
    store.append(a_log(3))
    if sync == "always":
        store.sync()
    if end == "close":
        store.close()
        files.crash()
    elif end == "kill":
        files.kill()
    else:
        files.crash()
    again, recovered = open_store(files)
    assert recovered.suspect is again.is_suspect is suspect
    assert recovered.meta.storage_id == first.meta.storage_id
    again.close()
    assert open_store(files)[1].suspect is suspect, "a suspect stays one until its log is known whole"


def test_a_suspect_is_cleared_for_good() -> None:
    files = SimFiles(Random(1))
    open_store(files, sync="os")
    files.crash()
    store, _ = open_store(files)
    store.clear_suspect()
    files.crash()
    assert not open_store(files)[1].suspect


def test_a_cut_tail_makes_suspect_after_a_restart_of_the_machine_only() -> None:
    for power in (False, True):
        files = SimFiles(Random(1))
        store, _ = open_store(files)
        store.append(a_log(3))
        files.kill()
        held = files.contents(SEGMENT_1)
        files.replace(SEGMENT_1, held[: HEADER_BYTES + 400])
        if power:
            files.crash()
        again, recovered = open_store(files)
        assert again.last_seq == 2
        assert recovered.suspect is power
        assert "cut" in again.findings[0]


def test_an_unknown_boot_counts_as_another() -> None:
    files = SimFiles(Random(1))
    for _ in range(2):
        _, recovered = Store.open(
            files, DATA, "lab", "n1", sync="os", read_boot_id=lambda: "", segment_bytes=SEGMENT_BYTES_MIN
        )
        files.kill()
    assert recovered.suspect


def test_after_a_failed_write_of_the_meta_it_is_not_tried_again() -> None:
    files = SimFiles(Random(1))
    store, first = open_store(files)
    files.fail("fdatasync", errno.EIO)
    for _ in range(2):
        with pytest.raises(DiskFailed):
            store.write_meta(replace(first.meta, promised=1))
    assert store.meta.promised == 0


def test_a_store_that_cannot_close_cleanly_still_lets_go() -> None:
    files = SimFiles(Random(1))
    store, _ = open_store(files)
    store.append(a_log(1))
    files.fail("fdatasync", errno.EIO)
    with pytest.raises(DiskFailed):
        store.close()
    assert all_frames(open_store(files)[0]) == a_log(1)


def test_on_real_files(tmp_path: Path) -> None:
    directory = tmp_path / "deep" / "n1"
    store, first = Store.open(RealFiles(), directory, "lab", "n1")
    with pytest.raises(EnvironmentProblem, match=rf"pid {os.getpid()}\b"):
        Store.open(RealFiles(), directory, "lab", "n1")
    log = a_log(10)
    store.append(log)
    store.sync_finish(store.sync_begin())
    store.truncate(8)
    store.write_meta(replace(first.meta, promised=3))
    store.close()
    again, recovered = Store.open(RealFiles(), str(directory), "lab", "n1")
    assert recovered.frames == tuple(log[:8])
    assert recovered.meta == replace(first.meta, promised=3)
    assert (again.read(8, 1), again.last_chain, again.low_water) == (log[7:8], log[7].chain, 1)
    again.close()
    assert directory.stat().st_mode & 0o777 == 0o700


@pytest.mark.parametrize("error", [errno.ENOSPC, errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.EINTR])
@pytest.mark.parametrize("operation", ["open", "pwritev", "fdatasync", "rename", "fsync_dir"])
def test_a_full_disk_refuses_a_promise_and_takes_it_later(operation: str, error: int) -> None:
    files = SimFiles(5)
    store, _ = Store.open(files, DATA, "lab", "n1", segment_bytes=SEGMENT_BYTES_MIN)
    promise = replace(store.meta, promised=7)
    files.fail(operation, error)
    with pytest.raises(DiskFull):
        store.write_meta(promise)
    assert store.meta.promised == 0
    store.write_meta(promise)
    store.close()
    _, recovered = Store.open(files, DATA, "lab", "n1", segment_bytes=SEGMENT_BYTES_MIN)
    assert recovered.meta.promised == 7


@pytest.mark.parametrize("error", [errno.ENOSPC, errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.EINTR])
@pytest.mark.parametrize("operation", ["open", "pwritev", "rename", "unlink", "ftruncate"])
def test_a_full_disk_refuses_a_truncation_and_carries_it_out_later(operation: str, error: int) -> None:
    files = SimFiles(5)
    store, _ = open_store(files)
    log = a_log(8, size=20_000)
    store.append(log)
    store.sync()
    store.write_meta(replace(store.meta, promised=2))  # names the synced point
    files.fail(operation, error, times=2)
    for _ in range(2):
        with pytest.raises(DiskFull):
            store.truncate(2)
    store.truncate(2)
    behind = a_log(2, epoch=2, after=log[1])
    store.append(behind)
    store.sync()
    files.crash()
    assert all_frames(open_store(files)[0]) == log[:2] + behind


def test_a_full_disk_keeps_a_log_in_recovery_until_there_is_room() -> None:
    files = SimFiles(5)
    store, _ = open_store(files, sync="os")
    files.crash()
    store, recovered = open_store(files, sync="os")
    assert recovered.suspect
    files.fail("pwritev", errno.ENOSPC)
    with pytest.raises(DiskFull):
        store.clear_suspect()
    assert store.is_suspect
    store.clear_suspect()
    assert not store.is_suspect
