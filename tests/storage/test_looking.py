"""What is done to files that are only looked at: as if it was done, and never done."""

import errno
import random
from pathlib import Path

import pytest

from mcast.sim.disk import SimFiles
from mcast.storage.files import Files, Locked, RealFiles
from mcast.storage.looking import Unwritten

PATHS = [f"{folder}{name}" for folder in ("", "a/", "b/") for name in ("x", "y")]


def contents(files: Files, root: str) -> dict[str, bytes]:
    found = {}
    for path in PATHS:
        if files.exists(f"{root}/{path}"):
            fd = files.open(f"{root}/{path}")
            found[path] = files.pread(fd, 100_000, 0)
            assert len(found[path]) == files.size(fd)
            files.close(fd)
    return found


def change(files: Files, root: str, rng: random.Random) -> int:
    """A random change; what came of it, 0 or an errno."""
    path, other = (f"{root}/{name}" for name in rng.choices(PATHS, k=2))
    what, many = rng.randrange(6), rng.randrange(50)
    try:
        if what == 0:
            files.unlink(path)
        elif what == 1 and files.exists(path):
            files.rename(path, other)
        elif what == 2 and rng.random() < 0.2 and not files.exists(f"{root}/b"):
            files.rename(f"{root}/a", f"{root}/b")
        else:
            fd = files.open(path, create=what == 3 and files.exists(path.rpartition("/")[0]))
            if what == 4:
                files.ftruncate(fd, many)
            elif what == 5:
                files.allocate(fd, many)
            else:
                files.pwritev(fd, [bytes([many]) * 3, b"end"], rng.randrange(60))
            files.close(fd)
    except OSError as error:
        return error.errno or -1
    return 0


@pytest.mark.parametrize("seed", range(40))
def test_it_shows_what_writing_would_and_leaves_everything(seed: int) -> None:
    rng = random.Random(seed)
    truth = SimFiles(1)
    truth.mkdir("/root/a")
    for path in ("x", "a/x", "a/y"):
        fd = truth.open(f"/root/{path}", create=True)
        truth.pwritev(fd, [rng.randbytes(rng.randrange(40))], 0)
        truth.close(fd)
    base = truth.copy()
    before = contents(base, "/root")
    looking = Unwritten(base, "/root")
    for step in range(60):
        state = rng.getstate()
        came = change(truth, "/root", rng)
        rng.setstate(state)
        assert change(looking, "/root", rng) == came, step
    assert contents(looking, "/root") == contents(truth, "/root")
    assert sorted(looking.listdir("/root")) == truth.listdir("/root")
    assert contents(base, "/root") == before


def test_its_lock_is_the_bases_without_a_name_in_it(tmp_path: Path) -> None:
    path, files = f"{tmp_path}/lock", RealFiles()
    looking = Unwritten(files, str(tmp_path))
    looking.close(looking.lock(path, "me"))
    assert not (tmp_path / "lock").exists()
    files.close(files.lock(path, "pid 1"))
    looking, second = Unwritten(files, str(tmp_path)), Unwritten(RealFiles(), str(tmp_path))
    held, also = looking.lock(path, "me"), second.lock(path, "me")
    with pytest.raises(Locked, match="pid 1"):
        files.lock(path, "pid 2")
    looking.close(held)
    second.close(also)
    files.close(files.lock(path, "pid 2"))
    running = RealFiles().lock(path, "pid 3")
    with pytest.raises(Locked, match="pid 3"):
        Unwritten(files, str(tmp_path)).lock(path, "me")
    files.close(running)


def test_what_is_not_there_is_missing(tmp_path: Path) -> None:
    looking = Unwritten(RealFiles(), str(tmp_path))
    for call in (looking.open, looking.unlink, looking.listdir):
        with pytest.raises(FileNotFoundError) as missing:
            call(f"{tmp_path}/nothing")
        assert missing.value.errno == errno.ENOENT
