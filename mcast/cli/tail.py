"""`mcast tail`: every client event as it is applied, with what it came to."""

from __future__ import annotations

import asyncio
import contextlib
import sys
from typing import TYPE_CHECKING, Annotated, Any

import typer

from mcast import limits
from mcast.cli import options, output
from mcast.cli.caveats import caveats
from mcast.cli.target import Target

if TYPE_CHECKING:
    from mcast.machine.events import Event


def tail(  # noqa: PLR0913 - one argument a flag
    config: options.ConfigFile = options.DEFAULT_CONFIG,
    at: options.At = None,
    first: Annotated[
        int, typer.Option("--from", help="The first event wanted.", callback=options.at_least_one, metavar="N")
    ] = 1,
    count: Annotated[
        int | None, typer.Option("--count", help="End after that many events.", callback=options.at_least_one,
                                 metavar="N")
    ] = None,
    timeout: options.Timeout = limits.TIMEOUT_S,
    json: options.Json = False,
) -> None:  # fmt: skip
    """Print client events as they are applied.

    From number 1 or --from on, in order, each once, until Ctrl-C; at another node when one dies. Numbers are skipped
    where an event is internal. With --json one line an event, `time` in ns since 1970. Ends with 3 when no node answers
    for --timeout seconds.

    Examples: `mcast tail -c lab.toml` · `mcast tail -c lab.toml --from 1000 --count 10 --json`
    """
    if not json and (message := caveats(config)):
        output.note(f"mcast: {message.removeprefix('; ')}")
    with output.cut_short():
        asyncio.run(follow(Target(config, at, timeout), first, count, json=json))


async def follow(target: Target, first: int, count: int | None, *, json: bool) -> None:
    """Print the events from `first` on, `count` of them or without end. Raises as `Client.subscribe`."""
    printed = 0
    async with contextlib.aclosing(target.connect().subscribe(first)) as events:
        async for event in events:
            if json:
                output.print_json(event_document(event))
            else:
                output.print_line(event_line(event))
            sys.stdout.flush()
            printed += 1
            if printed == count:
                return


def event_document(event: Event) -> dict[str, Any]:
    """An event as `tail --json` prints it."""
    return event._asdict()


def event_line(event: Event) -> str:
    """An event for people: number, epoch, command, outcome."""
    came_to = output.to_json(event.value) if event.error is None else f"{event.outcome}: {event.error}"
    return f"{event.seq:>10}  {event.epoch:>4}  {output.to_json([event.name, *event.args])} -> {came_to}"
