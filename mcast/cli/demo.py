"""`mcast demo`: the whole thing on this machine, with loss on purpose, a live view, and the proof at the end."""

from __future__ import annotations

import asyncio
import contextlib
import shlex
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from mcast.analysis.ledger import answering
from mcast.cli import options, output, render
from mcast.cli.ending import until_stopped
from mcast.cli.exits import Ended, ExitCode
from mcast.errors import ConfigError, DecodeError, Refused

if TYPE_CHECKING:
    from rich.console import RenderableType

    from mcast.demo.show import DemoWatch, Shown
    from mcast.demo.takeover import Takeover
    from mcast.lab.processes import Processes

FLIGHTS_MACHINE: Final = "mcast.demo.flights:Flights"
REDRAW_S: Final = 0.25
PLAIN_S: Final = 2.0  # between two lines where there is no terminal
SEED_MAX: Final = 2**31
ANSWER_WIDTH: Final = 60  # characters of an answer in the table


def demo(  # noqa: PLR0913 - one a flag
    source: Annotated[
        Path | None,
        typer.Option("--from", help='Your own stream: JSON lines ["name", arg, ...].', metavar="FILE.jsonl"),
    ] = None,
    machine: Annotated[
        str | None, typer.Option("--machine", help="The state machine for your stream.", metavar="MODULE:CLASS")
    ] = None,
    loss: Annotated[
        str, typer.Option("--loss", help="Share of datagrams that each node loses.", metavar="PERCENT")
    ] = "5%",
    seed: Annotated[int, typer.Option("--seed", help="Of the injected faults.", min=0, max=SEED_MAX)] = 7,
    limit: Annotated[int | None, typer.Option("--limit", help="Only the first N flights of the year.", min=1)] = None,
    no_kill: Annotated[bool, typer.Option("--no-kill", help="Leave the sequencer's process alone.")] = False,
    keep: Annotated[bool, typer.Option("--keep", help="Leave the cluster up until Ctrl-C.")] = False,
    json: options.Json = False,
) -> None:
    """Show the whole thing on this machine.

    Three nodes follow every flight that left New York in 2013, while each of them loses datagrams on purpose. In the
    middle of the stream the process that numbers the events is killed (-9): another takes over, and the killed one is
    started again. At the end every replica is asked the same questions; the answers are compared with each other and
    with an independent computation straight from the data. Exit 0 only when all agree and every lost datagram is
    accounted for.

    Examples: `mcast demo` · `mcast demo --loss 20% --no-kill` · `mcast demo --from orders.jsonl --machine shop:Orders`
    """
    from mcast.demo.show import DemoWatch
    from mcast.lab.processes import Processes
    from mcast.net.faulty import parse_faults

    if (source is None) != (machine is None):
        raise ConfigError("--from", str(source) if source else None, "it goes with --machine", "give both, or neither")
    if source is not None and limit is not None:
        raise ConfigError("--limit", limit, "is for the flights", "cut your own stream with `head`")
    percent = loss if loss.endswith("%") else f"{loss}%"
    faults = f"loss={percent},seed={seed}"
    parse_faults(faults)
    story = _flights(limit) if source is None or machine is None else _own_stream(source, machine)
    watch = DemoWatch()
    cluster = Processes(
        machine=story.machine, machine_folder=Path.cwd(), sealed=True, faults={"*": faults}, sync="os"
    )  # fmt: skip
    run = _run(cluster, story, watch, loss=percent, kill=not no_kill, keep=keep, json=json)
    try:
        shown = asyncio.run(until_stopped(run))
    except asyncio.CancelledError:
        raise typer.Exit(ExitCode.INTERRUPTED) from None
    if not shown.is_proven:
        raise Ended(ExitCode.FINDING, "the replicas do not agree: see above")


class Story:
    """What is streamed and asked; `total` is the number of commands."""

    def __init__(
        self,
        machine: str,
        total: int,
        commands: Callable[[], Iterator[Any]],
        questions: Callable[[], tuple[Any, ...]],
        expect: Callable[[], list[Any]] | None,
    ) -> None:
        self.machine = machine
        self.total = total
        self.commands = commands
        self.questions = questions
        self.expect = expect


