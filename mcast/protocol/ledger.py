"""The ledger: every lost datagram, and what became of it.

Two independent tallies, so that their agreement proves something. The sequencer counts its DATA datagrams, and
nothing else, on the stream channel; a hole in that counter is a datagram that did not arrive when first sent
(`lost`). The log counts frames: filled by a REPAIR (`repaired`), over TCP (`transferred`), or numbered by a reign
whose tail nobody kept (`superseded`, settled once the log has passed into the next reign). In the end lost = repaired
+ transferred + superseded.

An original that only came late closes its hole and takes back the repair that overtook it. What was sent before this
replica first heard of a reign is neither lost nor repaired: it is part of joining. So the first words of a sender are
passed over while they are older than the log's end, as after a restart: what came behind them is in the log already.
Nor is anything lost of what a sequencer goes on to send when its reign is over here, as one does that was stopped and
has yet to hear of its successor: nobody listens, and so a fault injected into it counts for nothing. The same holds for
what one that died had sent last, behind all that was heard of its counter, unless its frames turn up after all.

All that is remembered for this comes in runs, and is kept as ranges: a replica that slept remembers one for what it
slept through. Where even ranges are too many, what is forgotten changes its name but never the sum: the oldest holes
stay losses for good, and a datagram for which there was no room counts as lost.
"""

from __future__ import annotations

from collections import Counter, deque
from dataclasses import dataclass, field
from enum import Enum
from typing import Final

from mcast.limits import COUNTER_JUMP_MAX, LEDGER_CLOSED_MAX, LEDGER_RANGES_MAX, SEQ_MAX
from mcast.protocol.belief import CONTRADICTIONS
from mcast.protocol.gaps import Loss
from mcast.protocol.ranges import Ranges
from mcast.wire.frame import Frame

_EARLY_MAX: Final = 4_096  # injected faults remembered of a sender whose reign is not yet heard
_AHEAD_MAX: Final = 64  # runs of injected losses beyond the counter, before those that it has passed are forgotten
_HARM: Final = ("lost", "corrupted")  # the injected faults that are losses
_REIGNS_MAX: Final = 64  # reigns whose tallies are kept apart; older ones are added up


class Fate(Enum):
    """How a first-sent DATA datagram stands to those that arrived before it."""

    NEW = "new"
    LATE = "late"
    DUPLICATE = "duplicate"


@dataclass(frozen=True, slots=True)
class ClosedGap:
    """A gap that is no more. `repaired_by` is a node's hash, None when the originals came late after all."""

    first: int
    last: int
    opened_at: float
    naks: int
    repaired_by: int | None
    latency_s: float


@dataclass(frozen=True, slots=True)
class LedgerReport:
    """The whole ledger at a moment. `open` and `closed` are event ranges, the rest counts datagrams."""

    open: tuple[tuple[int, int], ...]
    closed: tuple[ClosedGap, ...]
    lost: int
    repaired: int
    superseded: int
    transferred: int
    duplicates: int
    injected_lost: int
    injected_duplicated: int
    injected_reordered: int
    injected_corrupted: int


@dataclass(slots=True)
class _Reign:
    """One reign's stream as it arrived here."""

    incarnation: bytes
    base: int
    """Counters up to this one were sent before we listened."""
    counted_from: int
    """Events up to this one belong to joining."""
    highest: int
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
    strangers: int = 0
    """Heartbeats in a row of another process."""
    duplicates: int = 0
    repaired: int = 0
    transferred: int = 0
    superseded: int = 0
    ahead: dict[str, Ranges] = field(default_factory=lambda: {fate: Ranges() for fate in _HARM})
    """Injected losses by fate: all of those beyond `highest`, and some that it has passed since."""
    untold: Counter[str] = field(default_factory=Counter)
    """Once it has ended, injected losses by fate that nothing was heard of: not counted, as long as that is so."""

    @property
    def lost(self) -> int:
        return self.missing.count + self.folded

    @property
    def ended(self) -> bool:
        return self.final == SEQ_MAX

    def heeds(self, counter: int) -> bool:
        """Whether it makes a difference here if this datagram arrives."""
        return self.base < counter and (counter <= self.highest or not self.ended)

    def end(self) -> None:
        """No original comes any more: what only a late one would need is forgotten."""
        self.folded, self.final = self.lost, SEQ_MAX
        for ranges in (self.missing, self.repairs, self.transfers):
            ranges.clear()
        for fate, ahead in self.ahead.items():
            ahead.discard(1, self.highest)
            self.untold[fate] = ahead.count
            ahead.clear()

    def told(self, frames: int) -> Counter[str]:
        """So many frames turned up of which nothing had been heard: what of `untold` that accounts for."""
        told: Counter[str] = Counter()
        for fate in _HARM:
            told[fate] = min(frames - told.total(), self.untold[fate])
        self.untold -= told
        return told


