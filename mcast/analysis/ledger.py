"""The gap ledger across replicas: does everything lost reconcile, how fast was it repaired, and who lost it together?

Works on the document of `mcast gaps --json`. A node that did not answer has no counts in it and is left out.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from mcast.limits import LEDGER_CLOSED_MAX

Document = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Reconciliation:
    """One replica's account of DATA datagrams that did not arrive when first sent. All fields count datagrams."""

    id: str
    injected: int
    """Lost or corrupted on purpose."""
    detected: int
    """Found missing by the protocol."""
    repaired: int
    superseded: int
    """Cut from the log by a new epoch before they were repaired."""
    transferred: int
    """Fetched over TCP with the rest of a deep gap."""
    open: int
    """Gaps (ranges, not datagrams) still open."""

    @property
    def difference(self) -> int:
        """Detected, and neither repaired nor superseded nor transferred. Zero once all gaps are closed."""
        return self.detected - self.repaired - self.superseded - self.transferred

    @property
    def natural_losses(self) -> int:
        """Detected beyond the injected: lost by the kernel or the wire. Below zero, an injected loss went unseen."""
        return self.detected - self.injected

    @property
    def reconciles(self) -> bool:
        """Whether every datagram lost on purpose was found, and every one found is accounted for."""
        return self.difference == 0 and self.natural_losses >= 0 and self.open == 0


def reconcile(document: Document) -> list[Reconciliation]:
    """Each answering node's account, in the document's order."""
    return [
        Reconciliation(
            id=node["id"],
            injected=node["injected"]["lost"] + node["injected"]["corrupted"],
            detected=node["lost"],
            repaired=node["repaired"],
            superseded=node["superseded"],
            transferred=node["transferred"],
            open=len(node["open"]),
        )
        for node in answering(document)
    ]


def answering(document: Document) -> list[Mapping[str, Any]]:
    """The nodes that answered: those with counts."""
    return [node for node in document["nodes"] if node.get("lost") is not None]


@dataclass(frozen=True, slots=True)
class Latency:
    """How long gaps stayed open, in ms, over the newest closed gaps a ledger keeps. None where there are none."""

    count: int
    mean_ms: float | None
    p50_ms: float | None
    p90_ms: float | None
    p99_ms: float | None
    max_ms: float | None


def repair_latency(closed: Iterable[Mapping[str, Any]]) -> Latency:
    """Percentiles over closed gaps, as `closed` in the document."""
    took = sorted(gap["latency_ms"] for gap in closed if gap["latency_ms"] is not None)
    if not took:
        return Latency(0, None, None, None, None, None)
    return Latency(
        count=len(took),
        mean_ms=math.fsum(took) / len(took),
        p50_ms=percentile(took, 0.50),
        p90_ms=percentile(took, 0.90),
        p99_ms=percentile(took, 0.99),
        max_ms=took[-1],
    )


def repair_latency_by_node(document: Document) -> dict[str, Latency]:
    """Each answering node's repair latency."""
    return {node["id"]: repair_latency(node["closed"]) for node in answering(document)}


def percentile(ordered: Sequence[float], share: float) -> float:
    """The smallest value with at least `share` (0 to 1) of all values at or below it. `ordered` ascends, not empty."""
    assert ordered and 0 <= share <= 1
    return ordered[max(0, math.ceil(share * len(ordered)) - 1)]


@dataclass(frozen=True, slots=True)
class SharedLosses:
    """Which events several replicas lost alike, and which only one did. Counts are events."""

    since: int
    """Events below were forgotten by at least one ledger and are not judged."""
    shared: dict[str, int]
    """Node -> losses that another replica had too: the switch's or the sender's, if there are more than by chance."""
    private: dict[str, int]
    """Node -> losses of that node alone, and so of its own host."""
    ranges: list[tuple[int, int, tuple[str, ...]]]
    """(first, last, node ids) of every shared stretch, ascending."""
    by_chance: float = 0.0
    """How many events several replicas would miss alike if each lost by itself: so many say nothing of a switch."""


def find_shared(document: Document) -> SharedLosses:
    """Compare the replicas' gaps, open and closed, event by event (in work proportional to the gaps)."""
    nodes = answering(document)
    since = max((_oldest_remembered(node) for node in nodes), default=0)
    edges: list[tuple[int, int, str]] = []
    for node in nodes:
        for first, last in _merged(_ranges(node), since):
            edges += [(first, 1, node["id"]), (last + 1, -1, node["id"])]
    edges.sort()
    shared = {node["id"]: 0 for node in nodes}
    private = dict(shared)
    ranges: list[tuple[int, int, tuple[str, ...]]] = []
    losers: set[str] = set()
    before = 0
    for at, change, node_id in edges:
        if losers and at > before:
            _count(before, at - 1, losers, shared if len(losers) > 1 else private)
            if len(losers) > 1:
                _append(ranges, before, at - 1, tuple(sorted(losers)))
        before = at
        (losers.add if change > 0 else losers.discard)(node_id)
    last = max((at - 1 for at, change, _ in edges if change < 0), default=0)
    lost = [shared[node_id] + private[node_id] for node_id in shared]
    return SharedLosses(since, shared, private, ranges, _coincide(lost, last - max(since, 1) + 1))


def _coincide(lost: Sequence[int], of: int) -> float:
    """How many of so many events are lost by two or more at once, on average, if they are lost independently."""
    if of <= 0:
        return 0.0
    none, one = 1.0, 0.0
    for count in lost:
        share = min(count / of, 1.0)
        none, one = none * (1 - share), one * (1 - share) + none * share
    return of * max(1 - none - one, 0.0)


def _count(first: int, last: int, losers: set[str], counts: dict[str, int]) -> None:
    for node_id in losers:
        counts[node_id] += last - first + 1


def _append(ranges: list[tuple[int, int, tuple[str, ...]]], first: int, last: int, ids: tuple[str, ...]) -> None:
    if ranges and ranges[-1][1] == first - 1 and ranges[-1][2] == ids:
        first = ranges.pop()[0]
    ranges.append((first, last, ids))


def _oldest_remembered(node: Mapping[str, Any]) -> int:
    """The first event from which on the node's ledger is complete."""
    closed = node["closed"]
    return min(gap["first"] for gap in closed) if len(closed) >= LEDGER_CLOSED_MAX else 0


def _ranges(node: Mapping[str, Any]) -> list[tuple[int, int]]:
    return [(gap["first"], gap["last"]) for gap in node["closed"]] + [(first, last) for first, last in node["open"]]


def _merged(ranges: Iterable[tuple[int, int]], since: int) -> list[tuple[int, int]]:
    """The same events as disjoint ranges: after a new epoch one replica may have lost a number twice."""
    merged: list[tuple[int, int]] = []
    for first, last in sorted(ranges):
        first = max(first, since)
        if first > last:
            continue
        if merged and first <= merged[-1][1] + 1:
            merged[-1] = (merged[-1][0], max(last, merged[-1][1]))
        else:
            merged.append((first, last))
    return merged