def _flights(limit: int | None) -> Story:
    from mcast.demo.events import flight_commands
    from mcast.demo.independent import Independent
    from mcast.demo.questions import questions_for
    from mcast.demo.source import data_folder

    data_folder()  # says at once when the data is not installed
    total = sum(1 for _ in flight_commands(limit))
    newest = 0

    def commands() -> Iterator[Any]:
        nonlocal newest
        for command in flight_commands(limit):
            newest = command[2]  # type: ignore[assignment] # every command's second argument is its minute
            yield command

    def expect() -> list[Any]:
        right = Independent(limit)
        return [right.answer(name, *args) for _, (name, args) in questions_for(newest)]

    return Story(FLIGHTS_MACHINE, total, commands, lambda: questions_for(newest), expect)


def _own_stream(source: Path, machine: str) -> Story:
    from mcast.client.lines import read_commands
    from mcast.client.packing import check_name
    from mcast.machine.loading import load_machine

    known = load_machine(machine, str(Path.cwd())).commands()

    def commands() -> Iterator[Any]:
        try:
            with source.open("rb") as stream:
                for line, command in read_commands(stream):
                    try:
                        check_name("command", command[0], len(command) - 1, known)
                    except Refused as error:
                        raise Ended(ExitCode.USAGE, f"{source} line {line}: {error}") from None
                    yield command
        except OSError as error:
            problem = (error.strerror or str(error)).lower()
            raise ConfigError("--from", str(source), problem, "name a readable file") from error
        except DecodeError as error:
            raise Ended(ExitCode.USAGE, f'{source} {error}; give one command a line, such as ["set", "k", 1]') from None

    total = sum(1 for _ in commands())
    if not total:
        raise ConfigError("--from", str(source), "holds no command", 'give one a line, such as ["set", "k", 1]')
    return Story(machine, total, commands, tuple, None)


async def _run(  # noqa: PLR0913 - the command's settings
    cluster: Processes, story: Story, watch: DemoWatch, *, loss: str, kill: bool, keep: bool, json: bool
) -> Shown:
    from mcast.demo.show import show

    if not json:
        output.note(f"mcast: three nodes on loopback, each loses {loss} of its datagrams; {story.total:,} events")
    async with cluster:
        async with _shown_live(story, watch, quiet=json):
            kill_amid = story.total if kill else None
            shown = await show(cluster, story.commands(), story.questions, story.expect, watch, kill_amid)
        if json:
            output.print_json(_document(shown))
        else:
            _print(shown)
        if keep:
            output.note(
                f"mcast: the cluster stays up: mcast status -c {shlex.quote(str(cluster.path))}; Ctrl-C ends it"
            )
            await asyncio.Event().wait()
    return shown


@contextlib.asynccontextmanager
async def _shown_live(story: Story, watch: DemoWatch, *, quiet: bool) -> Any:
    """Redraw what `watch` knows, on stderr, while the block runs."""
    if quiet:
        yield
        return
    drawing = asyncio.get_running_loop().create_task(
        _draw(story, watch) if sys.stderr.isatty() else _tell(story, watch)
    )
    try:
        yield
    finally:
        drawing.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await drawing


async def _draw(story: Story, watch: DemoWatch) -> None:
    from rich.console import Console
    from rich.live import Live

    began = time.monotonic()
    with Live(console=Console(stderr=True), refresh_per_second=8, transient=False) as live:
        try:
            while True:
                live.update(_view(story, watch, time.monotonic() - began))
                await asyncio.sleep(REDRAW_S)
        finally:
            live.update(_view(story, watch, time.monotonic() - began))


async def _tell(story: Story, watch: DemoWatch) -> None:
    began, shown = time.monotonic(), 0
    due = began + PLAIN_S
    try:
        while True:
            await asyncio.sleep(REDRAW_S)
            lines = takeover_lines(watch.takeover)
            for line in lines[shown:]:
                output.note(f"mcast: {line}")
            shown = len(lines)
            if time.monotonic() >= due:
                due += PLAIN_S
                output.note(f"mcast: {_progress(story, watch, time.monotonic() - began)}")
    finally:
        for line in takeover_lines(watch.takeover)[shown:]:
            output.note(f"mcast: {line}")


def _progress(story: Story, watch: DemoWatch, seconds: float) -> str:
    gaps = ", ".join(f"{node['id']} {node['repaired']} of {node['lost']}" for node in answering(watch.gaps))
    done = f"{watch.acknowledged:,} of {story.total:,} events, {watch.acknowledged / seconds:,.0f}/s"
    return f"{done}; repaired: {gaps}"


def takeover_lines(takeover: Takeover | None) -> list[str]:
    """What has happened so far, a line each."""
    if takeover is None:
        return []
    lines = [f"{takeover.killed}, the sequencer, was killed (-9) after {takeover.events:,} events"]
    if takeover.successor is not None:
        lines.append(f"{takeover.successor} took over: the client waited {takeover.outage_ms:.0f} ms for it at most")
    if takeover.restarted:
        lines.append(f"{takeover.killed} was started again: it reads its journal and catches up")
    return lines


