"""`mcast bench`: what this machine makes of the fabric, on loopback, beside what bare Python makes of it."""

from __future__ import annotations

import asyncio
import signal
import sys
from collections.abc import Callable, Coroutine, Iterator, Sequence
from contextlib import contextmanager
from typing import Annotated, Any

import typer

from mcast import limits
from mcast.cli import options, output
from mcast.cli.exits import Ended, ExitCode
from mcast.errors import ConfigError

EVENTS_MAX = 100_000_000
ROUNDS_MAX = 99
SECONDS_MAX = 3_600.0
RATE_MAX = 1_000_000.0
BEAT_RATE_MAX = 1_000.0  # commands/s of one client that sends them one by one
PAUSE_MAX = 60.0
RATE_HELD = 0.9  # of the rate asked for; a run below is told apart

Document = dict[str, Any]

app = typer.Typer(
    help="Measure this machine: nodes of its own on loopback, gone when it is over.",
    no_args_is_help=True,
    rich_markup_mode="markdown",
)

Nodes = Annotated[int, typer.Option("--nodes", help="Members of the cluster.", metavar="N")]
Sync = Annotated[str, typer.Option("--sync", help="`os` or `always`.", metavar="MODE")]
Sealed = Annotated[bool, typer.Option("--key/--no-key", help="With a key file, or without.")]
Mtu = Annotated[int, typer.Option("--mtu", help="Bytes of one datagram with its headers.", metavar="B")]


@app.command("throughput")
def throughput(  # noqa: PLR0913 - one argument a flag
    events: Annotated[int, typer.Option("--events", help="Events of one round.", metavar="N")] = 500_000,
    size: Annotated[int, typer.Option("--size", help="Bytes of one event.", metavar="B")] = 12,
    nodes: Nodes = 3,
    sync: Sync = "os",
    key: Sealed = True,
    mtu: Mtu = 1_500,
    rounds: Annotated[int, typer.Option("--rounds", help="Rounds, each beside the yardstick's.", metavar="N")] = 3,
    json: options.Json = False,
) -> None:
    """Measure events a second, applied on every replica.

    Submitted through the client library and acknowledged, beside the yardstick: what plain Python does without
    agreement, repair or clients, measured in the same run. Exit 1: a run broke, and there is no number.

    Examples: `mcast bench throughput` · `mcast bench throughput --size 255 --sync always --json`
    """
    from mcast.bench import throughput as bench

    _check("--events", events, 1, EVENTS_MAX)
    _check("--rounds", rounds, 1, ROUNDS_MAX)
    _check_common(size, nodes, sync, mtu)
    workload = bench.Workload(events=events, size=size, nodes=nodes, sync=sync, sealed=key, mtu=mtu)
    with _progress() as progress:
        document = _run(bench.measure(workload, rounds, progress))
    if json:
        output.print_json(document)
    else:
        print_throughput(document)


@app.command("loss")
def loss(  # noqa: PLR0913 - one argument a flag
    loss: Annotated[str, typer.Option("--loss", help="Shares of datagrams to lose, a run each.")] = "1%,5%,10%",
    seconds: Annotated[float, typer.Option("--seconds", help="Seconds of load in each run.", metavar="S")] = 5.0,
    rate: Annotated[float, typer.Option("--rate", help="Commands a second.", metavar="N")] = 2_000.0,
    size: Annotated[int, typer.Option("--size", help="Bytes of one event.", metavar="B")] = 255,
    nodes: Nodes = 3,
    sync: Sync = "os",
    key: Sealed = True,
    mtu: Mtu = 1_500,
    seed: Annotated[int, typer.Option("--seed", help="Of which datagrams are lost.", metavar="N")] = 7,
    json: options.Json = False,
) -> None:
    """Measure how fast lost datagrams are repaired.

    Every node loses a share of what it receives, under a steady load; the ledgers tell what that cost. Exit 1: what
    was lost does not reconcile, or a run broke, and there is no number.

    Examples: `mcast bench loss` · `mcast bench loss --loss 20% --seconds 10 --json`
    """
    from mcast.bench import loss as bench

    shares = bench.parse_shares(loss)
    _check("--seconds", seconds, 0.1, SECONDS_MAX)
    _check("--rate", rate, 1.0, RATE_MAX)
    _check("--seed", seed, 0, 2**31)
    _check_common(size, nodes, sync, mtu)
    workload = bench.Workload(
        rate=rate, seconds=seconds, size=size, nodes=nodes, sync=sync, sealed=key, mtu=mtu, seed=seed
    )
    with _progress() as progress:
        document = _run(bench.measure(workload, shares, progress))
    if json:
        output.print_json(document)
    else:
        print_loss(document)
    tell_rates(document, rate)


