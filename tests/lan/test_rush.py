"""Hundreds of sealed clients at one moment, as after an outage: handshakes cost milliseconds, and all are served."""

from __future__ import annotations

import asyncio
import json
import os
import sys
from asyncio.subprocess import PIPE, Process
from pathlib import Path
from typing import Any

import pytest

from mcast.clock import monotonic_s
from mcast.lab.processes import Processes

ROOT = Path(__file__).parents[2]
PROCESSES, EACH = 2, 200
TIMEOUT_S = 15.0  # for some 1,500 handshakes on the processors that the tests have; they take four seconds on two
BESIDE_S = 1.5  # that a command of a connected client may take meanwhile

pytestmark = [pytest.mark.timeout(120), pytest.mark.skipif(sys.platform != "linux", reason="one platform is enough")]


async def begin(path: Path) -> Process:
    words = [sys.executable, "-m", "tests.lan.rush", str(path), str(EACH), str(TIMEOUT_S)]
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    return await asyncio.create_subprocess_exec(*words, stdin=PIPE, stdout=PIPE, cwd=ROOT, env=environment)


async def outcome(child: Process) -> dict[str, Any]:
    out, _ = await child.communicate(b"\n")
    found: dict[str, Any] = json.loads(out)
    return found


async def test_hundreds_of_sealed_clients_at_once_are_all_served_and_others_go_on() -> None:
    async with Processes(sealed=True) as processes, processes.connect() as client:
        before = await processes.wait_until_live()
        children = [await begin(processes.path) for _ in range(PROCESSES)]
        rushing = [asyncio.create_task(outcome(child)) for child in children]
        slowest_s = 0.0
        while not all(task.done() for task in rushing):
            began_s = monotonic_s()
            await client.submit("incr", "beside")
            slowest_s = max(slowest_s, monotonic_s() - began_s)
            await asyncio.sleep(0.05)
        for task in rushing:
            assert (await task)["served"] == EACH, await task
        assert slowest_s < BESIDE_S
        after = await processes.wait_until_equal()
        assert await client.query("get", "rush", consistency="linearizable") is not None
    assert (after["epoch"], after["sequencer"]) == (before["epoch"], before["sequencer"]), "no election"
