"""`mcast submit`: one command, or a file or stream of them."""

from __future__ import annotations

import asyncio
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from mcast import limits
from mcast.cli import options, output
from mcast.cli.arguments import as_typed, parse_argument
from mcast.cli.caveats import caveats
from mcast.cli.ending import until_stopped
from mcast.cli.exits import Ended, ExitCode
from mcast.cli.source import CommandSource
from mcast.cli.target import Target
from mcast.errors import Refused, Unknown

if TYPE_CHECKING:
    from mcast.client.receipts import Receipt, Receipts


def submit(  # noqa: PLR0913 - one argument a flag
    name: Annotated[str | None, typer.Argument(help="The command's name.", metavar="NAME")] = None,
    arguments: Annotated[
        list[str] | None, typer.Argument(metavar="ARG", help="Its arguments: JSON, else strings.")
    ] = None,
    config: options.ConfigFile = options.DEFAULT_CONFIG,
    source: Annotated[
        str | None, typer.Option("--from", help='A file of commands, a line each: ["name", arg, ...]; `-` is stdin.')
    ] = None,
    receipts: Annotated[bool, typer.Option("--receipts", help="With --from: one receipt a line, as JSON.")] = False,
    at: options.At = None,
    timeout: options.Timeout = limits.TIMEOUT_S,
    json: options.Json = False,
) -> None:
    """Submit one command, or many with --from.

    Waits until the cluster has committed and applied them. Exit 1: one was rejected or failed.

    Examples: `mcast submit -c lab.toml set k '{"n": 1}'` · `mcast submit -c lab.toml incr k -1` ·
    `mcast submit -c lab.toml --from commands.jsonl`
    """
    if (name is None) == (source is None):
        raise Ended(ExitCode.USAGE, "give a command's NAME and arguments, or --from FILE, and not both")
    if receipts and source is None:
        raise Ended(ExitCode.USAGE, "--receipts goes with --from")
    target = Target(config, at, timeout)
    try:
        if source is None:
            assert name is not None
            words = [parse_argument(word) for word in arguments or ()]
            receipt = asyncio.run(_submit_one(target, as_typed(name), words))
            _show_receipt(receipt, config, json)
            all_ok = receipt.outcome == "ok"
        else:
            all_ok = asyncio.run(until_stopped(_submit_all(target, source, receipts, json)))
    except Refused as error:
        raise Ended(ExitCode.USAGE, str(error)) from None
    except asyncio.CancelledError:  # by SIGTERM
        raise typer.Exit(ExitCode.INTERRUPTED) from None
    if not all_ok:
        raise typer.Exit(ExitCode.FINDING)


async def _submit_one(target: Target, name: str, words: list[Any]) -> Receipt:
    async with target.connect() as client:
        return await client.submit(name, *words, timeout=target.remaining_s())


def receipt_document(receipt: Receipt) -> dict[str, Any]:
    """A receipt as `submit --json` prints it."""
    last = ("value", receipt.value) if receipt.outcome == "ok" else ("error", receipt.error)
    return dict([("seq", receipt.seq), ("epoch", receipt.epoch), ("outcome", receipt.outcome), last])


def _show_receipt(receipt: Receipt, config: Path, json: bool) -> None:
    if json:
        output.print_result(output.to_json(receipt_document(receipt)))
        return
    said = output.to_json(receipt.value) if receipt.outcome == "ok" else receipt.error
    output.print_result(f"{receipt.outcome}: {said}")
    output.note(f"event {receipt.seq}, epoch {receipt.epoch}{caveats(config)}")


async def _submit_all(target: Target, path: str, each: bool, json: bool) -> bool:
    from mcast.client.receipts import Receipts

    began = time.monotonic()
    done, problem, connected = Receipts(keep=False), None, False
    printer = _Printer()
    try:
        with CommandSource(path) as source, output.counting("submitting", "commands") as advance:

            def progress(so_far: Receipts) -> None:
                nonlocal done
                done = so_far
                advance(so_far.known)
                printer.check()

            async with target.connect() as client:
                connected = True
                try:
                    done = await client.submit_stream(
                        await source.commands(), keep=False, on_progress=progress,
                        on_receipts=printer.show if each else None,
                    )  # fmt: skip
                    printer.check()
                    problem = source.problem
                except Refused as error:
                    problem = str(error) if error.index is None else f"{source.place(error.index)}: {error.reason}"
                except Unknown as error:
                    assert isinstance(error.receipts, Receipts)
                    done = error.receipts
                    raise Ended(ExitCode.SILENCE, f"{error}; {_which_known(done)}") from error
    except _ReaderGone as gone:
        message = f"{gone}: nothing more is sent; {_which_known(done)}"
        raise Ended(gone.code, f"{message}; others that were sent may or may not happen") from None
    except asyncio.CancelledError:
        output.note(f"mcast: interrupted: {_which_known(done)}; others that were sent may or may not happen")
        raise
    finally:
        if connected:
            _show_summary(summary_document(done, time.monotonic() - began), each, json)
            if not json and (message := caveats(target.config)):
                output.note(f"mcast: {message.removeprefix('; ')}")
    if problem is not None:
        before = "1 command before it was" if done.count == 1 else f"{done.count} commands before it were"
        raise Ended(ExitCode.USAGE, f"{problem}; {before} submitted")
    return done.ok == done.count


def _which_known(done: Receipts) -> str:
    behind = done.known - done.known_first
    return f"known are the first {done.known_first} commands" + (f" and {behind} behind them" if behind else "")


class _ReaderGone(Exception):  # noqa: N818 - a state
    """Whoever reads stdout has seen enough, such as `head`; or what it goes to takes no more, such as a full disk."""

    def __init__(self, error: OSError) -> None:
        gone = isinstance(error, BrokenPipeError)
        super().__init__("nobody reads the receipts any more" if gone else f"no receipt is written: {error.strerror}")
        self.code = ExitCode.FINDING if gone else ExitCode.ENVIRONMENT


class _Printer:
    """Prints receipts, and keeps it to itself when nobody reads them: what became of the commands is counted first."""

    def __init__(self) -> None:
        self._failed: OSError | None = None

    def check(self) -> None:
        """Raise _ReaderGone if some receipt could not be printed."""
        if self._failed is not None:
            raise _ReaderGone(self._failed)

    def show(self, receipts: list[Receipt]) -> None:
        """A line each."""
        if self._failed is not None:
            return
        try:
            for receipt in receipts:
                output.print_json(receipt_document(receipt))
            sys.stdout.flush()
        except OSError as error:
            self._failed = error
            output.write_no_more()


def _show_summary(document: dict[str, Any], each: bool, json: bool) -> None:
    if json and not each:
        output.print_result(output.to_json(document))
    else:
        text = ", ".join(f"{key}: {output.to_json(value)}" for key, value in document.items())
        (output.note if each else output.print_result)(text)


def summary_document(receipts: Receipts, seconds: float) -> dict[str, Any]:
    """What `submit --from --json` prints."""
    return {
        "count": receipts.count, "ok": receipts.ok, "rejected": receipts.rejected, "failed": receipts.failed,
        "first_seq": receipts.first_seq, "last_seq": receipts.last_seq, "epoch": receipts.epoch,
        "seconds": round(seconds, 3),
    }  # fmt: skip
