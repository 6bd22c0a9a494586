"""`mcast query`: ask one replica."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from mcast import limits
from mcast.cli import options, output
from mcast.cli.arguments import as_typed, parse_argument
from mcast.cli.caveats import caveats
from mcast.cli.exits import Ended, ExitCode
from mcast.cli.target import Target
from mcast.errors import NotYet, QueryFailed, Refused
from mcast.wire.levels import LEVELS

if TYPE_CHECKING:
    from mcast.client.queries import QueryAnswer

_LEVELS_HELP: Final = "any, session, bounded or linearizable."
_MIN_SEQ_HELP: Final = f"Wait up to {limits.SESSION_READ_WAIT_S * 1e3:.0f} ms until the node has applied this event."


def _level(value: str | None) -> str | None:
    if value is not None and value not in LEVELS:
        raise typer.BadParameter(f"{value!r} is none of: {', '.join(LEVELS)}")
    return value


def query(  # noqa: PLR0913 - one argument a flag
    name: Annotated[str, typer.Argument(help="The query's name.", metavar="NAME")],
    arguments: Annotated[
        list[str] | None, typer.Argument(metavar="ARG", help="Its arguments: JSON, else strings.")
    ] = None,
    config: options.ConfigFile = options.DEFAULT_CONFIG,
    at: options.At = None,
    consistency: Annotated[
        str | None, typer.Option("--consistency", help=_LEVELS_HELP, callback=_level, metavar="LEVEL",
                                 show_default="session, or bounded with a bound", autocompletion=lambda: list(LEVELS))
    ] = None,
    min_seq: Annotated[
        int, typer.Option("--min-seq", help=_MIN_SEQ_HELP, callback=options.at_least_zero, metavar="N")
    ] = 0,
    max_ms: Annotated[
        float | None, typer.Option("--max-ms", help="For bounded: at most this old.", callback=options.at_least_zero,
                                   metavar="MS")
    ] = None,
    max_lag: Annotated[
        int | None, typer.Option("--max-lag", help="For bounded: at most this many events behind.",
                                 callback=options.at_least_zero, metavar="N")
    ] = None,
    timeout: options.Timeout = limits.TIMEOUT_S,
    json: options.Json = False,
) -> None:  # fmt: skip
    """Ask a replica.

    Any one, or the one named by --at. A level that cannot be served is refused (exit 1), never weakened.

    Examples: `mcast query -c lab.toml get k` · `mcast query -c lab.toml scan k 10 --at n2 --consistency any`
    """
    level = consistency or ("session" if max_ms is None and max_lag is None else "bounded")
    if level != "bounded" and (max_ms is not None or max_lag is not None):
        raise Ended(ExitCode.USAGE, "--max-ms and --max-lag go with --consistency bounded")
    words = [parse_argument(word) for word in arguments or ()]
    keywords = {"consistency": level, "min_seq": min_seq, "max_ms": max_ms, "max_lag": max_lag}
    try:
        answer = asyncio.run(_ask(Target(config, at, timeout), (as_typed(name), *words), keywords))
    except (Refused, NotYet) as error:
        if json:
            output.print_json({"refused": str(error), "try_node": error.try_node})
        output.note(f"mcast: refused: {error}" + (f"; try --at {error.try_node}" if error.try_node else ""))
        raise typer.Exit(ExitCode.FINDING) from None
    except QueryFailed as error:
        raise Ended(ExitCode.FINDING, f"query failed: {error}") from None
    with output.cut_short():
        if json:
            output.print_json(answer_document(answer))
            return
        output.print_line(output.to_json(answer.value))
    age = "age unknown" if answer.lag_ms is None else f"proven {answer.lag_ms:.1f} ms ago"
    output.note(
        f"at event {answer.seq}, epoch {answer.epoch}, {answer.lag_events} events behind, {age}; "
        f"{answer.node}, level {answer.level}{caveats(config)}"
    )


async def _ask(target: Target, words: tuple[Any, ...], keywords: Any) -> QueryAnswer:
    async with target.connect() as client:
        return await client.query(*words, **keywords, timeout=target.remaining_s())


def answer_document(answer: QueryAnswer) -> dict[str, Any]:
    """An answer as `query --json` prints it."""
    return {
        "value": answer.value, "seq": answer.seq, "epoch": answer.epoch, "lag_events": answer.lag_events,
        "lag_ms": answer.lag_ms, "node": answer.node, "level": answer.level,
    }  # fmt: skip
