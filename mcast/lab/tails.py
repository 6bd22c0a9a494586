"""A disk that loses the tail of a stopped node's journal, as bad disks and careless repairs do: zeros, or nothing."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Final

KEPT_BYTES_MIN: Final = 512  # of the first segment: its header


def lose_tail(directory: Path, share: float, *, zeroed: bool) -> None:
    """Of the journal in a node's data directory a first `share` of what was written is left."""
    segments = sorted((directory / "journal").glob("*.segment"))
    written = [len(segment.read_bytes().rstrip(b"\0")) for segment in segments]
    left = max(int(sum(written) * share), KEPT_BYTES_MIN)
    for segment, size in zip(segments, written, strict=True):
        if left < size:
            keep = max(left, 0)
            if zeroed:
                with segment.open("r+b") as file:
                    file.seek(keep)
                    file.write(bytes(size - keep))
            else:
                os.truncate(segment, keep)
        left -= size


__all__ = ["lose_tail"]
