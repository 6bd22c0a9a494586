"""What makes a status or gap report a finding (exit 1), each in one line a person can act on."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from mcast.analysis.ledger import reconcile


def status_findings(document: Mapping[str, Any]) -> list[str]:
    """Nodes unreachable, quarantined, halted, suspect or out of disk space, and open gaps, of `mcast status --json`."""
    findings = []
    for node in document["nodes"]:
        if not node["reachable"]:
            findings.append(f"{node['id']} is unreachable")
        elif node["state"] in ("quarantined", "halted"):
            findings.append(f"{node['id']} is {node['state']}" + (f": {node['reason']}" if node.get("reason") else ""))
        elif node.get("reason"):
            findings.append(f"{node['id']}: {node['reason']}")
        if node["gaps_open"]:
            findings.append(f"{node['id']} has {node['gaps_open']} open gap{'s' if node['gaps_open'] > 1 else ''}")
    return findings


def gap_findings(document: Mapping[str, Any]) -> list[str]:
    """Open and unrecovered gaps of the document of `mcast gaps --json`."""
    findings = []
    for account in reconcile(document):
        if account.open:
            findings.append(f"{account.id} has {account.open} open gap{'s' if account.open > 1 else ''}")
        if account.difference:
            findings.append(f"{account.id}: {account.difference} of {account.detected} lost datagrams not recovered")
    return findings
