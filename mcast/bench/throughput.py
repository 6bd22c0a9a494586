"""How many events a second every replica applies, with all promises on, beside the yardstick in the same run."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, Final

from mcast.bench.job import BrokenRun, Tell, run_job
from mcast.bench.load import event_bytes
from mcast.bench.measure import Document, Progress, check_one_reign, machine, settled, spread, while_alive
from mcast.testing.processes import Processes

WARMUP_SHARE: Final = 0.05  # of the events, submitted before the clock runs
WARMUP_MAX: Final = 50_000
YARDSTICK_SHARE: Final = 2  # times our events: it is so much faster, and a short run tells little


@dataclass(frozen=True, slots=True, kw_only=True)
class Workload:
    """What is submitted, and to what."""

    events: int = 500_000
    size: int = 12
    """Bytes of one event, packed."""
    nodes: int = 3
    sync: str = "os"
    sealed: bool = True
    mtu: int = 1_500


async def measure(workload: Workload, rounds: int, progress: Progress) -> Document:
    """Rounds of ours, then the yardstick's; each on fresh processes. Medians with the least and the greatest.

    `events_per_s` counts from the first submit until the slowest replica applied the last event,
    `acknowledged_per_s` until the client knew every outcome; `ratio` is ours by the yardstick's of the same round.

    Raises:
        BrokenRun: there is no number.
    """
    done = []
    for number in range(1, rounds + 1):
        where = f"round {number} of {rounds}"
        ours = await _ours(workload, lambda share, where=where: progress(f"{where}: events", share))  # type: ignore[misc]
        yardstick = await _yardstick(workload, progress, where)
        done.append({**ours, "yardstick_per_s": yardstick, "ratio": round(ours["events_per_s"] / yardstick, 4)})
    summed = ("events_per_s", "acknowledged_per_s", "yardstick_per_s")
    return {
        "bench": "throughput",
        "machine": machine(),
        "workload": {**asdict(workload), "event_bytes": event_bytes(workload.size)},
        **{name: spread([one[name] for one in done]) for name in summed},
        "ratio": spread([one["ratio"] for one in done], 4),
        "mb_per_s": spread([one["mb_per_s"] for one in done], 2),
        "rounds": done,
    }


async def _ours(workload: Workload, tell: Tell) -> Document:
    async with Processes(nodes=workload.nodes, sync=workload.sync, mtu=workload.mtu, sealed=workload.sealed) as lab:
        return await while_alive(lab, _flooded(lab, workload, tell))


async def _flooded(lab: Processes, workload: Workload, tell: Tell) -> Document:
    before = await lab.live()
    job = {
        "config": str(lab.path), "at": before["sequencer"], "events": workload.events, "size": workload.size,
        "warmup": min(WARMUP_MAX, int(workload.events * WARMUP_SHARE)),
        "pids": {node_id: lab.pid(node_id) for node_id in lab.ids},
    }  # fmt: skip
    result = await run_job("flood", job, tell)
    after, gaps = await settled(lab)
    check_one_reign(before, after)
    cpu_s: dict[str, float | None] = result["cpu_s"]
    return {
        "events_per_s": round(workload.events / result["applied_s"]),
        "acknowledged_per_s": round(workload.events / result["acknowledged_s"]),
        "mb_per_s": round(workload.events * event_bytes(workload.size) / result["applied_s"] / 1e6, 2),
        "seconds": round(result["applied_s"], 3),
        "sequencer": before["sequencer"],
        "lost": sum(node["lost"] for node in gaps["nodes"]),
        "cpu_us_per_event": {
            name: None if used is None else round(used / workload.events * 1e6, 3) for name, used in cpu_s.items()
        },
    }


async def _yardstick(workload: Workload, progress: Progress, where: str) -> int:
    progress(f"{where}: yardstick", 0.0)
    what: dict[str, Any] = {
        "nodes": workload.nodes, "mtu": workload.mtu, "event_bytes": workload.size,
        "events": workload.events * YARDSTICK_SHARE,
    }  # fmt: skip
    result = await run_job("yardstick", what, lambda share: progress(f"{where}: yardstick", share))
    if not result["same_chain"]:
        raise BrokenRun("the yardstick's receivers differ")
    return int(result["events_per_s"])
