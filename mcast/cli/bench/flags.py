"""The options that mean the same in every bench, and how each is checked before anything starts."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Final

import typer

from mcast import limits
from mcast.errors import ConfigError

ROUNDS_MAX: Final = 99
SECONDS_MAX: Final = 3_600.0
LAN_MTU: Final = 1_500
RATE_MAX: Final = 1_000_000.0  # commands/s

Nodes = Annotated[int, typer.Option("--nodes", help="Members of the cluster.", metavar="N")]
Observers = Annotated[int, typer.Option("--observers", help="Replicas beside them that don't vote.", metavar="N")]
SyncOption = Annotated[str, typer.Option("--sync", help="`os` or `always`.", metavar="MODE")]
Sealed = Annotated[bool, typer.Option("--key/--no-key", help="With a key file, or without.")]
Mtu = Annotated[
    int | None,
    typer.Option(
        "--mtu", metavar="B", show_default=f"the most that loopback takes; where datagrams get lost, {LAN_MTU}",
        help=f"Bytes of one datagram with its headers, such as {LAN_MTU} on a LAN.",
    ),
]  # fmt: skip
Size = Annotated[int, typer.Option("--size", help="Bytes of one event.", metavar="B")]
Rounds = Annotated[int, typer.Option("--rounds", help="How often it is measured; medians are told.", metavar="N")]
Beside = Annotated[
    bool, typer.Option("--vs-yardstick/--no-yardstick", help="Beside bare Python's own, round by round.")
]
Csv = Annotated[Path | None, typer.Option("--csv", help="Write every single run as CSV; `-`: to stdout.")]
Plot = Annotated[Path | None, typer.Option("--plot", help="Draw it: a .png, .svg or .pdf file. Needs matplotlib.")]


def check_word(flag: str, value: str, words: Sequence[str]) -> None:
    """Raise ConfigError for a word that is none of these."""
    if value not in words:
        raise ConfigError(flag, value, "no such word", f"use {', '.join(words[:-1])} or {words[-1]}")


def check_number(flag: str, value: float, least: float, most: float) -> None:
    """Raise ConfigError for a number out of range."""
    if not least <= value <= most:
        raise ConfigError(flag, value, "out of range", f"give a number from {least:,.10g} to {most:,.10g}")


def check_cluster(nodes: int, sync: str, observers: int = 0) -> None:
    """Raise ConfigError for a cluster that cannot be."""
    check_number("--nodes", nodes, 1, limits.MEMBERS_MAX)
    check_number("--observers", observers, 0, limits.NODES_MAX - nodes)
    check_word("--sync", sync, ("os", "always"))


def datagram(mtu: int | None, *, lossy: bool = False) -> int:
    """The `--mtu` asked for. Else the largest for loopback, where every bench runs; if `lossy`, so many as on a LAN.

    Raises ConfigError.
    """
    from mcast.bench.measure import loopback_mtu

    if mtu is None:
        return LAN_MTU if lossy else loopback_mtu()
    check_number("--mtu", mtu, limits.MTU_MIN, limits.MTU_MAX)
    return mtu


def check_size(size: int) -> None:
    """Raise ConfigError for an event that `load.commands` cannot make."""
    from mcast.bench.load import SIZE_MIN

    check_number("--size", size, SIZE_MIN, limits.COMMAND_BYTES_MAX)
