"""What a node tells of itself as it happens: to its log and to its host, gaps summed up once a second."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Final, Literal, NamedTuple

from mcast.protocol.effects import (
    Contradicted,
    EpochChanged,
    GapClosed,
    GapOpened,
    HaltRequired,
    LogDoubted,
    LogRecovered,
    MembersChanged,
    Notice,
    ReadReady,
    SequencerReady,
    SteppedDown,
    Truncated,
)
from mcast.wire.envelope import name_hash

if TYPE_CHECKING:
    from mcast.node.shell import Shell

GAPS_INTERVAL_S: Final = 1.0  # seconds between two lines about gaps; under loss there are thousands a second

NoticeKind = Literal[
    "epoch", "sequences", "stepped-down", "truncated", "members", "log-recovered", "gaps", "halted", "contradicted"
]  # fmt: skip
_KINDS: Final[dict[type, NoticeKind]] = {
    EpochChanged: "epoch", SequencerReady: "sequences", SteppedDown: "stepped-down", Truncated: "truncated",
    MembersChanged: "members", LogRecovered: "log-recovered", Contradicted: "contradicted",
}  # fmt: skip


class NodeNotice(NamedTuple):
    """Something happened to a node: `text` is the line that it logs.

    "epoch": another epoch, or another node known to sequence in it, or none. "sequences", "stepped-down": this node,
    from now on. "truncated": events that were never committed were cut off. "members": who votes. "log-recovered":
    this node votes again after a doubt about its log. "gaps": those of the last second, summed up. "halted": a safety
    rule was found broken, or a bug; the node takes no further part, and says why. "contradicted": somebody says what
    can't be, as one who forges datagrams would; it was not obeyed.
    """

    kind: NoticeKind
    text: str
    epoch: int
    """The newest epoch this node obeys."""
    sequencer: str | None
    """The sequencer, as far as this node knows."""


def log_of(node_id: str) -> logging.Logger:
    """Where a node's lines go: `mcast.node.` and its id, for several may run in one process."""
    return logging.getLogger(f"mcast.node.{node_id}")


class Notices:
    """Follows a shell from `start` to `stop`, and calls `tell`; logs, too."""

    def __init__(self, shell: Shell, tell: Callable[[NodeNotice], None]) -> None:
        self._shell = shell
        self._names = {name_hash(each.id): each.id for each in shell.config.nodes}
        self._lines = NoticeLog(self._names)
        self._log = log_of(shell.node_id)
        self._tell_host = tell
        self._telling: asyncio.TimerHandle | None = None

    def start(self) -> None:
        """Follow what happens."""
        self._shell.on_notice.append(self._on_notice)
        self._shell.on_halted.append(self._on_halted)

    def stop(self) -> None:
        """Say what is left to be said, and no more."""
        if self._on_notice in self._shell.on_notice:
            self._shell.on_notice.remove(self._on_notice)
            self._shell.on_halted.remove(self._on_halted)
        if self._telling is not None:
            self._telling.cancel()
            self._tell_gaps()

    def _on_notice(self, happened: Notice) -> None:
        line = self._lines.line(happened)
        if line is not None:
            self._log.log(logging.WARNING if type(happened) is LogDoubted else logging.INFO, "%s", line)
            if type(happened) in _KINDS:  # a halt is told by `_on_halted`, whatever the reason
                self._tell(_KINDS[type(happened)], line)
        if isinstance(happened, GapOpened | GapClosed) and self._telling is None:
            self._telling = asyncio.get_running_loop().call_later(GAPS_INTERVAL_S, self._tell_gaps)

    def _tell_gaps(self) -> None:
        self._telling = None
        line = self._lines.gaps(self._shell.replica.statistics().gaps_open)
        if line is not None:
            self._log.info("%s", line)
            self._tell("gaps", line)

    def _on_halted(self) -> None:
        self._tell("halted", f"HALTED: {self._shell.halted}")

    def _tell(self, kind: NoticeKind, text: str) -> None:
        replica = self._shell.replica
        sequencer = None if replica.sequencer is None else self._names.get(replica.sequencer)
        self._tell_host(NodeNotice(kind, text, replica.promised, sequencer))


class NoticeLog:
    """Turns notices into lines. `names` gives node ids by their hash."""

    def __init__(self, names: Mapping[int, str]) -> None:
        self._names = names
        self._opened = 0
        self._closed = 0
        self._longest_s = 0.0

    def line(self, notice: Notice) -> str | None:
        """What to log now that this has happened; None for a gap, which is summed up, and a read."""
        if isinstance(notice, ReadReady):
            return None
        if isinstance(notice, GapOpened):
            self._opened += 1
        elif isinstance(notice, GapClosed):
            self._closed += 1
            self._longest_s = max(self._longest_s, notice.latency_s)
        else:
            return self._line(notice)
        return None

    def gaps(self, open_now: int) -> str | None:
        """The sum of the gaps since it was last told; None if there were none. Those only late need no repair."""
        if not (self._opened or self._closed):
            return None
        longest = f", longest {self._longest_s * 1000:.1f} ms" if self._closed else ""
        line = f"gaps: {self._opened} opened, {self._closed} repaired{longest}, {open_now} open now"
        self._opened = self._closed = 0
        self._longest_s = 0.0
        return line

    def _line(self, notice: Notice) -> str | None:
        if isinstance(notice, EpochChanged):
            sequencer = "nobody is known to sequence" if notice.sequencer is None else self._name(notice.sequencer)
            return f"epoch {notice.epoch}: {sequencer}{'' if notice.sequencer is None else ' is the sequencer'}"
        if isinstance(notice, SequencerReady):
            return f"epoch {notice.epoch}: this node sequences from now on"
        if isinstance(notice, SteppedDown):
            return f"epoch {notice.epoch}: this node stepped down"
        if isinstance(notice, Truncated):
            return f"cut an uncommitted tail behind event {notice.last}"
        if isinstance(notice, HaltRequired):
            return f"HALTED: {notice.reason}"
        if isinstance(notice, Contradicted):
            return f"not obeyed: {notice.words}"
        if isinstance(notice, MembersChanged):
            return f"configuration {notice.number}: {', '.join(notice.members)} vote"
        if isinstance(notice, LogDoubted):
            return (
                f"{self._name(notice.by)} heard this node acknowledge event {notice.seq} of epoch {notice.epoch}, and "
                f"its log ended at event {notice.last} when it started: its data directory is an older one; it neither "
                "votes nor acknowledges until its log is known whole again"
            )
        if isinstance(notice, LogRecovered):
            return "the log is known whole again: this node votes and acknowledges"
        return str(notice)

    def _name(self, node: int) -> str:
        return self._names.get(node, f"node {node:016x}")
