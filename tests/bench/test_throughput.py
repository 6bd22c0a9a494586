import asyncio
import os
import sys
from pathlib import Path

import pytest

import mcast
from mcast.bench import throughput
from mcast.bench.job import BrokenRun, run_job
from mcast.bench.throughput import ThroughputWorkload
from tests.bench.children import descendants, lives
from tests.bench.overload import PATIENCE, START_S, unless_overloaded

pytestmark = PATIENCE

DOCUMENT = {
    "bench", "machine", "gso", "workload", "events_per_s", "acknowledged_per_s", "yardstick_per_s", "ratio", "mb_per_s",
    "rounds",
}  # fmt: skip
ROUND = {
    "events", "clients", "events_per_s", "acknowledged_per_s", "mb_per_s", "seconds", "sequencer", "gso", "lost",
    "cpu_us_per_event", "per_event", "busy", "machine_busy", "kernel_busy", "others_busy", "rss_mib",
    "yardstick_per_s", "ratio",
}  # fmt: skip
COSTS = {
    "cpu_us", "user_us", "system_us", "switches", "datagrams_sent", "bytes_sent", "sends", "datagrams_received",
    "bytes_received", "receives",
}  # fmt: skip


def nothing(what: str, share: float) -> None:
    pass


async def test_a_small_round_is_measured_beside_the_yardstick() -> None:
    document = await unless_overloaded(
        lambda: throughput.measure(ThroughputWorkload(events=3_000, nodes=2), 1, True, nothing)
    )
    (one,) = document["rounds"]
    assert document["workload"]["event_bytes"] == 12
    assert document["gso"] is (sys.platform == "linux")
    assert one["events_per_s"] > 0
    assert one["acknowledged_per_s"] > 0
    assert one["ratio"] == pytest.approx(one["events_per_s"] / one["yardstick_per_s"], rel=1e-2)
    assert document["ratio"] == {"median": one["ratio"], "min": one["ratio"], "max": one["ratio"]}
    assert set(one["cpu_us_per_event"]) == {"n1", "n2", "client"}
    assert one["sequencer"] in ("n1", "n2")
    used = one["per_event"]
    assert used[one["sequencer"]]["bytes_sent"] >= 12  # each event once, and what is around it
    assert 0 < used[one["sequencer"]]["sends"] <= used[one["sequencer"]]["datagrams_sent"] < 1
    assert used["client"]["cpu_us"] > 0
    assert set(document) == DOCUMENT
    assert set(one) == ROUND
    assert set(used["n1"]) == set(used["client"]) == COSTS


async def test_clients_and_observers_take_part_under_loss_without_the_yardstick() -> None:
    workload = ThroughputWorkload(events=601, nodes=2, observers=1, clients=3, loss=0.1, size=300, sealed=False)
    document = await unless_overloaded(lambda: throughput.measure(workload, 1, False, nothing))
    (one,) = document["rounds"]
    assert set(one["cpu_us_per_event"]) == {"n1", "n2", "n3", "client"}
    assert one["lost"] > 0
    assert one["clients"] == document["workload"]["clients"] == 3
    assert (document["ratio"], document["yardstick_per_s"], one["ratio"]) == (None, None, None)


NO_GSO = """
import errno, socket

def refuse(self, buffers, ancillary=(), flags=0, address=None, real=socket.socket.sendmsg):
    if any(kind == 103 for _, kind, _ in ancillary):
        raise OSError(errno.EIO, "no segmentation offload")
    return real(self, buffers, ancillary, flags, address)

def keep(self, level, option, *value, real=socket.socket.setsockopt):
    if level == socket.IPPROTO_UDP and option in (103, 104):
        raise OSError(errno.ENOPROTOOPT, "no such option")
    return real(self, level, option, *value)

socket.socket.sendmsg, socket.socket.setsockopt = refuse, keep
"""


async def test_a_machine_without_segmentation_offload_is_measured_and_told_apart(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "sitecustomize.py").write_text(NO_GSO)
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(tmp_path), str(Path(mcast.__file__).parents[1])]))
    workload = ThroughputWorkload(events=3_000, size=200, nodes=2)
    document = await unless_overloaded(lambda: throughput.measure(workload, 1, True, nothing))
    assert document["gso"] is False
    (one,) = document["rounds"]
    sent = one["per_event"][one["sequencer"]]
    assert sent["sends"] == sent["datagrams_sent"] > 0.1


async def test_a_job_that_fails_says_why(tmp_path: Path) -> None:
    job = {"config": str(tmp_path / "none.toml"), "at": "n1", "rate": 1, "seconds": 1, "size": 12, "pids": {}}
    with pytest.raises(BrokenRun, match=r"none\.toml"):
        await run_job("steady", job, lambda share: None)


async def test_a_job_without_a_result_gives_its_last_words() -> None:
    with pytest.raises(BrokenRun, match="ended without a result: KeyError"):
        await run_job("nonesuch", {}, lambda share: None)


@pytest.mark.skipif(sys.platform != "linux", reason="looks into /proc")
@pytest.mark.parametrize("processes", [1, 4], ids=["starting", "measuring"])
async def test_a_cancelled_job_ends_with_all_it_started_and_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, processes: int
) -> None:
    """The yardstick's receivers wait for datagrams that never come, unless someone ends them."""
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    job = {"nodes": 2, "mtu": 1_500, "event_bytes": 16, "events": 100_000_000}
    before = descendants()
    task = asyncio.ensure_future(run_job("yardstick", job, lambda share: None))
    async with asyncio.timeout(START_S):
        while not any(tmp_path.iterdir()) or len(descendants() - before) < processes:
            await asyncio.sleep(0.02)
    started = descendants() - before
    semaphores = {path for pid in started for path in mapped(pid) if path.name.startswith("sem.")}
    assert semaphores
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert not any(tmp_path.iterdir())
    assert not any(path.exists() for path in semaphores)
    async with asyncio.timeout(START_S):
        while any(lives(pid) for pid in started):
            await asyncio.sleep(0.02)


def mapped(pid: int) -> list[Path]:
    """The files in a process's memory."""
    try:
        lines = Path(f"/proc/{pid}/maps").read_text().splitlines()
    except OSError:
        return []
    return [Path(line.split(maxsplit=5)[5]) for line in lines if line.count("/")]
