"""`mcast handover`: give the sequencer's role to another node."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Annotated

import typer

from mcast import limits
from mcast.cli import options, output
from mcast.cli.caveats import caveats
from mcast.cli.exits import Ended, ExitCode
from mcast.documents import HandoverDocument
from mcast.errors import Refused


def handover(
    to: Annotated[
        str, typer.Option("--to", help="Who is to lead.", metavar="ID", autocompletion=options.complete_node_id)
    ],
    config: options.ConfigFile = options.DEFAULT_CONFIG,
    timeout: options.Timeout = limits.TIMEOUT_S,
    json: options.Json = False,
) -> None:
    """Give the sequencer's role to another member.

    Returns once that one leads. Before work on the sequencer's machine: users hardly notice. Exit 1: refused, says why.

    Examples: `mcast handover -c lab.toml --to n2` · `mcast handover -c lab.toml --to n2 --json`
    """
    try:
        document = asyncio.run(_ask(config, to, timeout))
    except Refused as error:
        if json:
            output.print_json({"refused": str(error)})
        raise Ended(ExitCode.FINDING, f"refused: {error}") from None
    if json:
        output.print_result(output.to_json(document))
    elif document["from"] == to:
        output.note(f"{to} leads already, in epoch {document['epoch']}{caveats(config)}")
    else:
        gave_way = f"{document['from']} gave way within {document['ms']} ms"
        output.note(f"{to} leads, in epoch {document['epoch']}; {gave_way}{caveats(config)}")


async def _ask(config: Path, to: str, timeout: float) -> HandoverDocument:
    from mcast.client.client import connect

    return await connect(config, timeout=timeout).handover(to)
