"""NATS JetStream: a stream of three replicas in files. An event is a message; each reader follows at another server."""

from __future__ import annotations

import json
import socket
import time
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager, suppress
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, Final

from mcast.bench.job import BrokenRun
from mcast.net.ports import free_ports
from tools.other_systems.crew import Crew, Servers, replica_of, until
from tools.other_systems.peer import NODES, SILENCE_S, Peer
from tools.other_systems.served import ServedPeer

_HOST: Final = "127.0.0.1"
_WINDOW: Final = 2_000  # messages unacknowledged
_ASK_S: Final = 0.5  # for an answer; a cluster that is not up yet gives none
_INBOX: Final = b"_INBOX.client"

NatsMessage = tuple[bytes, bytes]
"""Where to answer, and the payload."""


@contextmanager
def running(folder: Path) -> Iterator[Peer]:
    """Three servers, a stream at its leader's, and three readers."""
    ports = free_ports(2 * NODES)
    clients, routes = ports[:NODES], ports[NODES:]
    with Servers(folder) as servers, Crew(folder) as readers:
        for index, port in enumerate(clients):
            path = folder / f"n{index}.conf"
            path.write_text(_config(f"n{index}", port, routes[index], routes, folder))
            servers.start(f"nats-{index}", ["nats-server", "-c", str(path)])
        stream = {"name": "EVENTS", "subjects": ["events"], "num_replicas": NODES, "storage": "file"}
        servers.wait_until("no stream", lambda: _api(clients[0], "STREAM.CREATE.EVENTS", stream))
        leader = servers.wait_until("the stream has no leader", lambda: _leader(clients[0]))
        for port in clients:
            readers.start(_follow, port)
        readers.wait_until_ready()
        with closing(Wire(clients[int(leader[1:])])) as wire:
            yield ServedPeer(_NatsWriter(wire), readers)


def _config(name: str, port: int, route: int, routes: Sequence[int], folder: Path) -> str:
    others = ", ".join(f'"nats://{_HOST}:{other}"' for other in routes if other != route)
    return (
        f'server_name: "{name}"\nlisten: "{_HOST}:{port}"\njetstream {{ store_dir: "{folder / name}" }}\n'
        f'cluster {{ name: "peers", listen: "{_HOST}:{route}", routes: [{others}] }}\n'
    )


def _leader(port: int) -> str | None:
    cluster = _api(port, "STREAM.INFO.EVENTS", {})["cluster"]
    followers = cluster.get("replicas", [])
    ready = len(followers) == NODES - 1 and all(each["current"] for each in followers)
    return str(cluster["leader"]) if ready and cluster.get("leader") else None


def _api(port: int, name: str, request: dict[str, Any]) -> dict[str, Any]:
    """The answer of JetStream's own interface. Raises BrokenRun with its error."""
    api = f"$JS.API.{name}".encode()
    with closing(Wire(port, _ASK_S)) as wire:
        wire.write(b"SUB %b 1\r\n" % _INBOX + publication(api, _INBOX, json.dumps(request).encode()))
        while not (messages := wire.read()):
            pass
    answer: dict[str, Any] = json.loads(messages[0][1])
    if "error" in answer:
        raise BrokenRun(f"nats-server says: {answer['error'].get('description')}")
    return answer


class _NatsWriter:
    """Publishes with the answers' inbox as its window."""

    def __init__(self, wire: Wire) -> None:
        self._wire = wire
        self._wire.write(b"SUB %b 1\r\n" % _INBOX)

    def send(self, events: Sequence[bytes]) -> None:
        """As Writer says: a publication each."""
        sent = acknowledged = 0
        while acknowledged < len(events):
            if sent < len(events) and sent - acknowledged <= _WINDOW // 2:
                batch = events[sent : acknowledged + _WINDOW]
                self._wire.write(b"".join([publication(b"events", _INBOX, event) for event in batch]))
                sent += len(batch)
            for _, answer in self._wire.read():
                if b'"error"' in answer:
                    raise BrokenRun(f"nats-server says: {answer.decode(errors='replace')}")
                acknowledged += 1


class Wire:
    """NATS's text protocol on a socket."""

    def __init__(self, port: int, timeout_s: float = SILENCE_S) -> None:
        self._socket = socket.create_connection((_HOST, port), timeout_s)
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._rest = b""
        self.write(b'CONNECT {"verbose":false,"pedantic":false}\r\n')

    def write(self, data: bytes) -> None:
        """Send all of it."""
        self._socket.sendall(data)

    def read(self) -> list[NatsMessage]:
        """The messages that came with the next bytes; none, if those were something else."""
        if not (data := self._socket.recv(1 << 18)):
            raise BrokenRun("nats-server closed the connection")
        messages, pings, self._rest = parse(self._rest + data)
        for _ in range(pings):
            self.write(b"PONG\r\n")
        return messages

    def close(self) -> None:
        """Close the connection."""
        self._socket.close()


def publication(subject: bytes, answer_to: bytes, payload: bytes) -> bytes:
    """A message to publish, as the wire has it."""
    return b"PUB %b %b %d\r\n%b\r\n" % (subject, answer_to, len(payload), payload)


def parse(data: bytes) -> tuple[list[NatsMessage], int, bytes]:
    """The whole messages in `data`, how many pings, and the bytes of what is not whole yet.

    Raises:
        BrokenRun: the server tells an error.
    """
    messages, pings, at = [], 0, 0
    while (end := data.find(b"\r\n", at)) >= 0:
        line = data[at:end]
        if line.startswith(b"MSG "):
            words = line.split(b" ")
            start = end + 2
            after = start + int(words[-1]) + 2
            if after > len(data):
                break
            messages.append((words[3] if len(words) == 5 else b"", data[start : after - 2]))
            at = after
        elif line.startswith(b"-ERR"):
            raise BrokenRun(f"nats-server says: {line.decode(errors='replace')}")
        else:
            pings += line == b"PING"
            at = end + 2
    return messages, pings, data[at:]


def _follow(pipe: Connection, port: int) -> None:
    """A push consumer without acknowledgements, in the server's order; flow control is answered as the server asks."""
    name, inbox = f"reader-{port}", f"deliver.{port}"
    wire, replica = Wire(port), replica_of(pipe)
    wire.write(b"SUB %b 1\r\nPING\r\n" % inbox.encode())
    consumer = {
        "deliver_subject": inbox, "ack_policy": "none", "deliver_policy": "all", "replay_policy": "instant",
        "durable_name": name, "flow_control": True, "idle_heartbeat": 5_000_000_000,
        "num_replicas": 1, "mem_storage": True,
    }  # fmt: skip
    request = {"stream_name": "EVENTS", "config": consumer}
    until("no consumer", lambda: _api(port, f"CONSUMER.DURABLE.CREATE.EVENTS.{name}", request))
    pipe.send(("ready", time.perf_counter()))
    while True:
        with suppress(TimeoutError):  # nobody submits
            for answer_to, payload in wire.read():
                if payload:
                    replica.apply(payload)
                elif answer_to and b"$JS.FC" in answer_to:
                    wire.write(publication(answer_to, b"", b""))
