"""The reorder buffer: frames that arrived before what precedes them. Bounded in bytes and count."""

from __future__ import annotations

from collections.abc import Callable

from sortedcontainers import SortedDict

from mcast.limits import REORDER_BYTES_MAX, REORDER_FRAMES_MAX
from mcast.wire.frame import Frame


class Reorder:
    """Frames by their first event, none overlapping another."""

    def __init__(self, bytes_max: int = REORDER_BYTES_MAX, frames_max: int = REORDER_FRAMES_MAX) -> None:
        self._frames: SortedDict[int, Frame] = SortedDict()
        self._bytes = 0
        self._bytes_max = bytes_max
        self._frames_max = frames_max

    def __len__(self) -> int:
        return len(self._frames)

    def __contains__(self, seq: int) -> bool:
        index = self._frames.bisect_right(seq) - 1
        return index >= 0 and self._frames.values()[index].last >= seq

    def offer(self, frame: Frame) -> bool:
        """Keep a frame; False when the buffer is full or already holds an event of it."""
        if self._bytes + frame.size > self._bytes_max or len(self._frames) >= self._frames_max:
            return False
        if frame.first in self or frame.last in self:
            return False
        self._frames[frame.first] = frame
        self._bytes += frame.size
        return True

    def pop(self, first: int) -> Frame | None:
        """Take out the frame that begins with event `first`."""
        frame: Frame | None = self._frames.pop(first, None)
        if frame is not None:
            self._bytes -= frame.size
        return frame

    def drop_below(self, seq: int) -> None:
        """Forget frames that begin at or below event `seq`: the log has them."""
        while self._frames and self._frames.peekitem(0)[0] <= seq:
            self._bytes -= self._frames.popitem(0)[1].size

    def drop_unless(self, keep: Callable[[Frame], bool]) -> list[Frame]:
        """Forget frames that a new reign's history does not assign; returns them."""
        dropped = [frame for frame in self._frames.values() if not keep(frame)]
        for frame in dropped:
            self.pop(frame.first)
        return dropped

    def ends(self) -> list[tuple[int, int]]:
        """The ranges held, in order."""
        return [(frame.first, frame.last) for frame in self._frames.values()]
