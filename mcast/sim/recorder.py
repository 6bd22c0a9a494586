"""The machine that simulated clusters run: it notices by itself when a client's commands come twice or out of order."""

from __future__ import annotations

from typing import Final

from mcast.machine.api import Context, Rejected, StateMachine, command

REJECTED_EACH: Final = 11  # every eleventh command is refused by the machine, so that outcomes of both kinds occur


class Recorder(StateMachine):
    """Each client numbers its commands from 1; `executed` holds the last one of each."""

    def __init__(self) -> None:
        self.executed: dict[int, int] = {}
        self.broken = ""
        """The first thing that went wrong, in words."""

    @command
    def execute(self, ctx: Context, client: int, number: int, filler: bytes) -> int:
        """Execute a client's command `number`; returns it. `filler` only makes the command longer."""
        last = self.executed.get(client, 0)
        if number != last + 1 and not self.broken:
            self.broken = f"command {number} of client {client} executed after {last}, as event {ctx.seq}"
        self.executed[client] = number
        if number % REJECTED_EACH == 0:
            raise Rejected(f"command {number} is one of those")
        return number
