"""Runs that end before their time: a word, an exit code, no number, and no process left behind."""

import asyncio
import contextlib
import os
import signal
import sys
from asyncio.subprocess import PIPE, Process
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from mcast.cli.bench.running import Wanted, run
from mcast.cli.exits import ExitCode
from mcast.errors import ConfigError
from tests.bench.children import descendants, lives, words
from tests.bench.overload import PATIENCE, START_S

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="looks into /proc")

ENDLESS = {
    "throughput": "--events 100000000 --size 400",
    "latency": "--count 4000000",
    "query": "--seconds 60",
    "loss": "--seconds 3600 --rate 100",
    "failover": "--times 99",
}


@contextlib.asynccontextmanager
async def running(bench: str, load: str = "mcast.bench.jobs") -> AsyncIterator[tuple[Process, set[int]]]:
    """A bench without end, under load, and all that it started: two nodes and more."""
    command = [sys.executable, "-m", "mcast", "bench", bench, *ENDLESS[bench].split(), "--no-key"]
    command += [] if bench == "failover" else ["--nodes", "2"]
    process = await asyncio.create_subprocess_exec(*command, stdout=PIPE, stderr=PIPE)
    try:
        async with asyncio.timeout(START_S):
            started = descendants(process.pid)
            while not any(load in words(pid) for pid in started):
                assert process.returncode is None, (await process.communicate())[1]
                await asyncio.sleep(0.05)
                started = descendants(process.pid)
        yield process, started
    finally:
        with contextlib.suppress(ProcessLookupError):
            process.kill()
        await process.wait()


async def ended(process: Process, started: set[int]) -> tuple[int, str]:
    """The exit code and what it said, once nothing of it is left; it said nothing on stdout."""
    async with asyncio.timeout(START_S):
        said, reported = await process.communicate()
        while any(lives(pid) for pid in started):
            await asyncio.sleep(0.05)
    assert said == b""
    assert process.returncode is not None
    return process.returncode, reported.decode()


@PATIENCE
@pytest.mark.parametrize("bench", ["throughput", "latency", "query", "loss"])
async def test_a_node_that_dies_in_the_middle_breaks_the_run(bench: str) -> None:
    async with running(bench) as (process, started):
        [victim] = [pid for pid in started if "mcast node" in words(pid) and "--id n2" in words(pid)]
        os.kill(victim, signal.SIGKILL)
        code, reported = await ended(process, started)
    assert code == ExitCode.FINDING
    assert reported.startswith("mcast: the run broke, so there is no number: n2 died in the middle of the run; ")
    assert reported.count("\n") == 1


@PATIENCE
@pytest.mark.parametrize(
    ("bench", "number"), [("throughput", signal.SIGTERM), ("latency", signal.SIGINT), ("query", signal.SIGINT)]
)
async def test_an_interrupted_run_leaves_nothing_behind(bench: str, number: signal.Signals) -> None:
    async with running(bench) as (process, started):
        process.send_signal(number)
        code, reported = await ended(process, started)
    assert code == ExitCode.INTERRUPTED
    assert reported == "mcast: interrupted: no number; no node is left running\n"


@PATIENCE
async def test_an_interruption_while_nodes_start_leaves_nothing_behind() -> None:
    async with running("failover", load="mcast node") as (process, started):
        process.send_signal(signal.SIGINT)
        code, _ = await ended(process, started)
    assert code == ExitCode.INTERRUPTED


def test_what_cannot_be_written_is_told_before_anything_is_measured(tmp_path: Path) -> None:
    Wanted(False, tmp_path / "x.csv", None).check()
    Wanted(False, Path("-"), None).check()
    with pytest.raises(ConfigError, match=r"--csv = .*no such folder"):
        Wanted(False, tmp_path / "none" / "x.csv", None).check()
    with pytest.raises(ConfigError, match="stdout is taken by --json"):
        Wanted(True, Path("-"), None).check()
    with pytest.raises(ConfigError, match=r"end it with \.png, \.svg, \.pdf"):
        Wanted(False, None, tmp_path / "x.txt").check()


@pytest.mark.parametrize(
    ("gso", "others", "said"),
    [
        (True, [None, 0.05], ""),
        (
            True,
            [0.02, 0.4],
            "mcast: other programs used 40% of this machine's processors meanwhile: measure again when",
        ),
        (False, [None], "mcast: this machine has no segmentation offload (gso: false): a system call for every"),
    ],
)
def test_what_makes_a_number_doubtful_is_told(
    gso: bool, others: list[float | None], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    async def measuring() -> dict[str, Any]:
        return {"gso": gso, "rounds": [{"others_busy": share} for share in others]}

    run(lambda progress: measuring(), lambda document: None, Wanted(True, None, None))
    reported = capsys.readouterr().err
    assert reported.startswith(said)
    assert bool(reported) is bool(said)
