"""Redis Streams: one master, in memory. An event is an entry; the three readers follow the stream."""

from __future__ import annotations

import socket
import time
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from itertools import islice
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, Final

from mcast.bench.job import BrokenRun
from mcast.net.ports import free_ports
from tools.other_systems.crew import Crew, Servers, replica_of
from tools.other_systems.peer import NODES, SILENCE_S, Peer
from tools.other_systems.served import ServedPeer

_HOST: Final = "127.0.0.1"
_BATCH: Final = 500  # entries of one write; two are on the way at a time
_READ: Final = 2_000  # entries of one answer to a reader


@contextmanager
def running(folder: Path) -> Iterator[Peer]:
    """A server and three readers."""
    (port,) = free_ports(1)
    with Servers(folder) as servers, Crew(folder) as readers:
        servers.start(
            "redis", ["redis-server", "--port", str(port), "--bind", _HOST, "--save", "", "--appendonly", "no",
                      "--dir", str(folder)],
        )  # fmt: skip
        with closing(servers.wait_until("redis-server does not answer", lambda: _Wire(port))) as wire:
            for _ in range(NODES):
                readers.start(_follow, port)
            readers.wait_until_ready()
            yield ServedPeer(wire, readers)


class _Wire:
    """Redis's protocol on a socket, parsed by its own C parser."""

    def __init__(self, port: int) -> None:
        import hiredis  # here: only the extra `peers` brings it

        self._socket = socket.create_connection((_HOST, port), SILENCE_S)
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._reader = hiredis.Reader()
        self._error = hiredis.HiredisError
        if self.ask(b"PING") != b"PONG":
            raise BrokenRun("redis-server does not answer PING")

    def close(self) -> None:
        """Close the connection."""
        self._socket.close()

    def ask(self, *words: bytes) -> Any:
        """One command's answer."""
        self._socket.sendall(command(*words))
        return self._answer()

    def send(self, events: Sequence[bytes]) -> None:
        """As Writer says: an XADD each."""
        source, waiting = iter(events), 0
        while True:
            batch = [command(b"XADD", b"events", b"*", b"e", event) for event in islice(source, _BATCH)]
            if batch:
                self._socket.sendall(b"".join(batch))
            for _ in range(waiting):
                self._answer()
            waiting = len(batch)
            if not batch:
                return

    def _answer(self) -> Any:
        while (answer := self._reader.gets()) is False:
            if not (data := self._socket.recv(1 << 18)):
                raise BrokenRun("redis-server closed the connection")
            self._reader.feed(data)
        if isinstance(answer, self._error):
            raise BrokenRun(f"redis-server says: {answer}")
        return answer


def command(*words: bytes) -> bytes:
    """A command as the wire has it."""
    return b"*%d\r\n" % len(words) + b"".join([b"$%d\r\n%b\r\n" % (len(word), word) for word in words])


def _follow(pipe: Connection, port: int) -> None:
    wire, replica, last = _Wire(port), replica_of(pipe), b"0"
    pipe.send(("ready", time.perf_counter()))
    while True:
        found = wire.ask(b"XREAD", b"COUNT", b"%d" % _READ, b"BLOCK", b"1000", b"STREAMS", b"events", last)
        for _, entries in found or ():
            for _, (_, event) in entries:
                replica.apply(event)
            last = entries[-1][0]
