"""How the cost of an event grows: with observers, its size, clients, loss, the log's length, the state's size.

Each sweep changes one thing and measures throughput at every value; what counts is CPU for one event of the sequencer
and of a follower, for that is what a machine with more processors would see too. Rounds go through all values before
the next begins, so that a machine that slows down slows all of them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any, Final

from mcast import limits
from mcast.bench.job import BrokenRun, Tell
from mcast.bench.load import SIZE_MIN
from mcast.bench.loss import SHARE_MAX
from mcast.bench.measure import Document, OnProgress, machine, spread, while_alive
from mcast.bench.throughput import ThroughputWorkload, flooded, measure_once
from mcast.bench.usage import CLIENT
from mcast.errors import NotYet
from mcast.lab.processes import Processes

POINT_BYTES: Final = 64 << 20  # of events at one point of the sweep over sizes, where fewer make the figure as good
POINT_EVENTS_MIN: Final = 40
ROLES: Final = ("sequencer", "followers", "observers", "clients")
FIGURES: Final = (
    "cpu_us", "user_us", "system_us", "switches", "datagrams_sent", "bytes_sent", "sends", "receives", "rss_mib",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Sweep:
    """What is changed, from where to where, and the values that are tried unless others are asked for."""

    what: str
    unit: str
    values: tuple[float, ...]
    least: float
    most: float
    size: int = 12
    """Bytes of an event, where that is not what is changed."""
    growing: bool = False
    """Whether the values are reached one after the other on the same cluster."""


SWEEPS: Final[Mapping[str, Sweep]] = {
    "members": Sweep("members", "members", (1, 3, 5, 7), 1, limits.MEMBERS_MAX),
    "observers": Sweep("observers beside the members", "observers", (0, 1, 2, 4, 8, 16), 0, 48),
    "size": Sweep(
        "bytes of an event", "bytes", (8, 64, 255, 1 << 10, 4 << 10, 16 << 10, 64 << 10, 256 << 10, 1 << 20), SIZE_MIN,
        limits.COMMAND_BYTES_MAX,
    ),
    "clients": Sweep("clients that submit at the same time", "clients", (1, 10, 100, 1_000), 1, 1_000),
    "loss": Sweep("share of datagrams lost at every node", "%", (0, 1, 2, 5, 10, 20), 0, SHARE_MAX * 100, size=255),
    "log": Sweep(
        "events in the log; the cost is of those since the value before", "events", (100_000, 300_000, 1_000_000),
        1_000, 100_000_000, growing=True,
    ),
    "state": Sweep("keys in the state machine", "keys", (1_000, 10_000, 100_000, 1_000_000), 10, 1_000_000, size=64),
}  # fmt: skip


async def measure(
    sweep: str, values: Sequence[float], base: ThroughputWorkload, rounds: int, progress: OnProgress
) -> Document:
    """Throughput at each of these ascending values, everything else as in `base`.

    A value at which a run broke has `broken`, which says why, and no numbers.
    """
    kind = SWEEPS[sweep]
    found: dict[float, list[Document]] = {value: [] for value in values}
    broken: dict[float, str] = {}
    for number in range(1, rounds + 1):
        tell = _teller(progress, kind, f"round {number} of {rounds}")
        if kind.growing:
            await _grow(base, values, tell, found, broken)
            continue
        for value in values:
            workload = workload_at(sweep, value, base)
            try:
                if value not in broken:
                    found[value].append(await measure_once(workload, tell(value)))
            except (BrokenRun, NotYet) as error:
                broken[value] = str(error)
    points = [
        _point(value, workload_at(sweep, value, base).nodes, found[value], found[values[0]], broken)
        for value in values
    ]  # fmt: skip
    return {
        "bench": "scale",
        "sweep": sweep,
        "unit": kind.unit,
        "machine": machine(),
        "gso": all(one["gso"] for runs in found.values() for one in runs),
        "workload": asdict(base),
        "growth": _growth([point for point in points if point["broken"] is None], per_value=sweep == "size"),
        "points": points,
    }


def _teller(progress: OnProgress, kind: Sweep, where: str) -> Callable[[float], Tell]:
    return lambda value: lambda share: progress(f"{where}: {value:,.10g} {kind.unit}", share)


async def _grow(
    base: ThroughputWorkload, values: Sequence[float], tell: Callable[[float], Tell],
    found: dict[float, list[Document]], broken: dict[float, str],
) -> None:  # fmt: skip
    """One round on one cluster, whose log grows from value to value."""
    reached = 0.0
    try:
        async with Processes(nodes=base.nodes, sync=base.sync, mtu=base.mtu, sealed=base.sealed) as lab:
            for value in values:
                workload = replace(base, events=int(value - reached))
                found[value].append(await while_alive(lab, flooded(lab, workload, tell(value))))
                reached = value
    except (BrokenRun, NotYet) as error:
        for value in values:
            if value > reached:
                broken[value] = str(error)


def workload_at(sweep: str, value: float, base: ThroughputWorkload) -> ThroughputWorkload:
    """What is submitted at one value of a sweep, and to what."""
    if sweep == "size":
        size = int(value)
        events = max(POINT_EVENTS_MIN, min(base.events, POINT_BYTES // size))
        return replace(base, size=size, events=events)
    if sweep == "loss":
        return replace(base, loss=value / 100)
    if sweep == "clients":
        return replace(base, clients=int(value), events=max(base.events, int(value)))
    if sweep == "members":
        return replace(base, nodes=int(value))
    if sweep == "observers":
        return replace(base, observers=int(value))
    if sweep == "state":  # every key is there before the clock runs
        return replace(base, keys=int(value), fill=True)
    return base


def _point(
    value: float, members: int, runs: Sequence[Document], first: Sequence[Document], broken: Mapping[float, str]
) -> Document:
    """What to tell of one value; `pace` is its events a second by the first value's of the same round."""
    if value in broken:
        return {"value": value, "broken": broken[value]}
    rates = [(one["events_per_s"], other["events_per_s"]) for one, other in zip(runs, first, strict=False)]
    roles = [by_role(one, members) for one in runs]
    return {
        "value": value,
        "broken": None,
        "events": runs[0]["events"],
        "events_per_s": spread([one["events_per_s"] for one in runs]),
        "pace": spread([rate / other for rate, other in rates], 4) if len(rates) == len(runs) else None,
        "others_busy": max((one["others_busy"] or 0.0 for one in runs), default=0.0),
        "lost": spread([one["lost"] for one in runs]),
        **{
            role: {figure: _spread_known([one[role][figure] for one in roles]) for figure in FIGURES}
            for role in ROLES
        },
    }  # fmt: skip


