"""What losing datagrams costs: how fast each gap is repaired, and what is sent for it, at a steady load."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import partial
from typing import Any, Final

from mcast.analysis import reconcile, repair_latency
from mcast.bench.bottleneck import held, held_back_by
from mcast.bench.job import BrokenRun, Tell, run_job
from mcast.bench.load import event_bytes
from mcast.bench.measure import Document, OnProgress, in_one_epoch, machine, offload, while_alive
from mcast.errors import ConfigError
from mcast.lab.processes import Processes

SHARE_MAX: Final = 0.5  # of datagrams lost; with more, no majority can be expected to agree
_PERCENT: Final = re.compile(r"(\d{1,3}(?:\.\d{1,6})?)%?")


@dataclass(frozen=True, slots=True, kw_only=True)
class LossWorkload:
    """What is submitted, and to what."""

    rate: float = 2_000.0
    """Commands a second."""
    seconds: float = 5.0
    size: int = 255
    """Bytes of one command, packed."""
    nodes: int = 3
    sync: str = "os"
    sealed: bool = True
    mtu: int = 1_500
    seed: int = 7


def parse_share(text: str) -> float:
    """The one share (0 to 1) that "5%" names; none at all is "0%". Raises ConfigError as `parse_shares`."""
    if text.strip().rstrip("%") == "0":
        return 0.0
    shares = parse_shares(text)
    if len(shares) > 1:
        raise ConfigError("--loss", text, "more than one share", "give one, such as 5%")
    return shares[0]


def parse_shares(text: str) -> tuple[float, ...]:
    """The shares (0 to 1) that "1%,5%,10%" names.

    Raises:
        ConfigError: not percentages, one beyond SHARE_MAX, or none above zero.
    """
    fix = f"write for example 1%,5%,10%; each above 0 and at most {SHARE_MAX:.0%}"
    shares = []
    for part in text.split(","):
        match = _PERCENT.fullmatch(part.strip())
        if match is None:
            raise ConfigError("--loss", text, f"{part.strip()!r} is no percentage", fix)
        shares.append(float(match[1]) / 100)
        if not 0 < shares[-1] <= SHARE_MAX:
            raise ConfigError("--loss", text, f"{part.strip()} is out of range", fix)
    return tuple(shares)


async def measure(workload: LossWorkload, shares: Sequence[float], progress: OnProgress) -> Document:
    """One run for each share of datagrams that every node loses of what it receives.

    Raises:
        BrokenRun: a run did not reconcile, or did not live to its end: there is no number.
    """
    runs = [await _run(workload, share, progress) for share in shares]
    return {
        "bench": "loss",
        "machine": machine(),
        "gso": all(run["gso"] for run in runs),
        "workload": {**asdict(workload), "event_bytes": event_bytes(workload.size)},
        "runs": runs,
    }


async def _run(workload: LossWorkload, share: float, progress: OnProgress) -> Document:
    fault = f"loss={share * 100:g}%,seed={workload.seed}"
    async with Processes(
        nodes=workload.nodes, sync=workload.sync, mtu=workload.mtu, sealed=workload.sealed, faults={"*": fault}
    ) as lab:
        tell = partial(progress, f"losing {share * 100:g}%")
        load, status, gaps = await while_alive(lab, in_one_epoch(lab, partial(_load, lab, workload, tell)))
    rate = round(load["submitted"] / load["seconds"])
    why = None if held(rate, workload.rate) else held_back_by(load["used"], status["sequencer"], workload.sync)
    conditions = {"rate": rate, "held_back_by": why, "gso": offload(status), **load["used"]}
    return {"loss": share, **figures(status, gaps), **conditions}


async def _load(lab: Processes, workload: LossWorkload, tell: Tell, status: Document) -> Document:
    job = {
        "config": str(lab.path), "at": status["sequencer"], "rate": workload.rate, "seconds": workload.seconds,
        "size": workload.size, "pids": lab.pids,
    }  # fmt: skip
    return await run_job("steady", job, tell)


def figures(status: Document, gaps: Document) -> Document:
    """What the documents of a run that reconciles say of its repairs; counts are datagrams, but for NAKs' own.

    Latency is from the first sign that a datagram is missing until its events are there, over the newest gaps that
    the ledgers keep.

    Raises:
        BrokenRun: they do not reconcile, or nothing was lost.
    """
    accounts = reconcile(gaps)
    if not all(account.reconciles for account in accounts):
        raise BrokenRun("losses do not reconcile")
    lost = sum(account.detected for account in accounts)
    if not lost:
        raise BrokenRun("nothing was lost: too few datagrams for this share")
    took = repair_latency(gap for node in gaps["nodes"] for gap in node["closed"])
    naks = sum(node["naks_sent"] for node in status["nodes"])
    repairs = sum(node["repairs_sent"] for node in status["nodes"])
    return {
        "lost": lost,
        "injected": sum(account.injected for account in accounts),
        "repaired": sum(account.repaired for account in accounts),
        "superseded": sum(account.superseded for account in accounts),
        "transferred": sum(account.transferred for account in accounts),
        "repair_ms": {
            "gaps": took.count, "mean": _rounded(took.mean_ms), "p50": _rounded(took.p50_ms),
            "p99": _rounded(took.p99_ms), "max": _rounded(took.max_ms),
        },
        "repairs_sent": repairs,
        "repairs_per_loss": round(repairs / lost, 3),
        "naks_sent": naks,
        "naks_per_loss": round(naks / lost, 3),
    }  # fmt: skip


def _rounded(value: float | None) -> Any:
    return None if value is None else round(value, 3)
