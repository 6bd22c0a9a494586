"""The flags that mean the same in every command, and completion of node ids from the config."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Final

import typer

from mcast import limits
from mcast.cli.exits import Ended, ExitCode
from mcast.config import load_config
from mcast.errors import ConfigError

DEFAULT_CONFIG = Path("lab.toml")
_AGE_MS_MOST: Final = 10**15 - 1


def complete_node_id(ctx: typer.Context, incomplete: str) -> list[str]:
    """The ids that the config named on the same command line knows; none when it cannot be read."""
    try:
        config = load_config(ctx.params.get("config") or DEFAULT_CONFIG)
    except ConfigError:
        return []
    return [node.id for node in config.nodes if node.id.startswith(incomplete)]


def _timeout(value: float) -> float:
    if not 0 < value <= limits.TIMEOUT_MAX_S:
        raise typer.BadParameter(f"{value:g} s: must be above 0 and at most {limits.TIMEOUT_MAX_S:,.0f} seconds")
    return value


def refuse_unused(context: typer.Context, beside: str, *flags: str) -> None:
    """End the program if one of these options was given: it would be ignored. `beside` says with, or without, what."""
    names = {flag: param.name for param in context.command.params for flag in param.opts}
    for flag in flags:
        source = context.get_parameter_source(names[flag] or "")
        if source is not None and source.name in ("COMMANDLINE", "ENVIRONMENT"):
            raise Ended(ExitCode.USAGE, f"{flag} does nothing {beside}: leave it out")


ConfigFile = Annotated[
    Path, typer.Option("-c", "--config", help="The cluster's file.", envvar="MCAST_CONFIG", metavar="FILE")
]
Json = Annotated[bool, typer.Option("--json", help="Print JSON for programs instead of a table.")]
Timeout = Annotated[
    float, typer.Option("--timeout", help="Seconds after which to give up.", callback=_timeout, metavar="SECONDS")
]
At = Annotated[
    str | None,
    typer.Option("--at", help="Ask this node and no other.", metavar="ID", autocompletion=complete_node_id),
]


def at_least_zero(value: Any) -> Any:
    """Refuse what is no number from zero on where a count or a duration is wanted."""
    if value is not None:
        if value < 0:
            raise typer.BadParameter(f"{value} is below zero")
        most = limits.SEQ_MAX if isinstance(value, int) else _AGE_MS_MOST
        if not value <= most:
            raise typer.BadParameter(f"{value} is no number up to {most:,}")
    return value


def at_least_one(value: Any) -> Any:
    """Refuse what is no number from one on where one of that many is wanted."""
    if value is not None and value < 1:
        raise typer.BadParameter(f"{value} is below one")
    return at_least_zero(value)