def _spread_known(values: Sequence[float | None]) -> Document | None:
    known = [value for value in values if value is not None]
    return spread(known, 5) if known and len(known) == len(values) else None


def by_role(one: Document, members: int) -> dict[str, dict[str, float | None]]:
    """What one process of each role used for one event in a round: the mean of those that share it."""
    voting = {f"n{index + 1}" for index in range(members)}
    whose: dict[str, list[str]] = {role: [] for role in ROLES}
    for name in one["per_event"]:
        if name == CLIENT:
            whose["clients"].append(name)
        elif name == one["sequencer"]:
            whose["sequencer"].append(name)
        else:
            whose["followers" if name in voting else "observers"].append(name)
    used = {name: {**cost, "rss_mib": one["rss_mib"][name]} for name, cost in one["per_event"].items()}
    return {
        role: {figure: _mean([used[name][figure] for name in names]) for figure in FIGURES}
        for role, names in whose.items()
    }


def _mean(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return sum(known) / len(known) if known and len(known) == len(values) else None


def _growth(points: Sequence[Document], per_value: bool) -> Document | None:
    """The last point's CPU for one event by the first one's: of each role, in all and in user mode.

    With `per_value` for one byte of it: an event of twice the size may cost twice as much.
    """
    if len(points) < 2:
        return None
    first, last = points[0], points[-1]
    by = last["value"] / first["value"] if per_value else 1.0
    return {role: dict(_ratios(first[role], last[role], by)) for role in ROLES if role != "observers"}


def _ratios(first: Mapping[str, Any], last: Mapping[str, Any], by: float) -> Iterator[tuple[str, float | None]]:
    for figure in ("cpu_us", "user_us"):
        known = first[figure] and last[figure] and first[figure]["median"] > 0
        yield figure, round(last[figure]["median"] / first[figure]["median"] / by, 4) if known else None
