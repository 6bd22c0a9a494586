"""A node's log: one line for each change an operator would want to know of, gaps summed up once a second."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from mcast.protocol.effects import (
    EpochChanged,
    GapClosed,
    GapOpened,
    HaltRequired,
    Notice,
    Ruling,
    SteppedDown,
    Truncated,
)

GAPS_INTERVAL_S: Final = 1.0  # seconds between two lines about gaps; under loss there are thousands a second


class NoticeLog:
    """Turns notices into lines. `names` gives node ids by their hash; `now` is any monotonic clock, in seconds."""

    def __init__(self, names: Mapping[int, str]) -> None:
        self._names = names
        self._opened = 0
        self._closed = 0
        self._longest_s = 0.0
        self._told_at = float("-inf")

    def lines(self, notice: Notice, now: float) -> list[str]:
        """What to log now that this has happened."""
        if isinstance(notice, GapOpened):
            self._opened += 1
        elif isinstance(notice, GapClosed):
            self._closed += 1
            self._longest_s = max(self._longest_s, notice.latency_s)
        else:
            return [self._line(notice)]
        return self.gap_lines(now) if now - self._told_at >= GAPS_INTERVAL_S else []

    def gap_lines(self, now: float) -> list[str]:
        """The sum of the gaps since it was last told, if there were any."""
        if not (self._opened or self._closed):
            return []
        longest = f", longest {self._longest_s * 1000:.1f} ms" if self._closed else ""
        line = f"gaps: {self._opened} opened, {self._closed} closed{longest}"
        self._opened = self._closed = 0
        self._longest_s, self._told_at = 0.0, now
        return [line]

    def _line(self, notice: Notice) -> str:
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
        return str(notice)

    def _name(self, node: int) -> str:
        return self._names.get(node, f"node {node:016x}")
