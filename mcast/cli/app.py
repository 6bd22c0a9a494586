"""The program `mcast`: its commands, and the one place where an error becomes a line and an exit code."""

from __future__ import annotations

import os
import sys
import traceback
from collections.abc import Sequence
from typing import Annotated

import typer

from mcast.cli import (
    bench,
    demo,
    describe,
    fault,
    gaps,
    handover,
    init,
    keygen,
    node,
    query,
    recover,
    scenario,
    sim,
    status,
    submit,
    tail,
    up,
)
from mcast.cli.arguments import COMMAND_CONTEXT, WordsCommand
from mcast.cli.exits import ExitCode, exit_code_of, line_of
from mcast.cli.output import cut_short, never_fail_to_say, note

app = typer.Typer(
    name="mcast",
    help="Multi-active replication for one LAN: a sequencer multicasts numbered events, every node is a full replica.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
    rich_markup_mode="markdown",
    epilog="Exit codes: 0 fine, 1 finding, 2 usage, 3 nobody answered, 4 environment, 70 bug, 130 interrupted.",
)


def _show_version(wanted: bool) -> None:
    if wanted:
        from importlib.metadata import version

        typer.echo(f"mcast-fabric {version('mcast-fabric')}")
        raise typer.Exit


@app.callback()
def _main(
    version: Annotated[
        bool, typer.Option("--version", help="Show the version and exit.", callback=_show_version, is_eager=True)
    ] = False,
) -> None:
    pass


app.add_typer(bench.app, name="bench")
app.command("demo")(demo.demo)
app.command("init")(init.init)
app.command("keygen")(keygen.keygen)
app.command("up")(up.up)
app.command("node")(node.node)
app.command("submit", cls=WordsCommand, context_settings=COMMAND_CONTEXT)(submit.submit)
app.command("query", cls=WordsCommand, context_settings=COMMAND_CONTEXT)(query.query)
app.command("status")(status.status)
app.command("describe")(describe.describe)
app.command("tail")(tail.tail)
app.command("gaps")(gaps.gaps)
app.command("fault")(fault.fault)
app.command("handover")(handover.handover)
app.command("recover")(recover.recover)
app.command("sim")(sim.sim)
app.add_typer(scenario.app, name="scenario")


def main(arguments: Sequence[str] | None = None, name: str | None = None) -> int:
    """Run one command line; returns the exit code, having told any error on stderr.

    `arguments` are without the program's name. It calls itself `name`, else as it was called.
    """
    if sys.platform == "win32":
        note("mcast: Windows has no multicast sockets of the needed kind; run it inside WSL2 (`wsl --install`)")
        return ExitCode.ENVIRONMENT
    for stream in ("stdout", "stderr"):
        if getattr(sys, stream) is None:  # closed (`>&-`): what goes there is dropped
            setattr(sys, stream, open(os.devnull, "w"))  # noqa: SIM115 - for as long as the program runs
    never_fail_to_say()
    with cut_short():
        code = _run(arguments, name)
    return code


def _run(arguments: Sequence[str] | None, name: str | None) -> int:
    try:
        app(args=None if arguments is None else list(arguments), prog_name=name)
    except SystemExit as ended:
        return ended.code if isinstance(ended.code, int) else int(ended.code is not None)
    except KeyboardInterrupt:
        return ExitCode.INTERRUPTED
    except Exception as error:
        code = exit_code_of(error)
        if code is ExitCode.BUG:
            traceback.print_exc()
        note(f"mcast: {'this is a bug: ' if code is ExitCode.BUG else ''}{line_of(error)}")
        return code
    return ExitCode.OK
