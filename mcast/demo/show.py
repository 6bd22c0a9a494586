"""The demonstration as a whole: a cluster of processes, a stream through it under loss, its sequencer killed in the
middle of it, and the proof at the end.

Returns data and prints nothing; whoever runs it looks on through `DemoWatch`.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from mcast.analysis.ledger import Reconciliation, reconcile
from mcast.client.client import Client
from mcast.client.receipts import Receipts
from mcast.demo.questions import Difference, Question, differences
from mcast.demo.takeover import Killing, Takeover
from mcast.errors import NotSent
from mcast.lab.processes import Processes

WATCH_S: Final = 0.25  # between two looks at the replicas
STREAM_S: Final = 60.0  # without any acknowledgement, after which the stream is given up
SETTLE_S: Final = 30.0  # for the last gaps to be repaired
QUESTION_S: Final = 10.0

Command = Sequence[Any]


@dataclass(slots=True)
class DemoWatch:
    """What is known while it runs. `status` and `gaps` are the newest documents of those commands."""

    acknowledged: int = 0
    status: dict[str, Any] = field(default_factory=dict)
    gaps: dict[str, Any] = field(default_factory=lambda: {"nodes": []})
    takeover: Takeover | None = None


@dataclass(frozen=True, slots=True)
class Shown:
    """What the run proved. `answers` maps each replica to its answers, in the order of the questions asked."""

    events: int
    rejected: int
    failed: int
    seconds: float
    """From the first command submitted to the last one acknowledged."""
    status: dict[str, Any]
    gaps: dict[str, Any]
    questions: tuple[tuple[str, Question], ...]
    answers: dict[str, list[Any]]
    expected: list[Any] | None
    """The independent computation's answers; None where there is none."""
    takeover: Takeover | None
    """None where nobody was killed."""

    @property
    def differences(self) -> list[Difference]:
        """Answers that differ from the independent ones, or without those, from the first replica's."""
        if not self.answers:
            return []
        right = self.expected if self.expected is not None else next(iter(self.answers.values()))
        return differences(self.questions, right, self.answers)

    @property
    def reconciliation(self) -> list[Reconciliation]:
        """Each replica's account of the lost datagrams."""
        return reconcile(self.gaps)

    @property
    def has_equal_chains(self) -> bool:
        """Whether all replicas hold the same log and computed the same outcomes."""
        return len({(node["applied_seq"], node["chain"], node["result_chain"]) for node in self.status["nodes"]}) == 1

    @property
    def is_proven(self) -> bool:
        """Whether everything that must agree does."""
        taken_over = self.takeover is None or self.takeover.has_happened
        accounted = all(each.reconciles for each in self.reconciliation)
        return self.has_equal_chains and not self.differences and accounted and taken_over


async def show(  # noqa: PLR0913 - the demonstration's parts
    cluster: Processes,
    commands: Iterable[Command],
    questions: Callable[[], tuple[tuple[str, Question], ...]],
    expect: Callable[[], list[Any]] | None,
    watch: DemoWatch,
    kill_amid: int | None = None,
) -> Shown:
    """Stream `commands` through a running cluster, then ask every replica the same questions.

    With `kill_amid`, the number of commands, the sequencer's process is killed in their midst and started again. A
    ledger lives as long as its process: the account of the one that was killed begins with its restart. `questions` and
    `expect` are called once the stream has ended, the latter in a thread.

    Raises:
        NotSent, Unknown: the cluster stopped acknowledging. NotYet: the replicas did not come to rest.
    """
    watching = asyncio.create_task(_look(cluster, watch))
    try:
        receipts, seconds = await _stream(cluster, commands, watch, kill_amid)
        watch.status = await cluster.wait_until_settled(SETTLE_S)
    finally:
        watching.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await watching
    asked = questions()
    answers = {node_id: await _ask(cluster, node_id, asked, receipts.last_seq or 0) for node_id in cluster.running}
    expected = await asyncio.to_thread(expect) if expect is not None else None
    watch.gaps = await cluster.gaps()
    return Shown(
        events=receipts.count, rejected=receipts.rejected, failed=receipts.failed, seconds=seconds,
        status=watch.status, gaps=watch.gaps, questions=asked, answers=answers, expected=expected,
        takeover=watch.takeover,
    )  # fmt: skip


async def _stream(
    cluster: Processes, commands: Iterable[Command], watch: DemoWatch, kill_amid: int | None
) -> tuple[Receipts, float]:
    """The receipts of all commands, and the seconds they took."""

    def tell(takeover: Takeover) -> None:
        watch.takeover = takeover

    def progress(sofar: Receipts) -> None:
        watch.acknowledged = sofar.known
        killing.on_acknowledged(sofar.known, lambda: sofar.epoch)

    killing = Killing(cluster, tell)
    source = commands if kill_amid is None else killing.with_kill(commands, kill_amid)
    began_s = time.monotonic()
    try:
        async with cluster.connect() as client:
            receipts = await client.submit_stream(source, keep=False, timeout=STREAM_S, on_progress=progress)
            seconds = time.monotonic() - began_s
        await killing.wait_until_ended()
    finally:
        await killing.cancel()
    return receipts, seconds


async def _look(cluster: Processes, watch: DemoWatch) -> None:
    """Keep the watch's documents fresh until cancelled."""
    while True:
        with contextlib.suppress(NotSent):
            async with cluster.connect() as client:
                await _refresh(client, watch)
        await asyncio.sleep(WATCH_S)


async def _refresh(client: Client, watch: DemoWatch) -> None:
    while True:
        watch.status, watch.gaps = dict(await client.status()), dict(await client.gaps())
        await asyncio.sleep(WATCH_S)


async def _ask(
    cluster: Processes, node_id: str, questions: tuple[tuple[str, Question], ...], min_seq: int
) -> list[Any]:
    async with cluster.connect(node_id, strict=True) as client:
        return [
            (await client.query(name, *args, min_seq=min_seq, timeout=QUESTION_S)).value
            for _, (name, args) in questions
        ]
