"""The ledger: every lost datagram, and what became of it.

Two independent tallies, so that their agreement proves something. The sequencer counts its DATA datagrams, and
nothing else, on the stream channel; a hole in that counter is a datagram that did not arrive when first sent
(`lost`). The log counts frames: filled by a REPAIR (`repaired`), over TCP (`transferred`), or numbered by an epoch
whose tail nobody kept (`superseded`, settled once the log has passed into the next epoch). In the end lost = repaired
+ transferred + superseded.

An original that only came late closes its hole and takes back the repair that overtook it. What was sent before this
replica first heard of an epoch is neither lost nor repaired: it is part of joining. So the first words of a sender are
passed over while they are older than the log's end, as after a restart: what came behind them is in the log already.
Nor is anything lost of what a sequencer goes on to send when its epoch is over here, as one does that was stopped and
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
from mcast.protocol.repair.gaps import Loss
from mcast.protocol.repair.ranges import Ranges
from mcast.wire.frame import Frame

_EARLY_MAX: Final = 4_096  # injected faults remembered of a sender whose epoch is not yet heard
_AHEAD_MAX: Final = 64  # runs of injected losses beyond the counter, before those that it has passed are forgotten
_HARM: Final = ("lost", "corrupted")  # the injected faults that are losses
_EPOCHS_MAX: Final = 64  # epochs whose tallies are kept apart; older ones are added up


class Fate(Enum):
    """What a first-sent DATA datagram is, compared with those that arrived before it."""

    NEW = "new"
    LATE = "late"
    DUPLICATE = "duplicate"


@dataclass(frozen=True, slots=True)
class ClosedGapEntry:
    """A gap that is filled. `repaired_by` is a node's hash, None when the originals only came late."""

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
    closed: tuple[ClosedGapEntry, ...]
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
class _EpochLosses:
    """One epoch's stream as it arrived here."""

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
    seen: Ranges = field(default_factory=Ranges)
    """Counters that had arrived when heartbeats said that none so high were sent: such words may come late."""
    strangers: int = 0
    """Heartbeats in a row of another process."""
    duplicates: int = 0
    repaired: int = 0
    transferred: int = 0
    superseded: int = 0
    ahead: dict[str, Ranges] = field(default_factory=lambda: {fate: Ranges() for fate in _HARM})
    """Injected losses by fate: all of those beyond `highest`, and some that it has passed since."""
    unheard: Counter[str] = field(default_factory=Counter)
    """Once it has ended, injected losses by fate that nothing was heard of: not counted, as long as that is so."""

    @property
    def lost_count(self) -> int:
        return self.missing.count + self.folded

    @property
    def is_over(self) -> bool:
        return self.final == SEQ_MAX

    def heeds(self, counter: int) -> bool:
        """Whether the arrival of this datagram would change a count here."""
        return self.base < counter and (counter <= self.highest or not self.is_over)

    def miss(self, until: int) -> None:
        """Nothing arrived behind `highest`, up to counter `until`, but what was seen before."""
        self.missing.add(self.highest + 1, until)
        self.seen.discard(1, self.highest)
        for first, last in self.seen:
            self.missing.discard(first, last)
        self.seen.discard(1, until)

    def see_beyond(self, counter: int) -> None:
        """Heartbeats say that no higher one was sent: what is missing there was not lost, what arrived may be true."""
        self.seen.add(counter + 1, self.highest)
        for first, last in self.missing:
            self.seen.discard(first, last)
        self.missing.discard(counter + 1, self.highest)

    def end(self) -> None:
        """No original comes any more: what only a late one would need is forgotten."""
        self.folded, self.final = self.lost_count, SEQ_MAX
        for ranges in (self.missing, self.repairs, self.transfers, self.seen):
            ranges.clear()
        for fate, ahead in self.ahead.items():
            ahead.discard(1, self.highest)
            self.unheard[fate] = ahead.count
            ahead.clear()

    def take_unheard(self, frames: int) -> Counter[str]:
        """So many frames turned up of which nothing had been heard: what of `unheard` that accounts for."""
        taken: Counter[str] = Counter()
        for fate in _HARM:
            taken[fate] = min(frames - taken.total(), self.unheard[fate])
        self.unheard -= taken
        return taken


