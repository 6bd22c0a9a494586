"""The outside test: real processes, real faults, every call written down, and all of it judged from the journals.

A simulator only finds what its network, disks and clocks can do. Here nothing is simulated: the kernel's network, in
namespaces where the machine allows it, its signals and its files.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
import shutil
import signal
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, Final, TextIO

from mcast.clock import monotonic_s
from mcast.errors import CorruptionError, Error, NotSent, NotYet
from mcast.history import Finding, Judgement, RecordedCall, Stretch, encode_call, encode_stretch, judge
from mcast.lab.callers import Callers
from mcast.lab.lan import CLIENTS, NETWORK, Lan
from mcast.lab.processes import Processes
from mcast.lab.subscribers import Subscribers
from mcast.lab.tails import lose_tail
from mcast.lab.trouble import DISK_LOSSES, KINDS, SEQUENCER, Trouble, fault_at, links_of, plan_troubles
from mcast.storage.files import RealFiles
from mcast.storage.recovery import recover
from mcast.storage.verdict import Past, Verdict
from mcast.wire.frame import Frame

HEAL_S: Final = 30.0  # for all nodes to be equal after the last fault
READMIT_S: Final = 20.0  # for a member that lost its disk to vote again
_JOURNAL_BYTES_MAX: Final = 1 << 31  # held in memory for the judgement


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """What to run. `lan` wants a network namespace of this process's own; without it partitions cut UDP alone."""

    seconds: float = 60.0
    seed: int = 1
    nodes: int = 3
    clients: int = 4
    subscribers: int = 3
    kinds: tuple[str, ...] = KINDS
    lan: bool = True
    sync: str = "os"
    profile: str = "default"
    sealed: bool = False


@dataclass(slots=True)
class OutsideResult:
    """What happened. `troubles` is (seconds since the begin, kind, node, seconds it lasted) in order."""

    judgement: Judgement
    troubles: list[tuple[float, str, str, float]]
    problems: list[str]
    """What the cluster itself failed at: a node that ended, or was not equal in time."""
    status: dict[str, Any]

    @property
    def is_fine(self) -> bool:
        """Whether no promise was broken."""
        return not self.problems and not self.judgement.findings


async def run_outside(options: Options, folder: Path) -> OutsideResult:
    """Run a cluster in `folder`, trouble it, heal it, judge it. The history is left there: `history.jsonl` has
    every call, `streams.jsonl` every stretch of a subscription.

    Raises:
        EnvironmentProblem, NotYet: the cluster could not even be started.
    """
    nodes = [f"n{number}" for number in range(1, options.nodes + 1)]
    async with contextlib.AsyncExitStack() as stack:
        lan = await stack.enter_async_context(Lan(nodes)) if options.lan else None
        where: dict[str, Any] = {"hosts": lan.hosts, "interface": NETWORK, "wrap": lan.wrap} if lan else {}
        processes = await stack.enter_async_context(
            Processes(
                nodes=options.nodes, sync=options.sync, profile=options.profile, sealed=options.sealed,
                keep_in=folder, **where,
            )
        )  # fmt: skip
        history = stack.enter_context((folder / "history.jsonl").open("w"))
        streams = stack.enter_context((folder / "streams.jsonl").open("w"))
        run = _Run(options, processes, lan, history, streams)
        await run.go()
    findings = []
    logs = {}
    for node in nodes:
        try:
            logs[node] = journal_frames(processes.config.data_dir / node / "journal")
        except CorruptionError as error:
            findings.append(f"{node}: {error}")
    judgement = judge(run.calls, logs, run.stretches)
    return OutsideResult(judgement, run.happened, [*run.problems, *findings], run.status)


def journal_frames(directory: Path) -> tuple[Frame, ...]:
    """All frames of a stopped node's journal; it is only read. Raises CorruptionError for a damaged one."""
    found = recover(RealFiles(), str(directory), past=Past.SAME_BOOT, cache_bytes=_JOURNAL_BYTES_MAX)
    if found.verdict is Verdict.CORRUPT:
        raise CorruptionError(found.detail)
    return found.frames


