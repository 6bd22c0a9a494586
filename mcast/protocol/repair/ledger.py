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
from dataclasses import dataclass

from mcast.limits import LEDGER_CLOSED_MAX, LEDGER_RANGES_MAX
from mcast.protocol.belief import CONTRADICTIONS
from mcast.protocol.repair.gaps import Loss
from mcast.protocol.repair.injected import EPOCHS_MAX, Injected
from mcast.protocol.repair.losses import EpochLosses, Fate
from mcast.wire.frame import Frame


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


class Ledger:
    """Bounded: the newest closed gaps and epochs, at most `ranges_max` ranges of each kind, and totals."""

    def __init__(self, ranges_max: int = LEDGER_RANGES_MAX) -> None:
        self._losses: dict[int, EpochLosses] = {}
        """Epoch -> its stream as it arrived here, in the order in which they were heard of."""
        self._past: Counter[str] = Counter()
        """The counts of older epochs, in datagrams, added up under the names that they have in a report."""
        self._closed: deque[ClosedGapEntry] = deque(maxlen=LEDGER_CLOSED_MAX)
        self._injected = Injected(ranges_max)
        self._ranges_max = ranges_max
        """Ranges of each kind that are kept of an epoch."""

    def on_data(self, frame: Frame, incarnation: bytes, counter: int, log_end: int = 0) -> Fate:
        """A DATA datagram arrived; the log ends at event `log_end`."""
        losses = self._losses.get(frame.epoch)
        if losses is None:
            if frame.first <= log_end and not self._knows(incarnation):
                return Fate.NEW
            losses = self._begin(frame.epoch, incarnation, counter - 1, frame.first - 1)
        if counter > losses.highest:
            if counter > losses.highest + 1:
                losses.miss(counter - 1)
            losses.highest = counter
            if frame.first > losses.final:
                return Fate.NEW
            losses.folded += 1  # the repair that brought it first can't be taken back any more, so it healed a loss
            return Fate.DUPLICATE
        if frame.first > losses.final and counter in losses.missing:
            losses.missing.discard(counter, counter)
            losses.drop_beyond_bound()
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
            losses.drop_beyond_bound()

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
            losses.miss(stream_sent)
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
            losses.highest, losses.base = min(losses.highest, stream_sent), min(losses.base, stream_sent)
            losses.counted_from = min(losses.counted_from, high)

    def on_repair(self, frame: Frame) -> None:
        """A REPAIR datagram brought a frame that was missing."""
        losses = self._tally_healed_by(frame)
        if losses is not None:
            losses.repaired += 1
            losses.repairs.add(frame.first, frame.last)
            losses.drop_beyond_bound()

    def on_transfer(self, frame: Frame) -> None:
        """A frame that was missing came over TCP."""
        losses = self._tally_healed_by(frame)
        if losses is not None:
            losses.transferred += 1
            losses.transfers.add(frame.first, frame.last)
            losses.drop_beyond_bound()

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
        losses.drop_beyond_bound()

    def on_original_after_all(self, frame: Frame) -> None:
        """The original of a missing frame came, though its counter had passed: nothing of it is lost, or to be healed.

        What came before under this counter was not kept, or the hole was forgotten; or it was another datagram.
        """
        losses = self._tally_of(frame)
        if losses is None:
            return
        if frame.first in losses.unkept:
            losses.unkept.discard(frame.first, frame.last)
        elif losses.folded:
            losses.folded -= 1

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
            losses.drop_beyond_bound()
        else:
            self.note_unkept(frame)

    def on_new_epoch(self, epoch: int) -> None:
        """No original of an older epoch is heard any more."""
        for past, losses in self._losses.items():
            if past < epoch and not losses.is_over:
                losses.end()
                self._injected.end(losses.injected, losses.highest)

    def on_epoch_entered(self, epoch: int) -> None:
        """The log has passed into this epoch: what older ones lost and nobody brought was superseded."""
        for past, losses in self._losses.items():
            if past < epoch:
                unsettled = losses.lost_count - losses.repaired - losses.transferred
                losses.superseded = max(unsettled, 0)
                if unsettled < 0:  # its sequencer died before telling how far its counter had gone
                    losses.folded -= unsettled
                    self._injected.on_frames_found(losses.injected, -unsettled)

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
            self._injected.note(heeding.injected, fate, counter, heeding.highest)
        elif all(losses.is_over for losses in each):
            self._injected.note_early(incarnation, fate, counter)

    def report(self, open_ranges: tuple[tuple[int, int], ...]) -> LedgerReport:
        """Everything, summed over epochs."""
        each = self._losses.values()
        past, injected = self._past, self._injected.counts
        return LedgerReport(
            open=open_ranges,
            closed=tuple(self._closed),
            lost=past["lost"] + sum(losses.lost_count for losses in each),
            repaired=past["repaired"] + sum(losses.repaired for losses in each),
            superseded=past["superseded"] + sum(losses.superseded for losses in each),
            transferred=past["transferred"] + sum(losses.transferred for losses in each),
            duplicates=past["duplicates"] + sum(losses.duplicates for losses in each),
            injected_lost=injected["lost"],
            injected_duplicated=injected["duplicated"],
            injected_reordered=injected["reordered"],
            injected_corrupted=injected["corrupted"],
        )

    def _knows(self, incarnation: bytes) -> bool:
        return any(losses.incarnation == incarnation for losses in self._losses.values())

    def _begin(self, epoch: int, incarnation: bytes, base: int, counted_from: int) -> EpochLosses:
        self.on_new_epoch(epoch)
        losses = self._losses[epoch] = EpochLosses(incarnation, base, counted_from, base, self._ranges_max)
        self._injected.begin(incarnation, losses.injected, base)
        while len(self._losses) > EPOCHS_MAX:
            oldest = self._losses.pop(next(iter(self._losses)))
            self._past.update(
                lost=oldest.lost_count, repaired=oldest.repaired, superseded=oldest.superseded,
                transferred=oldest.transferred, duplicates=oldest.duplicates,
            )  # fmt: skip
        return losses

    def _tally_of(self, frame: Frame) -> EpochLosses | None:
        """The epoch in whose tally a frame counts; None when it belongs to joining."""
        losses = self._losses.get(frame.epoch)
        return losses if losses is not None and frame.first > losses.counted_from else None

    def _tally_healed_by(self, frame: Frame) -> EpochLosses | None:
        """The epoch in whose tally a frame that comes again heals a loss; None when it heals none."""
        losses = self._tally_of(frame)
        if losses is None or frame.first not in losses.unkept:
            return losses
        losses.unkept.discard(frame.first, frame.last)
        if len(losses.unkept) > self._ranges_max:  # no room for a piece more; as it is there now, it may stay as it was
            losses.unkept.add(frame.first, frame.last)
        return None
