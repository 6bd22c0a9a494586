"""A part of a measurement in a process of its own: what it costs is told apart, and what it does can be ended.

`python -m mcast.bench.job NAME ARGUMENTS` writes JSON lines: {"progress": share} as often as there is news, then
{"result": {...}} or {"error": "..."}. It ends, with all that it started, when its standard input does.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import sys
import threading
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

from mcast.errors import Error

LINE_BYTES_MAX: Final = 1 << 20
END_S: Final = 5.0  # for a job to end by itself once it has told its result

Tell = Callable[[float], None]
"""Hears how much of something is done, 0 to 1."""


class BrokenRun(Error):  # noqa: N818 - as all of errors.py: named for the situation
    """A measurement that must not give a number; says what went wrong."""


async def run_job(name: str, arguments: Mapping[str, Any], tell: Tell) -> dict[str, Any]:
    """One job's result. When this is cancelled, the job and all that it started are killed.

    Raises:
        BrokenRun: the job failed, or ended without a result.
    """
    child = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "mcast.bench.job", name, json.dumps(dict(arguments)), stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE, start_new_session=True, limit=LINE_BYTES_MAX,
    )  # fmt: skip
    assert child.stdout is not None and child.stderr is not None
    try:
        async for line in child.stdout:
            said = json.loads(line)
            if "progress" in said:
                tell(said["progress"])
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
        with contextlib.suppress(ProcessLookupError):
            os.killpg(child.pid, signal.SIGKILL)
        await child.wait()


def main(arguments: Sequence[str]) -> None:
    """Do the named job in this process and write its result."""
    from mcast.bench import load, yardstick
    from mcast.bench.peers import turn

    jobs: dict[str, Callable[..., dict[str, Any]]] = {
        "flood": load.flood,
        "steady": load.steady,
        "peer": turn.play,
        "yardstick": lambda tell, **what: yardstick.applied(**what),
    }
    name, text = arguments
    threading.Thread(target=_end_with_parent, name="parent", daemon=True).start()
    try:
        said: dict[str, Any] = {"result": jobs[name](_tell, **json.loads(text))}
    except Error as error:
        said = {"error": str(error)}
    _write(said)


def _end_with_parent() -> None:
    """Nothing is ever written to us: the end of standard input is the end of who started us."""
    while os.read(0, 1):  # not sys.stdin: its lock would be held when the interpreter ends
        pass
    os.killpg(0, signal.SIGKILL)


def _tell(share: float) -> None:
    _write({"progress": share})


def _write(said: Mapping[str, Any]) -> None:
    sys.stdout.write(json.dumps(said) + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main(sys.argv[1:])
