"""PySyncObj: three replicas in memory. An event is a replicated call; the client lives in the leader's process."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, Final

from pysyncobj import SyncObj, SyncObjConf, replicated

from mcast.bench.job import BrokenRun
from mcast.net.ports import free_ports
from tools.other_systems.crew import Crew, replica_of
from tools.other_systems.embedded import Embedded, answer
from tools.other_systems.peer import NODES, Peer, PeerReplica, make_events

_WINDOW: Final = 5_000  # calls unacknowledged
_IDLE_S: Final = 0.01  # a tick without work
_PERIOD_S: Final = 0.01  # after which a batch is sent that nothing else sends
_ELECTION_S: Final = 1.0  # of silence; by its default of 0.4 a busy machine loses its leader in a flood
_NEVER: Final = 1 << 40  # log entries or seconds before its log is compacted


@contextmanager
def running(folder: Path) -> Iterator[Peer]:
    """Three processes; whichever leads submits."""
    addresses = [f"127.0.0.1:{port}" for port in free_ports(NODES)]
    with Crew(folder) as crew:
        for address in addresses:
            crew.start(_live, address, [other for other in addresses if other != address])
        leaders = {leader for (leader,) in crew.wait_until_ready()}
        if len(leaders) != 1:
            raise BrokenRun("the replicas do not agree who leads")
        yield Embedded(crew, addresses.index(leaders.pop()))


class _Object(SyncObj):  # type: ignore[misc]  # has no types
    def __init__(self, address: str, others: list[str], conf: Any, replica: PeerReplica) -> None:
        super().__init__(address, others, conf)
        self._replica = replica

    @replicated  # type: ignore[untyped-decorator]
    def put(self, event: bytes) -> None:
        self._replica.apply(event)


def _live(pipe: Connection, address: str, others: list[str]) -> None:
    conf = SyncObjConf(
        autoTick=False, commandsQueueSize=2 * _WINDOW, logCompactionMinEntries=_NEVER, logCompactionMinTime=_NEVER,
        connectionRetryTime=0.1, appendEntriesPeriod=_PERIOD_S, appendEntriesUseBatch=False,
        raftMinTimeout=_ELECTION_S, raftMaxTimeout=2 * _ELECTION_S,
    )  # fmt: skip
    own = _Object(address, others, conf, replica_of(pipe))

    def flood(count: int, size: int) -> tuple[float, float]:
        conf.appendEntriesUseBatch = True  # it looks at every command: batches here, each at once elsewhere
        try:
            return _flood(own, count, size)
        finally:
            conf.appendEntriesUseBatch = False

    while not (own.isReady() and own._getLeader() is not None):
        own.doTick(_IDLE_S)
    pipe.send(("ready", own._getLeader().address))
    while True:
        own.doTick(_IDLE_S)
        if pipe.poll():
            answer(pipe, flood, lambda count, size: [_call(own, event) for event in make_events(count + 1, size)[:-1]])


def _flood(own: Any, count: int, size: int) -> tuple[float, float]:
    events, sent, acknowledged = make_events(count, size), 0, 0

    def on_done(result: object, error: int) -> None:
        nonlocal acknowledged
        _check(error)
        acknowledged += 1

    began = time.perf_counter()
    while acknowledged < count:
        batch = events[sent : acknowledged + _WINDOW]
        for event in batch:
            own.put(event, callback=on_done)
        sent += len(batch)
        own.doTick(0.0 if batch else _IDLE_S)
    return began, time.perf_counter()


def _call(own: Any, event: bytes) -> float:
    errors: list[int] = []
    began = time.perf_counter()
    own.put(event, callback=lambda result, error: errors.append(error))
    while not errors:
        own.doTick(_IDLE_S)
    _check(errors[0])
    return time.perf_counter() - began


def _check(error: int) -> None:
    if error:
        raise SystemExit(f"PySyncObj refused a call: FAIL_REASON {error}")
