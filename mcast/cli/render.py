"""Tables of the status and gaps documents."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from mcast.analysis import find_shared, reconcile, repair_latency_by_node
from mcast.analysis.ledger import answering
from mcast.cli.output import print_line, print_table

Document = Mapping[str, Any]

_STATUS_SPARE: Final = ("chain", "queries", "gave", "got", "NAKs", "epoch", "commit", "last", "lag", "gaps", "role")
"""The columns that a narrow terminal can do without, what is needed least first."""
STARTS_APART_S: Final = 5.0  # between the first node's start and the last one's, to be told
_GAPS_SPARE: Final = (
    "duplicates", "superseded", "transferred", "mean ms", "max ms", "injected", "repaired", "p99 ms",
)  # fmt: skip


def print_status(document: Document, caveats: str = "") -> None:
    """One row a node; positions are event numbers."""
    sequencer = document["sequencer"]
    title = f"{document['cluster']}: epoch {document['epoch'] or '-'}, sequencer {sequencer or 'none'}{caveats}"
    columns = ["node", "role", "state", "epoch", "last", "commit", "applied", "lag", "gaps", "NAKs", "got", "gave",
               "queries", "chain"]  # fmt: skip
    print_table(title, columns, [_status_row(node, sequencer) for node in document["nodes"]], _STATUS_SPARE)


def counted_since(document: Document) -> str | None:
    """That what nodes count began at different times, where numbers of two nodes would seem to contradict."""
    ages = {node["id"]: node["up_s"] for node in document["nodes"] if node.get("up_s") is not None}
    counted = any(node["repairs_sent"] or node["repairs_received"] for node in document["nodes"])
    if not counted or not ages or max(ages.values()) - min(ages.values()) < STARTS_APART_S:
        return None
    listed = ", ".join(f"{node_id} {age:,.0f} s ago" for node_id, age in ages.items())
    return f"NAKs, got, gave and queries count since each node's start: {listed}"


def _status_row(node: Mapping[str, Any], sequencer: str | None) -> list[object]:
    state = node["state"] if node["reachable"] else "unreachable"
    role = "sequencer" if node["id"] == sequencer else node["role"]
    if node["reachable"] and node["role"] == "member" and not node["votes"]:
        role = f"{role} (no vote)"
    return [
        node["id"], role, state, node["epoch"], node["last_seq"], node["commit_seq"], node["applied_seq"],
        node["lag_events"], node["gaps_open"], node["naks_sent"], node["repairs_received"], node["repairs_sent"],
        node["queries"], None if node["chain"] is None else node["chain"][:8],
    ]  # fmt: skip


def print_gaps(document: Document, newest: int = 0, caveats: str = "") -> None:
    """The reconciliation, repair times, shared losses, and on request the newest gaps."""
    print_reconciliation(document, caveats)
    shared = find_shared(document)
    total = sum(last - first + 1 for first, last, _ in shared.ranges)
    alone = sum(shared.private.values())
    if total or alone:
        chance = f" (by chance {shared.by_chance:,.0f}, if each loses by itself)" if total else ""
        print_line(f"events missed by several replicas at once: {total:,}{chance}; by one alone: {alone:,}")
    if newest:
        _print_newest(document, newest)


def print_reconciliation(document: Document, caveats: str = "") -> None:
    """One row a node: everything lost against everything recovered, in DATA datagrams; gaps and latency beside it."""
    latency = repair_latency_by_node(document)
    columns = ["node", "injected", "detected", "repaired", "superseded", "transferred", "difference", "open gaps",
               "duplicates", "mean ms", "p99 ms", "max ms"]  # fmt: skip
    duplicates = {node["id"]: node["duplicates"] for node in answering(document)}
    rows = []
    for account in reconcile(document):
        took = latency[account.id]
        rows.append([
            account.id, account.injected, account.detected, account.repaired, account.superseded, account.transferred,
            account.difference, account.open, duplicates[account.id], took.mean_ms, took.p99_ms, took.max_ms,
        ])  # fmt: skip
    print_table(
        f"gaps: lost DATA datagrams, and how long their events were missing{caveats}", columns, rows, _GAPS_SPARE
    )


def _print_newest(document: Document, newest: int) -> None:
    rows: list[list[object]] = []
    for node in answering(document):
        rows += [[node["id"], f"{first}..{last}", "open", None, None] for first, last in node["open"][:newest]]
        closed = sorted(node["closed"], key=lambda gap: gap["opened_at"])[-newest:]
        rows += [
            [node["id"], f"{gap['first']}..{gap['last']}", gap["latency_ms"], gap["naks"], gap["repaired_by"]]
            for gap in closed
        ]
    print_table("newest gaps", ["node", "events", "ms", "NAKs", "repaired by"], rows)