class Ledger:
    """Bounded: the newest closed gaps and reigns, at most `ranges_max` ranges of each kind, and totals."""

    def __init__(self, ranges_max: int = LEDGER_RANGES_MAX) -> None:
        self._reigns: dict[int, _Reign] = {}
        self._past: Counter[str] = Counter()
        self._closed: deque[ClosedGap] = deque(maxlen=LEDGER_CLOSED_MAX)
        self._early: dict[bytes, list[tuple[str, int]]] = {}
        self._injected: Counter[str] = Counter()
        self._ranges_max = ranges_max

    def data(self, frame: Frame, incarnation: bytes, counter: int, log_end: int = 0) -> Fate:
        """A DATA datagram arrived; the log ends at event `log_end`."""
        reign = self._reigns.get(frame.epoch)
        if reign is None:
            if frame.first <= log_end and not self._heard(incarnation):
                return Fate.NEW
            reign = self._begin(frame.epoch, incarnation, counter - 1, frame.first - 1)
        if counter > reign.highest:
            if counter > reign.highest + 1:
                self._miss(reign, counter - 1)
            reign.highest = counter
            if frame.first > reign.final:
                return Fate.NEW
            reign.folded += 1  # what brought it first can't be taken back any more, so it healed a loss
            return Fate.DUPLICATE
        if frame.first > reign.final and counter in reign.missing:
            reign.missing.discard(counter, counter)
            self._bound(reign)
            return Fate.LATE
        if counter > reign.base:
            reign.duplicates += 1
            return Fate.DUPLICATE
        return Fate.NEW

    def expected(self, epoch: int, counter: int, datagrams: int) -> int:
        """How many of the next `datagrams`, from `counter` on, `data` would judge alike: all new, or all late."""
        reign = self._reigns.get(epoch)
        if reign is None:
            return 0
        if counter == reign.highest + 1:
            return datagrams
        return min(reign.missing.run(counter), datagrams)

    def streamed(self, epoch: int, counter: int, datagrams: int) -> None:
        """So many datagrams arrived that were `expected`."""
        reign = self._reigns[epoch]
        if counter > reign.highest:
            reign.highest += datagrams
        else:
            reign.missing.discard(counter, counter + datagrams - 1)
            self._bound(reign)

    def announced(  # noqa: PLR0913 - what a heartbeat says, and what it is held against
        self, epoch: int, incarnation: bytes, stream_base: int, stream_sent: int, high: int, log_end: int = 0
    ) -> None:
        """A heartbeat said how many DATA datagrams were sent, and the last event in them; see `data` for `log_end`."""
        reign = self._reigns.get(epoch)
        if reign is not None and reign.incarnation != incarnation:
            reign.strangers += 1
            if reign.announced and reign.strangers < CONTRADICTIONS:
                return
            del self._reigns[epoch]  # another process than its sequencer's began it: nothing of that was lost here
            reign = None
        if reign is not None and reign.base < stream_base:
            reign.base = stream_base
            reign.missing.discard(1, stream_base)
        if reign is None:
            known = self._heard(incarnation)
            if high < log_end and not known:
                return
            base = stream_base if known else stream_sent
            reign = self._begin(epoch, incarnation, base, 0 if known else high)
        reign.announced, reign.strangers = True, 0
        if stream_sent > reign.highest:
            self._miss(reign, stream_sent)
            reign.highest = stream_sent

    def highest(self, epoch: int) -> int:
        """The highest counter heard of in a reign; 0 where nothing was."""
        reign = self._reigns.get(epoch)
        return 0 if reign is None else reign.highest

    def lower(self, epoch: int, stream_sent: int, high: int) -> None:
        """Whoever said that more datagrams than these were sent, or spoke of events beyond `high`, did not know."""
        reign = self._reigns.get(epoch)
        if reign is not None:
            reign.missing.discard(stream_sent + 1, max(reign.highest, stream_sent + 1))
            reign.highest, reign.base = min(reign.highest, stream_sent), min(reign.base, stream_sent)
            reign.counted_from = min(reign.counted_from, high)

    def repaired(self, frame: Frame) -> None:
        """A REPAIR datagram brought a frame that was missing."""
        reign = self._healing(frame)
        if reign is not None:
            reign.repaired += 1
            reign.repairs.add(frame.first, frame.last)
            self._bound(reign)

    def transferred(self, frame: Frame) -> None:
        """A frame that was missing came over TCP."""
        reign = self._healing(frame)
        if reign is not None:
            reign.transferred += 1
            reign.transfers.add(frame.first, frame.last)
            self._bound(reign)

    def overtaken(self, frame: Frame) -> None:
        """The original of a frame came after its repair or transfer, if it had one: that one healed no loss."""
        reign = self._counting(frame)
        if reign is None:
            return
        if frame.first in reign.repairs:
            reign.repairs.discard(frame.first, frame.last)
            reign.repaired -= 1
        elif frame.first in reign.transfers:
            reign.transfers.discard(frame.first, frame.last)
            reign.transferred -= 1
        self._bound(reign)

    def unkept(self, frame: Frame) -> None:
        """A DATA datagram arrived but could not be kept: its later repair will heal no loss."""
        reign = self._counting(frame)
        if reign is None:
            return
        if len(reign.unkept) < self._ranges_max or reign.unkept.touches(frame.first, frame.last):
            reign.unkept.add(frame.first, frame.last)
        else:
            reign.folded += 1  # no room to remember it, so its repair will heal a loss

    def disproved(self, frame: Frame) -> None:
        """A frame that was held proved to be none of this log's: if a repair brought it, that one healed no loss."""
        reign = self._counting(frame)
        if reign is not None and frame.first in reign.repairs:
            reign.repairs.discard(frame.first, frame.last)
            reign.repaired -= 1
            self._bound(reign)
        else:
            self.unkept(frame)

    def promised(self, epoch: int) -> None:
        """No original of an older reign is heard any more."""
        for past, reign in self._reigns.items():
            if past < epoch and not reign.ended:
                reign.end()
                self._injected -= reign.untold

    def entered(self, epoch: int) -> None:
        """The log has passed into this reign: what older ones lost and nobody brought was superseded."""
        for past, reign in self._reigns.items():
            if past < epoch:
                unsettled = reign.lost - reign.repaired - reign.transferred
                reign.superseded = max(unsettled, 0)
                if unsettled < 0:  # its sequencer died before telling how far its counter had gone
                    reign.folded -= unsettled
                    self._injected += reign.told(-unsettled)

    def closed(self, loss: Loss, now: float) -> None:
        """A gap's last event arrived. One that nobody was asked for was only reordering, and is not kept."""
        if loss.naks or loss.repaired_by:
            self._closed.append(
                ClosedGap(loss.first, loss.last, loss.opened, loss.naks, loss.repaired_by or None, now - loss.opened)
            )

    def injected(self, fate: str, incarnation: bytes, counter: int) -> None:
        """The faulty transport did something to a first-sent DATA datagram."""
        reigns = [reign for reign in self._reigns.values() if reign.incarnation == incarnation]
        heeding = next((reign for reign in reversed(reigns) if reign.heeds(counter)), None)
        if heeding is not None:
            self._inject(heeding, fate, counter)
        elif all(reign.ended for reign in reigns):
            early = self._early.setdefault(incarnation, [])
            if len(early) < _EARLY_MAX:
                early.append((fate, counter))
            if len(self._early) > _REIGNS_MAX:
                self._early.pop(next(iter(self._early)))

    def report(self, open_ranges: tuple[tuple[int, int], ...]) -> LedgerReport:
        """Everything, summed over reigns."""
        reigns = self._reigns.values()
        past = self._past
        return LedgerReport(
            open=open_ranges,
            closed=tuple(self._closed),
            lost=past["lost"] + sum(reign.lost for reign in reigns),
            repaired=past["repaired"] + sum(reign.repaired for reign in reigns),
            superseded=past["superseded"] + sum(reign.superseded for reign in reigns),
            transferred=past["transferred"] + sum(reign.transferred for reign in reigns),
            duplicates=past["duplicates"] + sum(reign.duplicates for reign in reigns),
            injected_lost=self._injected["lost"],
            injected_duplicated=self._injected["duplicated"],
            injected_reordered=self._injected["reordered"],
            injected_corrupted=self._injected["corrupted"],
        )

    def _heard(self, incarnation: bytes) -> bool:
        return any(reign.incarnation == incarnation for reign in self._reigns.values())

    def _begin(self, epoch: int, incarnation: bytes, base: int, counted_from: int) -> _Reign:
        self.promised(epoch)
        reign = self._reigns[epoch] = _Reign(incarnation, base, counted_from, base)
        for fate, counter in self._early.pop(incarnation, ()):
            if counter > base:
                self._inject(reign, fate, counter)
        while len(self._reigns) > _REIGNS_MAX:
            oldest = self._reigns.pop(next(iter(self._reigns)))
            self._past.update(
                lost=oldest.lost, repaired=oldest.repaired, superseded=oldest.superseded,
                transferred=oldest.transferred, duplicates=oldest.duplicates,
            )  # fmt: skip
        return reign

    def _inject(self, reign: _Reign, fate: str, counter: int) -> None:
        self._injected[fate] += 1
        if counter > reign.highest and fate in reign.ahead:
            ahead = reign.ahead[fate]
            ahead.add(counter, counter)
            if len(ahead) > _AHEAD_MAX:
                ahead.discard(1, reign.highest)
            if len(ahead) > self._ranges_max:
                ahead.pop()

    def _miss(self, reign: _Reign, until: int) -> None:
        if until - reign.highest > COUNTER_JUMP_MAX:
            reign.base = until  # no group outruns a replica by so much: a hostile or restarted counter
            return
        reign.missing.add(reign.highest + 1, until)
        self._bound(reign)

    def _bound(self, reign: _Reign) -> None:
        """Forget the oldest ranges beyond the bound: from there on what was lost stays so, and what healed it too."""
        while len(reign.missing) > self._ranges_max:
            first, last = reign.missing.pop()
            reign.folded += last - first + 1
        for healed in (reign.repairs, reign.transfers):
            while len(healed) > self._ranges_max:
                reign.final = max(reign.final, healed.pop()[1])

    def _counting(self, frame: Frame) -> _Reign | None:
        """The reign in whose tally a frame counts; None when it belongs to joining."""
        reign = self._reigns.get(frame.epoch)
        return reign if reign is not None and frame.first > reign.counted_from else None

    def _healing(self, frame: Frame) -> _Reign | None:
        """The reign in whose tally a frame that comes again heals a loss; None when it heals none."""
        reign = self._counting(frame)
        if reign is None or frame.first not in reign.unkept:
            return reign
        reign.unkept.discard(frame.first, frame.last)
        if len(reign.unkept) > self._ranges_max:  # no room for a piece more; as it is there now, it may stay as it was
            reign.unkept.add(frame.first, frame.last)
        return None
