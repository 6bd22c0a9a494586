"""What makes a status or gap report a finding (exit 1), each in one line a person can act on."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

from mcast.analysis.clocks import told_clocks
from mcast.analysis.differences import told_fork, told_mixture
from mcast.analysis.ledger import reconcile


def document_findings(document: Mapping[str, Any], silences: Mapping[str, str] = MappingProxyType({})) -> list[str]:
    """All that is amiss in a status document, each with its reason and remedy; empty where all is well.

    `silences` as for `status_findings`.
    """
    nodes = document["nodes"]
    return [
        *filter(None, [leaderless(document)]), *status_findings(document, silences), *told_fork(nodes),
        *told_mixture(nodes), *told_clocks(nodes),
    ]  # fmt: skip


def status_findings(document: Mapping[str, Any], silences: Mapping[str, str] = MappingProxyType({})) -> list[str]:
    """Nodes unreachable, quarantined, halted, suspect or out of disk space, and open gaps, of `mcast status --json`.

    `silences`: by node id why it did not answer, where that is known.
    """
    findings = []
    for node in document["nodes"]:
        if not node["reachable"]:
            why = silences.get(node["id"])
            findings.append(f"{node['id']} is unreachable" + (f": {why}" if why else ""))
        elif node["state"] in ("quarantined", "halted"):
            findings.append(f"{node['id']} is {node['state']}" + (f": {node['reason']}" if node.get("reason") else ""))
        elif node.get("reason"):
            findings.append(f"{node['id']}: {node['reason']}")
        if node.get("isolated") and document.get("sequencer") is not None:  # else it is one finding for all
            findings.append(f"{node['id']} is {node['isolated']}")
        findings += [f"{node['id']}: {finding}" for finding in node.get("findings") or ()]
        if node["gaps_open"]:
            findings.append(f"{node['id']} has {node['gaps_open']} open gap{'s' if node['gaps_open'] > 1 else ''}")
    return findings


def leaderless(document: Mapping[str, Any]) -> str | None:
    """That nobody numbers events, and what to do about it; None where somebody does."""
    if document["sequencer"] is not None:
        return None
    there = [node for node in document["nodes"] if node["reachable"]]
    awaited = sorted({node_id for node in there for node_id in node.get("waits_for", ())})
    if awaited:
        return f"nobody numbers events: {', '.join(awaited)} must answer first; start what is not running"
    members = sum(node["role"] == "member" for node in document["nodes"])
    voters = sum(bool(node["votes"]) for node in there)
    founding = not voters and len(there) == len(document["nodes"])
    if founding or 2 * voters > members:
        return "nobody numbers events yet: wait a moment; if it stays so, look at the nodes' logs"
    return (
        f"nobody numbers events: no majority, for {voters} of {members} members answer and vote; start the others, "
        "with their data; if that is lost for ever, see mcast recover"
    )


def gap_findings(document: Mapping[str, Any]) -> list[str]:
    """Open and unrecovered gaps of the document of `mcast gaps --json`."""
    findings = []
    for account in reconcile(document):
        if account.open:
            findings.append(f"{account.id} has {account.open} open gap{'s' if account.open > 1 else ''}")
        if account.difference:
            findings.append(f"{account.id}: {account.difference} of {account.detected} lost datagrams not recovered")
    return findings
