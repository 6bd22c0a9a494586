"""The processes of a peer: replicas and readers in Python, each on a pipe, and servers that are programs of others."""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import subprocess
import time
from collections.abc import Callable, Sequence
from multiprocessing.connection import Connection
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self

from mcast.bench.job import BrokenRun
from tools.other_systems.peer import SILENCE_S, START_S, PeerReplica

_END_S: Final = 3.0  # for a server to end by itself
_POLL_S: Final = 0.02
_WORDS: Final = 300  # characters of a dead process's last line

CrewMessage = tuple[Any, ...]


class Crew:
    """Python processes that replicate or read, by their index: a context manager, at whose end they are killed.

    Each is spawned with a pipe to it and says ("ready", ...) first. A `PeerReplica` made by `replica_of` its pipe says
    ("applied", when, count, digest) at each mark. What they print goes to logs in `folder`.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._context = multiprocessing.get_context("spawn")
        self._members: list[tuple[Any, Connection]] = []
        self._early: dict[int, list[CrewMessage]] = {}
        self.submitted = 0
        """Events that all replicas are to have applied at the next mark."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for process, pipe in self._members:
            process.kill()
            process.join()
            pipe.close()

    def start(self, target: Callable[..., None], *arguments: object) -> None:
        """Spawn `target(pipe, *arguments)`."""
        ours, theirs = self._context.Pipe()
        words = (str(self._log(len(self._members))), target, theirs, *arguments)
        process = self._context.Process(target=_logged, args=words, daemon=True)
        process.start()
        theirs.close()
        self._members.append((process, ours))

    def wait_until_ready(self) -> list[CrewMessage]:
        """What each said when it was ready."""
        return [self.hear(index, "ready", START_S) for index in range(len(self._members))]

    def say(self, index: int, *message: object) -> None:
        """Ask one for something."""
        self._members[index][1].send(message)

    def hear(self, index: int, word: str, timeout_s: float = SILENCE_S) -> CrewMessage:
        """The next message of one that begins with `word`, without it.

        Raises:
            BrokenRun: it ended, or said nothing for `timeout_s`.
        """
        process, pipe = self._members[index]
        early = self._early.setdefault(index, [])
        try:
            while not (found := [message for message in early if message[0] == word]):
                if not pipe.poll(timeout_s):
                    raise BrokenRun(f"replica {index + 1} said nothing for {timeout_s:g} s (waiting for {word!r})")
                early.append(pipe.recv())
        except (EOFError, ConnectionError):
            process.join(_END_S)
            words = last_words(self._log(index))
            raise BrokenRun(f"replica {index + 1} ended with exit code {process.exitcode}: {words}") from None
        early.remove(found[0])
        return found[0][1:]

    def wait_until_applied(self) -> float:
        """When the last of all had applied the marked event: `time.perf_counter` of whichever it was.

        Raises:
            BrokenRun: one has applied another number of events, or not the same as the others.
        """
        answers = [self.hear(index, "applied") for index in range(len(self._members))]
        if {count for _, count, _ in answers} != {self.submitted}:
            counts = ", ".join(str(count) for _, count, _ in answers)
            raise BrokenRun(f"the replicas applied {counts} of {self.submitted} events")
        if len({digest for *_, digest in answers}) != 1:
            raise BrokenRun("the replicas differ")
        return max(float(when) for when, *_ in answers)

    def _log(self, index: int) -> Path:
        return self._folder / f"replica-{index + 1}.log"


def _logged(log: str, target: Callable[..., None], *arguments: object) -> None:
    with open(log, "wb", buffering=0) as file:
        os.dup2(file.fileno(), 2)
    target(*arguments)


def last_words(log: Path) -> str:
    """The end of a log's last line."""
    return log.read_text(errors="replace").strip().rsplit("\n", 1)[-1][-_WORDS:] or "no word"


def replica_of(pipe: Connection) -> PeerReplica:
    """A replica that answers marks on the pipe."""
    return PeerReplica(lambda count, digest: pipe.send(("applied", time.perf_counter(), count, digest)))


class Servers:
    """Programs that serve, with their logs in `folder`: a context manager, at whose end they are ended by their pid."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._running: dict[str, subprocess.Popen[bytes]] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for server in self._running.values():
            server.terminate()
        for server in self._running.values():
            with contextlib.suppress(subprocess.TimeoutExpired):
                server.wait(_END_S)
            server.kill()
            server.wait()

    def start(self, name: str, words: Sequence[str]) -> int:
        """Start a program and return its pid."""
        with open(self._folder / f"{name}.log", "wb") as log:
            self._running[name] = subprocess.Popen(
                words, stdin=subprocess.DEVNULL, stdout=log, stderr=log, cwd=self._folder
            )
        return self._running[name].pid

    def check(self) -> None:
        """Raise BrokenRun if one has ended, with its last words."""
        for name, server in self._running.items():
            if (code := server.poll()) is not None:
                raise BrokenRun(f"{name} ended with exit code {code}: {last_words(self._folder / f'{name}.log')}")

    def wait_until(self, what: str, probe: Callable[[], Any]) -> Any:
        """As the function `wait_until`. Raises BrokenRun as soon as a server ends."""
        return until(what, probe, self.check)


def until(what: str, probe: Callable[[], Any], check: Callable[[], None] = lambda: None) -> Any:
    """The first true answer of `probe`; until then it may fail as a client does whose server is not up yet.

    Raises:
        BrokenRun: none within START_S; says `what`, and the last failure. Or what `check` raises.
    """
    deadline_s = time.monotonic() + START_S
    problem: object = "no answer"
    while time.monotonic() < deadline_s:
        check()
        try:
            if answer := probe():
                return answer
        except (OSError, ValueError, BrokenRun) as error:
            problem = error
        time.sleep(_POLL_S)
    raise BrokenRun(f"{what} after {START_S:g} s: {problem}")
