import threading
from collections.abc import Generator

import pytest

from mcast.errors import DiskFailed
from mcast.node.syncing import KernelSyncer, Syncer, ThreadSyncer, open_syncer
from mcast.storage.journal import SyncMark
from mcast.storage.kernelsync import KernelSync

MARK = SyncMark(9, 0, (), 0)


class Kernel(KernelSync):
    """Ends nothing by itself: `end` does. Steps in `at_once` are done when they are ordered."""

    def __init__(self) -> None:
        self.ordered: list[int | str] = []
        self.at_once: set[int | str] = set()
        self.under_way = self.closed = False
        self.failure: OSError | None = None

    def fileno(self) -> int:
        return 5

    def begin(self, what: int | str) -> bool:
        self.ordered.append(what)
        self.under_way = what not in self.at_once
        return self.under_way

    def end(self, failure: OSError | None = None) -> None:
        self.under_way, self.failure = False, failure

    def has_ended(self) -> bool:
        failure, self.failure = self.failure, None
        if failure is not None:
            raise failure
        return not self.under_way

    def wait(self, timeout_s: float | None = None) -> None:
        if timeout_s is None:
            self.end()

    def close(self) -> None:
        self.closed = True


class Disk:
    """A store whose syncs have these steps."""

    def __init__(self, *steps: int | str) -> None:
        self.steps = steps
        self.kernel: Kernel | None = Kernel()
        self.synced = 0
        self.failing = False

    def sync_finish(self, mark: SyncMark) -> int:
        if self.failing:
            raise DiskFailed("fdatasync", "replace the disk")
        self.synced = mark.seq
        return mark.seq

    def sync_steps(self, mark: SyncMark) -> Generator[int | str, None, None]:
        try:
            yield from self.steps
        except OSError as error:
            raise DiskFailed(str(error), "replace the disk") from error
        self.synced = mark.seq

    def background_sync(self) -> KernelSync | None:
        return self.kernel


def kernel_syncer(*steps: int | str) -> tuple[Disk, Kernel, KernelSyncer]:
    disk, kernel = Disk(*steps), Kernel()
    return disk, kernel, KernelSyncer(disk, kernel)


def test_the_kernel_syncs_where_it_can_else_a_thread_does() -> None:
    disk = Disk()
    assert isinstance(open_syncer(disk, threading.Event().set), KernelSyncer)
    disk.kernel = None
    syncer = open_syncer(disk, threading.Event().set)
    assert isinstance(syncer, ThreadSyncer)
    waits_for: Syncer = syncer
    assert waits_for.fileno() is None
    syncer.close()


def test_the_kernel_takes_step_after_step_and_only_then_is_it_durable() -> None:
    disk, kernel, syncer = kernel_syncer(3, 4, "names")
    assert syncer.is_idle() and syncer.fileno() == 5
    assert syncer.begin(MARK)
    for ordered in ([3], [3, 4], [3, 4, "names"]):
        assert not syncer.is_idle() and not syncer.is_idle()
        assert (kernel.ordered, disk.synced) == (ordered, 0)
        kernel.end()
    assert syncer.is_idle() and disk.synced == 9


def test_steps_that_are_done_at_once_are_not_waited_for() -> None:
    disk, kernel, syncer = kernel_syncer(3, 4)
    kernel.at_once = {3, 4}
    assert not syncer.begin(MARK)
    assert syncer.is_idle() and disk.synced == 9


def test_waiting_takes_all_steps() -> None:
    disk, kernel, syncer = kernel_syncer(3, 4, "names")
    syncer.begin(MARK)
    syncer.wait()
    assert (kernel.ordered, disk.synced) == ([3, 4, "names"], 9)


def test_what_a_step_fails_with_is_raised_from_then_on() -> None:
    disk, kernel, syncer = kernel_syncer(3, 4)
    syncer.begin(MARK)
    kernel.end(OSError("Input/output error"))
    for ask in (syncer.is_idle, syncer.wait, syncer.is_idle):
        with pytest.raises(DiskFailed, match="Input/output"):
            ask()
    assert (kernel.ordered, disk.synced) == ([3], 0)
    syncer.close()
    assert kernel.closed


def test_closing_leaves_a_sync_behind_that_does_not_end() -> None:
    _, kernel, syncer = kernel_syncer(3)
    syncer.begin(MARK)
    syncer.close()
    assert not kernel.closed
    kernel.end(OSError("Input/output error"))
    syncer.close()
    assert kernel.closed


def test_a_thread_wakes_its_owner_and_keeps_what_it_failed_with() -> None:
    disk, woken = Disk(), threading.Event()
    syncer = ThreadSyncer(disk, woken.set)
    assert syncer.is_idle()
    assert syncer.begin(MARK)
    assert woken.wait(5)
    syncer.wait()
    assert syncer.is_idle() and disk.synced == 9
    disk.failing = True
    syncer.begin(MARK)
    for _ in range(2):
        with pytest.raises(DiskFailed):
            syncer.wait()
    syncer.close()


def test_a_sync_that_fails_while_it_is_asked_about_is_not_taken_for_done(monkeypatch: pytest.MonkeyPatch) -> None:
    syncer = ThreadSyncer(Disk(), threading.Event().set)

    def fails_now() -> bool:
        syncer._failure = DiskFailed("just now", "look at the disk")
        return True

    monkeypatch.setattr(syncer._idle, "is_set", fails_now)
    with pytest.raises(DiskFailed):
        syncer.is_idle()
    monkeypatch.undo()
    syncer.close()


def test_who_waits_for_a_while_takes_the_steps_that_end_in_it(monkeypatch: pytest.MonkeyPatch) -> None:
    disk, kernel, syncer = kernel_syncer(3, 4)
    syncer.begin(MARK)
    assert not syncer.wait(0.001)
    assert kernel.ordered == [3]
    monkeypatch.setattr(kernel, "wait", lambda timeout_s: kernel.end())
    assert syncer.wait(5.0)
    assert disk.synced == 9
    assert syncer.wait(5.0)
    assert syncer.wait()
