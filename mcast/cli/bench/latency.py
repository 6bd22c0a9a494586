"""`mcast bench latency`."""

from __future__ import annotations

from typing import Annotated, Any, Final

import typer

from mcast.cli import options, output
from mcast.cli.bench import flags
from mcast.cli.bench.running import SPREAD, Wanted, cluster_words, run, spread_row
from mcast.cli.exits import Ended, ExitCode
from mcast.errors import ConfigError

PERCENTILES: Final = ("p50", "p90", "p99", "p99.9", "max")


def latency(  # noqa: PLR0913 - one argument a flag
    context: typer.Context,
    count: Annotated[int, typer.Option("--count", help="Commands of one round, one by one.", metavar="N")] = 3_000,
    rate: Annotated[
        float | None, typer.Option("--rate", help="Instead: commands a second, each sent when due.", metavar="N")
    ] = None,
    seconds: Annotated[float, typer.Option("--seconds", help="Of one round at a rate.", metavar="S")] = 5.0,
    at: Annotated[
        str, typer.Option("--at", help="The gateway: `sequencer`, or a `follower` that forwards.", metavar="WHERE")
    ] = "sequencer",
    size: flags.Size = 12,
    nodes: flags.Nodes = 3,
    sync: flags.SyncOption = "os",
    key: flags.Sealed = True,
    mtu: flags.Mtu = None,
    rounds: flags.Rounds = 5,
    yardstick: flags.Beside = True,
    json: options.Json = False,
    csv: flags.Csv = None,
    plot: flags.Plot = None,
) -> None:
    """Measure how long a command takes, from submit to acknowledgement.

    One command at a time, or with --rate each when it is due; then its time runs from that moment, so that a stall
    counts for all that had to wait. Percentiles are exact. Beside it, round by round, the barest asyncio pipe of the
    same shape and, with --sync always, what fdatasync takes when as many processes as nodes call it at once. Exit 1: a
    run broke, or a rate was not held: there is no number.

    Examples: `mcast bench latency` · `mcast bench latency --rate 2000 --at follower --sync always --json`
    """
    from mcast.bench import latency as bench
    from mcast.bench.percentiles import SAMPLES_MAX
    from mcast.bench.pipe import COMMAND_BYTES_MAX

    if rate is None:
        options.refuse_unused(context, "without --rate", "--seconds")
    else:
        options.refuse_unused(context, "beside --rate", "--count")
    flags.check_number("--count", count, 1, SAMPLES_MAX)
    flags.check_number("--seconds", seconds, 0.1, flags.SECONDS_MAX)
    if rate is not None:
        flags.check_number("--rate", rate, 1.0, min(flags.RATE_MAX, SAMPLES_MAX / seconds))
    flags.check_word("--at", at, bench.GATEWAYS)
    flags.check_number("--rounds", rounds, 1, flags.ROUNDS_MAX)
    flags.check_size(size)
    flags.check_cluster(nodes, sync)
    mtu = flags.datagram(mtu)
    if yardstick and size > COMMAND_BYTES_MAX:
        fix = f"give at most {COMMAND_BYTES_MAX:,}, or --no-yardstick"
        raise ConfigError("--size", size, "the bare pipe sends one datagram a command", fix)
    workload = bench.LatencyWorkload(
        count=count, rate=rate, seconds=seconds, size=size, at=at, nodes=nodes, sync=sync, sealed=key, mtu=mtu
    )
    document = run(lambda progress: bench.measure(workload, rounds, yardstick, progress), show, Wanted(json, csv, plot))
    if rate is not None and not document["held"]:
        reached = f"only {document['reached']['median']:,.0f} of {rate:,.0f} commands/s were reached"
        raise Ended(ExitCode.FINDING, f"{reached}, so there is no latency: {document['held_back_by']}")


def show(document: dict[str, Any]) -> None:
    """Percentiles as medians over the rounds with the least and the greatest, the bare floor's below.

    Nothing of a rate that was not held.
    """
    if not document["held"]:
        return
    work = document["workload"]
    pace = "one at a time" if work["rate"] is None else f"{work['rate']:,.0f} a second, from when each was due"
    title = (
        f"us from submit to acknowledgement: commands of {work['event_bytes']:,} bytes, {pace}, through the "
        f"{work['at']}; {cluster_words(work)}; medians of {len(document['rounds'])}"
    )
    lines = []
    for label, key in (
        ("", "took_us"),
        ("of that late to be sent, ", "late_us"),
        ("bare asyncio pipe, ", "pipe_us"),
        ("fdatasync of all at once, ", "sync_us"),
    ):
        if document[key] is not None:
            lines += [spread_row(f"{label}{name}", document[key][name]) for name in PERCENTILES]
    if document["ratio"] is not None:
        floor = "the pipe and fdatasync" if document["sync_us"] else "the pipe"
        lines.append(spread_row(f"p50 by that of {floor}", document["ratio"], lambda value: f"{value:.2f}"))
    output.print_table(title, ["", *SPREAD], lines)
    used = document["rounds"][-1]["per_event"]
    listed = ", ".join(f"{name} {each['cpu_us']:.0f}" for name, each in used.items() if each["cpu_us"] is not None)
    if listed:
        output.print_line(f"CPU us per command, last round: {listed} (sequencer: {document['sequencer']})")
