"""Clients that all connect at one moment: `python -m tests.lan.rush CONFIG COUNT TIMEOUT`.

They do when a line of input comes, submit one command each, and stay until the input ends. One line of JSON says how
many were served, how long the slowest took, and what the others were told.
"""

from __future__ import annotations

import asyncio
import json
import sys
from pathlib import Path
from typing import Any

from mcast.client.client import connect
from mcast.clock import monotonic_s
from mcast.config import load_config
from mcast.errors import Error


async def rush(path: Path, count: int, timeout_s: float) -> dict[str, Any]:
    """Connect all of them; what came of it."""
    config, leave = load_config(path), asyncio.Event()
    served: list[float] = []
    reported: list[str] = []

    async def one() -> None:
        began_s = monotonic_s()
        try:
            async with connect(config, timeout=timeout_s) as client:
                await client.submit("incr", "rush")
                served.append(monotonic_s() - began_s)
                if len(served) + len(reported) == count:
                    leave.set()
                await leave.wait()
        except Error as error:
            reported.append(f"{type(error).__name__}: {error}")
            if len(served) + len(reported) == count:
                leave.set()

    await asyncio.gather(*[one() for _ in range(count)])
    return {"served": len(served), "slowest_s": max(served, default=0.0), "reported": reported[:3]}


if __name__ == "__main__":
    sys.stdin.readline()
    print(json.dumps(asyncio.run(rush(Path(sys.argv[1]), int(sys.argv[2]), float(sys.argv[3])))))
