"""Losses: what of one epoch's stream did not arrive when first sent, and what healed it; see `ledger`."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum

from mcast.limits import COUNTER_JUMP_MAX, SEQ_MAX
from mcast.protocol.repair.injected import EpochInjected
from mcast.protocol.repair.ranges import Ranges


class Fate(Enum):
    """What a first-sent DATA datagram is, compared with those that arrived before it."""

    NEW = "new"
    LATE = "late"
    DUPLICATE = "duplicate"


@dataclass(slots=True)
class EpochLosses:
    """One epoch's stream as it arrived here: counts of datagrams, and ranges of counters or of events."""

    incarnation: bytes
    """The process whose stream it is."""
    base: int
    """Counters up to this one were sent before we listened."""
    counted_from: int
    """Events up to this one belong to joining."""
    highest: int
    """The highest counter that arrived or was heard of."""
    ranges_max: int
    """Ranges of each kind that are kept."""
    missing: Ranges = field(default_factory=Ranges)
    """Holes in the counter, as far as a late original may still close them."""
    folded: int = 0
    """Losses of which only the number is kept."""
    unkept: Ranges = field(default_factory=Ranges)
    """Events whose DATA arrived but could not be kept."""
    repairs: Ranges = field(default_factory=Ranges)
    """Events whose repair counts, as far as their originals may still come and take it back."""
    transfers: Ranges = field(default_factory=Ranges)
    """The same of transfers."""
    final: int = 0
    """Repairs and transfers of events up to here are not taken back: they are forgotten."""
    announced: bool = False
    """Whether a heartbeat has spoken of it."""
    seen: Ranges = field(default_factory=Ranges)
    """Counters that had arrived when heartbeats said that none so high were sent: such words may come late."""
    strangers: int = 0
    """Heartbeats in a row of another process."""
    duplicates: int = 0
    """Datagrams that arrived again, or after the repair that can't be taken back."""
    repaired: int = 0
    """Frames that were missing and came by a REPAIR, unless that has been taken back."""
    transferred: int = 0
    """Frames that were missing and came over TCP, unless that has been taken back."""
    superseded: int = 0
    """Losses that nobody brought before the log passed into the next epoch."""
    injected: EpochInjected = field(default_factory=EpochInjected)
    """What was done on purpose to datagrams of which nothing was heard."""

    @property
    def lost_count(self) -> int:
        """Datagrams that did not arrive when first sent."""
        return self.missing.count + self.folded

    @property
    def is_over(self) -> bool:
        """Whether no original of it is heard any more."""
        return self.final == SEQ_MAX

    def heeds(self, counter: int) -> bool:
        """Whether the arrival of this datagram would change a count here."""
        return self.base < counter and (counter <= self.highest or not self.is_over)

    def miss(self, until: int) -> None:
        """Nothing arrived behind `highest`, up to counter `until`, but what was seen before."""
        if until - self.highest > COUNTER_JUMP_MAX:
            self.base = until  # no group outruns a replica by so much: a hostile or restarted counter
            return
        self.missing.add(self.highest + 1, until)
        self.seen.discard(1, self.highest)
        for first, last in self.seen:
            self.missing.discard(first, last)
        self.seen.discard(1, until)
        self.drop_beyond_bound()

    def see_beyond(self, counter: int) -> None:
        """Heartbeats say that no higher one was sent: what is missing there was not lost, what arrived may be true."""
        self.seen.add(counter + 1, self.highest)
        for first, last in self.missing:
            self.seen.discard(first, last)
        self.missing.discard(counter + 1, self.highest)
        self.drop_beyond_bound()

    def end(self) -> None:
        """No original comes any more: what only a late one would need is forgotten."""
        self.folded, self.final = self.lost_count, SEQ_MAX
        for ranges in (self.missing, self.repairs, self.transfers, self.seen):
            ranges.clear()

    def drop_beyond_bound(self) -> None:
        """Forget the oldest ranges beyond the bound: from there on what was lost stays so, and what healed it too."""
        while len(self.missing) > self.ranges_max:
            first, last = self.missing.pop()
            self.folded += last - first + 1
        for healed in (self.repairs, self.transfers):
            while len(healed) > self.ranges_max:
                self.final = max(self.final, healed.pop()[1])
        while len(self.seen) > self.ranges_max:
            self.seen.pop()