@dataclass(slots=True)
class _Run:
    options: Options
    processes: Processes
    lan: Lan | None
    history: TextIO
    streams: TextIO
    calls: list[RecordedCall] = field(default_factory=list)
    stretches: list[Stretch] = field(default_factory=list)
    happened: list[tuple[float, str, str, float]] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)
    status: dict[str, Any] = field(default_factory=dict)
    losses: list[dict[tuple[str, str], float]] = field(default_factory=list)
    """Of every trouble with links that is on."""
    busy: set[str] = field(default_factory=set)
    """Nodes whose process is stopped or dead just now."""
    losing: asyncio.Lock = field(default_factory=asyncio.Lock)
    """Held from the look whether a disk may be lost until its node is started again."""

    async def go(self) -> None:
        """Load and trouble for as long as asked, then heal and wait; subscribers read on to the end."""
        ids = self.processes.ids
        subscribers = Subscribers(self._note, self.processes.connect, ids)
        async with asyncio.TaskGroup() as group:
            for number in range(self.options.subscribers):
                group.create_task(subscribers.run(f"s{number}", self.options.seed))
            await self._load(ids)
            last = max(
                (call.seq or 0 for call in self.calls if call.kind == "submit" and call.is_acknowledged), default=0
            )
            subscribers.finish(last, HEAL_S)
        self.problems += subscribers.behind
        with contextlib.suppress(NotYet):  # told already
            self.status = await self.processes.wait_until_equal(HEAL_S)
        self._check_processes()

    async def _load(self, ids: Sequence[str]) -> None:
        callers = Callers(self._record)
        async with asyncio.TaskGroup() as group:
            for number in range(self.options.clients):
                node = ids[number % len(ids)]
                make = partial(self.processes.connect, node)
                group.create_task(callers.run(f"c{number}", make, self.options.seed, writes=True))
            for node in ids:
                make = partial(self.processes.connect, node, strict=True)
                group.create_task(callers.run(f"at-{node}", make, self.options.seed, writes=False))
            try:
                await self._make_trouble()
                await self._expect_recovery()
            finally:
                callers.stopping = True

    def _record(self, call: RecordedCall) -> None:
        self.calls.append(call)
        self.history.write(encode_call(call) + "\n")

    def _note(self, stretch: Stretch) -> None:
        self.stretches.append(stretch)
        self.streams.write(encode_stretch(stretch) + "\n")

    async def _make_trouble(self) -> None:
        begun_s = monotonic_s()
        until_s = begun_s + self.options.seconds
        draw = random.Random(f"links {self.options.seed}")
        async with asyncio.TaskGroup() as group:
            for trouble in plan_troubles(self.processes.ids, self.options.seed, kinds=self.options.kinds):
                await asyncio.sleep(trouble.wait_s)
                if monotonic_s() + trouble.for_s >= until_s:
                    break
                group.create_task(self._one(trouble, draw, begun_s))

    async def _one(self, trouble: Trouble, draw: random.Random, begun_s: float) -> None:
        node = trouble.target if trouble.target != SEQUENCER else await self._sequencer()
        if node in self.busy:
            return
        self.happened.append((round(monotonic_s() - begun_s, 2), trouble.kind, node, round(trouble.for_s, 2)))
        if trouble.kind in ("kill", "stop") or trouble.kind in DISK_LOSSES:
            self.busy.add(node)
            try:
                await self._hurt(trouble, node)
            finally:
                self.busy.discard(node)
            return
        losses = links_of(trouble.kind, node, self.processes.ids, CLIENTS, draw)
        self.losses.append(losses)
        await self._set_links()
        await asyncio.sleep(trouble.for_s)
        self.losses.remove(losses)
        await self._set_links()

    async def _hurt(self, trouble: Trouble, node: str) -> None:
        if trouble.kind == "stop":
            self.processes.signal(node, signal.SIGSTOP)
            try:
                await asyncio.sleep(trouble.for_s)
            finally:
                self.processes.signal(node, signal.SIGCONT)
        elif trouble.kind == "kill":
            await self.processes.kill(node)
            await asyncio.sleep(trouble.for_s)
            await self.processes.start(node)
        elif self.losing.locked():
            self.happened.append((0.0, "not lost: another disk is being lost", node, 0.0))
        else:
            async with self.losing:
                await self._lose(trouble, node)

    async def _lose(self, trouble: Trouble, node: str) -> None:
        if not await self._may_lose():
            self.happened.append((0.0, "not lost: another member is not back yet", node, 0.0))
            return
        await self.processes.kill(node)
        directory = self.processes.config.data_dir / node
        if trouble.kind == "wipe":
            await asyncio.to_thread(shutil.rmtree, directory)
        else:
            share = random.Random(f"{self.options.seed} {len(self.happened)}").random()
            await asyncio.to_thread(lose_tail, directory, share, zeroed=trouble.kind == "tail-zeros")
        await asyncio.sleep(trouble.for_s)
        await self.processes.start(node)

    async def _may_lose(self) -> bool:
        """A second disk may be lost only when every member votes: else what was acknowledged would be lost for good."""
        until_s = monotonic_s() + READMIT_S
        while monotonic_s() < until_s:
            with contextlib.suppress(NotSent):
                nodes = (await self.processes.status())["nodes"]
                if all(node["reachable"] and node["votes"] and node["state"] == "live" for node in nodes):
                    return True
            await asyncio.sleep(0.2)
        return False

    async def _sequencer(self) -> str:
        with contextlib.suppress(NotSent):
            return str((await self.processes.status(0.5))["sequencer"] or self.processes.ids[0])
        return self.processes.ids[0]

    async def _set_links(self) -> None:
        """Put the links as all troubles together want them."""
        together: dict[tuple[str, str], float] = {}
        for losses in self.losses:
            for link, share in losses.items():
                together[link] = max(share, together.get(link, 0.0))
        if self.lan is not None:
            await self.lan.set_losses(together)
            return
        for node in self.processes.ids:
            spec = fault_at(node, together, CLIENTS)
            with contextlib.suppress(Error):  # a node that is down now; it starts without faults
                async with asyncio.timeout(1.0):
                    await self.processes.connect().fault(node, spec)

    async def _expect_recovery(self) -> None:
        """All faults are over: every node must be live and hold the same under load's end."""
        try:
            await self.processes.wait_until_live(HEAL_S)
        except Error as error:
            self.problems.append(str(error))

    def _check_processes(self) -> None:
        for node in self.processes.ids:
            if node not in self.processes.running:
                self.problems.append(f"{node} ended by itself: {_last_words(self.processes.log(node))}")
        if not self.status:
            self.problems.append(f"the nodes were not equal {HEAL_S:g} s after the last fault")
        elif not all(node["votes"] for node in self.status["nodes"]):
            self.problems.append("a member does not vote again")


def _last_words(log: Path) -> str:
    lines = log.read_text(errors="replace").strip().splitlines()
    return lines[-1] if lines else "nothing"


def summarize(result: OutsideResult) -> dict[str, Any]:
    """The run as one JSON document."""
    kinds: Counter[str] = Counter(kind for _, kind, _, _ in result.troubles)
    judgement = result.judgement
    return {
        "fine": result.is_fine,
        "problems": result.problems,
        "findings": _as_findings(judgement.findings),
        "undecided": list(judgement.undecided),
        "calls": dict(sorted(judgement.counts.items())),
        "executed": judgement.executed,
        "given": judgement.given,
        "last_seq": judgement.last_seq,
        "epochs": judgement.epochs,
        "faults": dict(sorted(kinds.items())),
    }


def _as_findings(findings: Iterable[Finding]) -> list[dict[str, str]]:
    return [{"check": finding.check, "text": finding.text} for finding in findings]


__all__ = ["Options", "OutsideResult", "journal_frames", "run_outside", "summarize"]
