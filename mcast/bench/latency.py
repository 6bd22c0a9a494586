"""How long a command takes from submit to acknowledgement, beside the barest pipe of the same shape in the same run."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, Final

from mcast.bench.bottleneck import held, held_back_by
from mcast.bench.job import Tell, run_job
from mcast.bench.load import event_bytes
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
from mcast.lab.processes import Processes

GATEWAYS: Final = ("sequencer", "follower")
WARMUP: Final = 300  # commands of each round before the clock runs
PIPE_MAX: Final = 4_000  # commands of one round through the bare pipe
SYNCS: Final = 200  # of each writer, one round


@dataclass(frozen=True, slots=True, kw_only=True)
class LatencyWorkload:
    """What is submitted, and to what. With a `rate`, for `seconds`; without, `count` commands one after the other."""

    count: int = 3_000
    rate: float | None = None
    seconds: float = 5.0
    size: int = 12
    """Bytes of one command, packed."""
    at: str = "sequencer"
    """The gateway: the sequencer itself, or a follower that forwards to it."""
    nodes: int = 3
    sync: str = "os"
    sealed: bool = True
    mtu: int = 1_500


async def measure(workload: LatencyWorkload, rounds: int, beside: bool, progress: OnProgress) -> Document:
    """Rounds of ours and, `beside` it, of the bare pipe's (and the disk's), against the same cluster.

    `ratio` is our p50 by the floor's of the same round: the pipe's and, with sync "always", the fdatasync of as many
    writers at once as there are nodes. If a rate was not held, `took_us` and `ratio` are None: how long commands waited
    says only how long the run was. At a rate, `late_us` is how late this program itself was to send, part of `took_us`.

    Raises:
        BrokenRun: there is no number.
    """
    async with Processes(nodes=workload.nodes, sync=workload.sync, mtu=workload.mtu, sealed=workload.sealed) as lab:

        async def work(status: Document) -> list[Document]:
            return [
                await _round(lab, workload, status, beside, f"round {number} of {rounds}", progress)
                for number in range(1, rounds + 1)
            ]

        rounds_done, status, _ = await while_alive(lab, in_one_epoch(lab, work))
    fine = all(one["held"] for one in rounds_done)
    return {
        "bench": "latency",
        "machine": machine(),
        "gso": offload(status),
        "workload": {**asdict(workload), "event_bytes": event_bytes(workload.size)},
        "sequencer": status["sequencer"],
        "held": fine,
        "held_back_by": next((one["held_back_by"] for one in rounds_done if not one["held"]), None),
        "reached": spread([one["reached"] for one in rounds_done], 1),
        "took_us": spreads([one["took_us"] for one in rounds_done]) if fine else None,
        "late_us": spreads([one["late_us"] for one in rounds_done]) if workload.rate is not None else None,
        "pipe_us": spreads([one["pipe_us"] for one in rounds_done]) if beside else None,
        "sync_us": spreads([one["sync_us"] for one in rounds_done]) if beside and workload.sync == "always" else None,
        "ratio": spread([one["ratio"] for one in rounds_done], 2) if beside and fine else None,
        "rounds": rounds_done,
    }


async def _round(  # noqa: PLR0913 - what a round is of
    lab: Processes, workload: LatencyWorkload, status: Document, beside: bool, where: str, progress: OnProgress
) -> Document:
    ours = await _ours(lab, workload, status, lambda share: progress(f"{where}: commands", share))
    fine = workload.rate is None or held(ours["reached"], workload.rate)
    pipe: Document | None = None
    sync: Document | None = None
    if beside:
        what = {"rounds": min(workload.count, PIPE_MAX), "command_bytes": event_bytes(workload.size)}
        pipe = await run_job("pipe", what, lambda share: None)
        if workload.sync == "always":
            disk = {"folder": str(lab.config.data_dir), "writers": workload.nodes, "rounds": SYNCS}
            sync = await run_job("sync", disk, lambda share: None)
    floor_us = sum(floor["took_us"]["p50"] for floor in (pipe, sync) if floor)
    return {
        "held": fine,
        "held_back_by": None if fine else held_back_by(ours["used"], status["sequencer"], workload.sync),
        "reached": ours["reached"],
        "took_us": ours["took_us"] if fine else None,
        "curve_us": ours["curve_us"] if fine else None,
        "late_us": ours.get("late_us"),
        "pipe_us": pipe and pipe["took_us"],
        "pipe_curve_us": pipe and pipe["curve_us"],
        "sync_us": sync and sync["took_us"],
        "ratio": round(ours["took_us"]["p50"] / floor_us, 3) if fine and floor_us else None,
        **ours["used"],
    }


async def _ours(lab: Processes, workload: LatencyWorkload, status: Document, tell: Tell) -> Document:
    job: dict[str, Any] = {
        "config": str(lab.path), "at": gateway(status, workload.at), "size": workload.size, "warmup": WARMUP,
        "pids": lab.pids,
    }  # fmt: skip
    if workload.rate is None:
        return await run_job("one-by-one", {**job, "count": workload.count}, tell)
    return await run_job("at-a-rate", {**job, "rate": workload.rate, "seconds": workload.seconds}, tell)
