"""`mcast status`: what every node says of itself."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import typer

from mcast import limits
from mcast.analysis import status_findings
from mcast.cli import options, output, render
from mcast.cli.exits import Ended, ExitCode
from mcast.config import Config, load_config


def status(
    config: options.ConfigFile = options.DEFAULT_CONFIG,
    timeout: options.Timeout = limits.TIMEOUT_S,
    json: options.Json = False,
) -> None:
    """Show what every node says of itself.

    Exit 1: a node is unreachable, quarantined or halted, its log is suspect, its disk is full, or a gap is open.

    Examples: `mcast status -c lab.toml` · `mcast status -c lab.toml --json`
    """
    document = asyncio.run(_ask(config, timeout))
    if json:
        output.print_json(document)
    else:
        render.print_status(document)
    tell(status_findings(document))


async def _ask(path: Path, timeout: float) -> dict[str, Any]:
    from mcast.client.client import connect

    config = load_config(path)
    document = await connect(config, timeout=timeout).status()
    refuse_silence(config, [node["reachable"] for node in document["nodes"]], timeout)
    return document


def refuse_silence(config: Config, answered: Sequence[bool], timeout: float) -> None:
    """End the program with SILENCE if not one node answered, naming who was asked where."""
    if not any(answered):
        asked = ", ".join(f"{node.id} at {node.address}" for node in config.nodes)
        raise Ended(
            ExitCode.SILENCE,
            f"no node of {config.name} answered within {timeout:g} s; asked {asked}; run mcast up or mcast node",
        )


def tell(findings: Sequence[str]) -> None:
    """Name each finding on stderr and end with FINDING; nothing if there is none."""
    for finding in findings:
        output.note(f"mcast: {finding}")
    if findings:
        raise typer.Exit(ExitCode.FINDING)
