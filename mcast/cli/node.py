"""`mcast node`: one node of a config, in the foreground, until SIGTERM."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import sys
import time
from collections.abc import Coroutine
from dataclasses import replace
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from mcast.cli import options, output
from mcast.cli.exits import Ended, ExitCode
from mcast.config import Config, load_config
from mcast.errors import ConfigError, EnvironmentProblem, InUse

if TYPE_CHECKING:
    from mcast.node.node import Node
    from mcast.node.shell import Shell

KEY_CHECK_S: Final = 1.0  # seconds without an epoch, and for the others' answer, before their keys are compared

_log: Final = logging.getLogger("mcast.cli")


def node(  # noqa: PLR0913 - a command's options, each by name
    config: options.ConfigFile = options.DEFAULT_CONFIG,
    id: Annotated[
        str | None,
        typer.Option("--id", help="Which node; by default the one with an address of this machine.", metavar="ID",
                     autocompletion=options.complete_node_id),
    ] = None,
    fault: Annotated[
        str | None, typer.Option("--fault", help="Faults, such as `loss=5%,seed=7`.", metavar="SPEC")
    ] = None,
    json: Annotated[bool, typer.Option("--json", help="Log JSON lines on stdout instead.")] = False,
    busy_poll: Annotated[
        bool, typer.Option("--busy-poll", help="Never sleep: lower latency, for a core that is this node's alone.")
    ] = False,
    wait: Annotated[
        bool, typer.Option("--wait/--no-wait", help="Whether to wait for a network that is not there yet.")
    ] = True,
    parent: Annotated[int | None, typer.Option("--parent", hidden=True, help="End when this process does.")] = None,
) -> None:  # fmt: skip
    """Run one node of a config.

    In the foreground, until SIGTERM (drains, exits 0; 1 if it had halted) or Ctrl-C. Logs a line an event on stderr.
    Before the network is there (at boot: no address, no interface, no resolver) it waits and says for what; with
    --no-wait it ends (exit 4).

    Examples: `mcast node -c lab.toml` · `mcast node -c lab.toml --id n2 --fault loss=5%,dup=1%,seed=7`
    """
    if parent is not None:
        die_with(parent)
    from mcast.machine.loading import load_machine
    from mcast.net.faulty import parse_faults
    from mcast.node.busypoll import busy_loop

    checked = load_config(config)
    if id is not None:
        checked.node(id)
    if fault is not None:
        parse_faults(fault)
    load_machine(checked.machine, str(checked.folder))
    _log_to(id or "-", json)
    with asyncio.Runner(loop_factory=busy_loop if busy_poll else None) as runner:
        code = runner.run(_run(checked, id, fault, json=json, wait=wait))
    if code:
        raise typer.Exit(code)


class _JsonLines(logging.Handler):
    """Each record as one line of JSON on stdout; `time` in seconds since 1970."""

    def __init__(self, node_id: str) -> None:
        super().__init__()
        self._node_id = node_id

    def emit(self, record: logging.LogRecord) -> None:
        """Print it."""
        output.print_json({
            "time": round(record.created, 3), "id": self._node_id, "level": record.levelname.lower(),
            "message": record.getMessage(),
        })  # fmt: skip
        sys.stdout.flush()


def _log_to(node_id: str, json: bool) -> None:
    """Have log lines go to stderr for people, or to stdout for programs."""
    if json:
        logging.basicConfig(handlers=[_JsonLines(node_id)], level=logging.INFO, force=True)
    else:
        form = f"%(asctime)s {node_id} %(message)s"
        logging.basicConfig(format=form, datefmt="%H:%M:%S", level=logging.INFO, force=True)


async def _run(config: Config, wanted: str | None, fault: str | None, *, json: bool, wait: bool) -> int:
    """Serve until a signal comes; the exit code."""
    from mcast.cli.waiting import Waiting
    from mcast.errors import NetworkMissing
    from mcast.node.node import Node

    stopped = _signals()
    waiting = Waiting(lambda line: _log.info("%s", line), stopped, patient=wait)
    while (found := await waiting.find(config, wanted)) is not None:
        _log_to(found.node_id, json)
        running = Node(config, id=found.node_id, fault=fault)
        try:
            return await _serve(running, stopped)
        except NetworkMissing as missing:  # it was there a moment ago
            await waiting.heed(missing)
        except InUse as error:
            remedy = f"{found.node_id} runs already, by mcast up or mcast node: see mcast status; stop that one first"
            raise EnvironmentProblem(error.what, f"{remedy}, or give another cluster its own data_dir") from None
    _log.info("%s: ends; its network was not there", signal.Signals(stopped.result()).name)
    return _code(stopped.result())


def _code(number: int) -> ExitCode:
    return ExitCode.INTERRUPTED if number == signal.SIGINT else ExitCode.OK


def _signals() -> asyncio.Future[int]:
    """Told the first signal that asks for the end."""
    loop = asyncio.get_running_loop()
    stopped: asyncio.Future[int] = loop.create_future()

    def stop(number: int) -> None:
        """The second signal finds the default handlers again, and ends the process at once; not if it came with it."""
        loop.remove_signal_handler(signal.SIGTERM)
        loop.remove_signal_handler(signal.SIGINT)
        if not stopped.done():
            stopped.set_result(number)

    for each in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(each, stop, each)
    return stopped


async def _serve(running: Node, stopped: asyncio.Future[int]) -> int:
    """Start the node, which logs what happens to it, until a signal comes; the exit code."""
    from mcast.node import collector

    shell = running.shell
    collector.collect_rarely()
    async with running:
        collector.set_aside()
        number = await _until_stopped(stopped, _refuse_other_keys(running.config, running.id, shell))
        ends = "drains and ends" if shell.halted is None else f"ends; it had halted: {shell.halted}"
        _log.info("%s", f"{signal.Signals(number).name}: {ends}")
    return ExitCode.FINDING if shell.halted is not None and number == signal.SIGTERM else _code(number)


async def _until_stopped(stopped: asyncio.Future[int], check: Coroutine[Any, Any, None]) -> int:
    """The signal that came; or what `check` raises meanwhile."""
    checking = asyncio.create_task(check)
    try:
        await asyncio.wait((stopped, checking), return_when=asyncio.FIRST_COMPLETED)
        if checking.done():
            checking.result()
        return await stopped
    finally:
        checking.cancel()


async def _refuse_other_keys(config: Config, node_id: str, shell: Shell) -> None:
    """Until an epoch is known here: ask the other nodes over TCP whether they hold the same key.

    A node whose key differs hears nobody, and would wait for ever without a word.

    Raises:
        ConfigError: no node could be talked to, and with some the keys are why; twice in a row.
    """
    from mcast.client.admin import ask_all
    from mcast.net.tcp import Dialer
    from mcast.wire.stream import StreamKind

    others = Dialer(replace(config, nodes=tuple(node for node in config.nodes if node.id != node_id)), "client")
    suspected = False
    while True:
        await asyncio.sleep(KEY_CHECK_S)
        if shell.was_live:
            return
        if config.key_file is None and not shell.transport.dropped["sealed"]:
            continue  # that a node ends an unsealed connection at once may have other reasons
        try:
            await ask_all(others, StreamKind.STATUS, KEY_CHECK_S)
            suspected = False
        except ConfigError:
            if suspected:
                raise
            suspected = True


def die_with(parent: int) -> None:
    """Have the kernel send SIGTERM when the parent process is gone: else its nodes would go on answering for it."""
    if sys.platform == "linux":
        import ctypes

        set_pdeathsig = 1
        if ctypes.CDLL(None, use_errno=True).prctl(set_pdeathsig, signal.SIGTERM, 0, 0, 0):
            raise Ended(ExitCode.ENVIRONMENT, f"prctl: {os.strerror(ctypes.get_errno())}; leave --parent out")
    else:
        _watch_parent(parent)
    if os.getppid() != parent:  # it died before the kernel was asked
        raise Ended(ExitCode.ENVIRONMENT, f"the parent process {parent} is gone; leave --parent out")


def _watch_parent(parent: int) -> None:
    """The same where the kernel offers no such thing: look every second."""
    import threading

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(1.0)
        os.kill(os.getpid(), signal.SIGTERM)

    threading.Thread(target=watch, name="parent", daemon=True).start()
