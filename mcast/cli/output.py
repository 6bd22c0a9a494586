"""All that commands print: data on stdout, everything else on stderr.

Programs get JSON, one document or one a line; people get tables. Nothing else in the package draws.
"""

from __future__ import annotations

import base64
import io
import json
import math
import os
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

_PIPE_WIDTH: Final = 200  # columns where no terminal sets them; a table is never cut for a pipe
_SAID_MOST: Final = 1_000  # characters of a result on stderr
_WIDEST: Final = 10_000  # columns; no table wants more


def print_json(document: object) -> None:
    """One JSON document, or one line of JSON lines."""
    sys.stdout.write(to_json(document) + "\n")


def to_json(document: object) -> str:
    """A value as JSON in one line, whatever msgpack may have carried; in ASCII where stdout cannot say all."""
    plain = not _says_all(sys.stdout)
    try:
        return json.dumps(document, ensure_ascii=plain, allow_nan=False, default=_refuse)
    except (TypeError, ValueError):
        return json.dumps(json_safe(document), ensure_ascii=plain, allow_nan=False)


def _says_all(stream: object) -> bool:
    return str(getattr(stream, "encoding", None) or "utf-8").lower().replace("_", "-").startswith("utf")


def never_fail_to_say() -> None:
    """Have stdout and stderr write what their encoding lacks as escapes: no command may end for a letter in a name."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


def _refuse(value: object) -> object:
    raise TypeError(type(value).__name__)


def json_safe(value: Any) -> Any:
    """The value with what JSON lacks replaced: bytes by {"base64": ...}, NaN, infinities and keys by text."""
    if isinstance(value, dict):
        return {key if isinstance(key, str) else str(key): json_safe(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [json_safe(item) for item in value]
    if isinstance(value, bytes | bytearray | memoryview):
        return {"base64": base64.b64encode(value).decode()}
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    if value is None or isinstance(value, str | int | float):
        return value
    return str(value)


def print_line(text: str) -> None:
    """A line of data, on stdout."""
    sys.stdout.write(text + "\n")


def print_result(text: str) -> None:
    """A line of data about what was done, at once: where stdout does not take it, stderr says it, so that it is known.

    Raises OSError: stdout is full or broken; not if only its reader has gone.
    """
    try:
        print_line(text)
        sys.stdout.flush()
    except OSError as error:
        write_no_more()
        note(f"mcast: stdout takes nothing any more ({error.strerror}); to be said was: {text[:_SAID_MOST]}")
        if not isinstance(error, BrokenPipeError):
            raise


def write_no_more() -> None:
    """Drop what stdout still buffers, and all that is printed from now on."""
    with suppress(OSError, ValueError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def note(text: str) -> None:
    """A line for the person at the terminal, on stderr."""
    sys.stderr.write(text + "\n")
    sys.stderr.flush()


@contextmanager
def cut_short() -> Iterator[None]:
    """What the block prints may find its reader gone, who has seen enough."""
    try:
        yield
        sys.stdout.flush()
    except BrokenPipeError:
        write_no_more()


def print_table(
    title: str, columns: Sequence[str], rows: Iterable[Sequence[object]], spare: Sequence[str] = (), *,
    right: bool = True,
) -> None:  # fmt: skip
    """A table on stdout: first column left, the rest right, or left where they are words; None shows as a dash.

    On a terminal that is too narrow the columns in `spare` are left out, from the first on; a line on stderr says so.
    """
    place, lines, kept = console(), [list(row) for row in rows], list(columns)
    table, left_out = make_table(title, kept, lines, right=right), 0
    for column in spare if place.is_terminal else ():
        if _width(place, table) <= place.width:
            break
        at = kept.index(column)
        del kept[at]
        for line in lines:
            del line[at]
        table, left_out = make_table(title, kept, lines, right=right), left_out + 1
    with place.capture() as drawn:  # rich would end the program where the reader has gone
        place.print(table)
    sys.stdout.write(drawn.get())
    if left_out:
        many = f"{left_out} column{'' if left_out == 1 else 's'}"
        note(f"mcast: {many} left out: widen the terminal, or use --json")


def _width(place: Console, table: Table) -> int:
    from rich.measure import Measurement

    return Measurement.get(place, place.options.update_width(_WIDEST), table).maximum


def make_table(title: str, columns: Sequence[str], rows: Iterable[Sequence[object]], *, right: bool = True) -> Table:
    """The table `print_table` prints, for views that redraw it."""
    from rich import box
    from rich.table import Table
    from rich.text import Text

    table = Table(title=title or None, title_justify="left", box=box.SIMPLE_HEAD, pad_edge=False)
    for index, column in enumerate(columns):
        table.add_column(column, justify="right" if index and right else "left", no_wrap=index == 0, overflow="fold")
    for row in rows:
        table.add_row(*[Text(cell(value)) for value in row])
    return table


def cell(value: object) -> str:
    """A value as a table shows it."""
    if value is None:
        return "-"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:.1f}"
    return f"{value:,}" if isinstance(value, int) else str(value)


def console() -> Console:
    """Where tables go: the terminal at its width, a pipe wide enough for every column."""
    from rich.console import Console

    return Console() if sys.stdout.isatty() else Console(width=_PIPE_WIDTH, no_color=True)


@contextmanager
def counting(verb: str, noun: str) -> Iterator[Callable[[int], None]]:
    """A line that counts up on stderr while the block runs: call with the count so far. Silent off a terminal."""
    if not sys.stderr.isatty():
        yield lambda count: None
        return
    from rich.console import Console
    from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

    columns = SpinnerColumn(), TextColumn(f"{verb} {{task.completed:,.0f}} {noun}"), TimeElapsedColumn()
    with Progress(*columns, console=Console(stderr=True), transient=True) as progress:
        task = progress.add_task(verb, total=None)
        yield lambda count: progress.update(task, completed=count)
