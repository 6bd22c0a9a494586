"""How many queries a second replicas answer, at each level of consistency: one replica, or all at the same time."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from functools import partial
from typing import Final

from mcast.bench.job import Tell, run_job, run_together
from mcast.bench.measure import (
    Document,
    OnProgress,
    gateway,
    in_one_epoch,
    machine,
    offload,
    spread,
    spreads,
    while_alive,
)
from mcast.bench.usage import others_busy
from mcast.lab.processes import Processes
from mcast.wire.levels import Consistency

TARGETS: Final = ("sequencer", "follower", "all")


@dataclass(frozen=True, slots=True, kw_only=True)
class QueryWorkload:
    """What is asked, and whom."""

    level: Consistency = "any"
    clients: int = 4
    """Connections to each replica asked."""
    depth: int = 64
    """Queries that each client has on their way at a time."""
    at: str = "follower"
    seconds: float = 3.0
    size: int = 12
    """Bytes of the commands that filled the state beforehand."""
    nodes: int = 3
    observers: int = 0
    sync: str = "os"
    sealed: bool = True


async def measure(workload: QueryWorkload, rounds: int, progress: OnProgress) -> Document:
    """Rounds against the same cluster. One process asks each replica; all begin at the same moment.

    `answers_per_s` is the sum over the replicas asked; `took_us` is what one call took: a query, or `depth` at once.

    Raises:
        BrokenRun: there is no number.
    """
    async with Processes(
        nodes=workload.nodes, observers=workload.observers, sync=workload.sync, sealed=workload.sealed
    ) as lab:

        async def work(status: Document) -> list[Document]:
            await _fill(lab, workload, status)
            return [
                await _round(lab, workload, status, partial(progress, f"round {number} of {rounds}"))
                for number in range(1, rounds + 1)
            ]

        done, status, _ = await while_alive(lab, in_one_epoch(lab, work))
    asked = done[0]["replicas"]
    return {
        "bench": "query",
        "machine": machine(),
        "gso": offload(status),
        "workload": asdict(workload),
        "sequencer": status["sequencer"],
        "answers_per_s": spread([one["answers_per_s"] for one in done]),
        "replicas": {
            node_id: {
                "answers_per_s": spread([one["replicas"][node_id]["answers_per_s"] for one in done]),
                "took_us": spreads([one["replicas"][node_id]["took_us"] for one in done]),
            }
            for node_id in asked
        },
        "rounds": done,
    }


async def _fill(lab: Processes, workload: QueryWorkload, status: Document) -> None:
    """So that there is something to find."""
    job = {
        "config": str(lab.path), "at": status["sequencer"], "events": 7_000, "size": workload.size, "warmup": 0,
        "pids": lab.pids,
    }  # fmt: skip
    await run_job("flood", job, lambda share: None)


async def _round(lab: Processes, workload: QueryWorkload, status: Document, tell: Tell) -> Document:
    asked = lab.ids if workload.at == "all" else (gateway(status, workload.at),)
    common = {
        "config": str(lab.path), "level": workload.level, "clients": workload.clients, "depth": workload.depth,
        "seconds": workload.seconds, "size": workload.size,
    }  # fmt: skip
    jobs = [
        {**common, "at": node_id, "pids": lab.pids if len(asked) == 1 else {node_id: lab.pid(node_id)}}
        for node_id in asked
    ]
    results = dict(zip(asked, await run_together("ask", jobs, tell), strict=True))
    usages = [result["used"] for result in results.values()]
    busiest = max((one["machine_busy"] for one in usages if one["machine_busy"] is not None), default=None)
    kernel = max(one["kernel_busy"] for one in usages)
    return {
        "answers_per_s": sum(result["reached"] for result in results.values()),
        "others_busy": others_busy(busiest, kernel, [share for one in usages for share in one["busy"].values()]),
        "replicas": {
            node_id: {
                "answers_per_s": result["reached"], "answers": result["answers"], "took_us": result["took_us"],
                **result["used"],
            }
            for node_id, result in results.items()
        },
    }  # fmt: skip
