"""A bench's document as rows for a spreadsheet and as lines to draw: plain data, drawn and written elsewhere."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Any, Final

Document = dict[str, Any]
Scalar = str | int | float | bool | None

RUNS: Final = ("rounds", "runs", "points")
"""Under which of these names a document keeps its single runs."""


@dataclass(frozen=True, slots=True)
class Line:
    """One curve; `low` and `high` are the least and the greatest of several rounds, or empty."""

    label: str
    x: Sequence[float]
    y: Sequence[float]
    low: Sequence[float] = ()
    high: Sequence[float] = ()


@dataclass(frozen=True, slots=True)
class Chart:
    """What to draw. `ticks` are places on the x axis with their words, if not the numbers themselves."""

    title: str
    x: str
    y: str
    lines: Sequence[Line]
    log_x: bool = False
    log_y: bool = False
    ticks: Sequence[tuple[float, str]] = ()


def rows(document: Document) -> list[dict[str, Scalar]]:
    """One row for each single run: the workload's columns, then the run's, nested names joined by dots."""
    common = {"bench": document["bench"], **_flat(document["workload"], "workload.")}
    return [{**common, "run": number, **_flat(run)} for number, run in enumerate(runs_of(document), start=1)]


def runs_of(document: Document) -> list[Document]:
    """The document's single runs."""
    [runs] = [document[name] for name in RUNS if name in document]
    assert isinstance(runs, list)
    return runs


def _flat(value: Mapping[str, Any], prefix: str = "") -> dict[str, Scalar]:
    found: dict[str, Scalar] = {}
    for name, item in value.items():
        if isinstance(item, Mapping):
            found |= _flat(item, f"{prefix}{name}.")
        elif not isinstance(item, list | tuple):
            found[f"{prefix}{name}"] = item
    return found


def chart(document: Document) -> Chart:
    """How a bench's document is drawn."""
    drawn: dict[str, Callable[[Document], Chart]] = {
        "throughput": _throughput, "latency": _latency, "query": _query, "loss": _loss, "failover": _failover,
        "scale": _scale,
    }  # fmt: skip
    return drawn[document["bench"]](document)


def _throughput(document: Document) -> Chart:
    done = document["rounds"]
    x = range(1, len(done) + 1)
    lines = [Line("applied on every replica", x, [one["events_per_s"] for one in done])]
    if document["yardstick_per_s"] is not None:
        lines.append(Line("the yardstick", x, [one["yardstick_per_s"] for one in done]))
    size = document["workload"]["event_bytes"]
    return Chart(f"events of {size:,} bytes", "round", "events/s", lines, ticks=[(at, str(at)) for at in x])


def _latency(document: Document) -> Chart:
    done = document["rounds"]
    lines = [
        _percentile_line(label, [one[key] for one in done])
        for label, key in (("submit to acknowledgement", "curve_us"), ("bare asyncio pipe", "pipe_curve_us"))
        if all(one[key] for one in done)
    ]
    ticks = [(1 / (1 - share), f"{share * 100:.10g} %") for share in (0.0, 0.5, 0.9, 0.99, 0.999, 0.9999)]
    far = max((line.x[-1] for line in lines), default=1.0)
    return Chart(
        f"latency through the {document['workload']['at']}", "share of commands that took at most", "microseconds",
        lines, log_x=True, log_y=True, ticks=[tick for tick in ticks if tick[0] <= far * 1.01],
    )  # fmt: skip


def _percentile_line(label: str, curves: Sequence[Sequence[Sequence[float]]]) -> Line:
    """Over the shares that all rounds have, by their places on an axis where each nine takes the same room."""
    shared = range(min(len(curve) for curve in curves))
    each = [[curve[index][1] for curve in curves] for index in shared]
    return Line(
        label, [1 / (1 - curves[0][index][0]) for index in shared], [median(values) for values in each],
        [min(values) for values in each], [max(values) for values in each],
    )  # fmt: skip


def _query(document: Document) -> Chart:
    done = document["rounds"]
    x = range(1, len(done) + 1)
    lines = [
        Line(node_id, x, [one["replicas"][node_id]["answers_per_s"] for one in done])
        for node_id in document["replicas"]
    ]
    if len(lines) > 1:
        lines.append(Line("in sum", x, [one["answers_per_s"] for one in done]))
    level = document["workload"]["level"]
    return Chart(f"{level} queries", "round", "answers/s", lines, ticks=[(at, str(at)) for at in x])


def _loss(document: Document) -> Chart:
    x = [run["loss"] * 100 for run in document["runs"]]
    lines = [Line(name, x, [run["repair_ms"][name] for run in document["runs"]]) for name in ("mean", "p50", "p99")]
    return Chart("until what was lost is repaired", "% of datagrams lost at every node", "ms", lines, log_y=True)


def _failover(document: Document) -> Chart:
    lines = []
    for label, key in (("other nodes' clients", "outage_ms"), ("the struck node's client", "gateway_outage_ms")):
        waits = sorted(document[key]["all"])
        lines.append(Line(label, waits, [(index + 1) / len(waits) * 100 for index in range(len(waits))]))
    return Chart(f"outages ({document['workload']['kind']})", "ms, at most", "% of the times", lines)


def _scale(document: Document) -> Chart:
    points = [point for point in document["points"] if point["broken"] is None]
    lines = []
    names = {"sequencer": "sequencer", "followers": "a follower", "observers": "an observer", "clients": "the clients"}
    for role in names:
        known = [(point["value"], point[role]["cpu_us"]) for point in points if point[role]["cpu_us"]]
        if known:
            costs = [[cost[name] for _, cost in known] for name in ("median", "min", "max")]
            lines.append(Line(names[role], [at for at, _ in known], *costs))
    sweep = document["sweep"]
    ticks = [(point["value"], short(point["value"])) for point in points]
    return Chart(
        f"CPU of one process for one event, by {sweep}", document["unit"], "microseconds", lines, ticks=ticks,
        log_x=sweep not in ("observers", "loss"), log_y=sweep == "size",
    )  # fmt: skip


def short(value: float) -> str:
    """A number as an axis tells it: 1,024 as 1 Ki, 1,000,000 as 1 M."""
    for power, binary, letter in ((6, 20, "M"), (3, 10, "k")):
        if value >= 1 << binary and value % (1 << binary) == 0:
            return f"{value / (1 << binary):g} {letter.replace('k', 'K')}i"
        if value >= 10**power and value % 10 ** (power - 1) == 0:
            return f"{value / 10**power:g} {letter}"
    return f"{value:g}"
