"""`mcast bench failover`."""

from __future__ import annotations

from typing import Annotated, Any, Final

import typer

from mcast import limits
from mcast.cli import options, output
from mcast.cli.bench import flags
from mcast.cli.bench.running import Wanted, run

BEAT_RATE_MAX: Final = 1_000.0  # commands/s of one client that sends them one by one
PAUSE_MAX: Final = 60.0


def failover(  # noqa: PLR0913 - one argument a flag
    context: typer.Context,
    kind: Annotated[
        str, typer.Option("--kind", help="`kill` its process, `stop` it, or `cut` off its datagrams.", metavar="KIND")
    ] = "kill",
    times: Annotated[int, typer.Option("--times", help="How often.", metavar="N")] = 30,
    profile: Annotated[str, typer.Option("--profile", help="`default` or `fast`.", metavar="NAME")] = "default",
    nodes: flags.Nodes = 3,
    sync: flags.SyncOption = "os",
    key: flags.Sealed = True,
    rate: Annotated[float, typer.Option("--rate", help="Commands a second at each node.", metavar="N")] = 100.0,
    pause: Annotated[
        float, typer.Option("--pause", help="Seconds that it stays stopped or cut off, at least.", metavar="S")
    ] = 3.0,
    json: options.Json = False,
    csv: flags.Csv = None,
    plot: flags.Plot = None,
) -> None:
    """Measure how long clients wait when the sequencer goes away.

    The sequencer's process is killed (-9), stopped, or cut off from all datagrams, again and again, under a steady load
    with a client at every node. An outage lasts from the last acknowledgement before to the first after, at the worst
    of the other nodes' clients; the struck node's own client has to find another gateway. Exit 1: something
    acknowledged was lost or doubled, or a run broke, and there is no number.

    Examples: `mcast bench failover` · `mcast bench failover --kind stop --profile fast --times 10 --json`
    """
    from mcast.bench import failover as bench

    if kind == "kill":
        options.refuse_unused(context, "with --kind kill", "--pause")
    flags.check_word("--kind", kind, bench.KINDS)
    flags.check_word("--profile", profile, ("default", "fast"))
    flags.check_word("--sync", sync, ("os", "always"))
    flags.check_number("--times", times, 1, flags.ROUNDS_MAX)
    flags.check_number("--nodes", nodes, bench.MEMBERS_MIN, limits.MEMBERS_MAX)
    flags.check_number("--rate", rate, 1.0, BEAT_RATE_MAX)
    flags.check_number("--pause", pause, 0.0, PAUSE_MAX)
    workload = bench.FailoverWorkload(
        kind=kind, times=times, nodes=nodes, profile=profile, sync=sync, sealed=key, rate=rate, pause_s=pause
    )
    run(lambda progress: bench.measure(workload, progress), show, Wanted(json, csv, plot))


def show(document: dict[str, Any]) -> None:
    """One row of waits for each kind of client, and every single one below."""
    work = document["workload"]
    sealed = "sealed" if work["sealed"] else "unsealed"
    what = {"kill": "killed (-9)", "stop": "stopped", "cut": "cut off"}[work["kind"]]
    title = (
        f"the sequencer {what} {work['times']} times: {work['nodes']} nodes, profile {work['profile']}, {sealed}, sync "
        f"{work['sync']}, {work['rate']:g} commands/s at each"
    )
    rows: list[list[object]] = []
    for key, label in (("outage_ms", "the other nodes' clients"), ("gateway_outage_ms", "the struck node's client")):
        summary = document[key]
        rows.append([label, *(summary[name] for name in ("p50", "p90", "mean", "min", "max"))])
    output.print_table(title, ["outage of", "p50 ms", "p90 ms", "mean ms", "min ms", "max ms"], rows)
    output.print_line(f"each, in ms: {' '.join(f'{one:g}' for one in document['outage_ms']['all'])}")
    output.print_line(f"{document['acknowledged']:,} commands were acknowledged: none lost, none doubled")
