"""Does everything lost reconcile? Reads the gap ledgers of a cluster and says so.

Takes the document of `mcast gaps --json` from a file or stdin, or asks the cluster of a config itself:
    mcast gaps -c lab.toml --json | python tools/gap_report.py
    python tools/gap_report.py -c lab.toml --json
Exit 0: all reconciles. 1: a gap is open, a loss not accounted for, or an injected one not found. 2: unusable input. 3:
nobody answered, or the document has nobody's ledger. A node that did not answer is named on stderr.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from mcast.analysis import find_shared, gap_findings, reconcile, repair_latency, repair_latency_by_node
from mcast.analysis.ledger import answering
from mcast.cli.exits import ExitCode, exit_code_of, line_of
from mcast.cli.gaps import ask
from mcast.cli.output import note, print_json
from mcast.cli.render import print_gaps
from mcast.errors import ConfigError, Error


def report(document: Mapping[str, Any]) -> dict[str, Any]:
    """The whole report as data: per node the account and repair times, then the cluster's."""
    latency, shared = repair_latency_by_node(document), find_shared(document)
    accounts = reconcile(document)
    nodes = [
        {
            **asdict(account), "difference": account.difference, "natural": account.natural_losses,
            "reconciles": account.reconciles, "latency": asdict(latency[account.id]),
            "shared_events": shared.shared[account.id], "private_events": shared.private[account.id],
        }
        for account in accounts
    ]  # fmt: skip
    there = {account.id for account in accounts}
    return {
        "reconciles": bool(accounts) and all(account.reconciles for account in accounts),
        "nodes": nodes,
        "silent": [node["id"] for node in document["nodes"] if node["id"] not in there],
        "latency": asdict(repair_latency(gap for node in answering(document) for gap in node["closed"])),
        "shared_ranges": [{"first": first, "last": last, "nodes": list(ids)} for first, last, ids in shared.ranges],
    }


def main(arguments: Sequence[str] | None = None) -> int:
    """Print the report the command line asks for; the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("file", nargs="?", default="-", help="a document of `mcast gaps --json`; `-` is stdin")
    parser.add_argument("-c", "--config", type=Path, help="ask the cluster of this config instead")
    parser.add_argument("--newest", type=int, default=0, help="also list this many of each node's newest gaps")
    parser.add_argument("--timeout", type=float, default=5.0, help="seconds to wait for a cluster's answer")
    parser.add_argument("--json", action="store_true", help="print one JSON document instead of tables")
    options = parser.parse_args(arguments)
    silences: Mapping[str, str] = {}
    document: Mapping[str, Any]
    try:
        if options.config:
            document, silences = asyncio.run(ask(options.config, options.timeout))
        else:
            document = _read(options.file)
        result = report(document)
    except Error as error:
        note(f"gap_report: {line_of(error)}")
        return exit_code_of(error)
    if options.json:
        print_json(result)
    else:
        print_gaps(document, options.newest)
    for node_id in result["silent"]:
        note(f"gap_report: {node_id} did not answer" + (f": {silences[node_id]}" if node_id in silences else ""))
    if not result["nodes"]:
        note("gap_report: nobody answered, so there is nothing to judge")
        return ExitCode.SILENCE
    for finding in [*gap_findings(document), *_unseen(result)]:
        note(f"gap_report: {finding}")
    return ExitCode.OK if result["reconciles"] else ExitCode.FINDING


def _read(path: str) -> dict[str, Any]:
    fix = "give what `mcast gaps --json` prints"
    try:
        document = json.loads(sys.stdin.read() if path == "-" else Path(path).read_text())
        reconcile(document), find_shared(document), repair_latency_by_node(document)
    except OSError as error:
        raise ConfigError("file", path, (error.strerror or str(error)).lower(), fix) from error
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
        raise ConfigError("file", path, f"no gaps document ({type(error).__name__}: {error})"[:200], fix) from error
    assert isinstance(document, dict)
    return document


def _unseen(result: Mapping[str, Any]) -> list[str]:
    return [
        f"{node['id']}: {-node['natural']} of {node['injected']} injected losses were never detected"
        for node in result["nodes"]
        if node["natural"] < 0
    ]


if __name__ == "__main__":
    sys.exit(main())
