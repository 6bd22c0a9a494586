"""`mcast scenario`: a cluster, its work and its troubles from one file, and a verdict."""

from __future__ import annotations

import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final

import typer

from mcast.cli import options, output
from mcast.cli.exits import ExitCode

if TYPE_CHECKING:
    from types import FrameType

    from mcast.scenario import ScenarioReport

app = typer.Typer(
    help="Run or check scenario files: a cluster, a workload, faults, and what is expected of them.",
    no_args_is_help=True,
    rich_markup_mode="markdown",
)

SEED_MAX: Final = 2**31 - 1


class BackendName(StrEnum):
    """Where a scenario runs."""

    sim = "sim"
    processes = "processes"


FilesArgument = Annotated[list[Path], typer.Argument(help="Scenario files.", metavar="FILE...")]


@app.command("run")
def run(
    files: FilesArgument,
    backend: Annotated[
        BackendName, typer.Option("--backend", help="In virtual time, or real nodes on this machine.")
    ] = BackendName.sim,
    seed: Annotated[int, typer.Option("--seed", help="Decides every random draw.", min=0, max=SEED_MAX)] = 1,
    trace: Annotated[bool, typer.Option("--trace", help="Print every step; on the simulator only.")] = False,
    json: options.Json = False,
) -> None:
    """Run scenarios and judge them.

    The invariants always hold: nothing acknowledged is lost, nothing is applied twice, all replicas end with the same
    log and results, the gap ledger reconciles. Beside them stand the file's own bounds. Exit 1 if anything failed.

    Examples: `mcast scenario run scenarios/smoke.toml` · `mcast scenario run --backend processes scenarios/*.toml`
    """
    from mcast.scenario import load_scenario, run_scenario

    if trace and backend is BackendName.processes:
        raise typer.BadParameter("only the simulator keeps one: use --backend sim", param_hint="--trace")
    scenarios = [load_scenario(file) for file in files]
    reports = []
    for scenario in scenarios:
        lines: list[str] | None = [] if trace else None
        if sys.stderr.isatty():
            output.note(f"{scenario.name} on {_BACKENDS[backend.value]}, {scenario.ends_s:g} s ...")
        with _ended_in_order():
            report = run_scenario(scenario, backend.value, seed, lines)
        reports.append(report)
        if not json:
            for line in lines or ():
                output.print_line(line)
            _show(report)
    if json:
        documents = [report.document() for report in reports]
        output.print_json({"ok": all(report.ok for report in reports), "scenarios": documents})
    if not all(report.ok for report in reports):
        raise typer.Exit(ExitCode.FINDING)


@app.command("check")
def check(files: FilesArgument, json: options.Json = False) -> None:
    """Check scenario files without running them, the commands against the machine too.

    Example: `mcast scenario check scenarios/*.toml`
    """
    from mcast.scenario import load_scenario
    from mcast.scenario.format import machine_of
    from mcast.scenario.workload import commands_of

    checked = []
    for file in files:
        scenario = load_scenario(file)
        commands = len(commands_of(scenario, machine_of(scenario)))
        checked.append(
            {
                "scenario": scenario.name,
                "file": str(file),
                "nodes": len(scenario.cluster.ids),
                "commands": commands,
                "faults": len(scenario.faults),
                "seconds": scenario.ends_s,
            }
        )
    if json:
        output.print_json({"ok": True, "scenarios": checked})
    else:
        columns = ("scenario", "nodes", "commands", "faults", "seconds")
        output.print_table("", columns, [[one[column] for column in columns] for one in checked])


@contextmanager
def _ended_in_order() -> Iterator[None]:
    """SIGTERM ends the block as Ctrl-C does, so that no node and no folder of theirs stays behind."""

    def end(number: int, frame: FrameType | None) -> None:
        interrupt = signal.getsignal(signal.SIGINT)  # asyncio's ends a process that is just being started, too
        if not callable(interrupt):
            raise KeyboardInterrupt
        interrupt(number, frame)

    before = signal.signal(signal.SIGTERM, end)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _show(report: ScenarioReport) -> None:
    title = f"{report.scenario}: {'PASS' if report.ok else 'FAIL'}, on {_BACKENDS[report.backend]}, seed {report.seed}"
    rows = [
        [one.name, _number(one.bound), _number(one.measured), "PASS" if one.ok else "FAIL", one.detail or None]
        for one in report.checks
    ]
    output.print_table(title, ("expected", "bound", "measured", "", "found"), rows)
    counts = report.commands
    output.print_line(
        f"{counts['acknowledged']:,} of {counts['submitted']:,} commands acknowledged, {counts['rejected']:,} rejected,"
        f" {counts['failed']:,} failed; {report.events:,} events in {report.seconds:.1f} s"
    )
    for fault in report.faults:
        until = "" if fault.for_s is None else f" for {fault.for_s:g} s"
        output.print_line(f"{fault.kind} at {', '.join(fault.nodes) or 'nobody'} after {fault.at:g} s{until}")
    lost = sum(one.detected for one in report.datagrams)
    if lost:
        repaired, transferred = (sum(getattr(one, name) for one in report.datagrams) for name in _CURES)
        output.print_line(f"{lost:,} datagrams lost, {repaired:,} repaired, {transferred:,} transferred")
    for note in report.notes:
        output.print_line(f"note: {note}")
    if report.replay is not None:
        output.print_line(f"replay: {report.replay}")


_BACKENDS = {"sim": "the simulator", "processes": "local processes"}
_CURES = ("repaired", "transferred")


def _number(value: float | None) -> str | None:
    return None if value is None else f"{value:,.2f}".rstrip("0").rstrip(".")
