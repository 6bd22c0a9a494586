"""Answering NAKs, within a budget.

Repairs share the network with new data, so a token bucket holds them to half of the recent peak rate, and half of
that for any one replica; but never below a floor, and repairs of what is not yet committed are exempt: the group
waits for those. A repeat within a few ms is ignored (the repair is on its way); two replicas that miss the same frame
get it by one multicast. Beyond the budget the answer is BUSY, below the oldest frame in memory GONE: never silence.

A crybaby, who gets far more repairs than the others and is not needed for a majority, is told GONE too: TCP catch-up
will serve it without slowing the group.
"""

from __future__ import annotations

from collections import Counter
from statistics import median
from typing import Final

from mcast.limits import (
    REPAIR_FLOOR_PER_S,
    REPAIR_PEAK_WINDOW_S,
    REPAIR_REPEAT_S,
    REPAIR_REQUESTER_SHARE,
    REPAIR_SHARE,
    REPAIR_SHARED_S,
    REPAIRS_PER_NAK_MAX,
)
from mcast.protocol.core import Core
from mcast.protocol.effects import Repair
from mcast.protocol.quorum import majority
from mcast.wire.envelope import Envelope
from mcast.wire.frame import Frame
from mcast.wire.messages import Busy, Nak, RepairGone

_BURST_S: Final = 0.1  # an unspent budget grows no further than what so long allows
_CRYBABY_SHARE: Final = 0.10  # of the frames streamed in a window
_CRYBABY_FACTOR: Final = 3.0  # over the group's median
_ASKED_MAX: Final = 65_536  # requests remembered, to ignore repeats


class Repairing:
    """One replica's answers to the others' NAKs."""

    def __init__(self, core: Core, now: float) -> None:
        self.core = core
        self.repairs_sent = 0
        self._asked: dict[tuple[int, int], float] = {}
        self._shared: dict[int, tuple[int, float]] = {}
        self._burst = REPAIR_FLOOR_PER_S * _BURST_S
        self._tokens = self._burst
        self._drawn: dict[int, float] = {}
        """Requester -> datagrams sent to it for which its share of the budget has not been refilled yet."""
        self._refilled = now
        self._window_began = now
        self._streamed_then = 0
        self._peak_per_s = 0.0
        self._given: Counter[int] = Counter()
        self._given_before: Counter[int] = Counter()
        self._streamed_window = 0

    def on_nak(self, envelope: Envelope, nak: Nak, now: float) -> None:
        """Answer one NAK, oldest range first."""
        core, requester = self.core, envelope.sender
        if requester == core.me:
            return
        self._refill(now)
        alone: list[Frame] = []
        shared: list[Frame] = []
        left = REPAIRS_PER_NAK_MAX
        for wanted in nak.ranges:
            if wanted.first < core.log.low_water or self._is_crybaby(requester, wanted.last):
                # not where the cache begins: what a crybaby lacks is in memory, but it must fetch it over TCP
                core.send(requester, RepairGone(max(core.log.low_water, core.log.last_seq), 0, nak.nonce))
                break
            for frame in core.log.frames_between(wanted.first, wanted.last, left):
                if self._is_repeat(frame, requester, now):
                    continue
                if not self._spend(requester, frame):
                    core.counts["repairs refused"] += 1
                    core.send(requester, Busy(int(1e6 * REPAIR_REPEAT_S), nak.nonce))
                    left = 0
                    break
                left -= 1
                (shared if self._is_shared(frame, requester, now) else alone).append(frame)
            if left <= 0:
                break
        if alone:
            core.effects.append(Repair(requester, tuple(alone)))
        if shared:
            core.effects.append(Repair(None, tuple(shared)))
        self.repairs_sent += len(alone) + len(shared)

    def note_streamed(self, sent: int, now: float) -> None:
        """Note how many DATA datagrams this node has sent in all: the peak rate sets the budget."""
        elapsed = now - self._window_began
        if elapsed >= REPAIR_PEAK_WINDOW_S:
            self._peak_per_s = max((sent - self._streamed_then) / elapsed, self._peak_per_s / 2)
            self._streamed_window = sent - self._streamed_then
            self._streamed_then, self._window_began = sent, now
            self._given_before, self._given = self._given, Counter()
        else:
            self._peak_per_s = max(self._peak_per_s, (sent - self._streamed_then) / REPAIR_PEAK_WINDOW_S)

    def _refill(self, now: float) -> None:
        rate = REPAIR_SHARE * self._peak_per_s
        if self.core.rules.repair_floor:
            rate = max(rate, REPAIR_FLOOR_PER_S)
        gained = rate * (now - self._refilled)
        self._burst = rate * _BURST_S
        self._tokens = min(self._tokens + gained, self._burst)
        made_good = REPAIR_REQUESTER_SHARE * gained
        self._drawn = {node: drawn - made_good for node, drawn in self._drawn.items() if drawn > made_good}
        self._refilled = now
        if len(self._asked) > _ASKED_MAX:
            self._asked = {key: when for key, when in self._asked.items() if when > now - REPAIR_REPEAT_S}
            self._shared = {key: entry for key, entry in self._shared.items() if entry[1] > now - REPAIR_SHARED_S}

    def _spend(self, requester: int, frame: Frame) -> bool:
        blocks_commit = frame.last > self.core.commit_seq and requester in self.core.voters()
        if self.core.rules.repair_floor and blocks_commit:
            return True
        drawn = self._drawn.get(requester, 0.0) + 1
        if self._tokens < 1 or drawn > REPAIR_REQUESTER_SHARE * self._burst:
            return False
        self._tokens -= 1
        self._drawn[requester] = drawn
        self._given[requester] += 1
        return True

    def _is_repeat(self, frame: Frame, requester: int, now: float) -> bool:
        key = (frame.first, requester)
        if now - self._asked.get(key, -1.0) < REPAIR_REPEAT_S:
            return True
        self._asked[key] = now
        return False

    def _is_shared(self, frame: Frame, requester: int, now: float) -> bool:
        other, when = self._shared.get(frame.first, (requester, now))
        self._shared[frame.first] = (requester, now)
        return other != requester and now - when < REPAIR_SHARED_S

    def _is_crybaby(self, requester: int, last: int) -> bool:
        core = self.core
        given = self._given_before[requester]
        if not core.leads_epoch or given <= _CRYBABY_SHARE * self._streamed_window or last > core.commit_seq:
            return False
        voters = core.voters()
        others = [node for node in voters if node != requester]
        if requester in voters and len(others) < majority(len(voters)):
            return False
        receivers = [node for node in others if node != core.me] or [requester]
        return given > _CRYBABY_FACTOR * max(median(self._given_before[node] for node in receivers), 1)
