import errno

import pytest

from mcast.errors import DiskFailed, DiskFull

from .logs import a_log, begin, everything, reopen

AGAIN = [errno.ENOSPC, errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.ENOBUFS, errno.EINTR]
SIZE = 20_000  # three entries a segment


@pytest.mark.parametrize("error", AGAIN)
@pytest.mark.parametrize("after", [0, 1])
@pytest.mark.parametrize("operation", ["allocate", "pwritev", "open", "rename"])
def test_a_full_disk_takes_back_the_whole_burst(operation: str, after: int, error: int) -> None:
    files, journal = begin()
    log = a_log(10, size=SIZE)
    journal.append(log[:2])
    journal.sync()
    files.fail(operation, error, after=after, times=2)  # one is tried again at once, when old segments are closed
    with pytest.raises(DiskFull):
        journal.append(log[2:])
    files.mend()
    assert (journal.last_seq, journal.synced_seq) == (2, 2)
    assert everything(journal) == log[:2]
    assert everything(reopen(files.copy())) == log[:2]
    journal.append(log[2:])
    assert journal.sync() == 10
    assert everything(reopen(files, power=True)) == log


@pytest.mark.parametrize("error", AGAIN)
@pytest.mark.parametrize("after", range(6))
@pytest.mark.parametrize("operation", ["unlink", "ftruncate", "allocate"])
def test_a_truncation_that_a_full_disk_refuses_is_finished_later(operation: str, after: int, error: int) -> None:
    files, journal = begin()
    log = a_log(10, size=SIZE)
    journal.append(log)
    mark = journal.sync_begin()
    files.fail(operation, error, after=after, times=2)
    behind = a_log(4, size=SIZE, epoch=2, after=log[3])
    refused = False
    try:
        journal.truncate(4)
    except DiskFull:
        refused = True
        assert everything(journal) == log[:4], "what is cut is read no more"
        with pytest.raises(DiskFull):
            journal.append(behind)
        assert journal.sync_finish(mark) <= 4
        left = everything(reopen(files.copy()))
        assert left[:4] == log[:4] and left == log[: len(left)], "a restart may find what was not cut yet, and no hole"
        journal.truncate(4)
    assert refused is ((operation, after) in {("unlink", 0), ("unlink", 1), ("ftruncate", 0), ("ftruncate", 1)})
    files.mend()
    journal.append(behind)
    assert journal.sync() == 8
    assert everything(journal) == log[:4] + behind == everything(reopen(files, power=True))


@pytest.mark.parametrize("error", [errno.EMFILE, errno.ENFILE])
@pytest.mark.parametrize("after", [0, 1])
def test_a_truncation_whose_names_could_not_be_synced_for_want_of_a_descriptor_goes_on_later(
    error: int, after: int
) -> None:
    """No sync was begun, so it may be tried again; before it has been, no other name goes."""
    files, journal = begin()
    log = a_log(10, size=SIZE)
    journal.append(log)
    journal.sync()
    files.fail("fsync_dir", error, after=after)
    with pytest.raises(DiskFull):
        journal.truncate(1)
    left = everything(reopen(files.copy(), power=True))
    assert left == log[: len(left)] and len(left) >= 1, "and no hole"
    files.mend()
    journal.truncate(1)
    assert everything(journal) == log[:1] == everything(reopen(files, power=True))


def test_a_deeper_truncation_replaces_one_that_waits() -> None:
    files, journal = begin()
    log = a_log(10, size=SIZE)
    journal.append(log)
    files.fail("unlink", errno.EDQUOT, after=1)
    with pytest.raises(DiskFull):
        journal.truncate(3)
    journal.truncate(1)
    assert everything(journal) == log[:1] == everything(reopen(files, power=True))


def test_names_that_cannot_be_synced_for_want_of_room_end_the_journal() -> None:
    files, journal = begin()
    journal.append(a_log(10, size=SIZE))
    files.fail("fsync_dir", errno.ENOSPC)
    for _ in range(2):
        with pytest.raises(DiskFailed):
            journal.truncate(1)


def test_a_sync_that_fails_for_want_of_room_is_not_tried_again() -> None:
    """The kernel may have let go of what was to be written."""
    files, journal = begin()
    journal.append(a_log(10, size=SIZE))
    files.fail("fdatasync", errno.ENOSPC)
    with pytest.raises(DiskFailed):
        journal.sync()
    with pytest.raises(DiskFailed):
        journal.sync()


@pytest.mark.parametrize("operation", ["unlink", "ftruncate"])
def test_a_burst_that_a_full_disk_neither_takes_nor_gives_back_is_given_back_later(operation: str) -> None:
    files, journal = begin()
    log = a_log(10, size=SIZE)
    journal.append(log[:2])
    files.fail("open", errno.ENOSPC, after=1)
    files.fail(operation, errno.ENOSPC, times=2)
    for _ in range(2):
        with pytest.raises(DiskFull):
            journal.append(log[2:])
        assert everything(journal) == log[:2]
    journal.append(log[2:])
    journal.sync()
    assert everything(journal) == log == everything(reopen(files, power=True))


def test_after_a_failed_sync_nothing_more_is_written_or_synced() -> None:
    files, journal = begin()
    log = a_log(4)
    journal.append(log[:2])
    files.fail("fdatasync", errno.EIO)
    syncs = files.syncs
    for _ in range(2):
        with pytest.raises(DiskFailed):
            journal.sync()
        with pytest.raises(DiskFailed):
            journal.append(log[2:])
        with pytest.raises(DiskFailed):
            journal.truncate(1)
    assert files.syncs == syncs, "an fdatasync that failed is not tried again"
    assert journal.synced_seq == 0


def test_after_a_failed_write_the_journal_stops() -> None:
    files, journal = begin()
    log = a_log(4)
    journal.append(log[:2])
    files.fail("pwritev", errno.EIO)
    for _ in range(2):
        with pytest.raises(DiskFailed):
            journal.append(log[2:])
    assert everything(reopen(files)) == log[:2]
