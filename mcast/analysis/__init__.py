"""What the tools compute from the documents that nodes report: pure functions that return data and print nothing."""

from mcast.analysis.health import document_findings, gap_findings, leaderless, status_findings
from mcast.analysis.ledger import (
    Latency,
    Reconciliation,
    SharedLosses,
    find_shared,
    percentile,
    reconcile,
    repair_latency,
    repair_latency_by_node,
)
from mcast.analysis.outage import longest_wait

__all__ = [
    "Latency",
    "Reconciliation",
    "SharedLosses",
    "document_findings",
    "find_shared",
    "gap_findings",
    "leaderless",
    "longest_wait",
    "percentile",
    "reconcile",
    "repair_latency",
    "repair_latency_by_node",
    "status_findings",
]
