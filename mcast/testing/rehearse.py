"""One run for `deterministic`, as a process of its own: an order on stdin, what came of it on stdout, in msgpack."""

from __future__ import annotations

import importlib
import sys
from operator import attrgetter
from typing import Final

import msgpack

from mcast.machine.rehearsal import Rehearsal

STEP: Final = 64  # commands between two comparisons


def main() -> None:
    """Order: [module, qualified name, commands]. Result: [[first, last, result chain, state digest], ...]."""
    module, name, commands = msgpack.unpackb(sys.stdin.buffer.read(), strict_map_key=False)
    rehearsal = Rehearsal(attrgetter(name)(importlib.import_module(module))())
    steps = []
    for first in range(0, len(commands), STEP):
        batch = commands[first : first + STEP]
        rehearsal.run(batch)
        steps.append([first, first + len(batch) - 1, rehearsal.engine.result_chain, rehearsal.engine.digest()])
    sys.stdout.buffer.write(msgpack.packb(steps))


if __name__ == "__main__":
    main()
