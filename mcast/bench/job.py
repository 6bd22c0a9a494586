"""A part of a measurement in a process of its own: what it costs is told apart, and what it does can be ended.

`python -m mcast.bench.jobs NAME ARGUMENTS` writes JSON lines: {"progress": share} as often as there is news, {"ready":
true} if it must begin together with others (it goes on at a byte on its standard input), then {"result": {...}} or
{"error": "..."}. It ends, with all that it started, when its standard input does; on SIGTERM it clears up first.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import sys
import threading
from asyncio.subprocess import Process
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any, Final, NoReturn

from mcast.errors import Error

LINE_BYTES_MAX: Final = 1 << 20
END_S: Final = 5.0  # for a job to end by itself once it has told its result, or has been told to end
PROGRAM: Final = ("-m", "mcast.bench.jobs")

_begun = threading.Event()

Tell = Callable[[float], None]
"""Hears how much of something is done, 0 to 1."""


class BrokenRun(Error):  # noqa: N818 - as all of errors.py: named for the situation
    """A measurement that must not give a number; says what went wrong."""


async def run_job(
    name: str,
    arguments: Mapping[str, Any],
    tell: Tell,
    others: Callable[[], Awaitable[object]] | None = None,
    *,
    program: Sequence[str] = PROGRAM,
) -> dict[str, Any]:
    """One job's result; one that is ready goes on after `others`. Cancelled, it ends with all that it started.

    `program` is what knows the job by its name, after the interpreter's own: another than `jobs` for jobs of others.

    Raises:
        BrokenRun: the job failed, or ended without a result.
    """
    child = await asyncio.create_subprocess_exec(
        sys.executable, *program, name, json.dumps(dict(arguments)), stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE, start_new_session=True, limit=LINE_BYTES_MAX,
    )  # fmt: skip
    assert child.stdin is not None and child.stdout is not None and child.stderr is not None
    try:
        async for line in child.stdout:
            said = json.loads(line)
            if "progress" in said:
                tell(said["progress"])
            elif "ready" in said:
                if others is not None:
                    await others()
                child.stdin.write(b"\n")
            elif "error" in said:
                raise BrokenRun(said["error"])
            else:
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(END_S):
                        await child.wait()
                result: dict[str, Any] = said["result"]
                return result
        words = (await child.stderr.read()).decode(errors="replace").strip().rsplit("\n", 1)[-1]
        raise BrokenRun(f"the {name} process ended without a result: {words or f'exit code {await child.wait()}'}")
    finally:
        await _end(child)


async def _end(child: Process) -> None:
    """Have the job clear up, if it still runs, then kill what is left of it and of what it started."""
    try:
        with contextlib.suppress(ProcessLookupError, TimeoutError):
            child.terminate()
            async with asyncio.timeout(END_S):
                await child.wait()
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(child.pid, signal.SIGKILL)
        await child.wait()


async def run_together(name: str, each: Sequence[Mapping[str, Any]], tell: Tell) -> list[dict[str, Any]]:
    """The results of several jobs that begin at the same moment, once all are ready.

    Raises:
        BrokenRun: one of them failed; the others were killed.
    """
    barrier = asyncio.Barrier(len(each))
    try:
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(run_job(name, arguments, tell, barrier.wait)) for arguments in each]
    except BaseExceptionGroup as failed:
        raise failed.exceptions[0] from None
    return [task.result() for task in tasks]


def do(jobs: Mapping[str, Callable[..., dict[str, Any]]], arguments: Sequence[str]) -> None:
    """In a process of its own: do the named job and write its result."""
    name, text = arguments
    signal.signal(signal.SIGTERM, _leave)
    threading.Thread(target=_end_with_parent, name="parent", daemon=True).start()
    try:
        said: dict[str, Any] = {"result": jobs[name](_tell, **json.loads(text))}
    except Error as error:
        said = {"error": str(error)}
    _write(said)


def _leave(number: int, frame: object) -> NoReturn:
    """End the job where it is, so that files, processes and semaphores go as its context managers are left."""
    signal.signal(number, signal.SIG_IGN)
    _begun.set()  # a thread that waits for it would hold up the end
    raise SystemExit(128 + number)


def _end_with_parent() -> None:
    """The end of standard input is the end of who started us; a byte before that is the word to begin."""
    while os.read(0, 1):  # not sys.stdin: its lock would be held when the interpreter ends
        _begun.set()
    os.killpg(0, signal.SIGKILL)


async def begin_together() -> None:
    """For a job's own use: wait until all that are measured at the same time are ready."""
    _write({"ready": True})
    await asyncio.to_thread(_begun.wait)


def _tell(share: float) -> None:
    _write({"progress": share})


def _write(said: Mapping[str, Any]) -> None:
    sys.stdout.write(json.dumps(said) + "\n")
    sys.stdout.flush()
