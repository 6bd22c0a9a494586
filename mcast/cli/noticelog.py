"""A node's log: one line for each change an operator would want to know of, gaps summed up once a second."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from mcast.protocol.effects import (
    EpochChanged,
    GapClosed,
    GapOpened,
    HaltRequired,
    MembersChanged,
    Notice,
    ReadReady,
    Ruling,
    SteppedDown,
    SuspicionCleared,
    Truncated,
)

GAPS_INTERVAL_S: Final = 1.0  # seconds between two lines about gaps; under loss there are thousands a second


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
            ruler = "nobody is known to sequence" if notice.sequencer is None else self._name(notice.sequencer)
            return f"epoch {notice.epoch}: {ruler}{'' if notice.sequencer is None else ' is the sequencer'}"
        if isinstance(notice, Ruling):
            return f"epoch {notice.epoch}: this node sequences from now on"
        if isinstance(notice, SteppedDown):
            return f"epoch {notice.epoch}: this node stepped down"
        if isinstance(notice, Truncated):
            return f"cut an uncommitted tail behind event {notice.last}"
        if isinstance(notice, HaltRequired):
            return f"HALTED: {notice.reason}"
        if isinstance(notice, MembersChanged):
            return f"configuration {notice.number}: {', '.join(notice.members)} vote"
        if isinstance(notice, SuspicionCleared):
            return "the log is known whole again: this node votes and acknowledges"
        return str(notice)

    def _name(self, node: int) -> str:
        return self._names.get(node, f"node {node:016x}")
