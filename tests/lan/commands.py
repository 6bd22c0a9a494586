"""The real command line, in a process of its own."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import re
import sys
import time
from asyncio.subprocess import PIPE, Process
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
PATIENCE_S = 20.0
LOGGED = re.compile(r"\d\d:\d\d:\d\d ")
NOTHING: Mapping[str, str] = {}


@dataclass(frozen=True)
class Done:
    """How a command ended."""

    code: int
    out: str
    err: str
    seconds: float

    @property
    def document(self) -> Any:
        """What it printed with --json."""
        return json.loads(self.out)


async def run(
    folder: Path, *words: str, program: tuple[str, ...] = ("-m", "mcast"), environment: Mapping[str, str] = NOTHING
) -> Done:
    """Run `mcast WORDS...` in this folder, with more in its environment, to its end."""
    began = time.monotonic()
    async with (
        spawned(folder, *words, program=program, environment=environment) as process,
        asyncio.timeout(PATIENCE_S),
    ):
        out, err = await process.communicate()
    assert process.returncode is not None
    return Done(process.returncode, out.decode(), err.decode(), time.monotonic() - began)


@contextlib.asynccontextmanager
async def spawned(
    folder: Path, *words: str, program: tuple[str, ...] = ("-m", "mcast"), environment: Mapping[str, str] = NOTHING
) -> AsyncIterator[Process]:
    """`mcast WORDS...` running in this folder, with pipes; killed if it has not ended by then."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, *program, *words, cwd=folder, env={**os.environ, "PYTHONPATH": str(ROOT), **environment},
        stdin=PIPE, stdout=PIPE, stderr=PIPE,
    )  # fmt: skip
    try:
        yield process
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()


async def fails(folder: Path, code: int, *words: str) -> str:
    """The one line that a command ends with which must fail with this code and print nothing else; a node may log."""
    done = await run(folder, *words)
    assert (done.code, done.out) == (code, ""), done
    lines = [line for line in done.err.splitlines(keepends=True) if not (words[0] == "node" and LOGGED.match(line))]
    assert len(lines) == 1, done.err
    return lines[0]
