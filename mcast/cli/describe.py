"""`mcast describe`: what a machine can be told and asked."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import TYPE_CHECKING, Final

import typer

from mcast import limits
from mcast.cli import options, output
from mcast.cli.target import Target
from mcast.config import load_config

if TYPE_CHECKING:
    from mcast.documents import HandlerDescription, MachineDescription

_NONE: Final = "-"


def describe(
    context: typer.Context,
    config: options.ConfigFile = options.DEFAULT_CONFIG,
    at: options.At = None,
    timeout: options.Timeout = limits.TIMEOUT_S,
    json: options.Json = False,
) -> None:
    """List the machine's commands and queries.

    With their arguments and what they do: of the machine that the config names, which is imported; or, with --at, of
    the one that a running node has.

    Examples: `mcast describe -c lab.toml` · `mcast describe -c lab.toml --at n2 --json`
    """
    if at is None:
        options.refuse_unused(context, "without --at", "--timeout")
        document = _of_config(config)
    else:
        document = asyncio.run(_of_node(Target(config, at, timeout)))
    with output.cut_short():
        if json:
            output.print_json(document)
        else:
            _print(document)


def _of_config(path: Path) -> MachineDescription:
    from mcast.machine.describe import describe
    from mcast.machine.loading import load_machine

    config = load_config(path)
    return describe(load_machine(config.machine, str(config.folder)), config.machine)


async def _of_node(target: Target) -> MachineDescription:
    return await target.connect().describe()


def _print(document: MachineDescription) -> None:
    title = f"{document['machine']}, version {document['version']}"
    if document["doc"] is not None:
        title += f": {_first_line(document['doc'])}"
    rows = [_row("command", handler) for handler in document["commands"]]
    rows += [_row("query", handler) for handler in document["queries"]]
    output.print_table(title, ["name", "", "arguments", "returns", "does"], rows, spare=("returns",), right=False)


def _row(kind: str, handler: HandlerDescription) -> list[object]:
    from mcast.machine.describe import shown_arguments

    return [
        handler["name"], kind, shown_arguments(handler) or _NONE, handler["returns"] or _NONE,
        _first_line(handler["doc"] or _NONE),
    ]  # fmt: skip


def _first_line(doc: str) -> str:
    return doc.partition("\n")[0]