@app.command("failover")
def failover(  # noqa: PLR0913 - one argument a flag
    kind: Annotated[
        str, typer.Option("--kind", help="`kill` its process, `stop` it, or `cut` off its datagrams.", metavar="KIND")
    ] = "kill",
    times: Annotated[int, typer.Option("--times", help="How often.", metavar="N")] = 30,
    profile: Annotated[str, typer.Option("--profile", help="`default` or `fast`.", metavar="NAME")] = "default",
    nodes: Nodes = 3,
    sync: Sync = "os",
    key: Sealed = True,
    rate: Annotated[float, typer.Option("--rate", help="Commands a second at each node.", metavar="N")] = 100.0,
    pause: Annotated[
        float, typer.Option("--pause", help="Seconds that it stays stopped or cut off, at least.", metavar="S")
    ] = 3.0,
    json: options.Json = False,
) -> None:
    """Measure how long clients wait when the sequencer goes away.

    The sequencer's process is killed (-9), stopped, or cut off from all datagrams, again and again, under a steady load
    with a client at every node. An outage lasts from the last acknowledgement before to the first after, at the worst
    of the other nodes' clients; the struck node's own client has to find another gateway. Exit 1: something
    acknowledged was lost or doubled, or a run broke, and there is no number.

    Examples: `mcast bench failover` · `mcast bench failover --kind stop --profile fast --times 10 --json`
    """
    from mcast.bench import failover as bench

    _check_word("--kind", kind, bench.KINDS)
    _check_word("--profile", profile, ("default", "fast"))
    _check_word("--sync", sync, ("os", "always"))
    _check("--times", times, 1, ROUNDS_MAX)
    _check("--nodes", nodes, bench.MEMBERS_MIN, limits.MEMBERS_MAX)
    _check("--rate", rate, 1.0, BEAT_RATE_MAX)
    _check("--pause", pause, 0.0, PAUSE_MAX)
    workload = bench.Workload(
        kind=kind, times=times, nodes=nodes, profile=profile, sync=sync, sealed=key, rate=rate, pause_s=pause
    )
    with _progress() as progress:
        document = _run(bench.measure(workload, progress))
    if json:
        output.print_json(document)
    else:
        print_failover(document)


def _check_word(flag: str, value: str, words: Sequence[str]) -> None:
    """Raise ConfigError for a word that is none of these."""
    if value not in words:
        raise ConfigError(flag, value, "no such word", f"use {', '.join(words[:-1])} or {words[-1]}")


def _check(flag: str, value: float, least: float, most: float) -> None:
    """Raise ConfigError for a number out of range."""
    if not least <= value <= most:
        raise ConfigError(flag, value, "out of range", f"give a number from {least:,.10g} to {most:,.10g}")


def _check_common(size: int, nodes: int, sync: str, mtu: int) -> None:
    from mcast.bench.load import SIZE_MIN

    _check("--size", size, SIZE_MIN, limits.COMMAND_BYTES_MAX)
    _check("--nodes", nodes, 1, limits.MEMBERS_MAX)
    _check("--mtu", mtu, limits.MTU_MIN, limits.MTU_MAX)
    _check_word("--sync", sync, ("os", "always"))


def _run(measuring: Coroutine[Any, Any, Document]) -> Document:
    """The measurement's document; a broken run ends the program, a signal ends all of it in order."""
    from mcast.bench.job import BrokenRun

    async def until_told() -> Document:
        task = asyncio.ensure_future(measuring)
        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, task.cancel)
        return await task

    try:
        return asyncio.run(until_told())
    except BrokenRun as broken:
        raise Ended(ExitCode.FINDING, f"the run broke, so there is no number: {broken}") from broken
    except asyncio.CancelledError:
        raise Ended(ExitCode.INTERRUPTED, "interrupted: no number; no node is left running") from None
    except KeyboardInterrupt:
        raise Ended(ExitCode.INTERRUPTED, "interrupted: no number; no node is left running") from None


