"""Where nothing more may be opened, a node's own files still may: in a process of its own, which runs out of them."""

from __future__ import annotations

import errno
import os
import resource
import subprocess
import sys
from pathlib import Path

from mcast.storage import descriptors
from mcast.storage.descriptors import KEPT, exhausted, open_own
from mcast.storage.files import RealFiles

ROOT = Path(__file__).parents[2]


def run_out(folder: str) -> None:
    """What the process does; `assert`s what must hold."""
    resource.setrlimit(resource.RLIMIT_NOFILE, (64, 64))
    files = RealFiles()
    lock = files.lock(f"{folder}/lock", "me")
    taken: list[int] = []
    while not exhausted():
        taken.append(os.dup(2))
    opened = [files.open(f"{folder}/{number}", create=True) for number in range(KEPT - 1)]
    for _ in range(3):
        files.fsync_dir(folder)
        try:
            files.open(f"{folder}/one too many", create=True)
        except OSError as error:
            assert error.errno == errno.EMFILE
        else:
            raise AssertionError("the last one is kept for what takes a moment")
    files.close(opened.pop())
    again = files.open(f"{folder}/again", create=True)
    files.pwritev(again, [b"x"], 0)
    files.fdatasync(again)
    os.close(taken.pop())
    assert exhausted() is False
    for fd in (again, *opened, lock):
        files.close(fd)
    assert len(descriptors._kept) == KEPT


def test_a_nodes_own_files_come_first(tmp_path: Path) -> None:
    program = f"from tests.storage.test_descriptors import run_out; run_out({str(tmp_path)!r})"
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, timeout=30, check=False
    )
    assert done.returncode == 0, done.stderr


def test_what_has_nothing_to_do_with_descriptors_is_told_as_it_is(tmp_path: Path) -> None:
    try:
        open_own(str(tmp_path / "nowhere" / "file"), os.O_RDONLY)
    except FileNotFoundError as error:
        assert error.errno == errno.ENOENT
    assert not exhausted()
