"""What an enemy without the key can do to a cluster on this machine: a bounded flood, and what the nodes say of it.

Joins the cluster's groups, records what its nodes say, and sends every port (both groups, each node's own) so many
garbage, truncated, bit-flipped and replayed datagrams, then talks nonsense to every TCP port. It only counts; run
honest clients beside it to see that they are served. Refuses a config whose addresses are not this machine's loopback.

Exit 0: all nodes live, as before. 1: a node is not. 2: unusable input. 3: nobody answered, or nothing was to record.
"""

from __future__ import annotations

import argparse
import asyncio
import sys
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from mcast.cli.exits import ExitCode, exit_code_of, line_of
from mcast.cli.output import note, print_json, print_table
from mcast.client.client import connect
from mcast.config import Config, load_config
from mcast.documents import NodeStatus
from mcast.errors import Error, NotSent
from mcast.lab.hostile import Hostile, assail_tcp, flood, loopback, record

COUNT_MAX = 10_000_000  # datagrams to one port
RATE_MAX = 200_000.0
RECORDED_MAX = 4_096  # datagrams kept for damage and replay


async def attack(config: Config, options: argparse.Namespace) -> dict[str, Any]:
    """Record, flood, assail; what was sent, and what each node counted of it.

    Raises:
        ConfigError: not a loopback cluster. NotSent: no node answers, or nothing could be recorded.
    """
    loopback(config)
    async with connect(config, timeout=options.timeout) as client:
        before = await client.status()
        recorded = await asyncio.to_thread(record, config, RECORDED_MAX, options.record)
        if not recorded:
            raise NotSent(f"nothing was heard on {config.group} in {options.record:g} s; does the cluster run?")
        hostile = Hostile(recorded, options.seed)
        sent = await asyncio.to_thread(flood, config, hostile, options.count, options.rate)
        left_open = await assail_tcp(config, hostile, options.connections)
        await asyncio.sleep(1.0)  # for the nodes to work off what their sockets hold
        after = await client.status()
    return {
        "recorded": len(recorded), "sent": dict(sent.ways), "ports": dict(sent.ports),
        "seconds": round(sent.seconds, 1), "connections": options.connections * len(config.nodes),
        "left_open": left_open,
        "nodes": [_difference(old, new) for old, new in zip(before["nodes"], after["nodes"], strict=True)],
    }  # fmt: skip


def main(arguments: Sequence[str] | None = None) -> int:
    """Attack as the command line says; the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("-c", "--config", type=Path, default=Path("lab.toml"))
    parser.add_argument("--count", type=_between(0, COUNT_MAX), default=10_000, help="datagrams to each port")
    parser.add_argument("--rate", type=_between(1, RATE_MAX), default=10_000, help="datagrams a second in all")
    parser.add_argument("--connections", type=_between(0, 10_000), default=20, help="TCP connections to each node")
    parser.add_argument("--record", type=_between(0, 60), default=1.0, metavar="S", help="seconds to record before")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--timeout", type=_between(0, 600), default=5.0, metavar="S", help="for the nodes' answers")
    parser.add_argument("--json", action="store_true", help="print one JSON document instead of a table")
    options = parser.parse_args(arguments)
    options.count, options.connections = int(options.count), int(options.connections)
    try:
        result = asyncio.run(attack(load_config(options.config), options))
    except (Error, OSError) as error:
        note(f"hostile: {line_of(error)}")
        return exit_code_of(error)
    if options.json:
        print_json(result)
    else:
        _show(result)
    return ExitCode.OK if all(node["state"] == "live" for node in result["nodes"]) else ExitCode.FINDING


def _difference(before: NodeStatus, after: NodeStatus) -> dict[str, Any]:
    refused = Counter(after.get("refused") or {})
    refused.subtract(before.get("refused") or {})
    return {
        "id": after["id"], "state": after["state"] if after["reachable"] else None,
        "refused": {reason: count for reason, count in refused.most_common() if count},
    }  # fmt: skip


def _show(result: dict[str, Any]) -> None:
    note(f"sent {sum(result['sent'].values()):,} datagrams in {result['seconds']} s: {result['sent']}")
    reasons = sorted({reason for node in result["nodes"] for reason in node["refused"]})
    rows = [[node["id"], node["state"], *(node["refused"].get(reason, 0) for reason in reasons)]
            for node in result["nodes"]]  # fmt: skip
    print_table("refused", ["node", "state", *reasons], rows)


def _between(least: float, most: float) -> Any:
    def number(text: str) -> float:
        value = float(text)
        if not least <= value <= most:
            raise argparse.ArgumentTypeError(f"{text} is not from {least:g} to {most:g}")
        return value

    return number


if __name__ == "__main__":
    sys.exit(main())
