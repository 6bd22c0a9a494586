"""Memory for what a run writes, taken before its clock runs.

A virtual machine gives memory that it does not use back to its host. To be given it anew makes the first write to a
page cost several times a later one, which is much where megabytes go to a journal; and the first to come would pay for
all.
"""

from __future__ import annotations

import mmap
import os
from typing import Final

_STEP: Final = bytes(1 << 20)
_FREE: Final = "SC_AVPHYS_PAGES"


def take_memory(size: int) -> int:
    """Write to `size` bytes of free memory, or to half of all that is free, and let go of them; how many they were.

    None where the system does not say what is free.
    """
    free = os.sysconf(_FREE) * os.sysconf("SC_PAGE_SIZE") if _FREE in os.sysconf_names else 0
    steps = min(size, free // 2) // len(_STEP)
    if steps <= 0:
        return 0
    with mmap.mmap(-1, steps * len(_STEP)) as memory:
        for _ in range(steps):
            memory.write(_STEP)
    return steps * len(_STEP)
