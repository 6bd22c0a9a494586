"""What each replica has acknowledged in this epoch, and what a majority of members has."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass


@dataclass(slots=True)
class Progress:
    """One replica's newest acknowledgement. `heard` is our clock (s), `stamp` the replica's own (ns)."""

    storage_id: bytes = b""
    seq: int = 0
    round: int = 0
    stamp: int = 0
    window: int = 0
    heard: float = 0.0
    counted: bool = False
    """Whether it answered under a current member's storage id."""


def majority(members: int) -> int:
    """The smallest number of members such that any two groups of that size have one in common."""
    return members // 2 + 1


def reached(values: Iterable[int], members: int) -> int:
    """The highest value that a majority of `members` has reached; members that said nothing have reached 0."""
    ranked = sorted(values, reverse=True)
    need = majority(members)
    return ranked[need - 1] if len(ranked) >= need else 0
