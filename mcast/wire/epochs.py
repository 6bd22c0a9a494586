"""Where epochs begin in a log: the entries of an epoch history, compactly, and as a page of them travels over TCP.

A log may have millions of epochs behind it, for each restart and each flap of a link begins one. So an entry takes the
32 bytes that it has on the wire, whatever is asked costs a binary search, and nobody copies a history but who sends it.
"""

from __future__ import annotations

import struct
from array import array
from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Iterator
from itertools import pairwise
from typing import Final

from mcast.errors import DecodeError
from mcast.limits import EPOCH_MAX, HISTORY_PAGE_ENTRIES, SEQ_MAX
from mcast.wire.messages import EpochEntry

_ENTRY: Final = struct.Struct("!QQ16s")
_CHAIN_BYTES: Final = 16


class Epochs:
    """Epochs, oldest first: epochs and first events both rise. `firsts` holds the latter, for searches."""

    __slots__ = ("_chains", "_epochs", "firsts")

    def __init__(self, entries: Iterable[EpochEntry] = ()) -> None:
        self.firsts = array("Q")
        self._epochs = array("Q")
        self._chains = bytearray()
        for entry in entries:
            self.add(entry.epoch, entry.first, entry.chain_before)

    def add(self, epoch: int, first: int, chain_before: bytes) -> None:
        """One more begins, behind the others."""
        self._epochs.append(epoch)
        self.firsts.append(first)
        self._chains += chain_before

    def extend(self, later: Epochs) -> None:
        """Add those that begin behind these."""
        self._epochs += later._epochs
        self.firsts += later.firsts
        self._chains += later._chains

    def cut(self, last: int) -> None:
        """Forget those that begin behind event `last`."""
        keep = bisect_right(self.firsts, last)
        del self._epochs[keep:], self.firsts[keep:], self._chains[keep * _CHAIN_BYTES :]

    def part(self, start: int, stop: int) -> Epochs:
        """A copy of those from index `start` on, before index `stop`."""
        some = Epochs()
        some._epochs, some.firsts = self._epochs[start:stop], self.firsts[start:stop]
        some._chains = self._chains[start * _CHAIN_BYTES : stop * _CHAIN_BYTES]
        return some

    def newest(self, count: int) -> tuple[EpochEntry, ...]:
        """The last `count`, or all."""
        return tuple(map(self.__getitem__, range(max(len(self) - count, 0), len(self))))

    @property
    def is_rising(self) -> bool:
        """Whether these are what they should be: some, from event 1 or a later one on, epochs and events rising."""
        rising = (a < b for numbers in (self._epochs, self.firsts) for a, b in pairwise(numbers))
        return bool(self.firsts) and self.firsts[0] > 0 and all(rising)

    @property
    def last_epoch(self) -> int:
        """The newest one's number; 0 when there is none."""
        return self._epochs[-1] if self._epochs else 0

    def epoch_of(self, first: int, last: int) -> int | None:
        """The epoch to which all events from `first` to `last` belong; None when that is none, or is not known."""
        firsts = self.firsts
        index = bisect_right(firsts, first) - 1
        if index < 0 or (index + 1 < len(firsts) and last >= firsts[index + 1]):
            return None
        return self._epochs[index]

    def page_before(self, entry: EpochEntry, most: int) -> Epochs | None:
        """The `most` entries that precede this one; None unless it stands here.

        Whoever has it has the same log before it, for the chain covers that: so all have the same entries, too.
        """
        index = self._place(entry.first, entry.epoch, entry.chain_before)
        return None if index is None else self.part(max(index - most, 0), index)

    def newest_common(self, other: Epochs) -> tuple[int, int] | None:
        """The newest entry that stands in both, by its index here and there; costs what is newer here than that."""
        floor = other.firsts[0] if other.firsts else SEQ_MAX
        for index in range(len(self) - 1, -1, -1):
            first = self.firsts[index]
            if first < floor:
                break
            there = other._place(first, self._epochs[index], self._chain(index))
            if there is not None:
                return index, there
        return None

    def pack(self) -> bytes:
        """The entries, one after the other."""
        chains = range(0, len(self._chains), _CHAIN_BYTES)
        return b"".join(
            [
                _ENTRY.pack(epoch, first, self._chains[at : at + _CHAIN_BYTES])
                for epoch, first, at in zip(self._epochs, self.firsts, chains, strict=True)
            ]
        )

    def _place(self, first: int, epoch: int, chain_before: bytes) -> int | None:
        index = bisect_left(self.firsts, first)
        if index == len(self.firsts) or self.firsts[index] != first or self._epochs[index] != epoch:
            return None
        return index if self._chain(index) == chain_before else None

    def _chain(self, index: int) -> bytes:
        return bytes(self._chains[index * _CHAIN_BYTES : (index + 1) * _CHAIN_BYTES])

    def __len__(self) -> int:
        return len(self.firsts)

    def __getitem__(self, index: int) -> EpochEntry:
        index = range(len(self))[index]
        return EpochEntry(self._epochs[index], self.firsts[index], self._chain(index))

    def __iter__(self) -> Iterator[EpochEntry]:
        return map(self.__getitem__, range(len(self)))

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Epochs):
            return NotImplemented
        return (self._epochs, self.firsts, self._chains) == (other._epochs, other.firsts, other._chains)

    __hash__ = None  # type: ignore[assignment] # it changes

    def __repr__(self) -> str:
        return f"Epochs({list(self)})"


def decode_epochs_untrusted(payload: bytes) -> Epochs:
    """The entries of one HISTORY message.

    Raises:
        DecodeError: too many, a part of one, numbers out of range, or entries that do not rise.
    """
    if len(payload) > HISTORY_PAGE_ENTRIES * _ENTRY.size or len(payload) % _ENTRY.size:
        raise DecodeError("bad history", f"{len(payload)} bytes")
    epochs = Epochs()
    for epoch, first, chain in _ENTRY.iter_unpack(payload):
        if epoch > EPOCH_MAX or first > SEQ_MAX:
            raise DecodeError("bad history", f"epoch {epoch} from event {first}")
        epochs.add(epoch, first, chain)
    if payload and not epochs.is_rising:
        raise DecodeError("bad history", "it does not rise")
    return epochs
