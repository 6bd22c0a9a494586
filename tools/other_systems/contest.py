"""Rounds in which every system takes a turn at the same work, and what came out beside our own of the same round."""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

from mcast.bench.job import BrokenRun, run_job
from mcast.bench.measure import Document, OnProgress, machine, spread
from mcast.bench.memory import take_memory
from tools.other_systems.kinds import KINDS, PeerKind
from tools.other_systems.peer import NODES, SILENCE_S, START_S

PROGRAM: Final = (str(Path(__file__).with_name("jobs.py")),)
SIZES: Final = (12, 256, 1_024)
SECONDS: Final = 0.7
RATES: Final = ("applied_per_s", "acknowledged_per_s")
_SIZE_S: Final = 10  # times the seconds wanted, that one size may take
_WRITTEN_PER_S: Final = 1 << 30  # bytes at most, of all copies of what is submitted; half of it before the clock runs

PeerTurn = dict[str, Any]
"""By size: what `turn.play` returns."""
Round = dict[str, PeerTurn]
"""By system."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PeerWorkload:
    """What every system is given."""

    sizes: Sequence[int] = SIZES
    """Bytes of one event, each a run of its own."""
    events: int | None = None
    """Of one run; None for as many as take about `seconds`."""
    seconds: float = SECONDS


def entrants(names: Iterable[str]) -> list[str]:
    """The systems named, and before them those of ours that they are compared with, each once."""
    chosen = list(names)
    return list(dict.fromkeys([*(KINDS[name].beside for name in chosen), *chosen]))


async def measure(workload: PeerWorkload, names: Sequence[str], rounds: int, progress: OnProgress) -> Document:
    """Let the systems take turns, each round beginning with the next one; medians with the least and the greatest.

    `lead` is how many times as many events a second the system's counterpart of ours applied in the same round,
    `ack_lead` how many times as long the system takes to acknowledge one. A system whose run breaks is out, and has an
    `error` instead of numbers; one that is not installed is among `skipped`.
    """
    missing = {name: lacks for name in names if (lacks := KINDS[name].missing())}
    errors: dict[str, str] = {}
    played: list[Round] = []
    counts: dict[str, Mapping[str, int | None]] = {}
    for number in range(rounds):
        played.append({})
        playing = [name for name in names if name not in missing]
        for name in playing[number % len(playing) :] + playing[: number % len(playing)] if playing else ():
            if name in errors:
                continue
            progress(f"round {number + 1} of {rounds}: {KINDS[name].title}", 0.0)
            events = counts.get(name) or {str(size): workload.events for size in workload.sizes}
            try:
                played[-1][name] = await _turn(name, events, workload, progress)
            except BrokenRun as broken:
                errors[name] = str(broken)
                continue
            counts[name] = {size: result["events"] for size, result in played[-1][name].items()}
    return {
        "bench": "peers",
        "machine": machine(),
        "workload": {**asdict(workload), "nodes": NODES, "rounds": rounds},
        "peers": [entry(name, played, workload.sizes, errors.get(name)) for name in names if name not in missing],
        "skipped": [
            {"name": name, "missing": lacks, "install": KINDS[name].install} for name, lacks in missing.items()
        ],
        "rounds": played,
    }


async def _turn(name: str, events: Mapping[str, int | None], workload: PeerWorkload, progress: OnProgress) -> PeerTurn:
    written = sum(_written(int(size), count, workload.seconds) for size, count in events.items())
    await asyncio.to_thread(take_memory, written)
    limit_s = 2 * START_S + len(workload.sizes) * (SILENCE_S + _SIZE_S * workload.seconds)
    with tempfile.TemporaryDirectory(prefix="mcast-peers-", ignore_cleanup_errors=True) as folder:
        what = {"name": name, "folder": folder, "events": events, "seconds": workload.seconds}
        try:
            async with asyncio.timeout(limit_s):
                return await run_job("peer", what, lambda share: progress(KINDS[name].title, share), program=PROGRAM)
        except TimeoutError:
            raise BrokenRun(f"not done after {limit_s:g} s") from None


def _written(size: int, events: int | None, seconds: float) -> int:
    """Bytes that a run writes at all places, at most and more or less."""
    return int(_WRITTEN_PER_S * seconds) if events is None else events * size * NODES


def entry(name: str, played: Sequence[Round], sizes: Sequence[int], error: str | None) -> Document:
    """One system's part of the document."""
    kind: PeerKind = KINDS[name]
    row = {
        "name": name,
        "title": kind.title,
        "version": kind.version(),
        "acknowledged": kind.acknowledged,
        "beside": kind.beside,
    }
    if error is not None:
        return {**row, "error": error}
    return {**row, "error": None, "sizes": {str(size): summed(name, kind.beside, played, str(size)) for size in sizes}}


def summed(name: str, beside: str, played: Sequence[Round], size: str) -> Document:
    """One system's rounds at one size, and the ratios to what stands beside it in the same rounds."""
    theirs = [one[name][size] for one in played]
    both = [(one[beside][size], one[name][size]) for one in played if beside in one]
    lead = [ours["applied_per_s"] / other["applied_per_s"] for ours, other in both]
    ack_lead = [other["ack_p50_us"] / ours["ack_p50_us"] for ours, other in both]
    return {
        **{key: spread([one[key] for one in theirs]) for key in RATES},
        "ack_p50_us": spread([one["ack_p50_us"] for one in theirs], 1),
        "lead": spread(lead, 2) if lead else None,
        "ack_lead": spread(ack_lead, 2) if ack_lead else None,
    }
