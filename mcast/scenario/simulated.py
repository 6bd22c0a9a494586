"""The simulator as a backend: a scenario in virtual time, every promise checked at every step, replayed by its seed."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from random import Random
from typing import Any, Final

from mcast.client.packing import CommandPacker
from mcast.client.receipts import Receipt
from mcast.limits import CACHE_BYTES_MAX
from mcast.machine.api import StateMachine
from mcast.machine.engine import Applied
from mcast.node.report import gaps_of
from mcast.node.setup import frame_body_max
from mcast.protocol.replica import Settings
from mcast.scenario.audit import AuditedReplica
from mcast.scenario.faults import Board, Plight, Turn, resolve, turns_of
from mcast.scenario.model import Scenario
from mcast.scenario.outcome import PATIENCE_S, Happened, ScenarioRun
from mcast.scenario.simclient import ScenarioClient
from mcast.scenario.workload import TICK_S, Command, Meter, Schedule
from mcast.sim.cluster import RECEIVE_WINDOW_BYTES, WALL_CLOCK_NS
from mcast.sim.invariants import Checker, Violation
from mcast.sim.loop import Loop, Runaway
from mcast.sim.network import Datagram, Network, Weather
from mcast.sim.node import DiskSpeed, SimNode, World
from mcast.wire.frame import Frame

FOUNDED_S: Final = 10.0  # virtual seconds for the cluster to begin
SLICE_S: Final = 0.5  # virtual seconds between two looks at whether the run feeds itself
READ_BYTES: Final = 1 << 20
DISK: Final = DiskSpeed(0.000_2, 0.001)
CALM: Final = Weather()


def run_simulated(
    scenario: Scenario, commands: Sequence[Command], machine: type[StateMachine], seed: int,
    lines: list[str] | None = None,
) -> ScenarioRun:  # fmt: skip
    """Run a scenario in virtual time. `lines`, when given, is filled with a readable log."""
    return _Simulation(scenario, commands, machine, seed, lines).run()


class _Air(Network):
    """A network where each receiver has a weather of its own."""

    def __init__(self, loop: Loop, random: Random) -> None:
        super().__init__(loop, random, CALM)
        self.weathers: dict[int, Weather] = {}

    def _deliver_burst(
        self, source: int, target: int, datagrams: Sequence[Datagram], shared: list[bool] | None
    ) -> None:
        self.weather = self.weathers.get(target, CALM)
        try:
            super()._deliver_burst(source, target, datagrams, shared)
        finally:
            self.weather = CALM


class _Simulation:
    """One run: the cluster, its clients, and what goes wrong when."""

    def __init__(
        self, scenario: Scenario, commands: Sequence[Command], machine: type[StateMachine], seed: int,
        lines: list[str] | None,
    ) -> None:  # fmt: skip
        self._scenario = scenario
        self._commands = commands
        self._record_max = frame_body_max(scenario.cluster.mtu)
        self._ids = scenario.cluster.ids
        self._random = Random(f"{seed}:scenario")
        self._loop = Loop(lines)
        self._air = _Air(self._loop, Random(f"{seed}:network"))
        self._checker = Checker(list(self._ids))
        self._world = World(self._loop, self._air, self._checker, self._random, list(self._ids))
        self._world.machine = machine
        for index in range(len(self._ids)):
            self._world.nodes.append(self._make_node(index))
        self._nodes = self._world.nodes
        self._air.nodes = list(self._nodes)
        self._meter = Meter()
        self._receipts: list[Receipt | None] = [None] * len(commands)
        self._schedule = Schedule(commands, scenario.workload.rate, scenario.workload.clients)
        self._clients = list(self._make_clients(machine, seed))
        self._board = Board(scenario.faults, self._ids)
        self._plights = self._board.plights()
        self._happened: list[Happened] = []
        self._last_sequencer: str | None = None
        self._begun = 0.0

    def run(self) -> ScenarioRun:
        """Found, work and suffer, heal, recover."""
        recovered_s: float | None = None
        problem: str | None = None
        try:
            self._start_nodes()
            healed = self._begun + self._scenario.ends_s
            self._advance(healed)
            self._loop.say("-- healed")
            patience_s = max(PATIENCE_S, self._scenario.expect.recovered_within_s or 0.0)
            if self._advance(healed + patience_s, whole=True):
                recovered_s = self._loop.now - healed
            else:
                problem = f"not recovered {patience_s:g} s after healing: {self._missing()}"
        except (Violation, Runaway) as violation:
            problem = str(violation)
        self._meter.finish(self._loop.now)
        whole = recovered_s is not None
        return ScenarioRun(
            receipts=self._receipts,
            meter=self._meter,
            faults=tuple(self._happened),
            recovered_s=recovered_s,
            problem=problem,
            gaps={"nodes": [_gaps(node, self._world) for node in self._nodes]},
            replicas=[_replica(node) for node in self._nodes if node.up] if whole else [],
            events=self._checker.last,
            seconds=self._loop.now - self._begun,
            trace=self._loop.trace,
        )

    def _make_node(self, index: int) -> SimNode:
        cluster = self._scenario.cluster
        addresses = [f"10.0.0.{at + 1}:7700" for at in range(len(self._ids))]
        settings = Settings(
            node=self._ids[index],
            cluster="sim",
            members=tuple(zip(cluster.members, addresses, strict=False)),
            address=addresses[index],
            is_member=index < cluster.nodes,
            frame_body_max=self._record_max,
            receive_window=RECEIVE_WINDOW_BYTES,
            wall_offset_ns=int(self._random.random() * WALL_CLOCK_NS),
            heartbeat_max_s=cluster.heartbeat_max_s,
            election_timeout_s=cluster.election_timeout_s,
        )
        syncs = cluster.sync == "always"
        speed = DiskSpeed(DISK.least_s, DISK.most_s)
        book = self._checker.books[index]
        node = SimNode(self._world, settings, book, speed, syncs=syncs, cache_bytes=CACHE_BYTES_MAX)
        node.on_applied = self._on_applied
        return node

    def _make_clients(self, machine: type[StateMachine], seed: int) -> Iterator[ScenarioClient]:
        for index in range(self._scenario.workload.clients):
            yield ScenarioClient(
                self._world,
                index=index,
                packer=CommandPacker(machine.commands(), self._record_max),
                record_max=self._record_max,
                random=Random(f"{seed}:client:{index}"),
                meter=self._meter,
                take=self._take,
            )

    def _take(self, numbers: range, receipts: Sequence[Receipt]) -> None:
        for number, receipt in zip(numbers, receipts, strict=True):
            self._receipts[number] = receipt
            self._checker.on_acknowledged(0, number, receipt.seq)

    def _on_applied(self, node: SimNode, results: list[Applied]) -> None:
        for client in self._clients:
            client.on_results(node, results)

    def _advance(self, until: float, *, whole: bool = False) -> bool:
        """Let virtual time pass; with `whole`, at most until the cluster is whole, and whether it is."""
        while self._loop.now < until:
            self._loop.steps = 0
            end = min(until, self._loop.now + SLICE_S)
            if self._loop.run(end, self._is_whole if whole else None):
                return True
        return False

    def _start_nodes(self) -> None:
        for node in self._nodes:
            self._loop.call_later(self._random.random() * 0.05, node.start)
        end = self._loop.now + FOUNDED_S
        while not (self._loop.now > 0.1 and self._is_whole()):
            if self._loop.now >= end:
                raise Violation(f"no cluster after {FOUNDED_S:g} s: {self._missing()}")
            self._loop.run(self._loop.now + 0.02)
        self._begun = self._loop.now
        for client in self._clients:
            client.begin()
        for turn in turns_of(self._scenario):
            self._loop.call_at(self._begun + turn.at, self._take_turn, turn)
        self._loop.call_later(0.0, self._tick)

    def _tick(self) -> None:
        for client, numbers in zip(self._clients, self._schedule.take_due(self._loop.now - self._begun), strict=True):
            if numbers:
                client.submit(numbers, [self._commands[number] for number in numbers])
        if not self._schedule.is_done:
            self._loop.call_later(TICK_S, self._tick)

    def _take_turn(self, turn: Turn) -> None:
        fault = self._scenario.faults[turn.fault]
        if turn.begins:
            targets = resolve(fault.nodes, self._ids, self._board.alive_nodes, self._sequencer())
            self._board.begin(turn.fault, targets)
            self._happened.append(Happened(fault.at, fault.kind, targets, fault.for_s))
            self._loop.say(f"-- {fault.kind} at {', '.join(targets)}")
        else:
            self._board.end(turn.fault)
            self._loop.say(f"-- end of {fault.kind}")
        before, self._plights = self._plights, self._board.plights()
        for node in self._nodes:
            self._suffer(node, before[node.name], self._plights[node.name])
        self._air.blocked = {
            (self._ids.index(source), self._ids.index(target))
            for target, plight in self._plights.items()
            for source in sorted(plight.cut)
        }

    def _suffer(self, node: SimNode, before: Plight, after: Plight) -> None:
        self._air.weathers[node.index] = Weather(
            loss=after.loss / 100,
            duplicate=after.dup / 100,
            reorder=after.reorder / 100,
            corrupt=after.corrupt / 100,
            delay_s=CALM.delay_s + after.delay_ms / 1e3,
        )
        if before.process == after.process:
            return
        if after.killed:
            if node.up:
                node.crash(power=False)
            return
        if not node.up:
            node.start()
        if after.stopped and not node.paused:
            node.pause()
        elif not after.stopped:
            node.resume()

    def _sequencer(self) -> str | None:
        sequencers = [node for node in self._nodes if node.up and not node.paused and node.replica.is_sequencer]
        if sequencers:
            self._last_sequencer = max(sequencers, key=lambda node: node.replica.promised).name
        return self._last_sequencer

    def _is_whole(self) -> bool:
        return not self._missing()

    def _missing(self) -> str:
        """Why the living nodes are not live and equal, or not all commands are answered, in words."""
        living = [node for node in self._nodes if not self._plights[node.name].killed]
        last = self._checker.last
        if any(client.is_busy for client in self._clients) or not (self._schedule.is_done or self._begun == 0.0):
            return f"{self._receipts.count(None)} of {len(self._receipts)} commands are not answered"
        if not any(node.up and node.replica.is_sequencer for node in living):
            return "nobody leads"
        for node in living:
            if not node.up:
                return f"{node.name} is down"
            held, commit, applied = node.replica.last_seq, node.replica.commit_seq, node.engine.applied_seq
            if not held == commit == applied == last:
                return f"{node.name} holds {held}, committed {commit}, applied {applied} of {last} events"
            if node.replica.ledger_report().open:
                return f"{node.name} has open gaps"
        return ""


def _replica(node: SimNode) -> AuditedReplica:
    engine = node.engine

    def frames() -> Iterator[Frame]:
        first = 1
        while first <= engine.applied_seq and (burst := node.store.read(first, READ_BYTES)):
            yield from burst
            first = burst[-1].last + 1

    return AuditedReplica(node.name, engine.applied_seq, engine.chain, engine.result_chain, frames)


def _gaps(node: SimNode, world: World) -> dict[str, Any]:
    """A node of the gaps document."""
    if not node.up:
        return {"id": node.name, "lost": None}
    return gaps_of(node.name, node.replica.ledger_report(), world.names, 0.0)
