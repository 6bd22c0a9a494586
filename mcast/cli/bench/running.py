"""Running a measurement, and handing out its document: as a table, as JSON, as CSV, as a drawing."""

from __future__ import annotations

import asyncio
import csv
import sys
from collections.abc import Callable, Coroutine, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final, NamedTuple, TextIO

from mcast.cli import output
from mcast.cli.bench import drawing
from mcast.cli.ending import until_stopped
from mcast.cli.exits import Ended, ExitCode
from mcast.errors import ConfigError

OTHERS_MAX: Final = 0.1  # of all processors, used by other programs; beyond, a word of warning

Document = dict[str, Any]
Measuring = Callable[[Callable[[str, float], None]], Coroutine[Any, Any, Document]]
"""Takes a word on progress, gives the measurement."""


class Wanted(NamedTuple):
    """Where the document is to go, by the options --json, --csv and --plot."""

    json: bool
    csv: Path | None
    plot: Path | None

    @property
    def prints_csv(self) -> bool:
        """Whether the CSV takes the table's place."""
        return self.csv is not None and str(self.csv) == "-"

    def check(self) -> None:
        """Raise ConfigError or EnvironmentProblem for what cannot be written, before anything is measured."""
        if self.json and self.prints_csv:
            raise ConfigError("--csv", "-", "stdout is taken by --json", "give a file, or leave one of them out")
        for flag, path in (("--csv", self.csv), ("--plot", self.plot)):
            if path is not None and str(path) != "-" and not path.absolute().parent.is_dir():
                raise ConfigError(flag, str(path), "no such folder", "make it first")
        if self.plot is not None:
            drawing.check(self.plot)


def run(measuring: Measuring, show: Callable[[Document], None], wanted: Wanted) -> Document:
    """Measure and hand out; the document. A broken run ends the program, a signal ends all of it in order."""
    from mcast.bench.job import BrokenRun

    wanted.check()
    try:
        with _progress() as progress:
            document = asyncio.run(until_stopped(measuring(progress)))
    except BrokenRun as broken:
        raise Ended(ExitCode.FINDING, f"the run broke, so there is no number: {broken}") from broken
    except (asyncio.CancelledError, KeyboardInterrupt):
        raise Ended(ExitCode.INTERRUPTED, "interrupted: no number; no node is left running") from None
    _hand_out(document, show, wanted)
    return document


def _hand_out(document: Document, show: Callable[[Document], None], wanted: Wanted) -> None:
    if not document["gso"]:
        output.note("mcast: this machine has no segmentation offload (gso: false): a system call for every datagram")
    others = _others_busy(document)
    if others > OTHERS_MAX:
        warning = f"other programs used {others:.0%} of this machine's processors meanwhile"
        output.note(f"mcast: {warning}: measure again when it is quiet")
    if wanted.prints_csv:
        _write_csv(sys.stdout, document)
    elif wanted.json:
        output.print_json(document)
    else:
        show(document)
    if wanted.csv is not None and not wanted.prints_csv:
        with wanted.csv.open("w", newline="", encoding="utf-8") as file:
            _write_csv(file, document)
    if wanted.plot is not None:
        from mcast.bench.charts import chart

        drawing.draw(chart(document), wanted.plot)


def _others_busy(document: Document) -> float:
    """The greatest share of the machine that other programs had in any run; 0 where that is not known."""
    from mcast.bench.charts import runs_of

    return max((one.get("others_busy") or 0.0 for one in runs_of(document)), default=0.0)


def _write_csv(file: TextIO, document: Document) -> None:
    from mcast.bench.charts import rows

    lines = rows(document)
    writer = csv.DictWriter(file, list(dict.fromkeys(name for line in lines for name in line)), lineterminator="\n")
    writer.writeheader()
    writer.writerows(lines)


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


def cluster_words(work: Document) -> str:
    """What was measured on, as tables' titles say it."""
    observers = f" and {work['observers']} observers" if work.get("observers") else ""
    sealed = "sealed" if work["sealed"] else "unsealed"
    datagrams = f", mtu {work['mtu']:,}" if "mtu" in work else ""
    return f"{work['nodes']} nodes{observers}, {sealed}, sync {work['sync']}{datagrams}"


def spread_row(
    label: str, spread: Document | None, text: Callable[[Any], object] = lambda value: value
) -> list[object]:
    """A table's row of a median, its least and its greatest; dashes where there is none."""
    return [label, *(None if spread is None else text(spread[name]) for name in SPREAD)]


SPREAD: Sequence[str] = ("median", "min", "max")


def tell_not_held(reached: float, rate: float, why: str, where: str = "") -> None:
    """A line on stderr for a rate that was asked for and not held."""
    output.note(f"mcast: only {reached:,.0f} of {rate:,.0f} commands/s were reached{where}: {why}")
