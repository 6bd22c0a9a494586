"""How many events a second every replica applies, with all promises on, beside the yardstick in the same run."""

from __future__ import annotations

import asyncio
from dataclasses import asdict, dataclass
from typing import Any, Final

from mcast.bench.job import BrokenRun, Tell, run_job
from mcast.bench.load import KEYS, event_bytes
from mcast.bench.measure import Document, OnProgress, in_one_epoch, machine, offload, spread, while_alive
from mcast.bench.memory import take_memory
from mcast.lab.processes import Processes

WARMUP_SHARE: Final = 0.05  # of the events, submitted before the clock runs
WARMUP_MAX: Final = 50_000
YARDSTICK_SHARE: Final = 2  # times our events: it is so much faster, and a short run tells little


@dataclass(frozen=True, slots=True, kw_only=True)
class ThroughputWorkload:
    """What is submitted, and to what."""

    events: int = 500_000
    size: int = 12
    """Bytes of one event, packed."""
    nodes: int = 3
    observers: int = 0
    clients: int = 1
    sync: str = "os"
    sealed: bool = True
    mtu: int = 1_500
    loss: float = 0.0
    """Share of datagrams that every node loses of what it receives."""
    seed: int = 7
    keys: int = KEYS
    fill: bool = False
    """Whether every key is there before the clock runs."""


async def measure(workload: ThroughputWorkload, rounds: int, beside: bool, progress: OnProgress) -> Document:
    """Rounds of ours, then (`beside` it) the yardstick's; each on fresh processes. Medians with least and greatest.

    `events_per_s` counts from the first submit until the slowest replica applied the last event,
    `acknowledged_per_s` until the client knew every outcome; `ratio` is ours by the yardstick's of the same round.

    Raises:
        BrokenRun: there is no number.
    """
    done = []
    written = workload.events * event_bytes(workload.size) * (workload.nodes + workload.observers)
    for number in range(1, rounds + 1):
        where = f"round {number} of {rounds}"
        await asyncio.to_thread(take_memory, written)
        one = await measure_once(workload, lambda share, where=where: progress(f"{where}: events", share))  # type: ignore[misc]
        yardstick = await _yardstick(workload, progress, where) if beside else None
        ratio = None if yardstick is None else round(one["events_per_s"] / yardstick, 4)
        done.append({**one, "yardstick_per_s": yardstick, "ratio": ratio})
    return {
        "bench": "throughput",
        "machine": machine(),
        "gso": all(one["gso"] for one in done),
        "workload": {**asdict(workload), "event_bytes": event_bytes(workload.size)},
        "events_per_s": spread([one["events_per_s"] for one in done]),
        "acknowledged_per_s": spread([one["acknowledged_per_s"] for one in done]),
        "yardstick_per_s": spread([one["yardstick_per_s"] for one in done]) if beside else None,
        "ratio": spread([one["ratio"] for one in done], 4) if beside else None,
        "mb_per_s": spread([one["mb_per_s"] for one in done], 2),
        "rounds": done,
    }


async def measure_once(workload: ThroughputWorkload, tell: Tell) -> Document:
    """One round of ours, on fresh processes. Raises BrokenRun."""
    faults = {"*": f"loss={workload.loss * 100:g}%,seed={workload.seed}"} if workload.loss else None
    async with Processes(
        nodes=workload.nodes, observers=workload.observers, sync=workload.sync, mtu=workload.mtu,
        sealed=workload.sealed, faults=faults,
    ) as lab:  # fmt: skip
        return await while_alive(lab, flooded(lab, workload, tell))


async def flooded(lab: Processes, workload: ThroughputWorkload, tell: Tell) -> Document:
    """Submit the workload to a cluster, and what that took. Raises BrokenRun."""

    async def flood(status: Document) -> Document:
        job = {
            "config": str(lab.path), "at": status["sequencer"], "events": workload.events, "size": workload.size,
            "warmup": workload.keys if workload.fill else min(WARMUP_MAX, int(workload.events * WARMUP_SHARE)),
            "clients": workload.clients, "keys": workload.keys, "pids": lab.pids,
        }  # fmt: skip
        return await run_job("flood", job, tell)

    result, status, gaps = await in_one_epoch(lab, flood)
    per_event = result["used"]["per_event"]
    return {
        "events": workload.events,
        "clients": result["clients"],
        "events_per_s": round(workload.events / result["applied_s"]),
        "acknowledged_per_s": round(workload.events / result["acknowledged_s"]),
        "mb_per_s": round(workload.events * event_bytes(workload.size) / result["applied_s"] / 1e6, 2),
        "seconds": round(result["applied_s"], 3),
        "sequencer": status["sequencer"],
        "gso": offload(status),
        "lost": sum(node["lost"] for node in gaps["nodes"]),
        "cpu_us_per_event": {name: cost["cpu_us"] for name, cost in per_event.items()},
        **result["used"],
    }


async def _yardstick(workload: ThroughputWorkload, progress: OnProgress, where: str) -> int:
    progress(f"{where}: yardstick", 0.0)
    what: dict[str, Any] = {
        "nodes": workload.nodes + workload.observers, "mtu": workload.mtu, "event_bytes": workload.size,
        "events": workload.events * YARDSTICK_SHARE,
    }  # fmt: skip
    result = await run_job("yardstick", what, lambda share: progress(f"{where}: yardstick", share))
    if not result["same_chain"]:
        raise BrokenRun("the yardstick's receivers differ")
    return int(result["events_per_s"])
