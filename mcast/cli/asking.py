"""Asking every node of a config about itself, and why those that gave no answer gave none."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from mcast.cli.exits import Ended, ExitCode
from mcast.config import Config, load_config

if TYPE_CHECKING:
    from mcast.wire.stream import StreamKind


class Answers(NamedTuple):
    """Reports in the config's order, None for a silent node; `silences` says by node id why."""

    config: Config
    reports: list[dict[str, Any] | None]
    silences: dict[str, str]


async def ask_nodes(path: Path, kind: StreamKind, timeout_s: float) -> Answers:
    """Ask them all at once. Ends the program if not one answered, naming who was asked where and what came of it."""
    from mcast.client.admin import ask_each, silences_of
    from mcast.client.client import REPORT_S_MAX
    from mcast.net.tcp import Dialer, Unreachable

    config = load_config(path)
    given = await ask_each(Dialer(config, "client"), kind, min(timeout_s, REPORT_S_MAX))
    silences = silences_of(config.nodes, given)
    if len(silences) == len(given):
        raise Ended(ExitCode.SILENCE, silence(config, silences))
    return Answers(config, [None if isinstance(answer, Unreachable) else answer for answer in given], silences)


def silence(config: Config, silences: Mapping[str, str]) -> str:
    """One line that says that no node answered; a reason that several nodes share is given once."""
    asked: dict[str, list[str]] = {}
    for node in config.nodes:
        asked.setdefault(silences[node.id], []).append(f"{node.id} at {node.address}")
    listed = "; ".join(f"{', '.join(nodes)}: {why}" for why, nodes in asked.items())
    remedy = ""
    if any("connection refused" in why for why in asked):
        remedy = "; run mcast up or mcast node; a node that still replays its journal does not listen yet"
    return f"no node of {config.name} answered; asked {listed}{remedy}"
