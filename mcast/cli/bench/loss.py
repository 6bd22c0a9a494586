"""`mcast bench loss`."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from mcast.cli import options, output
from mcast.cli.bench import flags
from mcast.cli.bench.running import Wanted, cluster_words, run, tell_not_held


def loss(  # noqa: PLR0913 - one argument a flag
    loss: Annotated[str, typer.Option("--loss", help="Shares of datagrams to lose, a run each.")] = "1%,5%,10%",
    seconds: Annotated[float, typer.Option("--seconds", help="Seconds of load in each run.", metavar="S")] = 5.0,
    rate: Annotated[float, typer.Option("--rate", help="Commands a second.", metavar="N")] = 2_000.0,
    size: flags.Size = 255,
    nodes: flags.Nodes = 3,
    sync: flags.SyncOption = "os",
    key: flags.Sealed = True,
    mtu: flags.Mtu = None,
    seed: Annotated[int, typer.Option("--seed", help="Of which datagrams are lost.", metavar="N")] = 7,
    json: options.Json = False,
    csv: flags.Csv = None,
    plot: flags.Plot = None,
) -> None:
    """Measure how fast lost datagrams are repaired.

    Every node loses a share of what it receives, under a steady load; the ledgers tell what that cost. Exit 1: what
    was lost does not reconcile, or a run broke, and there is no number.

    Examples: `mcast bench loss` · `mcast bench loss --loss 20% --seconds 10 --json`
    """
    from mcast.bench import loss as bench
    from mcast.bench.bottleneck import held

    shares = bench.parse_shares(loss)
    flags.check_number("--seconds", seconds, 0.1, flags.SECONDS_MAX)
    flags.check_number("--rate", rate, 1.0, flags.RATE_MAX)
    flags.check_number("--seed", seed, 0, 2**31)
    flags.check_size(size)
    flags.check_cluster(nodes, sync)
    mtu = flags.datagram(mtu, lossy=True)
    workload = bench.LossWorkload(
        rate=rate, seconds=seconds, size=size, nodes=nodes, sync=sync, sealed=key, mtu=mtu, seed=seed
    )
    document = run(lambda progress: bench.measure(workload, shares, progress), show, Wanted(json, csv, plot))
    for one in document["runs"]:
        if not held(one["rate"], rate):
            tell_not_held(one["rate"], rate, one["held_back_by"], f" at {one['loss'] * 100:g}% loss")


def show(document: dict[str, Any]) -> None:
    """One row a share of datagrams lost."""
    work = document["workload"]
    title = (
        f"{work['rate']:,.0f} commands/s of {work['event_bytes']} bytes for {work['seconds']:g} s, "
        f"{cluster_words(work)}; every node loses"
    )
    rows = []
    for one in document["runs"]:
        took = one["repair_ms"]
        rows.append([
            f"{one['loss'] * 100:g} %", one["lost"], took["mean"], took["p50"], took["p99"], took["max"],
            f"{one['repairs_per_loss']:.2f}", f"{one['naks_per_loss']:.2f}", one["rate"],
        ])  # fmt: skip
    columns = ["loss", "lost", "mean ms", "p50 ms", "p99 ms", "max ms", "repairs/loss", "NAKs/loss", "commands/s"]
    output.print_table(title, columns, rows)
