"""Asking for what is missing: NAKs to the sequencer, then to peers; TCP when the gap is too deep for datagrams.

TCP, too, when NAKs do not help: repairs may be blocked, or too large for the path; and when no datagrams arrive at all.

The sequencer is asked twice, then a random replica whose acknowledgement in the heartbeat's table covers the gap: so
the tail of a dead sequencer's stream is repaired by whoever has it.
"""

from __future__ import annotations

from typing import Final

from mcast.limits import (
    GAP_STUCK_AGAIN_S,
    GAP_STUCK_MEMORY_S,
    GAP_STUCK_S,
    LEDGER_OPEN_MAX,
    NAK_RETRY_MAX_S,
    NAK_SEQUENCER_TRIES,
)
from mcast.protocol.core import Core
from mcast.protocol.effects import CatchUp
from mcast.protocol.repair.gaps import Gap, Gaps
from mcast.protocol.repair.reorder_buffer import Reorder
from mcast.protocol.ways import Hearing
from mcast.wire.messages import Busy, Nak, Range, RepairGone

_RETRY_S: Final = 1.0  # a catch-up without progress is asked for anew after this long ...
_FAILED_RETRY_S: Final = 0.05  # ... and one that broke off after this long
STUCK_TRIES: Final = 5  # NAKs in a row that brought nothing: no repair of this gap arrives


