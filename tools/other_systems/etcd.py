"""etcd: three members that sync every write. An event is a put; each reader watches at another member."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager, suppress
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, Final

from mcast.bench.job import BrokenRun
from mcast.net.ports import free_ports
from tools.other_systems.crew import Crew, Servers, replica_of
from tools.other_systems.http2 import Http2, header_block
from tools.other_systems.peer import NODES, Peer
from tools.other_systems.protobuf import blob, fields, number
from tools.other_systems.served import ServedPeer

_HOST: Final = "127.0.0.1"
_ASK_S: Final = 0.5  # for an answer; a cluster that is not up yet gives none
_WINDOW: Final = 1_000  # puts unacknowledged
_BATCH: Final = 100  # puts of one write
_PUT: Final = header_block("/etcdserverpb.KV/Put")
_STATUS: Final = header_block("/etcdserverpb.Maintenance/Status")
_WATCH: Final = header_block("/etcdserverpb.Watch/Watch")


@contextmanager
def running(folder: Path) -> Iterator[Peer]:
    """Three members, a client at the leader, and three readers."""
    ports = free_ports(2 * NODES)
    clients, peers = ports[:NODES], ports[NODES:]
    cluster = ",".join(f"m{index}=http://{_HOST}:{port}" for index, port in enumerate(peers))
    with Servers(folder) as servers, Crew(folder) as readers:
        for index, (client, peer) in enumerate(zip(clients, peers, strict=True)):
            here, there = f"http://{_HOST}:{client}", f"http://{_HOST}:{peer}"
            options = {
                "name": f"m{index}", "data-dir": str(folder / f"m{index}"), "listen-client-urls": here,
                "advertise-client-urls": here, "listen-peer-urls": there, "initial-advertise-peer-urls": there,
                "initial-cluster": cluster, "initial-cluster-state": "new", "log-level": "error",
            }  # fmt: skip
            servers.start(f"etcd-{index}", ["etcd", *(f"--{key}={value}" for key, value in options.items())])
        leader = servers.wait_until("no leader", lambda: next(filter(_leads, clients), None))
        for port in clients:
            readers.start(_follow, port)
        readers.wait_until_ready()
        with closing(Http2(_HOST, leader)) as link:
            yield ServedPeer(_EtcdWriter(link), readers)


def _leads(port: int) -> bool:
    """Whether the member that serves this port leads."""
    with closing(Http2(_HOST, port, _ASK_S)) as link:
        link.write(link.call(_STATUS, b""))
        while not (answers := link.read()):
            pass
    status = dict(fields(answers[0]))
    header = status[1]
    assert isinstance(header, bytes)
    return bool(status.get(4)) and status.get(4) == dict(fields(header)).get(2)


class _EtcdWriter:
    def __init__(self, link: Http2) -> None:
        self._link = link

    def send(self, events: Sequence[bytes]) -> None:
        """As Writer says: a put each. Those on the way together may be ordered as etcd likes, so the last one waits."""
        self._send(events[:-1])
        self._send(events[-1:])

    def _send(self, events: Sequence[bytes]) -> None:
        link, total, sent, acknowledged = self._link, len(events), 0, 0
        while acknowledged < total:
            calls = []
            if sent - acknowledged <= _WINDOW - _BATCH:
                for event in events[sent : sent + _BATCH]:
                    put = blob(1, event[1:5]) + blob(2, event)
                    if not link.fits(len(put)):
                        break
                    calls.append(link.call(_PUT, put))
            if calls:
                link.write(b"".join(calls))
                sent += len(calls)
            if not calls or sent - acknowledged > _WINDOW - _BATCH or sent == total:
                acknowledged += len(link.read())


def _follow(pipe: Connection, port: int) -> None:
    link, replica = Http2(_HOST, port), replica_of(pipe)
    everything = blob(1, b"\0") + blob(2, b"\0") + number(3, 1)  # every key, from the first revision on
    link.write(link.call(_WATCH, blob(1, everything)))
    pipe.send(("ready", time.perf_counter()))
    while True:
        with suppress(TimeoutError):  # nobody submits
            for answer in link.read():
                for event in watched(answer):
                    replica.apply(event)


def watched(answer: bytes) -> Iterator[bytes]:
    """The values put, out of a watch's answer. Raises BrokenRun for a watch that was cancelled."""
    for name, value in fields(answer):
        if name == 4:
            raise BrokenRun("etcd cancelled a watch")
        if name == 11:
            event: dict[int, Any] = dict(fields(value))  # type: ignore[arg-type]  # a message
            yield dict(fields(event[2]))[5]  # type: ignore[misc]  # the value of its key
