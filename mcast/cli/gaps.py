"""`mcast gaps`: who missed what, who repaired it, and whether it all adds up."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Annotated, Any

import typer

from mcast import limits
from mcast.analysis import gap_findings
from mcast.analysis.ledger import answering
from mcast.cli import options, output, render
from mcast.cli.status import refuse_silence, tell
from mcast.config import load_config


def gaps(
    config: options.ConfigFile = options.DEFAULT_CONFIG,
    newest: Annotated[int, typer.Option("--newest", help="Also list this many of each node's newest gaps.", min=0)] = 0,
    timeout: options.Timeout = limits.TIMEOUT_S,
    json: options.Json = False,
) -> None:
    """Show every replica's gap ledger.

    Exit 1: a gap is open, or a lost datagram is not accounted for.

    Examples: `mcast gaps -c lab.toml` · `mcast gaps -c lab.toml --newest 20` · `mcast gaps -c lab.toml --json`
    """
    document = asyncio.run(ask(config, timeout))
    if json:
        output.print_json(document)
    else:
        render.print_gaps(document, newest)
    there = {node["id"] for node in answering(document)}
    for node in document["nodes"]:
        if node["id"] not in there:
            output.note(f"mcast: {node['id']} did not answer")
    tell(gap_findings(document))


async def ask(path: Path, timeout: float) -> dict[str, Any]:
    """The cluster's gaps document. Ends the program if nobody answers."""
    from mcast.client.client import connect

    config = load_config(path)
    document = await connect(config, timeout=timeout).gaps()
    there = {node["id"] for node in answering(document)}
    refuse_silence(config, [node["id"] in there for node in document["nodes"]], timeout)
    return document
