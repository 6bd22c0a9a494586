"""Makes mutants, each in a copy of the tree, and runs the tests that are to notice them."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from queue import SimpleQueue
from typing import Final

from .rows import ROOT, Mutant, staleness

LIMIT_S: Final = 180.0
"""Longer than any mutant's tests take; a mutant that makes them hang is noticed, too."""

KILLED, SURVIVED, STALE, EXPLAINED, BROKEN = "killed", "survived", "stale", "explained", "broken"
FAILURES: Final = (SURVIVED, STALE, BROKEN)

_COPIED: Final = ("mcast", "tests", "tools", "scenarios", ".ci", "README.md", "pyproject.toml")
_TESTS_FAILED: Final = 1  # pytest's exit status; any other than this and 0 says nothing about the mutant
_EPOCH_S: Final = 1_000_000_000
_SHOWN: Final = 4_000  # characters of a failed run's output


class SpoiledError(Exception):
    """The named tests do not pass on the true code; carries what pytest said."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """What became of one mutant."""

    mutant: Mutant
    fate: str
    detail: str = ""
    seconds: float = 0.0


class Copy:
    """A copy of the tree in a folder of its own; one mutant at a time is made in it."""

    def __init__(self, folder: Path, root: Path = ROOT) -> None:
        self.folder = folder
        self._written = 0
        for name in _COPIED:
            source = root / name
            if source.is_dir():
                shutil.copytree(source, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
            elif source.exists():
                folder.mkdir(parents=True, exist_ok=True)
                shutil.copy2(source, folder / name)

    def judge(self, mutant: Mutant, limit_s: float) -> Verdict:
        """Make the mutant, run its tests, and take it back."""
        if (why := staleness(mutant, self.folder)) is not None:
            return Verdict(mutant, STALE, why)
        if mutant.guard:
            return Verdict(mutant, EXPLAINED, mutant.guard)
        path = self.folder / mutant.file
        source = path.read_text()
        began = time.monotonic()
        self._write(path, mutant.applied(source))
        try:
            status, output = self.run(mutant.tests, limit_s)
        finally:
            self._write(path, source)
        took = time.monotonic() - began
        if status is None:
            return Verdict(mutant, KILLED, f"still running after {limit_s:.0f} s", took)
        if status == _TESTS_FAILED:
            return Verdict(mutant, KILLED, _first_failure(output), took)
        return Verdict(mutant, SURVIVED if status == 0 else BROKEN, "" if status == 0 else output[-_SHOWN:], took)

    def run(self, tests: Sequence[str], limit_s: float) -> tuple[int | None, str]:
        """pytest's exit status, None when it was still running at the limit, and its output."""
        command = [sys.executable, "-m", "pytest", "-x", "-q", "--no-header", "-p", "no:cacheprovider", *tests]
        # The copy goes before whatever is installed, in the processes that tests start, too.
        environment = {**os.environ, "PYTHONPATH": str(self.folder)}
        with tempfile.TemporaryFile() as reported:
            process = subprocess.Popen(
                command, cwd=self.folder, env=environment, stdout=reported, stderr=reported, start_new_session=True
            )
            try:
                status: int | None = process.wait(limit_s)
            except subprocess.TimeoutExpired:
                status = None
            finally:
                if process.poll() is None:
                    os.killpg(process.pid, signal.SIGKILL)
                    process.wait()
            reported.seek(0)
            return status, reported.read().decode(errors="replace")

    def _write(self, path: Path, text: str) -> None:
        """Each time with another date: compiled code is known as outdated by its source's date and size only."""
        path.write_text(text)
        self._written += 1
        os.utime(path, (_EPOCH_S + self._written, _EPOCH_S + self._written))


def judge_all(
    mutants: Iterable[Mutant],
    *,
    jobs: int,
    limit_s: float = LIMIT_S,
    root: Path = ROOT,
    reported: Callable[[Verdict], None] = lambda verdict: None,
) -> list[Verdict]:
    """The fates of these mutants, in their order; `reported` hears of each at once. Raises SpoiledError."""
    rows = list(mutants)
    with tempfile.TemporaryDirectory(prefix="mutants-") as folder:
        free: SimpleQueue[Copy] = SimpleQueue()
        first = Copy(Path(folder) / "0", root)
        _prove(first, rows, limit_s)
        free.put(first)
        for number in range(1, jobs):
            free.put(Copy(Path(folder) / str(number), root))

        def judged(mutant: Mutant) -> Verdict:
            copy = free.get()
            try:
                verdict = copy.judge(mutant, limit_s)
            finally:
                free.put(copy)
            reported(verdict)
            return verdict

        with ThreadPoolExecutor(jobs) as pool:
            return list(pool.map(judged, rows))


def _prove(copy: Copy, rows: Sequence[Mutant], limit_s: float) -> None:
    """A test that fails on the true code notices nothing."""
    tests = sorted({test for row in rows if staleness(row, copy.folder) is None for test in row.tests})
    if tests:
        status, output = copy.run(tests, limit_s * (1 + len(tests) / 10))
        if status != 0:
            raise SpoiledError(output[-_SHOWN:])


def _first_failure(output: str) -> str:
    """The line in which pytest names the test that failed."""
    return next((line.partition(" - ")[0] for line in output.splitlines() if line.startswith(("FAILED", "ERROR"))), "")
