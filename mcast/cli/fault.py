"""`mcast fault`: make a running node lose, double, delay or garble what it receives."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Annotated

import typer

from mcast import limits
from mcast.cli import options, output
from mcast.cli.caveats import caveats
from mcast.cli.exits import Ended, ExitCode
from mcast.documents import FaultDocument
from mcast.errors import Refused

_SPEC_HELP = (
    "`loss`, `dup`, `reorder`, `corrupt`: share of datagrams, in %; `delay`: in ms or s; `seed`: a number. "
    "Such as `loss=5%,dup=1%,reorder=2%,corrupt=0.1%,delay=5ms,seed=7`; or `clear`."
)


def fault(
    spec: Annotated[str, typer.Argument(help=_SPEC_HELP, metavar="SPEC")],
    at: Annotated[str, typer.Option("--at", help="The node.", metavar="ID", autocompletion=options.complete_node_id)],
    config: options.ConfigFile = options.DEFAULT_CONFIG,
    timeout: options.Timeout = limits.TIMEOUT_S,
    json: options.Json = False,
) -> None:
    """Make a running node lose datagrams.

    On what that node receives, from now on, until `clear`. The config must say `allow_faults = true`.

    Examples: `mcast fault -c lab.toml --at n2 loss=5%` · `mcast fault -c lab.toml --at n2 clear`
    """
    from mcast.net.faulty import parse_faults

    parse_faults(spec)
    try:
        report = asyncio.run(_inject(config, at, spec, timeout))
    except Refused as error:
        raise Ended(ExitCode.USAGE, f"{at} refused: {error}") from None
    document = {"node": at, "fault": report["node"]["fault"]}
    if json:
        output.print_result(output.to_json(document))
    else:
        now = f"{at} receives with {document['fault']}" if spec != "clear" else f"{at} receives everything again"
        output.note(now + caveats(config))


async def _inject(config: Path, at: str, spec: str, timeout: float) -> FaultDocument:
    from mcast.client.client import connect

    return await connect(config, timeout=timeout).fault(at, spec)
