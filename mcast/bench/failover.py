"""How long clients wait when the sequencer goes away: its process killed, stopped, or its datagrams cut off.

Real processes under a steady load; each time the one that leads is struck, and comes back once another leads. What was
acknowledged is looked for in every replica after each time and again at the end: a run that lost or doubled anything
gives no number.
"""

from __future__ import annotations

import asyncio
import random
import signal
from collections.abc import Sequence
from contextlib import AsyncExitStack
from dataclasses import asdict, dataclass
from math import fsum
from typing import Final

from mcast.analysis import percentile
from mcast.bench.job import BrokenRun
from mcast.bench.measure import Document, OnProgress, check_alive, machine, offload
from mcast.bench.pulse import Pulse
from mcast.errors import EnvironmentProblem, NotSent, NotYet
from mcast.lab.processes import Processes

KINDS: Final = ("kill", "stop", "cut")
MEMBERS_MIN: Final = 3  # fewer have no majority left when one is gone
OUTAGE_S_MAX: Final = 20.0  # for acknowledgements to go on; beyond, the run is broken
READY_S: Final = 20.0  # for every client to be acknowledged once before the strike
BEAT_S: Final = (0.2, 0.3)  # of undisturbed load before the strike: at no fixed phase of anything


@dataclass(frozen=True, slots=True, kw_only=True)
class FailoverWorkload:
    """What is struck how often, and under what load."""

    kind: str = "kill"
    times: int = 30
    nodes: int = 3
    profile: str = "default"
    sync: str = "os"
    sealed: bool = True
    rate: float = 100.0
    """Commands a second of each client; there is one at every node."""
    pause_s: float = 3.0
    """How long the sequencer stays stopped or cut off; longer if its own clients wait longer."""
    seed: int = 7


async def measure(workload: FailoverWorkload, progress: OnProgress) -> Document:
    """Strike the sequencer `times` times.

    An outage is the longest time between two acknowledgements around a strike, at the worst of the clients of the
    other nodes; `gateway_outage_ms` is that of the struck node's own client, which has to find another gateway.

    Raises:
        BrokenRun: something acknowledged was lost or doubled, or a node did not live to the end: there is no number.
    """
    draw = random.Random(workload.seed)
    runs: list[Document] = []
    written: list[Pulse] = []
    async with Processes(
        nodes=workload.nodes, sync=workload.sync, sealed=workload.sealed, profile=workload.profile
    ) as lab:
        try:
            for number in range(workload.times):
                progress(f"{workload.kind} {number + 1} of {workload.times}", number / workload.times)
                pulses, run = await _strike(lab, workload, f"r{number}", draw)
                await _check(lab, pulses)
                written += pulses
                runs.append(run)
            status = await _check(lab, written)
        except (NotSent, NotYet, EnvironmentProblem) as error:
            check_alive(lab)  # a dead node is the better explanation
            raise BrokenRun(str(error)) from error
    return {
        "bench": "failover",
        "machine": machine(),
        "gso": offload(status),
        "workload": asdict(workload),
        "acknowledged": sum(pulse.acknowledged for pulse in written),
        "outage_ms": summary([run["outage_ms"] for run in runs]),
        "gateway_outage_ms": summary([run["gateway_outage_ms"] for run in runs]),
        "runs": runs,
    }


def summary(outages_ms: Sequence[float]) -> Document:
    """What to tell of some outages; `all` in the order they happened."""
    ordered = sorted(outages_ms)
    summary = {"p50": percentile(ordered, 0.5), "p90": percentile(ordered, 0.9), "min": ordered[0], "max": ordered[-1]}
    return {**summary, "mean": round(fsum(ordered) / len(ordered), 1), "all": list(outages_ms)}


async def _strike(
    lab: Processes, workload: FailoverWorkload, name: str, draw: random.Random
) -> tuple[list[Pulse], Document]:
    """Once: the load, the strike, the takeover, and the struck one's return, all under load."""
    before = await lab.wait_until_equal()
    struck, epoch, loop = before["sequencer"], before["epoch"], asyncio.get_running_loop()
    async with AsyncExitStack() as stack:
        pulses: dict[str, Pulse] = {}
        for node_id in lab.ids:
            pulse = Pulse(lab.connect(node_id), f"{name}.{node_id}", workload.rate)
            pulses[node_id] = await stack.enter_async_context(pulse)
            await pulse.wait_for(1, READY_S)
        await asyncio.sleep(draw.uniform(*BEAT_S))
        for node_id, pulse in pulses.items():
            if (pulse.gateway, pulse.epoch) != (node_id, epoch):
                raise BrokenRun(f"{node_id} or the sequencer was lost before anything was done to it")
        at_s = loop.time()
        await _take_away(lab, struck, workload.kind)
        for pulse in pulses.values():
            await pulse.wait_for(epoch + 1, OUTAGE_S_MAX)
        if workload.kind != "kill":
            await asyncio.sleep(at_s + workload.pause_s - loop.time())
        await _give_back(lab, struck, workload.kind)
        check_alive(lab)
        after = await lab.wait_until_live()
    own = pulses.pop(struck)
    return [own, *pulses.values()], {
        "struck": struck,
        "successor": after["sequencer"],
        "reigns": after["epoch"] - epoch,
        "outage_ms": round(max(pulse.outage_s(at_s, epoch) for pulse in pulses.values()) * 1e3, 1),
        "gateway_outage_ms": round(own.outage_s(at_s, epoch) * 1e3, 1),
    }


async def _take_away(lab: Processes, node_id: str, kind: str) -> None:
    if kind == "kill":
        await lab.kill(node_id)
    elif kind == "stop":
        lab.signal(node_id, signal.SIGSTOP)
    else:
        others = "+".join(other for other in lab.ids if other != node_id)
        cuts = {other: f"cut={others if other == node_id else node_id}" for other in lab.ids}
        await _fault(lab, cuts)


async def _give_back(lab: Processes, node_id: str, kind: str) -> None:
    if kind == "kill":
        await lab.start(node_id)
    elif kind == "stop":
        lab.signal(node_id, signal.SIGCONT)
    else:
        await _fault(lab, dict.fromkeys(lab.ids, "clear"))


async def _fault(lab: Processes, specs: dict[str, str]) -> None:
    client = lab.connect()  # asks over connections of their own
    await asyncio.gather(*(client.fault(node_id, spec) for node_id, spec in specs.items()))


async def _check(lab: Processes, pulses: Sequence[Pulse]) -> Document:
    """Every replica's lists against what was acknowledged, once all are equal; the status document then."""
    status = await lab.wait_until_equal()
    check_alive(lab)
    last = max(node["last_seq"] for node in status["nodes"])
    asked = [("get", pulse.key) for pulse in pulses]
    for node_id in lab.ids:
        async with lab.connect(node_id, strict=True) as client:
            answers = await client.query_many(asked, min_seq=last)
        for pulse, answer in zip(pulses, answers, strict=True):
            pulse.check(node_id, answer.value)
    return status
