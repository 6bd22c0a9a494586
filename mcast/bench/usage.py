"""What processes used of the machine while something was measured: CPU, context switches, datagrams, system calls."""

from __future__ import annotations

import os
import resource
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from mcast.client.client import Client

COUNTED: Final = ("datagrams_sent", "bytes_sent", "sends", "datagrams_received", "bytes_received", "receives")
"""Of a node's link: bytes without IP and UDP headers; sends and receives are system calls."""
CLIENT: Final = "client"
"""The name of the process that measures."""

Counts = dict[str, float | None]
"""None: this system does not tell."""


@dataclass(frozen=True, slots=True)
class Reading:
    """What all had used by a moment. Seconds of CPU; `busy_s` is all the machine's processors together."""

    at_s: float
    busy_s: float | None
    processes: Mapping[str, Counts]


async def read_usage(pids: Mapping[str, int], client: Client) -> Reading:
    """Of the nodes' processes in `pids`, by id, and of this one. `client` asks the nodes what their links did."""
    status = await client.status()
    links = {node["id"]: node.get("link") or {} for node in status["nodes"]}
    processes = {
        node_id: {**of_process(pid), **{name: links[node_id].get(name) for name in COUNTED}}
        for node_id, pid in pids.items()
    }
    return Reading(time.perf_counter(), machine_busy_s(), {**processes, CLIENT: own()})


def own() -> Counts:
    """This process's: exact, where another's is counted in ticks."""
    used = resource.getrusage(resource.RUSAGE_SELF)
    switches = used.ru_nvcsw + used.ru_nivcsw
    return {"user_s": used.ru_utime, "system_s": used.ru_stime, "switches": switches, **dict.fromkeys(COUNTED)}


def of_process(pid: int) -> Counts:
    """User and system time (in ticks of 10 ms) and context switches of a process; all None without a /proc."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_bytes().rpartition(b")")[2].split()
        threads = [path.read_text() for path in Path(f"/proc/{pid}/task").glob("*/status")]
    except OSError:
        return dict.fromkeys(("user_s", "system_s", "switches"))
    switches = sum(
        int(line.rpartition(":")[2])
        for thread in threads for line in thread.splitlines() if "ctxt_switches" in line
    )  # fmt: skip
    tick_s = 1 / os.sysconf("SC_CLK_TCK")
    return {"user_s": int(fields[11]) * tick_s, "system_s": int(fields[12]) * tick_s, "switches": switches}


def machine_busy_s() -> float | None:
    """Seconds that all processors together have worked since the start; None without a /proc."""
    try:
        with open("/proc/stat", "rb") as file:
            user, nice, system, _idle, _iowait, irq, softirq, *_ = (int(field) for field in file.readline().split()[1:])
    except OSError:
        return None
    return (user + nice + system + irq + softirq) / os.sysconf("SC_CLK_TCK")


def used(before: Reading, after: Reading, events: int) -> dict[str, Any]:
    """What it took in between: `per_event` by process, and `busy`: the share of one processor that each used.

    `machine_busy` is the share of all processors that anything used, other programs included.
    """
    seconds = max(after.at_s - before.at_s, 1e-9)
    per_event: dict[str, Counts] = {}
    busy: dict[str, float | None] = {}
    for name, now in after.processes.items():
        taken = {key: _minus(value, before.processes[name][key]) for key, value in now.items()}
        user, system = taken.pop("user_s"), taken.pop("system_s")
        cpu = None if user is None or system is None else user + system
        times = {"cpu_us": cpu, "user_us": user, "system_us": system}
        per_event[name] = {
            **{key: None if value is None else round(value / events * 1e6, 3) for key, value in times.items()},
            **{key: None if value is None else round(value / events, 5) for key, value in taken.items()},
        }
        busy[name] = None if cpu is None else round(cpu / seconds, 3)
    whole = _minus(after.busy_s, before.busy_s)
    machine_busy = None if whole is None else round(whole / seconds / (os.cpu_count() or 1), 3)
    return {"per_event": per_event, "busy": busy, "machine_busy": machine_busy}


def _minus(now: float | None, then: float | None) -> float | None:
    return None if now is None or then is None else now - then
