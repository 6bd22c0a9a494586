"""Do the other nodes run what this one runs? Asked over TCP; the odd one halts before it computes anything of its own.

What makes it certain: a node listens before it asks all others, and asks before it takes part. So of any two nodes at
least the one that came later hears of the other; and who is asked asks back. It is asked again when a node begins to
rule, or a process connects, that was not heard yet.

Who is the odd one: whoever does not run what a majority of the members run. Where no majority is known to run the same:
who starts beside one that is live and differs, and whoever differs from the sequencer.
"""

from __future__ import annotations

import asyncio
import json
import logging
from collections import Counter
from typing import TYPE_CHECKING, Any, Final

from mcast.analysis.differences import unlike
from mcast.client.admin import ask_node
from mcast.config import NodeConfig
from mcast.errors import ConfigError, DecodeError
from mcast.net.tcp import Dialer, Unreachable
from mcast.protocol.effects import EpochChanged, Notice
from mcast.wire.envelope import name_hash
from mcast.wire.stream import Ask, StreamKind

if TYPE_CHECKING:
    from mcast.node.shell import Shell

START_S: Final = 0.3  # a start waits for the others' answers; a node that is up needs milliseconds
ASK_S: Final = 2.0  # for one answer later
_COMPARED: Final = ("machine", "machine_version", "commands", "python", "formats")

_log: Final = logging.getLogger("mcast.node")


class Likeness:
    """One node's. `refused` says by node id why it is not served as a peer."""

    def __init__(self, shell: Shell, dialer: Dialer) -> None:
        self.refused: dict[str, str] = {}
        self._shell = shell
        self._dialer = dialer
        self._others = [node for node in shell.config.nodes if node.id != shell.node_id]
        self._names = {name_hash(node.id): node.id for node in self._others}
        self._heard: dict[str, dict[str, Any]] = {}
        """Node id -> what it runs."""
        self._asking: dict[str, asyncio.Task[None]] = {}
        self._known: dict[str, bytes] = {}
        """Node id -> the process of it that was asked, or is being asked."""
        self._live: set[str] = set()
        """Those that were live when they were asked."""
        self._begun = False

    async def check(self) -> None:
        """At a start, before taking part: ask all others, and halt this node if it is the odd one."""
        self._begun = True
        for node in self._others:
            self._ask(node, START_S)
        if self._asking:
            await asyncio.wait(self._asking.values(), timeout=START_S)
        if self.refused:
            self._judge(starting=True)

    def admit(self, node_id: str) -> None:
        """Raise DecodeError for a peer that runs something else."""
        if node_id in self.refused:
            raise DecodeError("other machine", f"{node_id} runs other {self.refused[node_id]}, so it is not served")

    def on_hello(self, node_id: str, incarnation: bytes) -> None:
        """A peer has introduced itself: ask what it runs, unless this process of it was asked."""
        if self._begun and self._known.get(node_id) != incarnation:
            self._known[node_id] = incarnation
            self._heard.pop(node_id, None)
            self.refused.pop(node_id, None)
            self._ask(next(node for node in self._others if node.id == node_id), ASK_S)

    def on_notice(self, notice: Notice) -> None:
        """A node that leads and was not heard is asked."""
        if isinstance(notice, EpochChanged) and notice.sequencer is not None:
            name = self._names.get(notice.sequencer)
            if name is not None and name not in self._heard:
                self._ask(next(node for node in self._others if node.id == name), ASK_S)
            elif self.refused:
                self._judge()

    async def stop(self) -> None:
        """Stop asking."""
        tasks = list(self._asking.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def _ask(self, node: NodeConfig, timeout_s: float) -> None:
        if self._begun and node.id not in self._asking:
            task = asyncio.get_running_loop().create_task(self._hear(node, timeout_s))
            self._asking[node.id] = task
            task.add_done_callback(lambda _: self._on_answered(node.id))

    def _on_answered(self, node_id: str) -> None:
        del self._asking[node_id]
        if not self._asking and self.refused:
            self._judge()

    async def _hear(self, node: NodeConfig, timeout_s: float) -> None:
        try:
            answer = await ask_node(self._dialer, node, StreamKind.STATUS, Ask(1), timeout_s)
        except (Unreachable, ConfigError):
            return
        report = getattr(answer, "report", None)
        row = report.get("node") if isinstance(report, dict) else None
        runs = row.get("runs") if isinstance(row, dict) else None
        if not isinstance(row, dict) or not isinstance(runs, dict):
            return  # an mcast that does not say
        self._heard[node.id] = runs
        (self._live.add if row.get("state") == "live" else self._live.discard)(node.id)
        words = "; ".join(unlike(self._shell.runs, runs))
        if not words:
            self.refused.pop(node.id, None)
            return
        beside = "goes on beside it, for allow_mixed is set" if self._shell.config.allow_mixed else "does not serve it"
        _log.warning("node %s: %s runs other %s; this node %s", self._shell.node_id, node.id, words, beside)
        if not self._shell.config.allow_mixed:
            self.refused[node.id] = words[:1_000]
            self._judge()

    def _judge(self, *, starting: bool = False) -> None:
        """Halt if the answers so far show that this node is the odd one."""
        shell = self._shell
        if shell.halted is not None:
            return
        members = {node.id for node in shell.config.members}
        own = _print(shell.runs)
        kinds = Counter(_print(runs) for node_id, runs in self._heard.items() if node_id in members)
        kinds[own] += shell.node_id in members
        majority = len(members) // 2 + 1
        most, count = kinds.most_common(1)[0]
        if count >= majority:
            if most != own:
                self._halt([node_id for node_id, runs in self._heard.items() if _print(runs) == most])
            return
        sequencer_key = shell.replica.sequencer
        sequencer = None if sequencer_key is None else self._names.get(sequencer_key)
        before = [node_id for node_id in self.refused if node_id in self._live]
        if starting and before:
            self._halt(before)
        elif sequencer in self.refused and not self._asking:
            self._halt([sequencer])

    def _halt(self, others: list[str]) -> None:
        why = self.refused.get(others[0], "what cannot be compared")
        self._shell.halt(
            f"{', '.join(sorted(others))} run{'s' if len(others) == 1 else ''} other {why}; install what they run and "
            "restart this node, or set allow_mixed = true in its [cluster] if that is meant"
        )


def _print(runs: dict[str, Any]) -> str:
    return json.dumps([runs.get(kind) for kind in _COMPARED], sort_keys=True, default=str)