class Ledger:
    """Bounded: the newest closed gaps and epochs, at most `ranges_max` ranges of each kind, and totals."""

    def __init__(self, ranges_max: int = LEDGER_RANGES_MAX) -> None:
        self._losses: dict[int, _EpochLosses] = {}
        self._past: Counter[str] = Counter()
        self._closed: deque[ClosedGapEntry] = deque(maxlen=LEDGER_CLOSED_MAX)
        self._early: dict[bytes, list[tuple[str, int]]] = {}
        self._injected: Counter[str] = Counter()
        self._ranges_max = ranges_max

    def on_data(self, frame: Frame, incarnation: bytes, counter: int, log_end: int = 0) -> Fate:
        """A DATA datagram arrived; the log ends at event `log_end`."""
        losses = self._losses.get(frame.epoch)
        if losses is None:
            if frame.first <= log_end and not self._knows(incarnation):
                return Fate.NEW
            losses = self._begin(frame.epoch, incarnation, counter - 1, frame.first - 1)
        if counter > losses.highest:
            if counter > losses.highest + 1:
                self._note_missing(losses, counter - 1)
            losses.highest = counter
            if frame.first > losses.final:
                return Fate.NEW
            losses.folded += 1  # the repair that brought it first can't be taken back any more, so it healed a loss
            return Fate.DUPLICATE
        if frame.first > losses.final and counter in losses.missing:
            losses.missing.discard(counter, counter)
            self._drop_beyond_bound(losses)
            return Fate.LATE
        if counter > losses.base:
            losses.duplicates += 1
            return Fate.DUPLICATE
        return Fate.NEW

    def alike_count(self, epoch: int, counter: int, datagrams: int) -> int:
        """How many of the next `datagrams`, from `counter` on, `on_data` would judge alike: all new, or all late."""
        losses = self._losses.get(epoch)
        if losses is None:
            return 0
        if counter == losses.highest + 1:
            return datagrams
        return min(losses.missing.run_length(counter), datagrams)

    def on_stream(self, epoch: int, counter: int, datagrams: int) -> None:
        """So many datagrams arrived, no more than `alike_count` said."""
        losses = self._losses[epoch]
        if counter > losses.highest:
            losses.highest += datagrams
        else:
            losses.missing.discard(counter, counter + datagrams - 1)
            self._drop_beyond_bound(losses)

    def on_heartbeat(  # noqa: PLR0913 - what a heartbeat says, and what it is held against
        self, epoch: int, incarnation: bytes, stream_base: int, stream_sent: int, high: int, log_end: int = 0
    ) -> None:
        """A heartbeat says how many DATA datagrams were sent, and their last event; see `on_data` for `log_end`."""
        losses = self._losses.get(epoch)
        if losses is not None and losses.incarnation != incarnation:
            losses.strangers += 1
            if losses.announced and losses.strangers < CONTRADICTIONS:
                return
            del self._losses[epoch]  # another process than its sequencer's began it: nothing of that was lost here
            losses = None
        if losses is not None and losses.base < stream_base:
            losses.base = stream_base
            losses.missing.discard(1, stream_base)
        if losses is None:
            known = self._knows(incarnation)
            if high < log_end and not known:
                return
            base = stream_base if known else stream_sent
            losses = self._begin(epoch, incarnation, base, 0 if known else high)
        losses.announced, losses.strangers = True, 0
        if stream_sent > losses.highest:
            self._note_missing(losses, stream_sent)
            losses.highest = stream_sent

    def highest(self, epoch: int) -> int:
        """The highest counter heard of in an epoch; 0 where nothing was."""
        losses = self._losses.get(epoch)
        return 0 if losses is None else losses.highest

    def lower(self, epoch: int, stream_sent: int, high: int) -> None:
        """Take back reports that more datagrams than these were sent, or that there are events beyond `high`."""
        losses = self._losses.get(epoch)
        if losses is not None:
            if losses.highest > stream_sent:
                losses.see_beyond(stream_sent)
                self._drop_beyond_bound(losses)
            losses.highest, losses.base = min(losses.highest, stream_sent), min(losses.base, stream_sent)
            losses.counted_from = min(losses.counted_from, high)

    def on_repair(self, frame: Frame) -> None:
        """A REPAIR datagram brought a frame that was missing."""
        losses = self._tally_healed_by(frame)
        if losses is not None:
            losses.repaired += 1
            losses.repairs.add(frame.first, frame.last)
            self._drop_beyond_bound(losses)

    def on_transfer(self, frame: Frame) -> None:
        """A frame that was missing came over TCP."""
        losses = self._tally_healed_by(frame)
        if losses is not None:
            losses.transferred += 1
            losses.transfers.add(frame.first, frame.last)
            self._drop_beyond_bound(losses)

    def on_late_original(self, frame: Frame) -> None:
        """The original of a frame came after its repair or transfer, if it had one: that one healed no loss."""
        losses = self._tally_of(frame)
        if losses is None:
            return
        if frame.first in losses.repairs:
            losses.repairs.discard(frame.first, frame.last)
            losses.repaired -= 1
        elif frame.first in losses.transfers:
            losses.transfers.discard(frame.first, frame.last)
            losses.transferred -= 1
        self._drop_beyond_bound(losses)

    def note_unkept(self, frame: Frame) -> None:
        """A DATA datagram arrived but could not be kept: its later repair will heal no loss."""
        losses = self._tally_of(frame)
        if losses is None:
            return
        if len(losses.unkept) < self._ranges_max or losses.unkept.touches(frame.first, frame.last):
            losses.unkept.add(frame.first, frame.last)
        else:
            losses.folded += 1  # no room to remember it, so its repair will heal a loss

    def note_disproved(self, frame: Frame) -> None:
        """A frame that was held proved to be none of this log's: if a repair brought it, that one healed no loss."""
        losses = self._tally_of(frame)
        if losses is not None and frame.first in losses.repairs:
            losses.repairs.discard(frame.first, frame.last)
            losses.repaired -= 1
            self._drop_beyond_bound(losses)
        else:
            self.note_unkept(frame)

    def on_new_epoch(self, epoch: int) -> None:
        """No original of an older epoch is heard any more."""
        for past, losses in self._losses.items():
            if past < epoch and not losses.is_over:
                losses.end()
                self._injected -= losses.unheard

    def on_epoch_entered(self, epoch: int) -> None:
        """The log has passed into this epoch: what older ones lost and nobody brought was superseded."""
        for past, losses in self._losses.items():
            if past < epoch:
                unsettled = losses.lost_count - losses.repaired - losses.transferred
                losses.superseded = max(unsettled, 0)
                if unsettled < 0:  # its sequencer died before telling how far its counter had gone
                    losses.folded -= unsettled
                    self._injected += losses.take_unheard(-unsettled)

    def on_gap_closed(self, loss: Loss, now: float) -> None:
        """A gap's last event arrived. One that nobody was asked for was only reordering, and is not kept."""
        if loss.naks or loss.repaired_by:
            self._closed.append(
                ClosedGapEntry(
                    loss.first, loss.last, loss.opened, loss.naks, loss.repaired_by or None, now - loss.opened
                )
            )

    def note_injected(self, fate: str, incarnation: bytes, counter: int) -> None:
        """The faulty transport did something to a first-sent DATA datagram."""
        each = [losses for losses in self._losses.values() if losses.incarnation == incarnation]
        heeding = next((losses for losses in reversed(each) if losses.heeds(counter)), None)
        if heeding is not None:
            self._inject(heeding, fate, counter)
        elif all(losses.is_over for losses in each):
            early = self._early.setdefault(incarnation, [])
            if len(early) < _EARLY_MAX:
                early.append((fate, counter))
            if len(self._early) > _EPOCHS_MAX:
                self._early.pop(next(iter(self._early)))

    def report(self, open_ranges: tuple[tuple[int, int], ...]) -> LedgerReport:
        """Everything, summed over epochs."""
        each = self._losses.values()
        past = self._past
        return LedgerReport(
            open=open_ranges,
            closed=tuple(self._closed),
            lost=past["lost"] + sum(losses.lost_count for losses in each),
            repaired=past["repaired"] + sum(losses.repaired for losses in each),
            superseded=past["superseded"] + sum(losses.superseded for losses in each),
            transferred=past["transferred"] + sum(losses.transferred for losses in each),
            duplicates=past["duplicates"] + sum(losses.duplicates for losses in each),
            injected_lost=self._injected["lost"],
            injected_duplicated=self._injected["duplicated"],
            injected_reordered=self._injected["reordered"],
            injected_corrupted=self._injected["corrupted"],
        )

    def _knows(self, incarnation: bytes) -> bool:
        return any(losses.incarnation == incarnation for losses in self._losses.values())

    def _begin(self, epoch: int, incarnation: bytes, base: int, counted_from: int) -> _EpochLosses:
        self.on_new_epoch(epoch)
        losses = self._losses[epoch] = _EpochLosses(incarnation, base, counted_from, base)
        for fate, counter in self._early.pop(incarnation, ()):
            if counter > base:
                self._inject(losses, fate, counter)
        while len(self._losses) > _EPOCHS_MAX:
            oldest = self._losses.pop(next(iter(self._losses)))
            self._past.update(
                lost=oldest.lost_count, repaired=oldest.repaired, superseded=oldest.superseded,
                transferred=oldest.transferred, duplicates=oldest.duplicates,
            )  # fmt: skip
        return losses

    def _inject(self, losses: _EpochLosses, fate: str, counter: int) -> None:
        self._injected[fate] += 1
        if counter > losses.highest and fate in losses.ahead:
            ahead = losses.ahead[fate]
            ahead.add(counter, counter)
            if len(ahead) > _AHEAD_MAX:
                ahead.discard(1, losses.highest)
            if len(ahead) > self._ranges_max:
                ahead.pop()

    def _note_missing(self, losses: _EpochLosses, until: int) -> None:
        if until - losses.highest > COUNTER_JUMP_MAX:
            losses.base = until  # no group outruns a replica by so much: a hostile or restarted counter
            return
        losses.miss(until)
        self._drop_beyond_bound(losses)

    def _drop_beyond_bound(self, losses: _EpochLosses) -> None:
        """Forget the oldest ranges beyond the bound: from there on what was lost stays so, and what healed it too."""
        while len(losses.missing) > self._ranges_max:
            first, last = losses.missing.pop()
            losses.folded += last - first + 1
        for healed in (losses.repairs, losses.transfers):
            while len(healed) > self._ranges_max:
                losses.final = max(losses.final, healed.pop()[1])
        while len(losses.seen) > self._ranges_max:
            losses.seen.pop()

    def _tally_of(self, frame: Frame) -> _EpochLosses | None:
        """The epoch in whose tally a frame counts; None when it belongs to joining."""
        losses = self._losses.get(frame.epoch)
        return losses if losses is not None and frame.first > losses.counted_from else None

    def _tally_healed_by(self, frame: Frame) -> _EpochLosses | None:
        """The epoch in whose tally a frame that comes again heals a loss; None when it heals none."""
        losses = self._tally_of(frame)
        if losses is None or frame.first not in losses.unkept:
            return losses
        losses.unkept.discard(frame.first, frame.last)
        if len(losses.unkept) > self._ranges_max:  # no room for a piece more; as it is there now, it may stay as it was
            losses.unkept.add(frame.first, frame.last)
        return None
