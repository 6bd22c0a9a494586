import select
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from mcast.clock import monotonic_s
from mcast.errors import DiskFailed
from mcast.node import durability
from mcast.node.durability import GroupCommit
from mcast.protocol.effects import Meta, NoteDoubt
from mcast.storage.files import RealFiles
from mcast.storage.store import Store
from mcast.wire.frame import CHAIN_ZERO, make_frame
from tests.node.disks import Disk, KernelDisk, frames


def until_synced(disk: Disk, commit: GroupCommit) -> list[int]:
    """Completions of the sync under way."""
    disk.until_ended()
    return commit.take_completed()


@pytest.fixture(params=[Disk, KernelDisk])
def disk(request: pytest.FixtureRequest) -> Disk:
    kind: type[Disk] = request.param
    return kind()


def start(disk: Disk, *, always: bool, clock: Callable[[], float] = monotonic_s) -> GroupCommit:
    return GroupCommit(disk, always=always, wake=disk.synced.set, clock=clock)


def test_os_mode_completes_after_the_write_without_any_sync(disk: Disk) -> None:
    commit = start(disk, always=False)
    commit.append(1, frames(1))
    commit.append(2, frames(2))
    assert commit.take_completed() == [1, 2]
    assert commit.take_completed() == []
    assert disk.done == [("append", 1, 1), ("append", 2, 2)] and disk.covered == 2


@pytest.mark.parametrize("always", [True, False])
def test_nothing_completes_before_the_watermark_covers_it(disk: Disk, always: bool) -> None:
    commit = start(disk, always=always)
    disk.uncoverable = True
    commit.append(1, frames(1))
    assert commit.take_completed() == []
    if always:
        assert until_synced(disk, commit) == []
    assert commit.is_full
    commit.append(2, frames(2))
    assert commit.take_completed() == []
    commit.retry()
    assert commit.take_completed() == []
    if always:
        assert until_synced(disk, commit) == []
    commit.clear_suspect()
    assert ("trusted",) not in disk.done
    disk.uncoverable = False
    commit.retry()
    assert commit.take_completed() == [1, 2] and disk.done[-1] == ("trusted",)
    commit.close()


def test_always_mode_completes_only_after_a_sync(disk: Disk) -> None:
    commit = start(disk, always=True)
    disk.may_sync.clear()
    commit.append(1, frames(1))
    assert commit.take_completed() == []
    disk.may_sync.set()
    assert until_synced(disk, commit) == [1]
    assert commit.syncs == 1 and threading.get_ident() not in disk.sync_threads
    commit.close()


@pytest.fixture
def quick_s(monkeypatch: pytest.MonkeyPatch) -> float:
    """So long that a busy machine's helper thread makes it."""
    monkeypatch.setattr(durability, "QUICK_S", 5.0)
    return 5.0


@pytest.mark.parametrize(
    ("patient", "took", "written", "waits"),
    [(True, 1, 1, True), (False, 1, 1, False), (True, 2, 1, False), (True, 1, durability.LITTLE_BYTES, False)],
)
def test_who_is_patient_waits_for_a_sync_of_little_that_should_be_quick(
    disk: Disk, quick_s: float, patient: bool, took: float, written: int, waits: bool
) -> None:
    now = 0.0
    commit = start(disk, always=True, clock=lambda: now)
    commit.append(1, frames(1))
    assert commit.take_completed(patient=True) == [], "nothing is known of this disk yet"
    now = took * quick_s
    assert until_synced(disk, commit) == [1]
    commit.append(2, [make_frame(1, 2, 1, 0, 0, CHAIN_ZERO, bytes(written))])
    assert commit.take_completed(patient=patient) == ([2] if waits else [])
    if not waits:
        assert until_synced(disk, commit) == [2]
    assert commit.syncs == 2
    commit.close()


