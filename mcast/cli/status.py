"""`mcast status`: what every node says of itself."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from pathlib import Path

import typer

from mcast import limits
from mcast.cli import options, output, render
from mcast.cli.asking import ask_nodes
from mcast.cli.caveats import caveats
from mcast.cli.exits import ExitCode
from mcast.documents import StatusDocument


def status(
    config: options.ConfigFile = options.DEFAULT_CONFIG,
    timeout: options.Timeout = limits.TIMEOUT_S,
    json: options.Json = False,
) -> None:
    """Show what every node says of itself.

    Exit 1: a finding, each with its reason and remedy on stderr and in `findings`: a node is unreachable, quarantined
    or halted, its log is suspect, its disk is full, a gap is open, nobody numbers events, nodes computed different
    results, run different machines, Pythons or formats, or have clocks that are seconds apart.

    Examples: `mcast status -c lab.toml` · `mcast status -c lab.toml --json`
    """
    document = asyncio.run(_ask(config, timeout))
    with output.cut_short():
        if json:
            output.print_json(document)
        else:
            render.print_status(document, caveats(config))
            if (since := render.counted_since(document)) is not None:
                output.note(f"mcast: {since}")
            for node in document["nodes"]:
                if node.get("awaits"):
                    output.note(f"mcast: {node['id']} is {node['state']}: {node['awaits']}")
    tell(document["findings"])


async def _ask(path: Path, timeout: float) -> StatusDocument:
    """The cluster's status document."""
    from mcast.client.admin import status_document
    from mcast.wire.stream import StreamKind

    config, reports, silences = await ask_nodes(path, StreamKind.STATUS, timeout)
    return status_document(config.name, config.nodes, reports, silences)


def tell(findings: Sequence[str]) -> None:
    """Name each finding on stderr and end with FINDING; nothing if there is none."""
    for finding in findings:
        output.note(f"mcast: {finding}")
    if findings:
        raise typer.Exit(ExitCode.FINDING)
