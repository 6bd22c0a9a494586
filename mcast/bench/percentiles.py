"""Percentiles of how long single things took: exact ones, from every sample of a run.

No histogram in between: a run is bounded to SAMPLES_MAX samples of 8 bytes, so keeping and sorting them all is cheap
and exact. The library `hdrhistogram` would round to three digits, to save memory that is not needed here.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from math import fsum
from typing import Any, Final

from mcast.analysis import percentile

SAMPLES_MAX: Final = 4_000_000  # 32 MiB
SHARES: Final = {"p50": 0.5, "p90": 0.9, "p99": 0.99, "p99.9": 0.999}
_NINES: Final = (0.0, 0.5, 0.75, 0.9, 0.95, 0.98, 0.99, 0.995, 0.998, 0.999, 0.9995, 0.9999, 0.99999)


def summary_us(samples_s: Iterable[float]) -> dict[str, Any]:
    """`p50` to `p99.9`, `max` and `mean` in microseconds, and their `count`; there is at least one sample."""
    ordered = sorted(samples_s)
    summary = {name: in_us(percentile(ordered, share)) for name, share in SHARES.items()}
    return {**summary, "max": in_us(ordered[-1]), "mean": in_us(fsum(ordered) / len(ordered)), "count": len(ordered)}


def curve_us(samples_s: Sequence[float]) -> list[list[float]]:
    """[share, microseconds] for ever more nines, as far as there are samples to tell them apart."""
    ordered = sorted(samples_s)
    return [[share, in_us(percentile(ordered, share))] for share in _NINES if (1 - share) * len(ordered) >= 1]


def in_us(value_s: float) -> float:
    """Seconds as microseconds, to a tenth."""
    return round(value_s * 1e6, 1)