def _view(story: Story, watch: DemoWatch, seconds: float) -> RenderableType:
    from rich.console import Group
    from rich.progress_bar import ProgressBar
    from rich.text import Text

    gaps = {node["id"]: node for node in answering(watch.gaps)}
    sequencer = watch.status.get("sequencer")
    rows = [
        [
            f"{node['id']} (sequencer)" if node["id"] == sequencer else node["id"], node["state"] or "down",
            node["applied_seq"], node["lag_events"], node["gaps_open"], gaps.get(node["id"], {}).get("lost"),
            node["naks_sent"], node["repairs_received"], node["repairs_sent"],
        ]
        for node in watch.status.get("nodes", [])
    ]  # fmt: skip
    columns = ["node", "state", "applied", "behind", "gaps open", "lost", "NAKs", "repairs got", "repairs given"]
    done = f"{watch.acknowledged:,} of {story.total:,} events, {watch.acknowledged / max(seconds, 0.001):,.0f}/s"
    return Group(
        Text(done), ProgressBar(total=max(story.total, 1), completed=watch.acknowledged, width=80),
        output.make_table("", columns, rows), *map(Text, takeover_lines(watch.takeover)),
    )  # fmt: skip


def _print(shown: Shown) -> None:
    rate = shown.events / max(shown.seconds, 1e-9)
    output.print_line(
        f"{shown.events:,} events acknowledged in {shown.seconds:.1f} s ({rate:,.0f}/s); "
        f"{shown.rejected:,} rejected, {shown.failed:,} failed"
    )
    replicas = list(shown.answers)
    if shown.questions:
        wrong = {(each.who, each.words) for each in shown.differences}
        rows = []
        for index, (words, _) in enumerate(shown.questions):
            answer = shown.expected[index] if shown.expected is not None else shown.answers[replicas[0]][index]
            verdicts = ["DIFFERS" if (node_id, words) in wrong else "equal" for node_id in replicas]
            rows.append([words, *verdicts, _short(answer)])
        source = "straight from the CSV" if shown.expected is not None else replicas[0]
        output.print_table("the same questions to every replica", ["question", *replicas, source], rows)
    for each in shown.differences:
        output.print_line(f"{each.who} differs on {each.words}: {_short(each.answer)}, not {_short(each.expected)}")
    rows = [[node["id"], node["applied_seq"], node["chain"], node["result_chain"]] for node in shown.status["nodes"]]
    output.print_table("proofs: log and outcomes", ["node", "applied", "chain", "result chain"], rows)
    render.print_reconciliation(shown.gaps)
    if shown.takeover is not None:
        for line in takeover_lines(shown.takeover)[:2]:
            output.print_line(line)
        output.print_line(f"{shown.takeover.killed}'s account of lost datagrams begins with its restart")
    output.print_line("everything agrees" if shown.is_proven else "NOT everything agrees")


def _short(answer: object) -> str:
    text = str(answer)
    return text if len(text) <= ANSWER_WIDTH else f"{text[: ANSWER_WIDTH - 3]}..."


def _document(shown: Shown) -> dict[str, Any]:
    return {
        "events": shown.events,
        "rejected": shown.rejected,
        "failed": shown.failed,
        "seconds": round(shown.seconds, 3),
        "questions": [
            {
                "question": words, "query": [name, *args],
                "expected": shown.expected[index] if shown.expected is not None else None,
                "answers": {node_id: given[index] for node_id, given in shown.answers.items()},
            }
            for index, (words, (name, args)) in enumerate(shown.questions)
        ],
        "differences": [{"node": each.who, "question": each.words} for each in shown.differences],
        "nodes": [
            {"id": node["id"], "applied_seq": node["applied_seq"], "chain": node["chain"],
             "result_chain": node["result_chain"]}
            for node in shown.status["nodes"]
        ],
        "reconciliation": [
            {"id": each.id, "injected": each.injected, "detected": each.detected, "repaired": each.repaired,
             "superseded": each.superseded, "transferred": each.transferred, "difference": each.difference}
            for each in shown.reconciliation
        ],
        "takeover": None if shown.takeover is None else {
            "killed": shown.takeover.killed, "successor": shown.takeover.successor,
            "outage_ms": shown.takeover.outage_ms,
        },
        "proven": shown.is_proven,
    }  # fmt: skip
