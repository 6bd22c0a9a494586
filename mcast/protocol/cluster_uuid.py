"""Cluster uuids, and which of two is the newer: a log that was recovered goes on as another cluster.

    bytes 0..7    drawn by GENESIS; every recovery keeps them
    bytes 8..14   drawn anew by GENESIS and by every recovery
    byte  15      how many recoveries there were

So a node of the cluster before can tell that it was left behind, and by whom.
"""

from __future__ import annotations

from typing import Final

RECOVERIES_MAX: Final = 255
_KEPT: Final = 8


def new_uuid(drawn: int) -> bytes:
    """The uuid of a new cluster, from 128 random bits."""
    return drawn.to_bytes(16, "big")[:15] + b"\0"


def recovered_uuid(before: bytes, drawn: int) -> bytes:
    """The uuid of the cluster that goes on with `before`'s log, from 56 random bits; at most RECOVERIES_MAX times."""
    return before[:_KEPT] + drawn.to_bytes(7, "big") + bytes([before[15] + 1])


def succeeds(uuid: bytes, other: bytes) -> bool:
    """Whether `uuid` is a recovery of the cluster `other`, or the one of two recoveries that prevails."""
    return uuid[:_KEPT] == other[:_KEPT] and (uuid[15], uuid) > (other[15], other)
