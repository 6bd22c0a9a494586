"""What must be alike at all nodes and is not: their logs, what they computed of them, and what they run."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from itertools import combinations
from typing import Any, Final, NamedTuple

Row = Mapping[str, Any]

_KINDS: Final = (
    ("machine", "state machines"),
    ("machine_version", "versions of the state machine"),
    ("commands", "commands (by their names and numbers of arguments)"),
    ("python", "Pythons"),
    ("formats", "formats"),
)  # fmt: skip
"""What of a row's `runs` must be alike, and what it is called. `mcast` is only told."""


class Fork(NamedTuple):
    """Where two logs, or what two nodes computed, part: equal at `equal`, not any more at `seq`."""

    equal: int
    seq: int
    of: str
    """"log" or "results"."""
    sides: tuple[tuple[str, ...], ...]
    """The nodes' ids, those that agree together; most nodes first."""


def find_fork(rows: Sequence[Row]) -> Fork | None:
    """The first event that is known to differ anywhere, as far as the rows' marks tell."""
    points = {str(row["id"]): _points(row) for row in rows if row.get("reachable")}
    first: int | None = None
    for one, other in combinations(points.values(), 2):
        for seq in one.keys() & other.keys():
            if _differ(one[seq], other[seq]) and (first is None or seq < first):
                first = seq
    if first is None:
        return None
    at = {node: marks[first] for node, marks in points.items() if first in marks}
    logs = {str(chain) for chain, _ in at.values() if chain is not None}
    sides: dict[str, list[str]] = {}
    for node, (chain, results) in at.items():
        sides.setdefault(str(chain if len(logs) > 1 else results), []).append(node)
    before = [
        seq
        for one, other in combinations([points[node] for node in at], 2)
        for seq in one.keys() & other.keys()
        if seq < first
    ]
    ordered = sorted(map(tuple, sides.values()), key=len, reverse=True)
    return Fork(max(before, default=0), first, "log" if len(logs) > 1 else "results", tuple(ordered))


def fork_findings(rows: Sequence[Row]) -> list[str]:
    """The fork as a finding, with what to do about it; nothing where there is none."""
    fork = find_fork(rows)
    if fork is None:
        return []
    most, *others = fork.sides
    apart = " and ".join(", ".join(side) for side in others)
    alone = len(most) > max(map(len, others))
    between = f"equal up to event {fork.equal}, different at event {fork.seq}"
    who = f"{apart} from {', '.join(most)}"
    if fork.of == "log":
        return [
            f"DIVERGED: the log of {who}: {between}; that is no lawful state: stop {apart if alone else 'them'}, keep "
            "the data directory for those who look into it, and start with an empty one"
        ]
    return [
        f"DIVERGED: the results of {who}: {between}; a handler is not deterministic, or not the same code everywhere "
        f"(mcast.testing.deterministic finds the former): give all nodes the same code, then restart "
        f"{apart if alone else 'all of them'}: a start computes everything again from the journal"
    ]


def mixture_findings(rows: Sequence[Row]) -> list[str]:
    """What nodes run that others do not, a finding for each kind."""
    runs = {str(row["id"]): row["runs"] for row in rows if row.get("reachable") and _is_map(row.get("runs"))}
    allowed = [str(row["id"]) for row in rows if row.get("allow_mixed")]
    findings = []
    for kind, words in _KINDS:
        sides: dict[str, list[str]] = {}
        for node, what in runs.items():
            if what.get(kind) is not None:
                sides.setdefault(_shown(what[kind]), []).append(node)
        if len(sides) > 1:
            listed = "; ".join(f"{', '.join(nodes)}: {what}" for what, nodes in sides.items())
            permitted = f" (allow_mixed is set for {', '.join(allowed)})" if allowed else ""
            findings.append(
                f"nodes run different {words}: {listed}{permitted}; install the same on all and restart them"
            )
    return findings


def unlike(own: Mapping[str, Any], other: Mapping[str, Any]) -> list[str]:
    """What the other's `runs` says differently, in words; what one of the two does not tell is not judged."""
    return [
        f"{words}: {_shown(other[kind])} instead of {_shown(own[kind])}"
        for kind, words in _KINDS
        if own.get(kind) is not None and other.get(kind) is not None and own[kind] != other[kind]
    ]


def _points(row: Row) -> dict[int, tuple[Any, Any]]:
    marks: Iterable[Any] = row.get("marks") or ()
    points: dict[int, tuple[Any, Any]] = {}
    for mark in (*marks, (row.get("applied_seq"), row.get("chain"), row.get("result_chain"))):
        if isinstance(mark, list | tuple) and len(mark) == 3 and isinstance(mark[0], int) and mark[0] > 0:
            points[mark[0]] = mark[1], mark[2]
    return points


def _differ(one: tuple[Any, Any], other: tuple[Any, Any]) -> bool:
    return any(a is not None and b is not None and a != b for a, b in zip(one, other, strict=True))


def _is_map(value: object) -> bool:
    return isinstance(value, Mapping)


def _shown(value: object) -> str:
    if isinstance(value, Mapping):
        return ", ".join(f"{key} {value[key]}" for key in sorted(value, key=str))
    return str(value)
