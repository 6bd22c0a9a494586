"""No peer at all: three processes that are handed the events. It shows what the measuring costs, and that it works."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Final

from tools.other_systems.crew import Crew, replica_of
from tools.other_systems.peer import NODES, Peer
from tools.other_systems.served import ServedPeer

_BATCH: Final = 1_000  # events of one write


@contextmanager
def running(folder: Path) -> Iterator[Peer]:
    """Three readers."""
    with Crew(folder) as readers:
        for _ in range(NODES):
            readers.start(_read)
        readers.wait_until_ready()
        yield ServedPeer(_PipeWriter(readers), readers)


class _PipeWriter:
    def __init__(self, readers: Crew) -> None:
        self._readers = readers

    def send(self, events: Sequence[bytes]) -> None:
        """As Writer says; nobody acknowledges."""
        for at in range(0, len(events), _BATCH):
            for index in range(NODES):
                self._readers.say(index, *events[at : at + _BATCH])


def _read(pipe: Connection) -> None:
    replica = replica_of(pipe)
    pipe.send(("ready",))
    while True:
        for event in pipe.recv():
            replica.apply(event)