@contextmanager
def _progress() -> Iterator[Callable[[str, float], None]]:
    """A bar on stderr while the block runs: call with what is done and its share. Silent off a terminal."""
    if not sys.stderr.isatty():
        yield lambda what, share: None
        return
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

    columns = TextColumn("{task.description}"), BarColumn(), TimeElapsedColumn()
    with Progress(*columns, console=Console(stderr=True), transient=True, refresh_per_second=4) as bar:
        task = bar.add_task("starting nodes", total=1.0)
        yield lambda what, share: bar.update(task, description=what, completed=share)


def tell_rates(document: Document, rate: float) -> None:
    """A line on stderr for each run that did not reach the rate asked for."""
    for run in document["runs"]:
        if run["rate"] < RATE_HELD * rate:
            reached = f"only {run['rate']:,} of {rate:,.0f} commands/s were reached at {run['loss'] * 100:g}% loss"
            output.note(f"mcast: {reached}: this machine takes no more")


def print_throughput(document: Document) -> None:
    """Medians with the least and the greatest round."""
    work = document["workload"]
    sealed = "sealed" if work["sealed"] else "unsealed"
    title = (
        f"{work['events']:,} events of {work['event_bytes']} bytes, {work['nodes']} nodes, {sealed}, "
        f"sync {work['sync']}, mtu {work['mtu']:,}; medians of {len(document['rounds'])}"
    )
    rows: list[list[object]] = []
    for key, label in (
        ("events_per_s", "events/s applied on every replica"),
        ("acknowledged_per_s", "events/s acknowledged to the client"),
        ("mb_per_s", "MB/s of events"),
        ("yardstick_per_s", "events/s of the yardstick"),
    ):
        rows.append([label, *(document[key][name] for name in ("median", "min", "max"))])
    ratio = document["ratio"]
    rows.append(["ratio to the yardstick", *(f"{ratio[name]:.1%}" for name in ("median", "min", "max"))])
    output.print_table(title, ["", "median", "min", "max"], rows)
    used = document["rounds"][-1]["cpu_us_per_event"]
    if None not in used.values():
        told = ", ".join(f"{name} {value:.2f}" for name, value in used.items())
        output.print_line(f"CPU us per event, last round: {told} (sequencer: {document['rounds'][-1]['sequencer']})")


def print_loss(document: Document) -> None:
    """One row a share of datagrams lost."""
    work = document["workload"]
    sealed = "sealed" if work["sealed"] else "unsealed"
    title = (
        f"{work['rate']:,.0f} commands/s of {work['event_bytes']} bytes for {work['seconds']:g} s, {work['nodes']} "
        f"nodes, {sealed}, sync {work['sync']}; every node loses"
    )
    rows = []
    for run in document["runs"]:
        took = run["repair_ms"]
        rows.append([
            f"{run['loss'] * 100:g} %", run["lost"], took["mean"], took["p50"], took["p99"], took["max"],
            f"{run['repairs_per_loss']:.2f}", f"{run['naks_per_loss']:.2f}", run["rate"],
        ])  # fmt: skip
    columns = ["loss", "lost", "mean ms", "p50 ms", "p99 ms", "max ms", "repairs/loss", "NAKs/loss", "commands/s"]
    output.print_table(title, columns, rows)


def print_failover(document: Document) -> None:
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
        told = document[key]
        rows.append([label, *(told[name] for name in ("p50", "p90", "mean", "min", "max"))])
    output.print_table(title, ["outage of", "p50 ms", "p90 ms", "mean ms", "min ms", "max ms"], rows)
    output.print_line(f"each, in ms: {' '.join(f'{one:g}' for one in document['outage_ms']['all'])}")
    output.print_line(f"{document['acknowledged']:,} commands were acknowledged: none lost, none doubled")
