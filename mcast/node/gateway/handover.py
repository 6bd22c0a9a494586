"""Handing over the sequencer's role: `mcast handover`, and a sequencer that is told to stop."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, Final

from mcast.clock import monotonic_s
from mcast.limits import HANDOVER_S
from mcast.protocol.effects import Notice
from mcast.wire.envelope import name_hash
from mcast.wire.stream import Failure, HandoverRequest, StreamKind, pack_message

if TYPE_CHECKING:
    from mcast.machine.engine import Applied
    from mcast.node.gateway.connection import Connection
    from mcast.node.shell import Shell

RETIRE_S: Final = 0.5  # a stopping sequencer waits no longer for its successor to lead
SLACK_S: Final = 0.5  # beyond HANDOVER_S: for the successor's election, and its first event to be applied here


class Handovers:
    """Gives the role away, and waits until the successor leads: its epoch's first event is committed and applied here.

    `report(connection, id, node)` answers whoever asked.
    """

    def __init__(self, shell: Shell, report: Callable[[Connection, int, dict[str, Any]], None]) -> None:
        self._shell = shell
        self._report = report
        self._nodes = {node.id: name_hash(node.id) for node in shell.config.nodes}
        self._tasks: set[asyncio.Task[None]] = set()
        self._changed = asyncio.Event()

    def on_handover(self, connection: Connection, message: HandoverRequest) -> None:
        """A connection wants the role moved to a node; REPORT when that leads, ERROR when it will not."""
        if self._tasks:
            connection.post(pack_message(StreamKind.ERROR, Failure(message.id, "a handover is under way here")))
            return
        task = asyncio.get_running_loop().create_task(self._answer(connection, message))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def retire(self) -> None:
        """Hand over to whoever is best placed, if this node leads and there is anybody; returns within RETIRE_S."""
        replica = self._shell.replica
        successor = replica.successor(monotonic_s()) if self._shell.halted is None else None
        if successor is not None:
            await self._give(successor, RETIRE_S)

    async def stop(self) -> None:
        """Wait for nobody any more."""
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _answer(self, connection: Connection, message: HandoverRequest) -> None:
        shell, began_s = self._shell, monotonic_s()
        to = self._nodes.get(message.to)
        if to is None:
            problem: str | None = f"no node {message.to!r} in the config of {shell.node_id}"
        elif shell.replica.is_sequencer and to == name_hash(shell.node_id):
            problem = None
        else:
            problem = await self._give(to, HANDOVER_S + SLACK_S)
        if problem is not None:
            connection.post(pack_message(StreamKind.ERROR, Failure(message.id, problem[:1_000])))
            return
        ms = round((monotonic_s() - began_s) * 1e3, 3)
        self._report(connection, message.id, {"id": shell.node_id, "to": message.to, "ms": ms})

    async def _give(self, to: int, timeout_s: float) -> str | None:
        """Hand over to `to`; None when it leads, else why it does not."""
        shell = self._shell
        epoch = shell.replica.promised
        shell.on_applied.append(self._on_applied)
        shell.on_notice.append(self._on_notice)
        try:
            refusal = shell.hand_over(to)
            if refusal is not None:
                return refusal
            async with asyncio.timeout(timeout_s):
                while not self._rules(to, epoch):
                    self._changed.clear()
                    await self._changed.wait()
        except TimeoutError:
            return f"the successor did not take over within {timeout_s:g} s; epoch {shell.replica.promised} goes on"
        finally:
            shell.on_applied.remove(self._on_applied)
            shell.on_notice.remove(self._on_notice)
        return None

    def _rules(self, to: int, epoch: int) -> bool:
        replica, engine = self._shell.replica, self._shell.engine
        return replica.sequencer == to and engine.applied_epoch == replica.promised > epoch

    def _on_applied(self, applied: Sequence[Applied]) -> None:
        self._changed.set()

    def _on_notice(self, notice: Notice) -> None:
        self._changed.set()
