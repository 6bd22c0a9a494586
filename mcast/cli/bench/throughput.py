"""`mcast bench throughput`."""

from __future__ import annotations

from typing import Annotated, Any, Final

import typer

from mcast.cli import options, output
from mcast.cli.bench import flags
from mcast.cli.bench.running import SPREAD, Wanted, cluster_words, run, spread_row
from mcast.errors import ConfigError

EVENTS_MAX: Final = 100_000_000
CLIENTS_MAX: Final = 1_000
COSTS: Final = ("cpu_us", "user_us", "datagrams_sent", "bytes_sent", "sends", "receives", "switches")

Clients = Annotated[int, typer.Option("--clients", help="Connections that submit at the same time.", metavar="N")]


def throughput(  # noqa: PLR0913 - one argument a flag
    events: Annotated[int, typer.Option("--events", help="Events of one round.", metavar="N")] = 500_000,
    size: flags.Size = 12,
    nodes: flags.Nodes = 3,
    observers: flags.Observers = 0,
    clients: Clients = 1,
    sync: flags.SyncOption = "os",
    key: flags.Sealed = True,
    mtu: flags.Mtu = None,
    loss: Annotated[
        str, typer.Option("--loss", help="Share of datagrams that every node loses.", metavar="SHARE")
    ] = "0%",
    rounds: flags.Rounds = 3,
    yardstick: flags.Beside = True,
    json: options.Json = False,
    csv: flags.Csv = None,
    plot: flags.Plot = None,
) -> None:
    """Measure events a second, applied on every replica.

    Submitted through the client library and acknowledged, beside the yardstick: what plain Python does without
    agreement, repair or clients, measured in the same run, round by round. Below: what each process used for one event.
    Exit 1: a run broke, and there is no number.

    Examples: `mcast bench throughput` · `mcast bench throughput --size 255 --sync always --rounds 5 --json`
    """
    from mcast.bench import throughput as bench

    flags.check_number("--events", events, 1, EVENTS_MAX)
    flags.check_number("--clients", clients, 1, min(CLIENTS_MAX, events))
    flags.check_number("--rounds", rounds, 1, flags.ROUNDS_MAX)
    flags.check_size(size)
    flags.check_cluster(nodes, sync, observers)
    lost = _share(loss)
    mtu = flags.datagram(mtu, lossy=lost > 0)
    workload = bench.ThroughputWorkload(
        events=events, size=size, nodes=nodes, observers=observers, clients=clients, sync=sync, sealed=key,
        mtu=mtu, loss=lost,
    )  # fmt: skip
    run(lambda progress: bench.measure(workload, rounds, yardstick, progress), show, Wanted(json, csv, plot))


def _share(loss: str) -> float:
    from mcast.bench.loss import SHARE_MAX, parse_share

    try:
        return parse_share(loss)
    except ConfigError as error:
        fix = f"give 0%, or one share above it and at most {SHARE_MAX:.0%}, such as 5%"
        raise ConfigError(error.field, error.value, error.problem, fix) from None


def show(document: dict[str, Any]) -> None:
    """Medians with the least and the greatest round; then what each process used for one event in the last."""
    work = document["workload"]
    losing = f", losing {work['loss'] * 100:g}%" if work["loss"] else ""
    many = f" from {work['clients']:,} clients" if work["clients"] > 1 else ""
    title = (
        f"{work['events']:,} events of {work['event_bytes']:,} bytes{many}, {cluster_words(work)}"
        f"{losing}; medians of {len(document['rounds'])}"
    )
    lines = [
        spread_row(label, document[key])
        for key, label in (
            ("events_per_s", "events/s applied on every replica"),
            ("acknowledged_per_s", "events/s acknowledged to the client"),
            ("mb_per_s", "MB/s of events"),
            ("yardstick_per_s", "events/s of the yardstick"),
        )
        if document[key] is not None
    ]
    if document["ratio"] is not None:
        lines.append(spread_row("ratio to the yardstick", document["ratio"], lambda value: f"{value:.1%}"))
    output.print_table(title, ["", *SPREAD], lines)
    show_costs(document["rounds"][-1])


def show_costs(one: dict[str, Any]) -> None:
    """What each process used for one event in one round; nothing where the system does not tell."""
    used = {name: cost for name, cost in one["per_event"].items() if cost["cpu_us"] is not None}
    if not used:
        return
    lines = [
        [f"{name} (sequencer)" if name == one["sequencer"] else name, *(_text(cost[key]) for key in COSTS)]
        for name, cost in used.items()
    ]
    output.print_table("used for one event, last round", ["process", *COSTS], lines)


def _text(value: float | None) -> str | None:
    return None if value is None else f"{value:,.4g}" if value < 100 else f"{value:,.0f}"
