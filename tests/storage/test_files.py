import errno
import os
from collections.abc import Sequence
from pathlib import Path
from random import Random

import pytest

from mcast.sim.disk import SimFiles
from mcast.storage.files import IOV_MAX, Files, Locked, RealFiles, write_all


@pytest.fixture(params=["real", "simulated"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> tuple[Files, str]:
    """Both kinds of files keep the same contract."""
    if request.param == "real":
        return RealFiles(), str(tmp_path)
    files = SimFiles(Random(1))
    files.mkdir(str(tmp_path))
    return files, str(tmp_path)


def test_what_is_written_is_read(place: tuple[Files, str]) -> None:
    files, path = place
    fd = files.open(f"{path}/a", create=True)
    assert files.pwritev(fd, [b"abc", b"", b"defg"], 2) == 7
    assert files.pread(fd, 100, 0) == b"\0\0abcdefg"
    assert files.pread(fd, 3, 3) == b"bcd"
    assert files.pread(fd, 3, 50) == b""
    files.fdatasync(fd)
    files.fsync_dir(path)
    files.close(fd)
    again = files.open(f"{path}/a")
    assert files.size(again) == 9
    fresh = files.open(f"{path}/a", create=True)
    assert files.size(fresh) == 0


def test_cutting_and_reserving_leave_zeros(place: tuple[Files, str]) -> None:
    files, path = place
    fd = files.open(f"{path}/a", create=True)
    files.allocate(fd, 5_000)
    assert files.pread(fd, 9_999, 0) == bytes(5_000)
    files.pwritev(fd, [b"x" * 6_000], 0)
    files.allocate(fd, 5_000)
    assert files.size(fd) == 6_000
    files.ftruncate(fd, 10)
    files.ftruncate(fd, 20)
    assert files.pread(fd, 99, 0) == b"x" * 10 + bytes(10)


def test_names(place: tuple[Files, str]) -> None:
    files, path = place
    files.mkdir(f"{path}/b/c")
    files.mkdir(f"{path}/b/c")
    for name in ("x", "y"):
        fd = files.open(f"{path}/b/{name}", create=True)
        files.pwritev(fd, [name.encode()], 0)
        files.close(fd)
    assert sorted(files.listdir(f"{path}/b")) == ["c", "x", "y"]
    files.rename(f"{path}/b/x", f"{path}/b/y")
    fd = files.open(f"{path}/b/y")
    assert files.pread(fd, 9, 0) == b"x"
    assert not files.exists(f"{path}/b/x") and files.exists(f"{path}/b/y") and files.exists(f"{path}/b/c")
    files.rename(f"{path}/b", f"{path}/d")
    assert sorted(files.listdir(f"{path}/d")) == ["c", "y"]
    files.unlink(f"{path}/d/y")
    assert files.listdir(f"{path}/d") == ["c"]


def test_what_is_not_there(place: tuple[Files, str]) -> None:
    files, path = place
    for call in (files.open, files.unlink, files.listdir, files.fsync_dir):
        with pytest.raises(FileNotFoundError):
            call(f"{path}/none")
    with pytest.raises(FileNotFoundError):
        files.open(f"{path}/none/a", create=True)
    with pytest.raises(FileNotFoundError):
        files.rename(f"{path}/none", f"{path}/other")


def test_a_lock_names_its_owner_and_ends_with_its_descriptor(place: tuple[Files, str]) -> None:
    files, path = place
    held = files.lock(f"{path}/lock", "pid 17, a longer text")
    with pytest.raises(Locked) as caught:
        files.lock(f"{path}/lock", "pid 18")
    assert caught.value.owner == "pid 17, a longer text"
    files.close(held)
    files.lock(f"{path}/lock", "pid 18")
    with pytest.raises(Locked, match=r"^pid 18$"):
        files.lock(f"{path}/lock", "pid 19")


class ShortFiles(SimFiles):
    """Writes at most 1,000 bytes a call, as a disk that fills up or a signal makes it."""

    def pwritev(self, fd: int, buffers: Sequence[bytes], offset: int) -> int:
        assert len(buffers) <= IOV_MAX
        return super().pwritev(fd, [b"".join(buffers)[:1_000]], offset)


@pytest.mark.parametrize("kind", [SimFiles, ShortFiles])
def test_write_all_writes_all(kind: type[SimFiles]) -> None:
    files = kind(Random(1))
    fd = files.open("/a", create=True)
    buffers = [bytes([n % 251]) * (n % 7) for n in range(2_500)]
    whole = b"".join(buffers)
    assert write_all(files, fd, buffers, 30) == 30 + len(whole)
    assert files.pread(fd, 1 << 20, 30) == whole


def test_a_process_without_room_gets_the_systems_error() -> None:
    files = SimFiles(1)
    fd = files.open("/a", create=True)
    files.fail("pwritev", errno.ENOSPC, after=1)
    files.pwritev(fd, [b"a"], 0)
    with pytest.raises(OSError, match="No space") as caught:
        files.pwritev(fd, [b"b"], 1)
    assert caught.value.errno == errno.ENOSPC
    files.pwritev(fd, [b"c"], 1)
    assert files.contents("/a") == b"ac"


def test_a_sync_reaches_the_system(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    files = RealFiles()
    reading, writing = os.pipe()
    with pytest.raises(OSError, match="Invalid argument"):
        files.fdatasync(writing)  # which cannot be, so it was asked for
    for fd in (reading, writing):
        os.close(fd)
    synced: list[str] = []
    monkeypatch.setattr(os, "fdatasync", lambda fd: synced.append(os.readlink(f"/proc/self/fd/{fd}")))
    monkeypatch.setattr(os, "fsync", lambda fd: synced.append(os.readlink(f"/proc/self/fd/{fd}")))
    fd = files.open(f"{tmp_path}/a", create=True)
    files.fdatasync(fd)
    files.fsync_dir(str(tmp_path))
    files.close(fd)
    assert synced == [f"{tmp_path}/a", str(tmp_path)]
