"""The reorder buffer: frames that arrived before what precedes them. Bounded in bytes and count.

What it holds is just what `Gaps` does not miss between the log's end and the frontier, so that is asked there; here a
frame costs one dictionary entry.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from mcast.limits import REORDER_BYTES_MAX, REORDER_FRAMES_MAX
from mcast.wire.frame import Frame, frames_bytes


class Reorder:
    """Frames by their first event. Whoever offers them knows that they overlap nothing held."""

    def __init__(self, bytes_max: int = REORDER_BYTES_MAX, frames_max: int = REORDER_FRAMES_MAX) -> None:
        self._frames: dict[int, Frame] = {}
        self._bytes = 0
        self._bytes_max = bytes_max
        self._frames_max = frames_max

    def __len__(self) -> int:
        return len(self._frames)

    def offer(self, frames: Sequence[Frame]) -> bool:
        """Keep these frames, or none of them if the buffer has no room for all; whether they are kept."""
        size = frames_bytes(frames)
        if self._bytes + size > self._bytes_max or len(self._frames) + len(frames) > self._frames_max:
            return False
        self._frames.update({frame.first: frame for frame in frames})
        self._bytes += size
        return True

    def pop(self, first: int) -> Frame | None:
        """Take out the frame that begins with event `first`."""
        frame = self._frames.pop(first, None)
        if frame is not None:
            self._bytes -= frame.size
        return frame

    def drop_unless(self, keep: Callable[[Frame], bool]) -> list[Frame]:
        """Forget frames; returns them."""
        dropped = [frame for frame in self._frames.values() if not keep(frame)]
        for frame in dropped:
            self.pop(frame.first)
        return dropped

    def ends(self) -> list[tuple[int, int]]:
        """The ranges held, in order."""
        return sorted((frame.first, frame.last) for frame in self._frames.values())
