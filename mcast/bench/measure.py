"""What all measurements share: a cluster that must live through them, and numbers summed up over rounds."""

from __future__ import annotations

import asyncio
import contextlib
import os
import platform
from collections.abc import Callable, Coroutine, Sequence
from statistics import median
from typing import Any, Final, TypeVar

from mcast.analysis import reconcile
from mcast.bench.job import BrokenRun
from mcast.errors import EnvironmentProblem, NotSent, NotYet, Refused, Unknown
from mcast.lab.processes import Processes
from mcast.limits import MTU_MAX
from mcast.net.interfaces import choose_interface

LOOK_S: Final = 0.1  # between looks whether all nodes live
SETTLE_S: Final = 30.0  # for all gaps to close once the load is over

OnProgress = Callable[[str, float], None]
"""Hears what is being measured, and how much of that is done, 0 to 1."""
Document = dict[str, Any]

_T = TypeVar("_T")


def loopback_mtu() -> int:
    """Bytes of the largest datagram that loopback carries. Raises ConfigError, EnvironmentProblem: there is none."""
    return min(choose_interface("127.0.0.1", "239.0.0.1").mtu, MTU_MAX)


async def while_alive(lab: Processes, work: Coroutine[Any, Any, _T]) -> _T:
    """What `work` returns, if no node ends meanwhile.

    Raises:
        BrokenRun: a node's process ended; work was cancelled.
    """
    task = asyncio.ensure_future(work)
    try:
        while not (await asyncio.wait([task], timeout=LOOK_S))[0]:
            check_alive(lab)
        return task.result()
    except (NotSent, NotYet, Refused, Unknown, EnvironmentProblem, BrokenRun) as error:
        check_alive(lab)  # a dead node is the better explanation
        raise BrokenRun(str(error)) from error
    finally:
        task.cancel()
        with contextlib.suppress(BaseException):
            await task


async def in_one_epoch(
    lab: Processes, work: Callable[[Document], Coroutine[Any, Any, _T]]
) -> tuple[_T, Document, Document]:
    """What `work` returns, given a live cluster's status; and the status and the gaps once it has settled again.

    Raises:
        BrokenRun: as `settled`, or another sequencer leads then.
    """
    before = await lab.wait_until_live()
    result = await work(before)
    status, gaps = await settled(lab)
    check_one_epoch(before, status)
    return result, status, gaps


def check_alive(lab: Processes) -> None:
    """Raise BrokenRun if a node's process has ended."""
    for node_id in lab.ids:
        if node_id not in lab.running:
            words = lab.log(node_id).read_text(errors="replace").strip().rsplit("\n", 1)[-1][-300:]
            raise BrokenRun(f"{node_id} died in the middle of the run; its last words: {words or 'none'}")


async def settled(lab: Processes) -> tuple[Document, Document]:
    """Wait until all replicas are equal and every loss is accounted for; the status and the gaps documents then.

    Raises:
        BrokenRun: not within SETTLE_S; says what is missing.
    """
    loop = asyncio.get_running_loop()
    deadline_s = loop.time() + SETTLE_S
    while True:
        status = await lab.wait_until_equal(SETTLE_S)
        gaps = await lab.gaps()
        open_accounts = [account for account in reconcile(gaps) if not account.reconciles]
        if not open_accounts and len(reconcile(gaps)) == len(lab.ids):
            return status, gaps
        if loop.time() >= deadline_s:
            listed = "; ".join(
                f"{account.id} injected {account.injected}, detected {account.detected}, repaired {account.repaired}, "
                f"superseded {account.superseded}, transferred {account.transferred}, open {account.open}"
                for account in open_accounts
            )
            raise BrokenRun(f"losses do not reconcile: {listed or 'a node did not answer'}")
        await asyncio.sleep(LOOK_S)


def check_one_epoch(before: Document, after: Document) -> None:
    """Raise BrokenRun if the sequencer changed between two status documents: that measured a failover as well."""
    if before["epoch"] != after["epoch"]:
        raise BrokenRun(
            f"the sequencer changed during the run (epoch {before['epoch']} to {after['epoch']}): is this machine "
            "overloaded?"
        )


def spread(values: Sequence[float], digits: int = 0) -> Document:
    """Median, least and greatest of some rounds' results."""
    kept = {"median": median(values), "min": min(values), "max": max(values)}
    return {name: round(value, digits) if digits else round(value) for name, value in kept.items()}


def spreads(documents: Sequence[Document], digits: int = 1) -> Document:
    """For each name in the first of these, `spread` over all of them; None where one has none."""
    every = {name: [one[name] for one in documents if one.get(name) is not None] for name in documents[0]}
    return {name: spread(values, digits) if len(values) == len(documents) else None for name, values in every.items()}


def gateway(status: Document, at: str) -> str:
    """The node that `at` ("sequencer", "follower") means in a status document; a lone node is all there is.

    Raises:
        BrokenRun: nobody sequences.
    """
    if status["sequencer"] is None:
        raise BrokenRun("nobody sequences")
    followers = [node["id"] for node in status["nodes"] if node["id"] != status["sequencer"] and node["votes"]]
    return str(followers[0] if at == "follower" and followers else status["sequencer"])


def offload(status: Document) -> bool:
    """Whether the kernel cuts bursts into datagrams (GSO) for every node, by its status document."""
    return all((node.get("link") or {}).get("gso", False) for node in status["nodes"])


def machine() -> Document:
    """Where it was measured."""
    return {
        "system": f"{platform.system()} {platform.release()}", "processors": os.cpu_count(),
        "processor": _processor(), "python": platform.python_version(),
    }  # fmt: skip


def _processor() -> str | None:
    try:
        with open("/proc/cpuinfo", encoding="utf-8", errors="replace") as file:
            named = [line.partition(":")[2].strip() for line in file if line.startswith("model name")]
    except OSError:
        return platform.processor() or None
    return named[0] if named else None
