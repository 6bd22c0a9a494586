"""The tally of what the faulty transport did on purpose: a fault counts where what it hit would have been heard.

It happens before anything arrives, so it may be told before its sender's epoch is heard of: then it waits.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import Final

from mcast.protocol.repair.ranges import Ranges

EPOCHS_MAX: Final = 64  # epochs, or senders, of which something is kept apart
_EARLY_MAX: Final = 4_096  # injected faults remembered of a sender whose epoch is not yet heard
_AHEAD_MAX: Final = 64  # runs of injected losses beyond the counter, before those that it has passed are forgotten
_HARM: Final = ("lost", "corrupted")  # the injected faults that are losses


@dataclass(slots=True)
class EpochInjected:
    """The injected losses of one epoch's datagrams of which nothing was heard yet, in datagrams, by fate."""

    ahead: dict[str, Ranges] = field(default_factory=lambda: {fate: Ranges() for fate in _HARM})
    """Counters of all those beyond the highest one heard of, and of some that it has passed since."""
    unheard: Counter[str] = field(default_factory=Counter)
    """Once it has ended, how many nothing was heard of: not counted, as long as that is so."""

    def end(self, highest: int) -> None:
        """No original comes any more; the highest counter heard of was this."""
        for fate, ahead in self.ahead.items():
            ahead.discard(1, highest)
            self.unheard[fate] = ahead.count
            ahead.clear()

    def take_unheard(self, frames: int) -> Counter[str]:
        """So many frames turned up of which nothing had been heard: what of `unheard` that accounts for."""
        taken: Counter[str] = Counter()
        for fate in _HARM:
            taken[fate] = min(frames - taken.total(), self.unheard[fate])
        self.unheard -= taken
        return taken


class Injected:
    """Bounded: see the constants above; at most `ranges_max` ranges of each fate of an epoch."""

    def __init__(self, ranges_max: int) -> None:
        self.counts: Counter[str] = Counter()
        """Datagrams by what was done to them: lost, duplicated, reordered, corrupted."""
        self._early: dict[bytes, list[tuple[str, int]]] = {}
        """Incarnation that is not heard of yet -> what was done to its datagrams: (fate, counter)."""
        self._ranges_max = ranges_max

    def note(self, epoch: EpochInjected, fate: str, counter: int, highest: int) -> None:
        """This was done to a datagram of the epoch, of which the `highest` counter was heard of."""
        self.counts[fate] += 1
        if counter > highest and fate in epoch.ahead:
            ahead = epoch.ahead[fate]
            ahead.add(counter, counter)
            if len(ahead) > _AHEAD_MAX:
                ahead.discard(1, highest)
            if len(ahead) > self._ranges_max:
                ahead.pop()

    def note_early(self, incarnation: bytes, fate: str, counter: int) -> None:
        """This was done to a datagram of a process whose epoch is not heard of."""
        early = self._early.setdefault(incarnation, [])
        if len(early) < _EARLY_MAX:
            early.append((fate, counter))
        if len(self._early) > EPOCHS_MAX:
            self._early.pop(next(iter(self._early)))

    def begin(self, incarnation: bytes, epoch: EpochInjected, base: int) -> None:
        """The process is heard; what it sent up to counter `base` nobody here listened to."""
        for fate, counter in self._early.pop(incarnation, ()):
            if counter > base:
                self.note(epoch, fate, counter, base)

    def end(self, epoch: EpochInjected, highest: int) -> None:
        """The epoch is over: what was never heard of counts for nothing."""
        epoch.end(highest)
        self.counts -= epoch.unheard

    def on_frames_found(self, epoch: EpochInjected, frames: int) -> None:
        """So many frames of an epoch that is over turned up after all: faults may have hit them."""
        self.counts += epoch.take_unheard(frames)
