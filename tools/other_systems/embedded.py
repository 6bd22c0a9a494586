"""A peer whose client lives in one of its replicas: a call is made there, and the outcome comes through its pipe."""

from __future__ import annotations

from collections.abc import Callable
from multiprocessing.connection import Connection

from tools.other_systems.crew import Crew
from tools.other_systems.peer import Flood


class Embedded:
    """A `Peer` out of a crew whose member `submitter` runs `serve` with the functions that do the work."""

    def __init__(self, crew: Crew, submitter: int) -> None:
        self._crew = crew
        self._submitter = submitter

    def flood(self, events: int, size: int) -> Flood:
        """As Peer says."""
        self._crew.submitted += events
        self._crew.say(self._submitter, "flood", events, size)
        began, acknowledged = self._crew.hear(self._submitter, "acknowledged")
        return Flood(acknowledged - began, max(acknowledged, self._crew.wait_until_applied()) - began)

    def submit_alone(self, calls: int, size: int) -> list[float]:
        """As Peer says."""
        self._crew.submitted += calls
        self._crew.say(self._submitter, "alone", calls, size)
        (took,) = self._crew.hear(self._submitter, "took")
        return list(took)


def answer(
    pipe: Connection, flood: Callable[[int, int], tuple[float, float]], alone: Callable[[int, int], list[float]]
) -> None:
    """Do what the pipe asks for next.

    `flood` returns `time.perf_counter` at its first submit and at its last acknowledgement, `alone` what calls took.
    """
    word, count, size = pipe.recv()
    if word == "flood":
        pipe.send(("acknowledged", *flood(count, size)))
    else:
        pipe.send(("took", alone(count, size)))
