"""Corosync CPG: three daemons, each in a network namespace of its own on one bridge. An event is a multicast.

The namespaces are needed because its programs meet their daemon at an address that is fixed. The client lives in one of
the members, as Corosync's do; nothing awaits the other copies.
"""

from __future__ import annotations

import ctypes
import os
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Final

from tools.other_systems.cpg import CpgGroup
from tools.other_systems.crew import Crew, Servers, replica_of, until
from tools.other_systems.embedded import Embedded, answer
from tools.other_systems.peer import NODES, Peer, make_events

_IDLE_S: Final = 0.01
_BATCH: Final = 64  # messages sent before a look at what has come back
_NEW_NETWORK: Final = 0x4000_0000  # CLONE_NEWNET
_NODE: Final = """
mount --make-rprivate / && mount --bind {run} /run && mount --bind {state} /var/lib/corosync || exit
ip link set lo up
until ip addr add {address}/24 dev eth0 2>/dev/null; do sleep 0.02; done
ip link set eth0 up && exec corosync -f -c {config}
"""


@contextmanager
def running(folder: Path) -> Iterator[Peer]:
    """Three daemons and a member of the group at each."""
    addresses = [f"10.78.0.{number}" for number in range(1, NODES + 1)]
    config = folder / "corosync.conf"
    config.write_text(configuration(addresses))
    with Servers(folder) as servers, Crew(folder) as crew:
        pids = [_start(servers, folder, config, address) for address in addresses]
        servers.wait_until("no namespaces", lambda: all(_namespace(pid) != _namespace(os.getpid()) for pid in pids))
        servers.start("bridge", ["unshare", "-n", "sh", "-c", _bridge(pids)])
        for pid in pids:
            crew.start(_live, pid)
        crew.wait_until_ready()
        servers.check()
        yield Embedded(crew, 0)


def configuration(addresses: Sequence[str]) -> str:
    """What the daemons read: multicast, and otherwise its defaults.

    Without real-time priority, which the others do not have either and which starves whoever measures.
    """
    nodes = "".join(
        f"  node {{\n    ring0_addr: {address}\n    nodeid: {number}\n    name: n{number}\n  }}\n"
        for number, address in enumerate(addresses, 1)
    )
    return (
        "totem {\n  version: 2\n  cluster_name: peers\n  transport: udp\n  token: 1000\n"
        "  interface {\n    ringnumber: 0\n    mcastaddr: 239.77.9.9\n    mcastport: 5405\n  }\n}\n"
        f"nodelist {{\n{nodes}}}\n"
        "system {\n  sched_rr: no\n}\n"
        "logging {\n  to_stderr: yes\n  to_syslog: no\n  to_logfile: no\n}\n"
    )


def _start(servers: Servers, folder: Path, config: Path, address: str) -> int:
    run, state = folder / f"run-{address}", folder / f"state-{address}"
    run.mkdir()
    state.mkdir()
    script = _NODE.format(run=run, state=state, address=address, config=config)
    return servers.start(f"corosync-{address}", ["unshare", "-n", "-m", "sh", "-c", script])


def _bridge(pids: Sequence[int]) -> str:
    """What makes a bridge with a wire to each process's namespace, and holds it."""
    wires = [
        f"ip link add v{pid} type veth peer name eth0 netns {pid} && ip link set v{pid} master peers up" for pid in pids
    ]
    return " && ".join(["ip link add peers type bridge", "ip link set peers up", *wires, "exec sleep infinity"])


def _namespace(pid: int) -> str:
    return os.readlink(f"/proc/{pid}/ns/net")


def _live(pipe: Connection, daemon: int) -> None:
    with open(f"/proc/{daemon}/ns/net", "rb") as namespace:
        if ctypes.CDLL(None, use_errno=True).setns(namespace.fileno(), _NEW_NETWORK):
            raise OSError(ctypes.get_errno(), "setns")
    replica, delivered = replica_of(pipe), 0

    def deliver(message: bytes) -> None:
        nonlocal delivered
        delivered += 1
        replica.apply(message)

    group: CpgGroup = until("corosync does not answer", lambda: CpgGroup(b"peers", deliver))

    def flood(count: int, size: int) -> tuple[float, float]:
        events, sent, wanted = make_events(count, size), 0, delivered + count
        began = time.perf_counter()
        while delivered < wanted:
            before = sent
            for event in events[sent : sent + _BATCH]:
                if not group.send(event):
                    break
                sent += 1
            group.dispatch(0.0 if sent > before else _IDLE_S)
        return began, time.perf_counter()

    def alone(count: int, size: int) -> list[float]:
        took = []
        for event in make_events(count + 1, size)[:-1]:
            wanted, began = delivered + 1, time.perf_counter()
            while not group.send(event):
                group.dispatch(_IDLE_S)
            while delivered < wanted:
                group.dispatch(_IDLE_S)
            took.append(time.perf_counter() - began)
        return took

    while group.members < NODES:
        group.dispatch(_IDLE_S)
    pipe.send(("ready", time.perf_counter()))
    while True:
        group.dispatch(_IDLE_S)
        if pipe.poll():
            answer(pipe, flood, alone)
