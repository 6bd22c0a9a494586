"""What plain Python can do on this machine: the yardstick the fabric's own benchmark stands beside.

Prints one JSON line a measurement. Multicast stays on loopback; to keep other programs' traffic out as well, run it in
a network namespace: unshare -n sh -c 'ip link set lo up; python tools/yardstick.py'
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path

from mcast.bench.yardstick import measurements


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure what the command line asks for."""
    names = tuple(measurements(1, 1, Path.cwd()))
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--nodes", type=int, default=3, help="receivers (default 3)")
    parser.add_argument("--events", type=int, default=2_000_000, help="small events to send (default 2,000,000)")
    parser.add_argument("--folder", type=Path, default=Path.cwd(), help="where fdatasync is measured (default: here)")
    parser.add_argument("--only", action="append", choices=names, help="measure this; may be repeated")
    options = parser.parse_args(arguments)
    if options.nodes < 1 or options.events < 1:
        parser.error("--nodes and --events must be at least 1")
    every = measurements(options.nodes, options.events, options.folder)
    for name in options.only or names:
        print(json.dumps({"name": name, **every[name]()}), flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
