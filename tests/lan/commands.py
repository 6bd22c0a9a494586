"""The real command line, in a process of its own."""

from __future__ import annotations

import asyncio
import json
import os
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
PATIENCE_S = 20.0


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


async def run(folder: Path, *words: str, program: tuple[str, ...] = ("-m", "mcast")) -> Done:
    """Run `mcast WORDS...` in this folder to its end."""
    began = time.monotonic()
    process = await asyncio.create_subprocess_exec(
        sys.executable, *program, *words, cwd=folder, env={**os.environ, "PYTHONPATH": str(ROOT)},
        stdin=asyncio.subprocess.DEVNULL, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
    )  # fmt: skip
    try:
        async with asyncio.timeout(PATIENCE_S):
            out, err = await process.communicate()
    except BaseException:
        process.kill()
        await process.wait()
        raise
    assert process.returncode is not None
    return Done(process.returncode, out.decode(), err.decode(), time.monotonic() - began)


async def fails(folder: Path, code: int, *words: str) -> str:
    """The one line that a command ends with which must fail with this code and print nothing else."""
    done = await run(folder, *words)
    assert (done.code, done.out) == (code, ""), done
    assert done.err.count("\n") == 1, done.err
    return done.err
