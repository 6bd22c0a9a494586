"""Memory for what a run writes, taken before its clock runs.

A virtual machine gives memory that it does not use back to its host. To be given it anew makes the first write to a
page cost several times a later one, which is much where megabytes go to a journal; and the first to come would pay for
all.
"""

from __future__ import annotations

import mmap
import os
from contextlib import suppress
from pathlib import Path
from typing import Final

MEMORY_MAX: Final = 4 << 30  # taken at most: what a machine has to fetch first comes at less than half a GiB a second
_STEP: Final = bytes(1 << 20)
_FREE: Final = "SC_AVPHYS_PAGES"
_CONTAINER: Final = Path("/sys/fs/cgroup")


def take_memory(size: int) -> int:
    """Write to `size` bytes of memory and let go of them; how many they were: at most MEMORY_MAX, and half of the room.

    0 where the system does not say what is free.
    """
    steps = min(size, MEMORY_MAX, _room() // 2) // len(_STEP)
    if steps <= 0:
        return 0
    with mmap.mmap(-1, steps * len(_STEP)) as memory:
        for _ in range(steps):
            memory.write(_STEP)
    return steps * len(_STEP)


def _room() -> int:
    """Bytes that this machine has free, and its container, where it is in one that has a limit."""
    room = os.sysconf(_FREE) * os.sysconf("SC_PAGE_SIZE") if _FREE in os.sysconf_names else 0
    with suppress(OSError, ValueError):
        limit, used = [int((_CONTAINER / name).read_text()) for name in ("memory.max", "memory.current")]
        room = min(room, limit - used)
    return room
