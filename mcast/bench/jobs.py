"""The parts of measurements that run in processes of their own, by name: see `job`."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any, Final

from mcast.bench import asking, load, pacing, yardstick
from mcast.bench.job import do

JOBS: Final[dict[str, Callable[..., dict[str, Any]]]] = {
    "flood": load.flood,
    "steady": load.steady,
    "one-by-one": pacing.one_by_one,
    "at-a-rate": pacing.at_a_rate,
    "ask": asking.ask,
    "yardstick": lambda tell, **what: yardstick.applied(**what),
    "pipe": lambda tell, **what: yardstick.one_at_a_time(**what),
    "sync": lambda tell, **what: yardstick.sync_cost(**what),
}

if __name__ == "__main__":
    do(JOBS, sys.argv[1:])
