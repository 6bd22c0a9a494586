"""The part of the comparison that runs in a process of its own: see `mcast.bench.job`."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

sys.path.insert(0, str(Path(__file__).parents[2]))  # it is started as a program: the checkout need not be installed

from mcast.bench.job import do
from tools.other_systems import turn

JOBS: Final[dict[str, Callable[..., dict[str, Any]]]] = {"peer": turn.play}

if __name__ == "__main__":
    do(JOBS, sys.argv[1:])
