"""What makes a status or gap report a finding (exit 1), each in one line a person can act on."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, Final

from mcast.analysis.clocks import clock_findings
from mcast.analysis.differences import fork_findings, mixture_findings
from mcast.analysis.ledger import reconcile

_ASKED: Final = (
    "it asks for what it missed, which takes a moment; if it stays so while nothing is sent, see mcast gaps for what "
    "it lacks, and mcast status for what blocks its ways"
)


def document_findings(document: Mapping[str, Any], silences: Mapping[str, str] = MappingProxyType({})) -> list[str]:
    """All that is amiss in a status document, each with its reason and remedy; empty where all is well.

    `silences` as for `status_findings`.
    """
    nodes = document["nodes"]
    return [
        *filter(None, [leaderless(document)]), *status_findings(document, silences), *fork_findings(nodes),
        *mixture_findings(nodes), *clock_findings(nodes),
    ]  # fmt: skip


def status_findings(document: Mapping[str, Any], silences: Mapping[str, str] = MappingProxyType({})) -> list[str]:
    """Nodes unreachable, quarantined, halted, suspect or out of disk space, and open gaps, of `mcast status --json`.

    `silences`: by node id why it did not answer, where that is known.
    """
    findings = []
    for node in document["nodes"]:
        if not node["reachable"]:
            findings.append(_unreachable(node, silences.get(node["id"])))
        elif node["state"] in ("quarantined", "halted"):
            why = f": {node['reason']}" if node.get("reason") else ""
            findings.append(
                f"{node['id']} is {node['state']}{why}; its log says more, and once that is mended start it again: "
                f"{_start(node)}"
            )
        elif node.get("reason"):
            findings.append(f"{node['id']}: {node['reason']}")
        if node.get("isolated") and document.get("sequencer") is not None:  # else it is one finding for all
            findings.append(f"{node['id']} is {node['isolated']}")
        findings += [f"{node['id']}: {finding}" for finding in node.get("findings") or ()]
        if node["gaps_open"]:
            findings.append(f"{_open(node['id'], node['gaps_open'])}; {_ASKED}")
    return findings


def _unreachable(node: Mapping[str, Any], why: str | None) -> str:
    """A node that gave no answer; `address` stands in rows of this version."""
    said = f"{node['id']} is unreachable" + (f": {why}" if why else "")
    where = f" {node['address']}" if node.get("address") else ""
    if why is not None and "refused" in why:
        return f"{said}; start it on its machine: {_start(node)}"
    return (
        f"{said}; see that it runs on its machine ({_start(node)}), and that TCP{where} passes the firewalls between "
        "here and there"
    )


def _start(node: Mapping[str, Any]) -> str:
    return f"mcast node -c FILE --id {node['id']}"


def _open(node: str, gaps: int) -> str:
    return f"{node} has {gaps} open gap{'s' if gaps > 1 else ''}"


def leaderless(document: Mapping[str, Any]) -> str | None:
    """A finding if no node numbers events, with what to do about it; None if one does."""
    if document["sequencer"] is not None:
        return None
    there = [node for node in document["nodes"] if node["reachable"]]
    awaited = sorted({node_id for node in there for node_id in node.get("waits_for", ())})
    if awaited:
        return f"nobody numbers events: {', '.join(awaited)} must answer first; start what is not running"
    members = sum(node["role"] == "member" for node in document["nodes"])
    voters = sum(bool(node["votes"]) for node in there)
    bootstrapping = not voters and len(there) == len(document["nodes"])
    apart = [node for node in there if node.get("isolated")]
    if apart and 2 * voters > members:
        said = "; ".join(f"{node['id']} is {node['isolated']}" for node in apart[:2])
        return (
            f"nobody numbers events: {voters} of {members} members answer here, but no majority hears another: {said}"
        )
    if bootstrapping or 2 * voters > members:
        return "nobody numbers events yet: wait a moment; if it stays so, see why in each node's log (its stderr)"
    return (
        f"nobody numbers events: no majority, for {voters} of {members} members answer and vote; start the others, "
        "with their data; if that is lost for ever, see mcast recover"
    )


def gap_findings(document: Mapping[str, Any]) -> list[str]:
    """Open and unrecovered gaps of the document of `mcast gaps --json`."""
    findings = []
    for account in reconcile(document):
        if account.open:
            findings.append(f"{_open(account.id, account.open)}; {_ASKED}")
        if account.difference:
            findings.append(
                f"{account.id}: {account.difference} of {account.detected} lost datagrams not recovered; ask again "
                "when nothing is sent any more: if it stays so, run mcast status, which says what blocks its ways"
            )
    return findings