class Asking:
    """Sends NAKs while gaps are shallow; asks for one catch-up at a time when they are deep."""

    def __init__(self, core: Core, gaps: Gaps, reorder: Reorder, hearing: Hearing) -> None:
        self.peers: dict[int, int] = {}
        """What each replica has acknowledged, as the newest heartbeat says."""
        self.catching_up = False
        self.naks_sent = 0
        self._core = core
        self._gaps = gaps
        self._reorder = reorder
        self._hearing = hearing
        self.stuck = 0
        """How often NAKs brought nothing, and events were fetched over TCP."""
        self.stuck_at = float("-inf")
        """When NAKs last brought nothing."""
        self._busy_until = 0.0
        self._until = 0
        self._gone_below = 0
        """A repairer has said GONE: its log ends there, and what comes before must be fetched over TCP."""
        self._progress = (0, 0.0)
        self._nonce = 0
        self._draw_nonce()

    def stop(self) -> None:
        """Another epoch has begun, perhaps this node's own: forget how far the last one's events were to be fetched."""
        self.catching_up = False
        self._until = self._gone_below = 0
        if self._core.known_commit > self._core.log.last_seq:
            self._core.known_commit_due = 0.0
        self._draw_nonce()

    def lower(self, last: int) -> None:
        """The sequencer says that no event beyond `last` exists."""
        self._until, self._gone_below = min(self._until, last), min(self._gone_below, last + 1)
        for node, acked in self.peers.items():
            self.peers[node] = min(acked, last)

    def judge(self, now: float) -> None:
        """Go over to TCP when the gap is deep, and back when it is bridged."""
        log = self._core.log
        if self.catching_up:
            bridged = len(self._reorder) and self._is_shallow() and log.last_seq + 1 >= self._gone_below
            bridged = bridged and not self._is_stuck(now)
            if log.last_seq >= self._until or bridged:
                self.catching_up = False
            elif log.last_seq > self._progress[0]:
                self._progress = (log.last_seq, now)
            elif now >= self._progress[1] + _RETRY_S:
                self._fetch(now)
        elif not self._is_shallow() or (len(self._gaps) and self._hearing.hears_only_tcp(now)):
            self.catch_up(now)

    def catch_up(self, now: float) -> None:
        """Fetch over TCP all up to the highest event known now."""
        if not self.catching_up:
            self.catching_up = True
            self._fetch(now)

    def on_gone(self, gone: RepairGone, now: float) -> None:
        """A repairer leaves all events before its low water to TCP."""
        if self._is_answer(gone) and self._core.log.last_seq + 1 < gone.low_water:
            self._gone_below = max(self._gone_below, gone.low_water)
            self.catch_up(now)

    def on_transfer_failed(self, now: float) -> None:
        """A catch-up broke off; ask anew, of others, a little later."""
        if self.catching_up:
            self._progress = (self._core.log.last_seq, min(self._progress[1], now - _RETRY_S + _FAILED_RETRY_S))

    def on_busy(self, busy: Busy, now: float) -> None:
        """A repairer's budget is spent."""
        if self._is_answer(busy):
            self._busy_until = max(self._busy_until, now + min(busy.retry_after_us / 1e6, NAK_RETRY_MAX_S))

    def tick(self, now: float) -> None:
        """Send the NAKs that are due; fetch what they do not bring, and what is known to be committed and missing."""
        core = self._core
        if core.known_commit <= core.log.last_seq:
            core.known_commit_due = float("inf")
        elif now >= core.known_commit_due and core.reconciled:
            core.known_commit_due = float("inf")
            self.catch_up(now)
        if self.catching_up:
            self.judge(now)
        elif len(self._gaps) and self._is_stuck(now):
            self._give_up(now)
        if self.catching_up or now < self._busy_until or not len(self._gaps):
            return
        ranges: dict[int, list[Range]] = {}
        for gap in self._gaps.take_due(now):
            target = self._next_repairer(gap)
            if target is not None:
                gap.loss.asked = target
                ranges.setdefault(target, []).append(Range(gap.first, gap.last))
        for target, asked in ranges.items():
            self.naks_sent += 1
            self._core.send(target, Nak(self._core.promised, tuple(asked), self._nonce))

    def deadline(self) -> float:
        """When `tick` has work next."""
        learned_due = self._core.known_commit_due if self._core.reconciled else float("inf")
        if self.catching_up:
            return min(self._progress[1] + _RETRY_S, learned_due)
        if not len(self._gaps):
            return learned_due
        return min(max(self._gaps.deadline(), self._busy_until), self._stuck_due(), learned_due)

    def _is_answer(self, answer: Busy | RepairGone) -> bool:
        """Whether it answers a NAK of this node's, of this epoch."""
        return answer.nonce == self._nonce or not self._core.rules.answers_named

    def _draw_nonce(self) -> None:
        self._nonce = self._core.random.getrandbits(63)

    def _next_repairer(self, gap: Gap) -> int | None:
        sequencer = self._core.sequencer
        if sequencer is not None and sequencer != self._core.me and gap.tries <= NAK_SEQUENCER_TRIES:
            return sequencer
        covering = sorted(node for node, acked in self.peers.items() if acked >= gap.last and node != self._core.me)
        return self._core.random.choice(covering) if covering else sequencer

    def _is_shallow(self) -> bool:
        behind = min((gap.last for gap in self._gaps), default=0) - self._core.log.last_seq
        deep = self._core.settings.deep_gap_frames * self._core.log.events_per_frame
        return behind <= deep and len(self._gaps) <= LEDGER_OPEN_MAX

    def _stuck_due(self) -> float:
        """When the gap that the log waits for is fetched over TCP: soon, where NAKs brought nothing a moment ago."""
        gap = self._gaps.first
        if gap is None:
            return float("inf")
        lately = gap.tries >= STUCK_TRIES and gap.loss.opened < self.stuck_at + GAP_STUCK_MEMORY_S
        return gap.loss.opened + (GAP_STUCK_AGAIN_S if lately else GAP_STUCK_S)

    def _is_stuck(self, now: float) -> bool:
        return now >= self._stuck_due()

    def _give_up(self, now: float) -> None:
        """NAKs do not close the gap that the log waits for."""
        gap = self._gaps.first
        if gap is not None and gap.tries >= STUCK_TRIES:  # in a row; else repairs do arrive, only slowly
            self.stuck += 1
            self.stuck_at = now
        self.catch_up(now)

    def _fetch(self, now: float) -> None:
        log = self._core.log
        self._until = max(self._gaps.frontier, self._core.known_commit)
        self._progress = (log.last_seq, now)
        peers = [node for node, acked in self.peers.items() if acked > log.last_seq and node != self._core.me]
        self._core.random.shuffle(peers)
        self._core.effects.append(CatchUp(log.last_seq + 1, self._until, tuple(peers)))
