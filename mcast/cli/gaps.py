"""`mcast gaps`: who missed what, who repaired it, and whether it all adds up."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Annotated

import typer

from mcast import limits
from mcast.analysis import gap_findings
from mcast.cli import options, output, render
from mcast.cli.asking import ask_nodes
from mcast.cli.caveats import caveats
from mcast.cli.status import tell
from mcast.documents import GapsDocument


def gaps(
    context: typer.Context,
    config: options.ConfigFile = options.DEFAULT_CONFIG,
    newest: Annotated[int, typer.Option("--newest", help="Also list this many of each node's newest gaps.", min=0)] = 0,
    timeout: options.Timeout = limits.TIMEOUT_S,
    json: options.Json = False,
) -> None:
    """Show every replica's gap ledger.

    Exit 1: a gap is open, or a lost datagram is not accounted for.

    Examples: `mcast gaps -c lab.toml` · `mcast gaps -c lab.toml --newest 20` · `mcast gaps -c lab.toml --json`
    """
    if json:
        options.refuse_unused(context, "beside --json, which has them all", "--newest")
    document, silences = asyncio.run(ask(config, timeout))
    with output.cut_short():
        if json:
            output.print_json(document)
        else:
            render.print_gaps(document, newest, caveats(config))
    for node_id, why in silences.items():
        output.note(f"mcast: {node_id} did not answer: {why}")
    tell(gap_findings(document))


async def ask(path: Path, timeout: float) -> tuple[GapsDocument, dict[str, str]]:
    """The cluster's gaps document, and why those that did not answer did not. Ends the program if nobody answers."""
    from mcast.client.admin import gaps_document
    from mcast.wire.stream import StreamKind

    config, reports, silences = await ask_nodes(path, StreamKind.GAPS, timeout)
    return gaps_document(config.nodes, reports), silences
