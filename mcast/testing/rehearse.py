"""One run for `deterministic`, as a process of its own: an order on stdin, what came of it on stdout, in msgpack.

A run in which every command failed shows nothing, whatever it is compared with: the process ends with exit code 1, and
the first failure on stderr.
"""

from __future__ import annotations

import importlib
import sys
import traceback
from operator import attrgetter
from typing import Final

import msgpack

from mcast.machine.executor import Unwatched
from mcast.machine.rehearsal import Rehearsal

STEP: Final = 64  # commands between two comparisons


class FirstFailure(Unwatched):
    """Prints the first exception of a handler with its traceback; `words` has it in one line."""

    def __init__(self) -> None:
        self.words = ""

    def on_failed(self, seq: int, name: str, error: BaseException) -> None:
        """The handler of command `name` raised."""
        if not self.words:
            traceback.print_exception(error)
            at = traceback.extract_tb(error.__traceback__)[-1:]
            where = "".join(f" (line {call.lineno} of {call.filename}, in {call.name})" for call in at)
            self.words = f"{name}: {type(error).__name__}: {error}{where}".replace("\n", " ")


def main() -> None:
    """Order: [module, qualified name, commands]. Result: [[first, last, result chain, state digest], ...]."""
    module, name, commands = msgpack.unpackb(sys.stdin.buffer.read(), strict_map_key=False)
    rehearsal = Rehearsal(attrgetter(name)(importlib.import_module(module))())
    first_failure = FirstFailure()
    rehearsal.engine.observe(first_failure)
    steps = []
    failed, error = 0, ""
    for first in range(0, len(commands), STEP):
        batch = commands[first : first + STEP]
        for outcome in rehearsal.run(batch):
            failed += outcome.kind == "failed"
            error = error or (outcome.error or "")
        steps.append([first, first + len(batch) - 1, rehearsal.engine.result_chain, rehearsal.engine.digest()])
    if commands and failed == len(commands):
        sys.exit(f"all {failed} commands failed; the first: {first_failure.words or error}")
    sys.stdout.buffer.write(msgpack.packb(steps))


if __name__ == "__main__":
    main()
