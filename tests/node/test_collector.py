"""The garbage collector of a node's process, and of a program that embeds one."""

from __future__ import annotations

import subprocess
import sys

SCRIPT = """
import gc
from mcast.node import collector
collector.collect_rarely()
garbage = [[index] for index in range(1000)]
collector.set_aside()
assert gc.isenabled() and gc.get_threshold() == collector.THRESHOLDS and gc.get_freeze_count() > 1000
cycle = []
cycle.append(cycle)
del cycle
assert gc.collect() >= 1, "what becomes garbage later is still collected"
"""


def test_it_looks_rarely_at_what_is_new_and_never_at_what_was_recovered() -> None:
    subprocess.run([sys.executable, "-c", SCRIPT], check=True)
