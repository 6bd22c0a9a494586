"""Real node processes on this machine as a backend: sockets, disks, signals, and the client library as it is.

A partition is made of datagrams: every node drops those from across the cut, also what came over TCP in their stead.
Other connections between the two sides still work: forwarding, catch-up, and the sign of a peer's death.
"""

from __future__ import annotations

import asyncio
import contextlib
import signal
from collections.abc import AsyncIterator, Iterator, Sequence
from pathlib import Path
from typing import Any, Final

from mcast.client.client import Client, connect
from mcast.client.receipts import Receipt
from mcast.errors import EnvironmentProblem, NotSent, NotYet, Unknown
from mcast.lab.processes import Processes
from mcast.scenario.audit import AuditedReplica, finals_of
from mcast.scenario.faults import Board, Plight, Turn, resolve, turns_of
from mcast.scenario.model import GROUPS, Scenario
from mcast.scenario.outcome import PATIENCE_S, Happened, ScenarioRun
from mcast.scenario.workload import TICK_S, Command, Meter, Schedule
from mcast.storage.files import RealFiles
from mcast.storage.store import Store
from mcast.wire.frame import Frame

INJECT_S: Final = 5.0  # for a node to take a fault: it may only just be starting
ASK_S: Final = 0.5  # for nodes to name the sequencer: a stopped one never answers


async def run_local(scenario: Scenario, commands: Sequence[Command], seed: int, folder: Path) -> ScenarioRun:
    """Run a scenario on processes that keep config, journals and logs in `folder`, which must outlive the result.

    Raises:
        EnvironmentProblem, NotYet: the cluster did not come up. NotSent: a living node took no fault.
    """
    cluster = scenario.cluster
    processes = Processes(
        nodes=cluster.nodes,
        observers=cluster.observers,
        machine=cluster.machine,
        machine_folder=scenario.path.parent,
        sync=cluster.sync,
        mtu=cluster.mtu,
        profile=cluster.profile,
        sealed=cluster.sealed,
        keep_in=folder,
    )
    async with processes:
        return await _Session(scenario, commands, seed, processes).run()


