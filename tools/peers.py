"""The fabric beside other systems that order or agree, on this machine: the same work for each, round by round.

One client submits events, each a message of its own; they are applied, or read, at three places. Everything runs on
loopback or in network namespaces of its own, in a temporary folder, and is ended when its turn is over. A system that
is not installed is left out, with what installs it. See mcast/docs/PEERS.md for what is not alike.

Exit 0: measured. 1: a run broke, so a number is missing. 2: unusable input. 130: interrupted.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import signal
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))  # run as a program, its own folder stands there instead

from mcast.cli.exits import ExitCode
from mcast.cli.output import note, print_json, print_line, print_table
from tools.other_systems.contest import SECONDS, SIZES, PeerWorkload, entrants, measure
from tools.other_systems.kinds import KINDS, OURS, USUAL
from tools.other_systems.peer import SIZE_MAX, SIZE_MIN
from tools.other_systems.turn import EVENTS_MAX, PROBE

ROUNDS_MAX = 99
SECONDS_MIN, SECONDS_MAX = 0.05, 20.0


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure what the command line asks for."""
    options = _parser().parse_args(arguments)
    workload = PeerWorkload(sizes=options.sizes, events=options.events, seconds=options.seconds)
    names = entrants(options.only or USUAL)
    try:
        with _progress() as progress:
            document = asyncio.run(measure(workload, names, options.rounds, progress))
    except KeyboardInterrupt:
        note("peers: interrupted: no number; nothing is left running")
        return ExitCode.INTERRUPTED
    if options.json:
        print_json(document)
    else:
        print_peers(document)
    for one in document["skipped"]:
        note(f"peers: {one['name']} is left out, for this machine lacks {one['missing']}: {one['install']}")
    broken = [one for one in document["peers"] if one["error"]]
    for one in broken:
        note(f"peers: no number for {one['name']}: {one['error']}")
    return ExitCode.FINDING if broken else ExitCode.OK


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=_number(int, 1, ROUNDS_MAX), default=5, help="turns of each (default 5)")
    parser.add_argument("--seconds", type=_number(float, SECONDS_MIN, SECONDS_MAX), default=SECONDS,
                        help=f"that a run takes, more or less (default {SECONDS:g})")  # fmt: skip
    parser.add_argument("--events", type=_number(int, PROBE, EVENTS_MAX), help="of a run, instead of --seconds")
    parser.add_argument("--sizes", type=_sizes, default=SIZES, help="bytes of an event (default 12,256,1024)")
    parser.add_argument("--only", action="append", choices=tuple(KINDS), help="this one; may be repeated")
    parser.add_argument("--json", action="store_true", help="print one JSON document")
    return parser


def _number(kind: type[Any], least: float, most: float) -> Callable[[str], Any]:
    def parse(text: str) -> Any:
        if not least <= (value := kind(text)) <= most:
            raise argparse.ArgumentTypeError(f"{text} is not from {least:,g} to {most:,.10g}")
        return value

    parse.__name__ = "number"  # in argparse's message for what is none
    return parse


def _sizes(text: str) -> tuple[int, ...]:
    size = _number(int, SIZE_MIN, SIZE_MAX)
    try:
        return tuple(dict.fromkeys(size(each) for each in text.split(",")))
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text} is no list of numbers, such as 12,256,1024") from None


def print_peers(document: dict[str, Any]) -> None:
    """A row a system: events/s at each size and ours by it, time to acknowledge one and it by ours."""
    work = document["workload"]
    sizes = [str(size) for size in work["sizes"]]
    columns = ["", *(word for size in sizes for word in (f"{int(size):,} B", "mcast")), "ack p50 us", "mcast"]
    rows: list[list[object]] = []
    for one in document["peers"]:
        if one["error"]:
            rows.append([one["title"], *[None] * (len(columns) - 1)])
            continue
        row: list[object] = [one["title"]]
        for size in sizes:
            row += [one["sizes"][size]["applied_per_s"]["median"], _times(one["sizes"][size]["lead"])]
        first = one["sizes"][sizes[0]]
        rows.append([*row, first["ack_p50_us"]["median"], _times(first["ack_lead"])])
    title = (
        f"events/s applied at {work['nodes']} places, and how many times as fast mcast is; medians of "
        f"{work['rounds']} rounds on {document['machine']['processors']} processors"
    )
    print_table(title, columns, rows)
    for one in document["peers"]:
        beside = "" if one["beside"] == OURS else f" (compared with {KINDS[one['beside']].title})"
        version = f" ({one['version']})" if one["version"] else ""
        print_line(f"{one['title']}{version}, acknowledged: {one['acknowledged']}{beside}")


def _times(lead: dict[str, float] | None) -> str | None:
    return None if lead is None else f"x {lead['median']:.3g}"


@contextlib.contextmanager
def _progress() -> Iterator[Callable[[str, float], None]]:
    """A line on stderr that tells whose turn it is; silent off a terminal."""
    if not sys.stderr.isatty():
        yield lambda what, share: None
        return
    from rich.console import Console

    with Console(stderr=True).status("starting") as status:
        yield lambda what, share: status.update(f"{what} {share:.0%}" if share else what)


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    sys.exit(main())
