"""What is submitted and when, and how long everybody was kept waiting."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import islice
from typing import Any, Final

from mcast.client.lines import read_commands
from mcast.client.packing import check_name
from mcast.errors import ConfigError, DecodeError, Refused
from mcast.machine.api import StateMachine
from mcast.scenario.model import Scenario, Workload

TICK_S: Final = 0.005  # what comes due within one tick is submitted together
_FIX: Final = 'give one command a line, such as ["set", "k", 1], that the machine knows'

Command = list[Any]


def commands_of(scenario: Scenario, machine: type[StateMachine]) -> list[Command]:
    """Every command of a run, in order, each [name, argument, ...].

    Raises:
        ConfigError: a line of the workload's file that is none of the machine's commands.
    """
    workload = scenario.workload
    if workload.file is not None:
        return _from_file(workload, machine)
    templates = workload.commands
    return [templates[number % len(templates)](number) for number in range(workload.count)]


def _from_file(workload: Workload, machine: type[StateMachine]) -> list[Command]:
    assert workload.file is not None
    commands: list[Command] = []
    known = machine.commands()
    try:
        with workload.file.open("rb") as stream:
            for number, command in islice(read_commands(stream), workload.count):
                try:
                    check_name("command", command[0], len(command) - 1, known)
                except Refused as error:
                    raise DecodeError(f"line {number}", str(error)) from None
                commands.append([*command])
    except DecodeError as error:
        where = " ".join(str(error).split())[:200]
        raise ConfigError("workload.file", str(workload.file), where, _FIX) from None
    if not commands:
        raise ConfigError("workload.file", str(workload.file), "holds no command", _FIX)
    return commands


class Schedule:
    """Which commands are due: `rate` a second, dealt out to the clients in turn."""

    def __init__(self, commands: Sequence[Command], rate: float, clients: int) -> None:
        self._commands = commands
        self._rate = rate
        self._clients = clients
        self._next = 0

    @property
    def is_done(self) -> bool:
        """Whether every command has come due."""
        return self._next >= len(self._commands)

    def take_due(self, elapsed_s: float) -> list[range]:
        """For each client, the numbers of its commands that came due since the last call."""
        first = self._next
        self._next = max(first, min(len(self._commands), int(elapsed_s * self._rate) + 1))
        clients = self._clients
        return [range(first + (client - first) % clients, self._next, clients) for client in range(clients)]


class Meter:
    """How long nobody got an answer, though somebody waited for one. Times in seconds, never going back."""

    def __init__(self) -> None:
        self.outage_s = 0.0
        """The longest such stretch so far."""
        self._waiting: dict[int, float] = {}
        self._answered_at = float("-inf")
        self._next = 0

    def note_sent(self, now: float) -> int:
        """Something was submitted; its ticket."""
        self._next += 1
        self._waiting[self._next] = now
        return self._next

    def on_answer(self, ticket: int, now: float) -> None:
        """The answer to it came."""
        self._look(now)
        self._answered_at = now
        del self._waiting[ticket]

    def finish(self, now: float) -> None:
        """The run is over: what is unanswered stays so."""
        self._look(now)

    def _look(self, now: float) -> None:
        if self._waiting:
            since = max(self._answered_at, next(iter(islice(self._waiting.values(), 1))))
            self.outage_s = max(self.outage_s, now - since)
