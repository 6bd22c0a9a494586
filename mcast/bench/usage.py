"""What processes used of the machine while something was measured: CPU, context switches, datagrams, system calls."""

from __future__ import annotations

import os
import resource
import time
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

from mcast.client.client import Client

COUNTED: Final = ("datagrams_sent", "bytes_sent", "sends", "datagrams_received", "bytes_received", "receives")
"""Of a node's link: bytes without IP and UDP headers; sends and receives are system calls."""
CLIENT: Final = "client"
"""The name of the process that measures."""
_KTHREADD: Final = b"2"  # the parent of the kernel's threads

Counts = dict[str, float | None]
"""None: this system does not tell."""


@dataclass(frozen=True, slots=True)
class UsageReading:
    """What all had used by a moment. Seconds of CPU; `busy_s` is all the machine's processors together."""

    at_s: float
    busy_s: float | None
    kernel_s: float
    """Of these, the kernel's own threads."""
    processes: Mapping[str, Counts]


async def usage_before(pids: Mapping[str, int], client: Client) -> UsageReading:
    """What the nodes' processes in `pids`, by id, and this one have used, read last: what asking costs is before it."""
    links = await _links(client)
    return _with(links, _now(pids))


async def usage_after(pids: Mapping[str, int], client: Client) -> UsageReading:
    """The same, read first: what asking costs is after it."""
    now = _now(pids)
    return _with(await _links(client), now)


async def _links(client: Client) -> dict[str, Counts]:
    """What each node's link did, which only the node itself can tell."""
    status = await client.status()
    return {node["id"]: node.get("link") or {} for node in status["nodes"]}


def _now(pids: Mapping[str, int]) -> UsageReading:
    processes = {node_id: of_process(pid) for node_id, pid in pids.items()} | {CLIENT: own()}
    return UsageReading(time.perf_counter(), machine_busy_s(), kernel_threads_s(), processes)


def _with(links: Mapping[str, Counts], now: UsageReading) -> UsageReading:
    counted = {name: {key: links.get(name, {}).get(key) for key in COUNTED} for name in now.processes}
    return replace(now, processes={name: {**taken, **counted[name]} for name, taken in now.processes.items()})


def own() -> Counts:
    """This process's: exact, where another's user and system times are counted in ticks."""
    used = resource.getrusage(resource.RUSAGE_SELF)
    return {
        "cpu_s": used.ru_utime + used.ru_stime, "user_s": used.ru_utime, "system_s": used.ru_stime,
        "switches": used.ru_nvcsw + used.ru_nivcsw, "rss_mib": of_process(os.getpid())["rss_mib"],
    }  # fmt: skip


def of_process(pid: int) -> Counts:
    """Times, context switches and memory of a process; None without a /proc.

    Its threads' own clocks tell `cpu_s` to the nanosecond; how that divides into user and system is known in ticks.
    """
    try:
        fields = Path(f"/proc/{pid}/stat").read_bytes().rpartition(b")")[2].split()
        threads = list(Path(f"/proc/{pid}/task").iterdir())
        switches = sum(_switches((thread / "status").read_text()) for thread in threads)
        ran_ns = [int(clock.read_text().split()[0]) for thread in threads if (clock := thread / "schedstat").exists()]
    except (OSError, IndexError):
        return dict.fromkeys(("cpu_s", "user_s", "system_s", "switches", "rss_mib"))
    user_s, system_s = (int(field) / os.sysconf("SC_CLK_TCK") for field in fields[11:13])
    return {
        "cpu_s": sum(ran_ns) / 1e9 or user_s + system_s, "user_s": user_s, "system_s": system_s, "switches": switches,
        "rss_mib": round(int(fields[21]) * resource.getpagesize() / (1 << 20), 1),
    }  # fmt: skip


def _switches(status: str) -> int:
    return sum(int(line.rpartition(":")[2]) for line in status.splitlines() if "ctxt_switches" in line)


def machine_busy_s() -> float | None:
    """Seconds that all processors together have worked since the start; None without a /proc."""
    try:
        with open("/proc/stat", "rb") as file:
            user, nice, system, _idle, _iowait, irq, softirq, *_ = (int(field) for field in file.readline().split()[1:])
    except OSError:
        return None
    return (user + nice + system + irq + softirq) / os.sysconf("SC_CLK_TCK")


def kernel_threads_s() -> float:
    """Seconds that the kernel's own threads have worked, of those that run now; 0 where none is to be seen."""
    ran_ns = 0
    for thread in Path("/proc").glob("[0-9]*"):
        with suppress(OSError, IndexError):  # it has ended meanwhile
            if (thread / "stat").read_bytes().rpartition(b")")[2].split()[1] == _KTHREADD:
                ran_ns += int((thread / "schedstat").read_text().split()[0])
    return ran_ns / 1e9


def used(before: UsageReading, after: UsageReading, events: int) -> dict[str, Any]:
    """What it took in between: `per_event` by process, and `busy`: the share of one processor that each used.

    `machine_busy` is the share of all processors that anything used, `kernel_busy` that of the kernel's own threads,
    such as those that sync, `others_busy` that of programs other than these; `rss_mib` is each process's memory at the
    end.
    """
    seconds = max(after.at_s - before.at_s, 1e-9)
    per_event: dict[str, Counts] = {}
    busy: dict[str, float | None] = {}
    for name, now in after.processes.items():
        taken = {key: _minus(value, before.processes[name][key]) for key, value in now.items()}
        del taken["rss_mib"]
        cpu, user, system = (taken.pop(key) for key in ("cpu_s", "user_s", "system_s"))
        times = {"cpu_us": cpu, "user_us": user, "system_us": system}
        per_event[name] = {
            **{key: None if value is None else round(value / events * 1e6, 3) for key, value in times.items()},
            **{key: None if value is None else round(value / events, 5) for key, value in taken.items()},
        }
        busy[name] = None if cpu is None else round(cpu / seconds, 3)
    whole = _minus(after.busy_s, before.busy_s)
    cpus = os.cpu_count() or 1
    machine_busy = None if whole is None else round(whole / seconds / cpus, 3)
    kernel_busy = round(max(after.kernel_s - before.kernel_s, 0.0) / seconds / cpus, 3)
    return {
        "per_event": per_event, "busy": busy, "machine_busy": machine_busy, "kernel_busy": kernel_busy,
        "others_busy": others_busy(machine_busy, kernel_busy, busy.values()),
        "rss_mib": {name: now["rss_mib"] for name, now in after.processes.items()},
    }  # fmt: skip


def others_busy(machine_busy: float | None, kernel_busy: float, busy: Iterable[float | None]) -> float | None:
    """The share of all processors that programs other than these used; None where that is not known."""
    known = [share for share in busy if share is not None]
    if machine_busy is None or not known:
        return None
    return round(max(machine_busy - kernel_busy - sum(known) / (os.cpu_count() or 1), 0.0), 3)


def _minus(now: float | None, then: float | None) -> float | None:
    return None if now is None or then is None else now - then
