"""`mcast bench query`."""

from __future__ import annotations

from typing import Annotated, Any, Final, cast

import typer

from mcast.cli import options, output
from mcast.cli.bench import flags
from mcast.cli.bench.running import SPREAD, Wanted, cluster_words, run, spread_row
from mcast.wire.levels import LEVELS, Consistency

CLIENTS_MAX: Final = 4_000
DEPTH_MAX: Final = 8_192
SECONDS_MAX: Final = 60.0


def query(  # noqa: PLR0913 - one argument a flag
    level: Annotated[
        str, typer.Option("--level", help="`any`, `session`, `bounded` or `linearizable`.", metavar="LEVEL")
    ] = "any",
    clients: Annotated[int, typer.Option("--clients", help="Connections to each replica asked.", metavar="N")] = 4,
    depth: Annotated[
        int, typer.Option("--depth", help="Queries that each client asks at once, pipelined.", metavar="N")
    ] = 64,
    at: Annotated[
        str, typer.Option("--at", help="Whom to ask: the `sequencer`, a `follower`, or `all`.", metavar="WHERE")
    ] = "follower",
    seconds: Annotated[float, typer.Option("--seconds", help="Of one round.", metavar="S")] = 3.0,
    nodes: flags.Nodes = 3,
    observers: flags.Observers = 0,
    sync: flags.SyncOption = "os",
    key: flags.Sealed = True,
    rounds: flags.Rounds = 3,
    json: options.Json = False,
    csv: flags.Csv = None,
    plot: flags.Plot = None,
) -> None:
    """Measure how many queries a second are answered, at one replica or at all at once.

    A process for each replica asked holds its clients; each asks as many queries at once as --depth says, and the next
    when these are answered. Exit 1: a run broke, and there is no number.

    Examples: `mcast bench query --at all` · `mcast bench query --level linearizable --clients 1000 --depth 1 --json`
    """
    from mcast.bench import query as bench

    flags.check_word("--level", level, LEVELS)
    flags.check_word("--at", at, bench.TARGETS)
    flags.check_number("--clients", clients, 1, CLIENTS_MAX)
    flags.check_number("--depth", depth, 1, DEPTH_MAX)
    flags.check_number("--seconds", seconds, 0.1, SECONDS_MAX)
    flags.check_number("--rounds", rounds, 1, flags.ROUNDS_MAX)
    flags.check_cluster(nodes, sync, observers=observers)
    workload = bench.QueryWorkload(
        level=cast("Consistency", level), clients=clients, depth=depth, at=at, seconds=seconds, nodes=nodes,
        observers=observers, sync=sync, sealed=key,
    )  # fmt: skip
    run(lambda progress: bench.measure(workload, rounds, progress), show, Wanted(json, csv, plot))


def show(document: dict[str, Any]) -> None:
    """Answers a second of each replica and in sum; what one call took."""
    work = document["workload"]
    title = (
        f"{work['level']} queries: {work['clients']:,} clients at each replica asked, {work['depth']:,} queries each "
        f"at a time; {cluster_words(work)}; medians of {len(document['rounds'])}"
    )
    lines = []
    for node_id, shown in document["replicas"].items():
        lines.append(spread_row(f"{node_id}: answers/s", shown["answers_per_s"]))
        call = "a query took" if work["depth"] == 1 else f"{work['depth']:,} queries took"
        for name in ("p50", "p99"):
            lines.append(spread_row(f"{node_id}: {call}, {name} us", shown["took_us"][name]))
    if len(document["replicas"]) > 1:
        lines.append(spread_row("all together: answers/s", document["answers_per_s"]))
    output.print_table(title, ["", *SPREAD], lines)
    last = document["rounds"][-1]["replicas"]
    shown = ", ".join(
        f"{node_id} {one['per_event'][node_id]['cpu_us']:.1f}, its clients {one['per_event']['client']['cpu_us']:.1f}"
        for node_id, one in last.items()
        if one["per_event"][node_id]["cpu_us"] is not None
    )
    if shown:
        output.print_line(f"CPU us per answer, last round: {shown} (sequencer: {document['sequencer']})")
