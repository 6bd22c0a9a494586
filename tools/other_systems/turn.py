"""One system's turn in a round, in a process of its own: started, warmed up, measured at every size, ended."""

from __future__ import annotations

import statistics
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from mcast.bench.job import Tell
from tools.other_systems.kinds import KINDS
from tools.other_systems.peer import Peer

PROBE: Final = 1_000  # events of the first probe
PROBE_GROWTH_MAX: Final = 8
PROBE_SHARE: Final = 0.5  # of the time wanted: a probe that took so long tells the rate, one hiccup does not
WARMUP_SHARE: Final = 0.1  # of the events, where their number is known
EVENTS_MAX: Final = 3_000_000
ALONE_WARMUP: Final = 20  # calls one at a time
ALONE_CALLS_MAX: Final = 500
ALONE_SHARE: Final = 0.5  # of the time wanted, spent on calls one at a time


def play(tell: Tell, *, name: str, folder: str, events: Mapping[str, int | None], seconds: float) -> dict[str, Any]:
    """What `name` makes of each size in `events`: as many events as that says, or else about `seconds` full of them.

    Returns by size: `events`, `acknowledged_per_s`, `applied_per_s` and `ack_p50_us`.
    """
    results = {}
    with KINDS[name].running(Path(folder)) as peer:
        for number, (size, wanted) in enumerate(events.items()):
            tell(number / len(events))
            results[size] = _measure(peer, int(size), wanted, seconds)
    return results


def _measure(peer: Peer, size: int, wanted: int | None, seconds: float) -> dict[str, Any]:
    if wanted is None:
        wanted = _events_of(peer, size, seconds)
    else:
        peer.flood(max(1, int(wanted * WARMUP_SHARE)), size)
    flood = peer.flood(wanted, size)
    alone = peer.submit_alone(ALONE_WARMUP, size)
    calls = int(ALONE_SHARE * seconds / statistics.median(alone))
    alone = peer.submit_alone(max(ALONE_WARMUP, min(ALONE_CALLS_MAX, calls)), size)
    return {
        "events": wanted,
        "acknowledged_per_s": round(wanted / flood.acknowledged_s),
        "applied_per_s": round(wanted / flood.applied_s),
        "ack_p50_us": round(statistics.median(alone) * 1e6, 1),
    }


def _events_of(peer: Peer, size: int, seconds: float) -> int:
    """How many events take the peer about so long."""
    count = PROBE
    while (took_s := peer.flood(count, size).applied_s) < PROBE_SHARE * seconds and count < EVENTS_MAX:
        count = min(EVENTS_MAX, int(count * min(PROBE_GROWTH_MAX, max(1.5, seconds / took_s))))
    return max(PROBE, min(EVENTS_MAX, int(count / took_s * seconds)))
