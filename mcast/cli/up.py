"""`mcast up`: every node of a config as a local process, in the foreground."""

from __future__ import annotations

import asyncio
import contextlib
import os
import shlex
import signal
import sys
import time
from asyncio.subprocess import Process
from pathlib import Path
from typing import Annotated, Final

import typer

from mcast.cli import options, output
from mcast.cli.caveats import caveats
from mcast.cli.exits import Ended, ExitCode
from mcast.config import Config, load_config

DRAIN_S: Final = 10.0  # seconds a node gets to drain before it is killed
_FATAL: Final = (ExitCode.USAGE, ExitCode.ENVIRONMENT)  # it could not start, and would end so again: stop them all


def up(
    config: options.ConfigFile = options.DEFAULT_CONFIG,
    fault: Annotated[
        str | None,
        typer.Option("--fault", help="Faults at every node, such as `loss=5%`.", metavar="SPEC"),
    ] = None,
    json: options.Json = False,
) -> None:
    """Run every node of a config on this machine.

    In the foreground, until SIGTERM or Ctrl-C. A node that dies is named, and the others go on. One that cannot even
    start (exit 2 or 4) ends them all.

    Examples: `mcast init && mcast up` · `mcast up -c lab.toml --fault loss=5%,seed=7`
    """
    from mcast.machine.loading import load_machine
    from mcast.net.faulty import parse_faults

    checked = load_config(config)
    load_machine(checked.machine, str(checked.folder))
    if fault is not None:
        parse_faults(fault)
    code = asyncio.run(Supervisor(config.resolve(), checked, fault, json).run())
    if code:
        raise typer.Exit(code)


class Supervisor:
    """Starts the node processes, forwards the wish to stop, and leaves no child behind.

    Nodes run in sessions of their own, so that a Ctrl-C reaches them once and in order; each also asks the kernel to
    end it when this process is gone.
    """

    def __init__(self, path: Path, config: Config, fault: str | None, json: bool) -> None:
        self._path = path
        self._config = config
        self._fault = fault
        self._json = json
        self._children: dict[str, Process] = {}
        self._stop = asyncio.Event()
        self._signals: list[int] = []
        self._code = ExitCode.OK

    async def run(self) -> int:
        """Until every node has ended or a signal came; the exit code."""
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            loop.add_signal_handler(number, self._stop_for, number)
        watchers = []
        try:
            for node in self._config.nodes:
                child = await self._start(node.id)
                self._children[node.id] = child
                watchers.append(loop.create_task(self._watch(node.id, child)))
            self._tell_how()
            await self._stop.wait()
        finally:
            await self._end_all()
            await asyncio.gather(*watchers)
        return ExitCode.INTERRUPTED if self._signals[:1] == [signal.SIGINT] else self._code

    async def _start(self, node_id: str) -> Process:
        command = [sys.executable, "-m", "mcast", "node", "-c", str(self._path), "--id", node_id]
        command += ["--no-wait", "--parent", str(os.getpid())]  # whoever started them sees what is missing
        if self._fault is not None:
            command += ["--fault", self._fault]
        try:
            child = await asyncio.create_subprocess_exec(
                *command, stdin=asyncio.subprocess.DEVNULL, start_new_session=True
            )
        except OSError as error:
            raise Ended(ExitCode.ENVIRONMENT, f"cannot start {node_id}: {error.strerror}") from error
        self._tell_event("started", node_id, pid=child.pid)
        return child

    async def _watch(self, node_id: str, child: Process) -> None:
        code = await child.wait()
        del self._children[node_id]
        if self._stop.is_set():
            self._tell_event("ended", node_id, code=code)
            return
        self._tell_event("died", node_id, code=code)
        if not self._json:
            again = f"start it again with: mcast node -c {shlex.quote(str(self._path))} --id {node_id}"
            output.note(f"mcast: {node_id} died: {_reason(code)}; {'stopping the others' if code in _FATAL else again}")
        if code in _FATAL or not self._children:
            self._code = ExitCode(code) if code in _FATAL else ExitCode.FINDING
            self._stop.set()

    async def _end_all(self) -> None:
        """SIGTERM, a bounded wait (cut short by a second signal), SIGKILL."""
        for child in self._children.values():
            _send(child, signal.SIGTERM)
        deadline = time.monotonic() + DRAIN_S
        while self._children and time.monotonic() < deadline and len(self._signals) < 2:
            await asyncio.sleep(0.02)
        for node_id, child in self._children.items():
            why = "interrupted again" if len(self._signals) > 1 else f"{node_id} did not end in {DRAIN_S:g} s"
            output.note(f"mcast: {why}: killing {node_id}")
            _send(child, signal.SIGKILL)

    def _stop_for(self, number: int) -> None:
        self._signals.append(number)
        self._stop.set()

    def _tell_event(self, event: str, node_id: str, **details: int) -> None:
        if self._json:
            output.print_json({"event": event, "id": node_id, **details})
            sys.stdout.flush()

    def _tell_how(self) -> None:
        if self._json:
            return
        ids, path = " ".join(self._children), shlex.quote(str(self._path))
        how = f"from another terminal: mcast status -c {path}; Ctrl-C ends them"
        output.note(f"mcast: started {ids}{caveats(self._config)}; {how}")


def _send(child: Process, number: int) -> None:
    with contextlib.suppress(ProcessLookupError):
        child.send_signal(number)


def _reason(code: int) -> str:
    if code < 0:
        return f"killed by {signal.Signals(-code).name}"
    names = {item.value: item.name.lower() for item in ExitCode}
    return f"exit code {code}" + (f" ({names[code]})" if code in names else "")
