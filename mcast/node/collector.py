"""The cyclic garbage collector of a process that is a node: kept off the hot path, never switched off.

What it is told holds for the whole process, so only `mcast node` calls this. A program that embeds `mcast.Node` keeps
its own policy; it may call the same two functions at the same points.
"""

from __future__ import annotations

import gc
from typing import Final

THRESHOLDS: Final = (20_000, 20, 50)  # Python's 700, 10, 10 look at what is young every few frames of small events


def collect_rarely() -> None:
    """At the start: replaying a journal makes objects by the million, and hardly any are garbage in cycles."""
    gc.set_threshold(*THRESHOLDS)


def set_aside() -> None:
    """Once recovered: what lives now (modules, the replayed state) is looked at by no later collection.

    Only what is young is collected first: to look at all of a large state takes longer than an election waits.
    """
    gc.collect(1)
    gc.freeze()