class _Session:
    """One run: the clients, and what goes wrong when."""

    def __init__(self, scenario: Scenario, commands: Sequence[Command], seed: int, processes: Processes) -> None:
        self._scenario = scenario
        self._commands = commands
        self._seed = seed
        self._processes = processes
        self._meter = Meter()
        self._receipts: list[Receipt | None] = [None] * len(commands)
        self._schedule = Schedule(commands, scenario.workload.rate, scenario.workload.clients)
        self._board = Board(scenario.faults, processes.ids)
        self._happened: list[Happened] = []
        self._sequencer: str | None = None
        self._changes = 0
        self._begun = 0.0
        self._calls: set[asyncio.Task[None]] = set()
        self._patience_s = max(PATIENCE_S, scenario.expect.recovered_within_s or 0.0)

    async def run(self) -> ScenarioRun:
        """Work and suffer, heal, recover."""
        loop = asyncio.get_running_loop()
        self._sequencer = (await self._processes.wait_until_equal())["sequencer"]
        problem: str | None = None
        recovered_s: float | None = None
        status: dict[str, Any] = {"nodes": []}
        async with self._clients() as clients:
            self._begun = loop.time()
            work = asyncio.create_task(self._work(clients))
            try:
                await self._suffer()
                await work
            finally:
                work.cancel()
            healed = self._begun + self._scenario.ends_s
            try:
                async with asyncio.timeout_at(healed + self._patience_s):
                    await asyncio.gather(*self._calls)
                status = await self._processes.wait_until_equal(healed + self._patience_s - loop.time())
                recovered_s = loop.time() - healed
            except TimeoutError:
                waiting = f"{self._receipts.count(None)} of {len(self._receipts)} commands"
                problem = f"{waiting} are not answered {self._patience_s:g} s after healing"
            except (NotYet, NotSent, EnvironmentProblem) as error:
                problem = str(error)
            self._meter.finish(loop.time())
            seconds = loop.time() - self._begun
        with contextlib.suppress(NotSent):
            status = status if status["nodes"] else await self._processes.status()
        finals = finals_of(status)
        return ScenarioRun(
            receipts=self._receipts,
            meter=self._meter,
            faults=tuple(self._happened),
            recovered_s=recovered_s,
            problem=problem,
            gaps=await self._gaps(),
            replicas=[self._replica(node, *final) for node, final in finals.items()] if problem is None else [],
            events=max((applied for applied, _, _ in finals.values()), default=0),
            seconds=seconds,
        )

    @contextlib.asynccontextmanager
    async def _clients(self) -> AsyncIterator[list[Client]]:
        ids = self._processes.ids
        async with contextlib.AsyncExitStack() as stack:
            stack.push_async_callback(self._give_up)
            yield [
                await stack.enter_async_context(connect(self._processes.config, ids[index % len(ids)]))
                for index in range(self._scenario.workload.clients)
            ]

    async def _give_up(self) -> None:
        for call in self._calls:
            call.cancel()
        await asyncio.gather(*self._calls, return_exceptions=True)

    async def _work(self, clients: Sequence[Client]) -> None:
        loop = asyncio.get_running_loop()
        while not self._schedule.is_done:
            due = self._schedule.take_due(loop.time() - self._begun)
            for client, numbers in zip(clients, due, strict=True):
                if numbers:
                    call = asyncio.create_task(self._submit(client, numbers, self._meter.note_sent(loop.time())))
                    self._calls.add(call)
                    call.add_done_callback(self._calls.discard)
            await asyncio.sleep(TICK_S)

    async def _submit(self, client: Client, numbers: range, ticket: int) -> None:
        patience_s = self._scenario.ends_s + self._patience_s
        try:
            receipts: Sequence[Any] = await client.submit_many([self._commands[at] for at in numbers], patience_s)
        except Unknown as unknown:
            receipts = unknown.receipts
        except NotSent:
            return
        for number, receipt in zip(numbers, receipts, strict=False):
            self._receipts[number] = receipt
        if receipts and None not in receipts:
            self._meter.on_answer(ticket, asyncio.get_running_loop().time())

    async def _suffer(self) -> None:
        loop = asyncio.get_running_loop()
        for turn in turns_of(self._scenario):
            await asyncio.sleep(self._begun + turn.at - loop.time())
            await self._take_turn(turn)
        await asyncio.sleep(self._begun + self._scenario.ends_s - loop.time())

    async def _take_turn(self, turn: Turn) -> None:
        fault = self._scenario.faults[turn.fault]
        before = self._board.plights()
        if turn.begins:
            if fault.nodes[0] in GROUPS:
                await self._find_sequencer()
            targets = resolve(fault.nodes, self._processes.ids, self._board.alive_nodes, self._sequencer)
            self._board.begin(turn.fault, targets)
            self._happened.append(Happened(fault.at, fault.kind, targets, fault.for_s))
        else:
            self._board.end(turn.fault)
        self._changes += 1
        after = self._board.plights()
        await asyncio.gather(*(self._befall(node, before[node], after[node]) for node in after))

    async def _find_sequencer(self) -> None:
        with contextlib.suppress(NotSent):
            self._sequencer = (await self._processes.status(ASK_S))["sequencer"] or self._sequencer

    async def _befall(self, node: str, before: Plight, after: Plight) -> None:
        spec = after.spec((self._seed * 1_009 + self._changes) % 2**31)
        if after.killed:
            if not before.killed:
                await self._processes.kill(node)
            return
        if before.killed:
            await self._processes.start(node, None if spec == "clear" else spec)
        elif before.stopped and not after.stopped:
            self._processes.signal(node, signal.SIGCONT)
        # A stopped node takes no new faults: it hears of them when it goes on.
        known = before.spec(0) if not before.stopped else None
        if not before.killed and not after.stopped and known != after.spec(0):
            async with connect(self._processes.config, node, INJECT_S, strict=True) as client:
                await client.fault(node, spec)
        if after.stopped and not before.stopped:
            self._processes.signal(node, signal.SIGSTOP)

    async def _gaps(self) -> dict[str, Any]:
        try:
            return await self._processes.gaps()
        except NotSent:
            return {"nodes": []}

    def _replica(self, node: str, applied_seq: int, chain: bytes, result_chain: bytes) -> AuditedReplica:
        config = self._processes.config

        def frames() -> Iterator[Frame]:
            store, _ = Store.open(RealFiles(), config.data_dir / node, config.name, node, sync=config.sync)
            try:
                for burst in store.frames_from(1):
                    yield from burst
            finally:
                store.close()

        return AuditedReplica(node, applied_seq, chain, result_chain, frames)
