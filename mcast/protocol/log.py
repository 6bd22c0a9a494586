"""The log as the protocol sees it: its end, its epochs, and its newest frames in memory.

Older frames live in the journal alone; the protocol never reads it. What is asked for below `low_water` is answered by
GONE, and fetched over TCP.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from itertools import pairwise
from operator import attrgetter
from typing import Final

from mcast.limits import CACHE_BYTES_MAX
from mcast.protocol.recovered import Recovered
from mcast.wire.frame import Frame, frames_bytes

_FIRST: Final = attrgetter("first")
_TRIMMED_AT_ONCE: Final = 16  # frames


class Log:
    """Contiguous frames from `low_water` to `last_seq`; everything below `low_water` is known by its chain only."""

    def __init__(self, recovered: Recovered, cache_bytes_max: int = CACHE_BYTES_MAX) -> None:
        self.last_seq = recovered.base_seq
        self.last_chain = recovered.base_chain
        self.epochs = recovered.history.part(0, bisect_right(recovered.history.firsts, recovered.base_seq))
        self.last_time = 0
        """The time of the last frame ever appended: no later one may be earlier."""
        self.bytes_cached = 0
        self._base = (recovered.base_seq, recovered.base_chain)
        self._cache_bytes_max = cache_bytes_max
        self._frames: list[Frame] = []
        self._firsts: list[int] = []
        for frame in recovered.frames:
            self.append(frame)

    @property
    def low_water(self) -> int:
        """The oldest event still in memory (one past the end of an empty cache)."""
        return self._base[0] + 1

    @property
    def last_epoch(self) -> int:
        """The entry epoch of the last event; 0 for an empty log."""
        return self.epochs.last_epoch

    @property
    def events_per_frame(self) -> float:
        """Mean over the newest frames, at least 1."""
        tail = self._frames[-64:]
        return (tail[-1].last - tail[0].first + 1) / len(tail) if tail else 1.0

    def append(self, frame: Frame) -> None:
        """Add a frame that follows the end; the caller has proven its chain."""
        assert frame.first == self.last_seq + 1, f"frame {frame.first} does not follow {self.last_seq}"
        if self.epochs.last_epoch != frame.epoch or not len(self.epochs):
            self.epochs.add(frame.epoch, frame.first, self.last_chain)
        self._frames.append(frame)
        self._firsts.append(frame.first)
        self.last_seq = frame.last
        self.last_chain = frame.chain
        self.last_time = frame.time
        self.bytes_cached += frame.size

    def extend(self, frames: Sequence[Frame]) -> None:
        """Add frames of the log's last epoch that follow its end and each other; the caller has proven their chain."""
        assert frames[0].first == self.last_seq + 1, f"frame {frames[0].first} does not follow {self.last_seq}"
        self._frames += frames
        self._firsts += map(_FIRST, frames)
        last = frames[-1]
        self.last_seq = last.last
        self.last_chain = last.chain
        self.last_time = last.time
        self.bytes_cached += frames_bytes(frames)

    def truncate(self, last: int) -> None:
        """Forget everything behind event `last`, which must be a frame's end not below the cache."""
        keep = bisect_right(self._firsts, last)
        self.bytes_cached -= frames_bytes(self._frames[keep:])
        del self._frames[keep:], self._firsts[keep:]
        self.last_seq, self.last_chain = (self._frames[-1].last, self._frames[-1].chain) if self._frames else self._base
        assert self.last_seq == last, f"truncation at {last} inside the frame ending at {self.last_seq}"
        self.epochs.cut(last)

    def trim(self, keep_from: int) -> None:
        """Drop the oldest cached frames while too many bytes are held, but none from event `keep_from` on."""
        if self.bytes_cached <= self._cache_bytes_max:
            return
        target, count = self._cache_bytes_max * 3 // 4, 0  # in quarters, so that the lists shift rarely
        most = bisect_right(self._firsts, keep_from) - 1  # the frame that holds it stays, and so do those behind it
        while count < most and self.bytes_cached > target:
            dropped = self._frames[count : min(count + _TRIMMED_AT_ONCE, most)]
            self.bytes_cached -= frames_bytes(dropped)
            count += len(dropped)
        if count:
            last = self._frames[count - 1]
            self._base = (last.last, last.chain)
            del self._frames[:count], self._firsts[:count]

    def frame_at(self, seq: int) -> Frame | None:
        """The cached frame that holds event `seq`."""
        index = bisect_right(self._firsts, seq) - 1
        if index < 0 or self._frames[index].last < seq:
            return None
        return self._frames[index]

    def chain_at(self, seq: int) -> bytes | None:
        """The chain behind event `seq`; None unless that is a cached frame's end (or the cache's base)."""
        if seq == self.last_seq:
            return self.last_chain
        if seq == self._base[0]:
            return self._base[1]
        frame = self.frame_at(seq)
        return frame.chain if frame is not None and frame.last == seq else None

    def frames_between(self, first: int, last: int, frames_max: int) -> Sequence[Frame]:
        """At most `frames_max` cached frames that hold any of the events `first` to `last`."""
        start = max(bisect_right(self._firsts, first) - 1, 0)
        end = min(bisect_right(self._firsts, last), start + frames_max)
        frames = self._frames[start:end]
        return frames[1:] if frames and frames[0].last < first else frames

    def _check(self) -> None:
        """Raise AssertionError unless every invariant of the class holds."""
        at, chain = self._base
        for frame, first in zip(self._frames, self._firsts, strict=True):
            assert frame.first == first == at + 1
            at, chain = frame.last, frame.chain
        assert (at, chain) == (self.last_seq, self.last_chain)
        assert self.bytes_cached == sum(frame.size for frame in self._frames)
        assert all(a.epoch < b.epoch and a.first < b.first for a, b in pairwise(self.epochs))
