"""`mcast bench scale`."""

from __future__ import annotations

import re
from typing import Annotated, Any, Final

import typer

from mcast.cli import options, output
from mcast.cli.bench import flags
from mcast.cli.bench.running import Wanted, cluster_words, run
from mcast.cli.bench.throughput import EVENTS_MAX
from mcast.cli.exits import Ended, ExitCode
from mcast.errors import ConfigError

VALUES_MAX: Final = 32
_NUMBER: Final = re.compile(r"(\d{1,9}(?:\.\d{1,6})?)\s?(k|M|Ki|Mi|%)?")
_FACTORS: Final = {"": 1.0, "k": 1e3, "M": 1e6, "Ki": 1024.0, "Mi": 1048576.0, "%": 1.0}


def scale(  # noqa: PLR0913 - one argument a flag
    context: typer.Context,
    sweep: Annotated[
        str, typer.Argument(help="`members`, `observers`, `size`, `clients`, `loss`, `log` or `state`.", metavar="WHAT")
    ],
    values: Annotated[
        str | None, typer.Option("--values", help="Instead of the usual: such as `0,4,16` or `100k,1M,20M`.")
    ] = None,
    events: Annotated[int, typer.Option("--events", help="Events at each value.", metavar="N")] = 300_000,
    size: Annotated[
        int | None, typer.Option("--size", help="Bytes of one event; else 12, under loss 255.", metavar="B")
    ] = None,
    nodes: flags.Nodes = 3,
    sync: flags.SyncOption = "os",
    key: flags.Sealed = True,
    mtu: flags.Mtu = None,
    rounds: flags.Rounds = 3,
    json: options.Json = False,
    csv: flags.Csv = None,
    plot: flags.Plot = None,
) -> None:
    """Measure how the cost of an event grows with one thing.

    Throughput at each value, and what one process of each role used for one event: of the sequencer, of a follower, of
    an observer, of the clients; at the right, events a second by those of the first value in the same round. `log`
    fills one cluster's log further and further, and tells the cost since the value before; `state` puts so many keys
    into the state machine first. Exit 1: a run broke; its value has no number.

    Examples: `mcast bench scale observers` · `mcast bench scale log --values 100k,1M,20M --rounds 1 --plot log.svg`
    """
    from mcast.bench import scale as bench
    from mcast.bench.throughput import ThroughputWorkload

    flags.check_word("WHAT", sweep, tuple(bench.SWEEPS))
    if sweep == "log":
        options.refuse_unused(context, "beside log, whose --values are the events", "--events")
    kind = bench.SWEEPS[sweep]
    wanted = kind.values if values is None else _parse(values, kind.least, kind.most)
    flags.check_number("--events", events, 1_000, EVENTS_MAX)
    flags.check_number("--rounds", rounds, 1, flags.ROUNDS_MAX)
    if size is not None and sweep == "size":
        raise ConfigError("--size", size, "that is what is changed", "give --values")
    flags.check_size(kind.size if size is None else size)
    flags.check_cluster(nodes, sync, observers=int(max(wanted)) if sweep == "observers" else 0)
    mtu = flags.datagram(mtu, lossy=sweep == "loss")
    base = ThroughputWorkload(
        events=events, size=kind.size if size is None else size, nodes=nodes, sync=sync, sealed=key, mtu=mtu
    )
    document = run(lambda progress: bench.measure(sweep, wanted, base, rounds, progress), show, Wanted(json, csv, plot))
    broken = [point for point in document["points"] if point["broken"] is not None]
    if broken:
        where = ", ".join(f"{point['value']:,.10g}" for point in broken)
        raise Ended(ExitCode.FINDING, f"no number for {where} {kind.unit}: {broken[0]['broken']}")


def _parse(text: str, least: float, most: float) -> tuple[float, ...]:
    fix = "write ascending numbers such as 100,1k,1Ki,20M"
    values = []
    for part in text.split(","):
        match = _NUMBER.fullmatch(part.strip())
        if match is None:
            raise ConfigError("--values", text, f"{part.strip()!r} is no number", fix)
        values.append(float(match[1]) * _FACTORS[match[2] or ""])
        flags.check_number("--values", values[-1], least, most)
    if sorted(set(values)) != values or len(values) > VALUES_MAX:
        raise ConfigError("--values", text, f"not ascending, or more than {VALUES_MAX}", fix)
    return tuple(values)


def show(document: dict[str, Any]) -> None:
    """One row a value; below, how the last differs from the first."""
    from mcast.bench.scale import SWEEPS

    kind = SWEEPS[document["sweep"]]
    work = document["workload"]
    title = f"CPU us for one event, of one process, by {kind.what}; {cluster_words(work)}"
    lines = [_row(point) for point in document["points"]]
    columns = [
        kind.unit, "sequencer", "min", "max", "user", "a follower", "min", "max", "user", "an observer", "clients",
        "datagrams", "sends", "MiB", "events/s", "of first",
    ]  # fmt: skip
    output.print_table(title, columns, lines)
    if document["growth"] is not None and document["growth"]["sequencer"]["cpu_us"] is not None:
        shown = ", ".join(
            f"{role} {ratio['cpu_us']:.3g} times (user {ratio['user_us']:.3g})"
            for role, ratio in document["growth"].items()
            if None not in ratio.values()
        )
        what = "for one byte, the last value" if document["sweep"] == "size" else "the last value"
        output.print_line(f"{what} by the first: {shown}")


def _row(point: dict[str, Any]) -> list[object]:
    value = f"{point['value']:,.10g}"
    if point["broken"] is not None:
        return [value, *[None] * 15]
    row: list[object] = [value]
    for role in ("sequencer", "followers"):
        cpu, user = point[role]["cpu_us"], point[role]["user_us"]
        row += [cpu and _text(cpu[name]) for name in ("median", "min", "max")] + [user and _text(user["median"])]
    row += [(cost := point[role]["cpu_us"]) and _text(cost["median"]) for role in ("observers", "clients")]
    row += [
        (figure := point["sequencer"][name]) and _text(figure["median"])
        for name in ("datagrams_sent", "sends", "rss_mib")
    ]  # fmt: skip
    return [*row, point["events_per_s"]["median"], point["pace"] and f"{point['pace']['median']:.0%}"]


def _text(value: float) -> str:
    return f"{value:,.4g}" if value < 10_000 else f"{value:,.0f}"
