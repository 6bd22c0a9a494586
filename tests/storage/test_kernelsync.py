import ctypes
import os
import platform
import sys
from pathlib import Path

import pytest

from mcast.sim.disk import SimFiles
from mcast.storage import kernelsync
from mcast.storage.files import Files, RealFiles
from mcast.storage.kernelsync import KernelSync, open_kernel_sync


@pytest.fixture
def kernel() -> KernelSync:
    found = open_kernel_sync()
    if found is None:
        pytest.skip("this system has no background fdatasync")
    return found


def test_syncs_follow_one_another_and_are_told_by_a_descriptor(kernel: KernelSync, tmp_path: Path) -> None:
    fd = os.open(tmp_path / "a", os.O_CREAT | os.O_RDWR)
    assert kernel.has_ended(), "none is under way"
    for n in range(3):
        os.pwrite(fd, bytes(10_000), n * 10_000)
        assert kernel.begin(fd)
        kernel.wait(5)
        assert kernel.has_ended() and kernel.has_ended()
        with pytest.raises(BlockingIOError):
            os.eventfd_read(kernel.fileno())
    kernel.close()
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(kernel.fileno())


def test_names_are_synced_too(kernel: KernelSync, tmp_path: Path) -> None:
    for _ in range(2):
        assert kernel.begin(str(tmp_path))
        kernel.wait()
        assert kernel.has_ended()
    with pytest.raises(FileNotFoundError):
        kernel.begin(str(tmp_path / "none"))
    assert kernel.has_ended()
    kernel.close()


def test_what_cannot_be_synced_raises_and_the_next_one_goes_on(kernel: KernelSync, tmp_path: Path) -> None:
    reading, _ = os.pipe()
    with pytest.raises(OSError, match="Invalid argument"):
        kernel.begin(reading)
    fd = os.open(tmp_path / "a", os.O_CREAT | os.O_RDWR)
    assert kernel.begin(fd)
    kernel.wait()
    assert kernel.has_ended()
    kernel.close()


def test_the_error_of_a_sync_that_failed_is_raised_once(kernel: KernelSync, monkeypatch: pytest.MonkeyPatch) -> None:
    fd = os.memfd_create("a")
    assert kernel.begin(fd)
    kernel.wait()
    system = kernel._system

    def failing(number: int, *arguments: object) -> int:
        taken: int = system(number, *arguments)
        kernel._outcome.result = -5
        return taken

    monkeypatch.setattr(kernel, "_system", failing)
    with pytest.raises(OSError, match="Input/output error"):
        kernel.has_ended()
    assert kernel.has_ended()


def test_a_kernel_short_of_memory_has_the_caller_wait(
    kernel: KernelSync, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    synced: list[int] = []
    monkeypatch.setattr(kernel, "_submit", -1)
    monkeypatch.setattr(os, "fdatasync", synced.append)
    monkeypatch.setattr(os, "fsync", lambda fd: synced.append(-fd))
    assert not kernel.begin(3)
    assert not kernel.begin(str(tmp_path))
    assert synced[0] == 3 and synced[1] < 0 and kernel.has_ended()
    kernel.close()


def test_where_it_is_not_to_be_had_there_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    simulated: Files = SimFiles(1)
    assert simulated.background_sync() is None
    monkeypatch.setattr(platform, "machine", lambda: "pdp11")
    assert open_kernel_sync() is None
    assert RealFiles().background_sync() is None
    monkeypatch.setattr(platform, "machine", lambda: "x86_64")
    monkeypatch.setitem(kernelsync._CALLS, "x86_64", (-1, -1, -1, -1))
    assert open_kernel_sync() is None


def test_the_layout_is_the_kernels() -> None:
    assert ctypes.sizeof(kernelsync._Order) == 64 and kernelsync._Order.fd.offset == 20
    assert kernelsync._Order.flags.offset == 56 and ctypes.sizeof(kernelsync._Outcome) == 32


@pytest.mark.parametrize("name", ["memfd_create", "eventfd"])
def test_a_python_that_lacks_a_name_has_none(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(os, name, raising=False)
    assert open_kernel_sync() is None


def test_a_32_bit_program_does_not_call_by_these_numbers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "maxsize", 2**31 - 1)
    assert open_kernel_sync() is None