def test_a_sync_that_lasts_is_waited_for_in_the_background(disk: Disk, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(durability, "QUICK_S", 0.01)
    now = 0.0
    commit = start(disk, always=True, clock=lambda: now)
    commit.append(1, frames(1))
    commit.take_completed()
    assert until_synced(disk, commit) == [1]
    disk.may_sync.clear()
    commit.append(2, frames(2))
    assert commit.take_completed(patient=True) == []
    now = 1.0
    disk.may_sync.set()
    assert until_synced(disk, commit) == [2]
    commit.append(3, frames(3))
    monkeypatch.setattr(durability, "QUICK_S", 0.9)
    assert commit.take_completed(patient=True) == [], "the last one was not quick"
    assert until_synced(disk, commit) == [3]
    commit.close()


def test_appends_during_a_sync_share_the_next_one(disk: Disk) -> None:
    commit = start(disk, always=True)
    disk.may_sync.clear()
    commit.append(1, frames(1))
    commit.take_completed()
    for ticket in (2, 3, 4):
        commit.append(ticket, frames(ticket))
        assert commit.take_completed() == []
    disk.may_sync.set()
    assert until_synced(disk, commit) == [1]
    assert until_synced(disk, commit) == [2, 3, 4]
    assert sum(step[0] == "sync" for step in disk.done) == 2
    commit.close()


def test_a_truncation_comes_after_all_earlier_appends_and_completes_behind_them(disk: Disk) -> None:
    commit = start(disk, always=True)
    commit.append(1, frames(1))
    commit.take_completed()
    commit.append(2, frames(2))
    commit.truncate(3, 1)
    commit.append(4, frames(2))
    completed = commit.take_completed()
    while completed[-1] != 4:
        completed += until_synced(disk, commit)
    assert completed == [1, 2, 3, 4]
    steps = [step for step in disk.done if step[0] != "sync"]
    assert steps == [("append", 1, 1), ("append", 2, 2), ("truncate", 1), ("append", 2, 2)]
    assert disk.done[disk.done.index(("truncate", 1)) - 1][0] == "sync"
    commit.close()


def test_the_end_of_log_recovery_waits_for_the_sync_under_way(disk: Disk) -> None:
    disk.may_sync.clear()
    commit = start(disk, always=True)
    commit.append(1, frames(1))
    assert commit.take_completed() == []
    threading.Timer(0.01, disk.may_sync.set).start()
    commit.clear_suspect()
    assert disk.done[-1] == ("trusted",)
    commit.close()


def test_the_meta_is_durable_before_its_ticket(disk: Disk) -> None:
    commit = start(disk, always=True)
    commit.write_meta(7, Meta(bytes(16), promised=3))
    assert disk.done == [("meta", 3)]
    assert commit.take_completed() == [7]
    commit.close()


def test_a_failed_sync_completes_nothing_ever_after(disk: Disk) -> None:
    commit = start(disk, always=True)
    disk.failing = True
    commit.append(1, frames(1))
    commit.take_completed()
    disk.until_ended()
    for _ in range(2):
        with pytest.raises(DiskFailed):
            commit.take_completed()
    with pytest.raises(DiskFailed):
        commit.truncate(2, 0)
    commit.close()


def test_a_full_disk_completes_nothing_until_there_is_room_and_keeps_the_order(disk: Disk) -> None:
    commit = start(disk, always=False)
    disk.full = True
    commit.append(1, frames(1))
    disk.full = False
    commit.append(2, frames(2))  # would leave a hole if it were written now
    assert commit.is_full and commit.take_completed() == []
    commit.retry()
    assert commit.take_completed() == [1, 2]
    assert disk.done == [("append", 1, 1), ("append", 2, 2)]


def test_a_truncation_while_the_disk_is_full_drops_what_it_cuts(disk: Disk) -> None:
    commit = start(disk, always=False)
    disk.full = True
    commit.append(1, frames(5, 2))
    commit.append(2, frames(7))
    commit.truncate(3, 5)
    assert commit.take_completed() == [3]
    commit.append(4, frames(6))
    disk.full = False
    commit.retry()
    assert disk.done == [("append", 5, 5), ("append", 6, 6)]
    assert commit.take_completed() == [1, 4]


def test_a_truncation_below_the_journals_end_drops_all_that_a_full_disk_refused(disk: Disk) -> None:
    commit = start(disk, always=False)
    disk.full = True
    commit.append(1, frames(5))
    commit.truncate(2, 3)
    assert disk.done == [("truncate", 3)]
    assert not commit.is_full and commit.take_completed() == [2]


@pytest.mark.parametrize("always", [False, True])
def test_a_truncation_that_a_full_disk_refuses_waits_and_what_follows_it_waits_with_it(
    disk: Disk, always: bool
) -> None:
    commit = start(disk, always=always)
    disk.uncuttable = True
    commit.truncate(1, 4)
    commit.append(2, frames(5))  # the old event 5 still stands there
    commit.retry()
    assert (commit.is_full, commit.take_completed(), disk.done) == (True, [], [])
    disk.uncuttable = False
    commit.retry()
    completed = commit.take_completed()
    while len(completed) < 2:
        completed += until_synced(disk, commit)
    assert completed == [1, 2] and not commit.is_full
    assert [step for step in disk.done if step[0] != "sync"] == [("truncate", 4), ("append", 5, 5)]
    commit.close()


def test_a_doubt_that_a_full_disk_refuses_is_noted_before_anything_is_mended(disk: Disk) -> None:
    commit = start(disk, always=False)
    disk.full = True
    commit.order(NoteDoubt(1))
    assert commit.is_full
    assert commit.take_completed() == []
    disk.full = False
    commit.append(2, frames(5))
    assert disk.done == []
    commit.retry()
    assert (commit.is_full, commit.take_completed(), disk.done) == (False, [1, 2], [("doubted",), ("append", 5, 5)])


def test_truncations_that_a_full_disk_refuses_become_the_deepest_of_them(disk: Disk) -> None:
    commit = start(disk, always=False)
    disk.uncuttable = True
    commit.truncate(1, 9)
    commit.append(2, frames(10))
    commit.append(3, frames(11))
    commit.truncate(4, 10)  # within what waits
    assert commit.take_completed() == []
    commit.truncate(5, 6)  # below it
    commit.append(6, frames(7))
    commit.truncate(7, 7)
    assert commit.is_full and commit.take_completed() == []
    disk.uncuttable = False
    commit.retry()
    assert commit.take_completed() == [1, 4, 5, 7, 6]
    assert disk.done == [("truncate", 6), ("append", 7, 7)]


def test_the_end_of_log_recovery_is_noted_when_there_is_room(disk: Disk) -> None:
    commit = start(disk, always=False)
    disk.full = True
    commit.clear_suspect()
    commit.retry()
    assert (commit.is_full, disk.done) == (True, [])
    disk.full = False
    commit.retry()
    commit.retry()
    assert (commit.is_full, disk.done) == (False, [("trusted",)])


def test_log_recovery_does_not_end_before_all_of_the_log_lies_on_disk(disk: Disk) -> None:
    """What made the log whole may be the very events that a full disk refuses: lost now, they are missed by nobody."""
    commit = start(disk, always=False)
    disk.full = True
    commit.append(1, frames(1))
    disk.full = False  # the meta is small, and fits where a segment does not
    commit.clear_suspect()
    assert commit.is_full and disk.done == []
    commit.retry()
    assert disk.done == [("append", 1, 1), ("trusted",)]
    assert not commit.is_full


def test_log_recovery_does_not_end_before_a_sync_covers_what_was_written(disk: Disk) -> None:
    disk.may_sync.clear()
    commit = start(disk, always=True)
    commit.append(1, frames(1))
    assert commit.take_completed() == []
    commit.append(2, frames(2))  # the sync under way does not cover it
    threading.Timer(0.01, disk.may_sync.set).start()
    commit.clear_suspect()
    assert [step[0] for step in disk.done] == ["append", "append", "sync", "sync", "trusted"]
    commit.close()


def test_a_disk_that_stays_full_fails_at_a_bound(disk: Disk, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(durability, "UNWRITTEN_BYTES_MAX", 150)
    commit = start(disk, always=False)
    disk.full = True
    commit.append(1, frames(1, 2))
    with pytest.raises(DiskFailed, match="full"):
        commit.append(2, frames(3))


def test_genesis_is_synced_in_either_mode(disk: Disk) -> None:
    commit = start(disk, always=False)
    commit.append(1, [make_frame(0, 1, 1, 0, 0, CHAIN_ZERO, b"genesis")])
    assert commit.take_completed() == [1]
    assert disk.done == [("append", 1, 1), ("sync", 1)]


def test_a_promise_that_finds_the_disk_full_waits_for_room(disk: Disk) -> None:
    commit = start(disk, always=False)
    disk.full = True
    commit.write_meta(1, Meta(bytes(16), promised=3))
    commit.write_meta(2, Meta(bytes(16), promised=4))
    commit.retry()
    assert (commit.is_full, commit.take_completed()) == (True, [])
    disk.full = False
    commit.retry()
    assert not commit.is_full
    assert commit.take_completed() == [1, 2]
    assert disk.done == [("meta", 3), ("meta", 4)]


def test_the_owner_watches_a_descriptor_where_the_kernel_syncs() -> None:
    assert start(Disk(), always=False).fileno() is None
    thread = start(Disk(), always=True)
    assert thread.fileno() is None
    thread.close()
    disk = KernelDisk()
    kernel = start(disk, always=True)
    assert kernel.fileno() == 17
    kernel.close()
    assert disk.kernel.closed


def test_what_is_durable_already_completes_at_once() -> None:
    disk = KernelDisk()
    disk.kernel.begin = lambda what: False  # type: ignore[method-assign]
    commit = start(disk, always=True)
    commit.append(1, frames(1))
    assert commit.take_completed() == [1]
    commit.close()


class ThreadFiles(RealFiles):
    def background_sync(self) -> None:
        return


@pytest.mark.parametrize("files", [RealFiles(), ThreadFiles()])
def test_on_real_files_all_that_completes_is_durable(tmp_path: Path, files: RealFiles) -> None:
    store, _ = Store.open(files, tmp_path, "lab", "n1", segment_bytes=200_000)
    ended = threading.Event()
    commit = GroupCommit(store, always=True, wake=ended.set)
    chain, log = CHAIN_ZERO, []
    for seq in range(1, 41):
        log.append(make_frame(1, seq, 1, 0, 0, chain, bytes(20_000)))
        chain = log[-1].chain
    completed: list[int] = []
    for frame in log:  # over several segments
        commit.append(frame.last, [frame])
        completed += commit.take_completed()
        assert not completed or store.synced_seq >= completed[-1]
    while len(completed) < len(log):
        if (fd := commit.fileno()) is None:
            assert ended.wait(5)
            ended.clear()
        else:
            assert select.select([fd], [], [], 5)[0]
        completed += commit.take_completed()
        assert not completed or store.synced_seq >= completed[-1]
    assert completed == list(range(1, 41)) and store.synced_seq == 40
    commit.close()
    store.close()
