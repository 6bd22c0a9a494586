"""A whole simulated cluster: nodes, clients, network and disks in one virtual second after another.

A run has three parts. In the first, anything goes wrong as its plan says, and safety must hold at every step. Then some
majority is healed while all others stay dead, and within a bound it must answer commands and reads. Then everything is
healed for good, and within a bound the cluster must be whole: a sequencer, every member voting, every command and read
answered, every gap closed, every node at the same event with the same chain and the same results.

What the fabric promises holds while a majority lives; so no fault takes the disks, or the unsynced writes, of more
than can be spared. One does: a blackout that hits every machine at once. With unsynced writes it may cost what no disk
holds, but no more; and all must come back before anybody may count on anything.
"""

from __future__ import annotations

from dataclasses import replace
from random import Random
from typing import Final

from mcast.limits import EPOCH_MAX
from mcast.machine.engine import Applied
from mcast.protocol.effects import ReadReady
from mcast.protocol.replica import Settings
from mcast.protocol.rules import Rules
from mcast.seal.keys import KEY_BYTES, KeyRing
from mcast.sim.client import SimClient
from mcast.sim.damage import lose, trouble
from mcast.sim.forger import forge
from mcast.sim.invariants import Checker, Violation
from mcast.sim.loop import Loop
from mcast.sim.network import Network, Weather
from mcast.sim.node import DiskSpeed, SimNode, World
from mcast.sim.plan import DISK_LOSSES, Plan, PlannedFault
from mcast.sim.reads import SimReader
from mcast.sim.voters import disks, suffices
from mcast.wire.envelope import name_hash

HEAL_S: Final = 12.0  # virtual seconds in which a healed majority must make progress, a healed cluster be whole
FAIR: Final = 0.1  # loss that a bare majority can bear: every answer counts, and worse can drag an election out
COMMANDS_OF_MAJORITY: Final = 2  # of each client
NO_ROOM: Final = "no room beyond a gap"  # a replica's count of it, and the mark: what overtaxes a ledger's memory
WRITE_BACK_S: Final = 0.4  # on average, until a kernel writes unsynced pages to its disk by itself
WALL_CLOCK_NS: Final = int(2e18)  # where wall clocks may stand: anywhere in 63 years
LATE_S: Final = 0.1  # after which every datagram has arrived, however late
COMMANDS_AFTER_HEALING: Final = 3  # of each client
RECEIVE_WINDOW_BYTES: Final = 1 << 20
CLOCKS_STEADY: Final = 0.6  # share of runs
CLOCK_DRIFT: Final = 0.1  # seconds a second, at most: far worse than any real clock
DRIFT_S: Final = 0.05  # between two small steps of a clock that drifts


class SimCluster:
    """One run of a plan. `random` feeds everything but the plan itself."""

    def __init__(self, plan: Plan, rules: Rules, lines: list[str] | None = None) -> None:
        self.plan = plan
        self.loop = Loop(lines)
        self.random = Random(f"{plan.seed}:run")
        self.network = Network(self.loop, Random(f"{plan.seed}:network"), plan.weather)
        names = [f"n{index + 1}" for index in range(plan.members + plan.observers)]
        self.checker = Checker(names, lambda: self.loop.now)
        self.world = World(self.loop, self.network, self.checker, self.random, names)
        if plan.sealed:
            self.world.ring = KeyRing((Random(f"{plan.seed}:key").randbytes(KEY_BYTES),))
        members = tuple((name, f"10.0.0.{at + 1}:7700") for at, name in enumerate(names[: plan.members]))
        for index, name in enumerate(names):
            settings = Settings(
                node=name,
                cluster="sim",
                members=members,
                address=f"10.0.0.{index + 1}:7700",
                is_member=index < plan.members,
                observers=tuple(name_hash(observer) for observer in names[plan.members :]),
                frame_body_max=plan.frame_body_max,
                receive_window=RECEIVE_WINDOW_BYTES,
                wall_offset_ns=int(self.random.random() * WALL_CLOCK_NS),
                heartbeat_epochs=plan.heartbeat_epochs,
                heartbeat_max_s=plan.heartbeat_max_s,
                election_timeout_s=plan.election_timeout_s,
                cache_bytes_max=plan.cache_bytes,
                deep_gap_frames=plan.deep_gap_frames,
                reorder_frames_max=plan.reorder_frames_max,
                ledger_ranges_max=plan.ledger_ranges_max,
                rules=rules,
            )
            speed = DiskSpeed(plan.disk.least_s, plan.disk.most_s)
            node = SimNode(
                self.world,
                settings,
                self.checker.books[index],
                speed,
                syncs=plan.sync == "always",
                cache_bytes=plan.cache_bytes,
            )
            node.handler_s = plan.handler_s
            node.on_applied = self._on_results
            node.on_ready = self._on_read_ready
            node.may_darken = self._may_darken
            node.wall_clock = lambda: int(self.random.random() * WALL_CLOCK_NS)
            self.world.nodes.append(node)
        self.nodes = self.world.nodes
        self.network.nodes = list(self.nodes)
        self.clients = [
            SimClient(self.world, index, plan.habits, Random(f"{plan.seed}:client:{index}"))
            for index in range(plan.clients)
        ]
        self.reader = SimReader(self.world, self.clients, Random(f"{plan.seed}:reads"), plan.read_pause_s)
        self.faults_done = 0
        self._calm = plan.weather
        self._kept_down: set[int] = set()

    def run(self) -> None:
        """All three parts. Raises Violation."""
        self.start()
        self._turn_clocks()
        for fault in self.plan.faults:
            self.loop.call_at(fault.at, self._break, fault)
        for index, kind in self.plan.deaf:
            self.loop.call_at(self.plan.deaf_at, self.deafen, index, kind)
        self.loop.run(self.plan.trouble_s)
        if self.plan.faults and self.heal_some() and not self.loop.run(self.loop.now + HEAL_S, self.has_progressed):
            raise Violation(f"no progress {HEAL_S} s after healing a majority: {self.what_is_awaited()}")
        self.heal()
        if self.checker.extinct:
            return
        if not self.loop.run(self.loop.now + HEAL_S, self.is_whole):
            raise Violation(f"not whole {HEAL_S} s after healing: {self.what_is_missing()}")
        for node in self.nodes:
            self.world.marks[NO_ROOM] += node.replica.statistics().counts.get(NO_ROOM, 0)
        if self.plan.reconciles:
            self.loop.run(self.loop.now + LATE_S)
            self.check_ledgers()

    def start(self) -> None:
        """All nodes and clients begin within the first moments."""
        for node in self.nodes:
            self.loop.call_later(self.random.random() * 0.05, self._start, node)
            if not node.syncs:
                self._write_back(node)
        for client in self.clients:
            client.begin()
        if self.clients:
            self.reader.begin()

    def _turn_clocks(self) -> None:
        """In some runs wall clocks drift, and are set forward and back: by milliseconds, or by a year."""
        random = Random(f"{self.plan.seed}:clocks")
        if random.random() < CLOCKS_STEADY:
            return
        self.world.marks["clocks turned"] += 1
        for node in self.nodes:
            self._drift(node, int(random.uniform(-CLOCK_DRIFT, CLOCK_DRIFT) * DRIFT_S * 1e9))
        for _ in range(random.randint(1, 6)):
            by_ns = int(random.choice((-1, 1)) * 10 ** random.uniform(-3, 7.5) * 1e9)
            node = self.nodes[random.randrange(len(self.nodes))]
            self.loop.call_at(random.random() * self.plan.trouble_s, node.turn_clock, by_ns)

    def _drift(self, node: SimNode, by_ns: int) -> None:
        node.turn_clock(by_ns)
        self.loop.call_later(DRIFT_S, self._drift, node, by_ns)

    def heal_some(self) -> bool:
        """Let a majority work, and nobody else; False when there is none that could, so soon or after so much."""
        some = self._majority()
        if not some:
            return False
        self.world.marks["majority healed"] += 1
        names = ", ".join(self.nodes[index].name for index in sorted(some))
        self.loop.say(f"-- healed: {names} alone")
        self._kept_down = set(range(len(self.nodes))) - some
        calm = self.plan.weather
        self._mend(replace(calm, loss=min(calm.loss, FAIR), shared_loss=min(calm.shared_loss, FAIR)))
        for index in sorted(self._kept_down):
            if self.nodes[index].up:
                self.nodes[index].crash(power=self.random.random() < 0.5 and self._may_darken(self.nodes[index]))
        for index in sorted(some):
            self._revive(self.nodes[index])
        for client in self.clients:
            client.finish(COMMANDS_OF_MAJORITY)
        return True

    def has_progressed(self) -> bool:
        """Whether a healed majority has answered what it was asked."""
        return not self.what_is_awaited()

    def what_is_awaited(self) -> str:
        """Which command or read has no answer, in words."""
        for client in self.clients:
            if client.issued < client.wanted or not client.is_idle:
                answered = f"{client.answered} answers to {client.issued}"
                return f"client {client.index} has {answered} of {client.wanted} commands"
        return ""

    def heal(self) -> None:
        """Everything works from now on; only the weather stays, if milder than a storm."""
        self.loop.say("-- healed")
        self._kept_down = set()
        self._mend(self.plan.weather)
        for node in self.nodes:
            self._revive(node)
        for client in self.clients:
            client.finish(COMMANDS_AFTER_HEALING)
        self.reader.stop()
        for node in self.nodes:
            if node.up and self.clients:
                self.reader.ask(node)

    def is_whole(self) -> bool:
        """Whether a healed cluster has got over everything."""
        return not self.what_is_missing()

    def what_is_missing(self) -> str:
        """Why the cluster is not whole, in words."""
        if awaited := self.what_is_awaited() or self.reader.what_is_awaited():
            return awaited
        for node in self.nodes:
            if not node.up:
                return f"{node.name} is down"
        if not any(node.replica.is_sequencer for node in self.nodes):
            return "nobody leads"
        last = self.checker.last
        for node in self.nodes:
            if node.engine.applied_seq != last or node.replica.last_seq != last:
                held, commit = node.replica.last_seq, node.replica.commit_seq
                return f"{node.name} holds {held}, committed {commit}, applied {node.engine.applied_seq} of {last}"
            if node.settings.is_member and not node.replica.votes:
                return f"{node.name} has no vote"
            report = node.replica.ledger_report()
            if report.open:
                return f"{node.name} has open gaps {report.open}"
            if report.lost != report.repaired + report.superseded + report.transferred:
                return f"{node.name} does not reconcile: {_ledger_words(node)}"
        return ""

    def check_ledgers(self) -> None:
        """Injected losses equal found losses, where nothing else can lose a datagram."""
        for node in self.nodes:
            report = node.replica.ledger_report()
            if report.lost != report.injected_lost + report.injected_corrupted:
                raise Violation(f"{node.name} found other losses than were injected: {_ledger_words(node)}")

    def deafen(self, index: int, kind: str) -> None:
        """A node is deaf in this way (see plan.DEAFNESS) until the run ends."""
        self.loop.say(f"-- {self.nodes[index].name} lacks {kind} from now on")
        self.world.marks["deaf"] += 1
        others = [other for other in range(len(self.nodes)) if other != index]
        if kind == "multicast":
            self.network.deaf.add(index)
        if kind in ("hearing", "datagrams"):
            self.network.no_datagrams |= {(other, index) for other in others}
        if kind in ("speaking", "datagrams"):
            self.network.no_datagrams |= {(index, other) for other in others}

    def sequencer(self) -> int | None:
        """The index of the node that leads in the highest epoch."""
        sequencers = [node for node in self.nodes if node.up and node.replica.is_sequencer]
        return max(sequencers, key=lambda node: node.replica.promised).index if sequencers else None

    def _on_results(self, node: SimNode, results: list[Applied]) -> None:
        for client in self.clients:
            client.on_results(node, results)

    def _on_read_ready(self, node: SimNode, ready: ReadReady) -> None:
        self.reader.on_read_ready(node, ready)

    def _start(self, node: SimNode) -> None:
        if not node.up and node.index not in self._kept_down:
            node.start()

    def _mend(self, weather: Weather) -> None:
        """No fault goes on."""
        self.network.blocked.clear()
        self.network.weather = self._calm = weather
        for node in self.nodes:
            node.speed.most_s = self.plan.disk.most_s
            node.files.mend()
            node.cuts = 0

    def _revive(self, node: SimNode) -> None:
        self._start(node)
        node.resume()

    def _majority(self) -> set[int]:
        """Some nodes whose disks are a trusted majority of every configuration that may decide; none if there are none.

        Before an event has committed all are needed.
        """
        configs, trusted = self.checker.effective_configs(), self.checker.intact_disks()
        if not self.checker.last or not all(suffices(trusted, config) for config in configs):
            return set()
        some: set[int] = set()
        held: set[bytes] = set()
        for index in self.random.sample(range(len(self.nodes)), len(self.nodes)):
            meta = self.nodes[index].book.meta
            disk = meta.storage_id if meta is not None and meta.storage_id in trusted else b""
            helps = any(disk in disks(config) and not suffices(held, config) for config in configs)
            if helps or self.random.random() < 0.2:
                some.add(index)
                held.add(disk)
        return some

    def _may_darken(self, node: SimNode) -> bool:
        """Whether this node's machine may lose power now: what it may lose by that must be spared by the others."""
        return self.checker.spares(node.book) or (node.syncs and self.checker.is_complete())

    def _break(self, fault: PlannedFault) -> None:
        sequencer = self.sequencer()
        targets = fault.nodes or ((sequencer,) if sequencer is not None else (0,))
        self.faults_done += 1
        names = ", ".join(self.nodes[target].name for target in targets)
        self.loop.say(f"-- {fault.kind} of {names} for {fault.for_s:.3f} s")
        if fault.kind in {"crash", "cut-start", *DISK_LOSSES}:
            self._crash(fault, targets)
        elif fault.kind == "pause":
            for target in targets:
                if self.nodes[target].up and not self.nodes[target].paused:
                    self.nodes[target].pause()
                    self.loop.call_later(fault.for_s, self.nodes[target].resume)
        elif fault.kind == "handover":
            successor = self.nodes[int(self.random.random() * len(self.nodes))]
            if sequencer is not None and successor.index != sequencer and not self.nodes[sequencer].paused:
                self.nodes[sequencer].hand_over(successor)
        elif fault.kind == "blackout":
            self._black_out(fault)
        elif fault.kind == "storm":
            calm = self.network.weather
            self.network.weather = Weather(0.3, fault.amount * 0.3, 0.1, 0.1, 0.02, calm.delay_s, calm.jitter_s)
            self.loop.call_later(fault.for_s, self._clear_up)
        elif fault.kind in {"torn-call", "bad-sync", "bad-call", "short-write", "full-disk"}:
            for target in targets:
                trouble(self.nodes[target], fault.kind, self.random)
                self.loop.call_later(fault.for_s, self._start, self.nodes[target])
        elif fault.kind == "forged":
            for target in targets:
                promised = self.nodes[target].book.spoken
                forge(self.nodes[target], EPOCH_MAX if fault.amount < 0.5 else promised + 1 + int(fault.amount * 1e5))
        elif fault.kind == "slow-disk":
            for target in targets:
                self.nodes[target].speed.most_s = 0.05
                self.loop.call_later(fault.for_s, self._speed_up, target)
        else:
            self._cut(fault, targets)

    def _crash(self, fault: PlannedFault, targets: tuple[int, ...]) -> None:
        for target in targets:
            node = self.nodes[target]
            if not node.up:
                continue
            loses_disk = fault.kind in DISK_LOSSES and self.checker.spares(node.book)
            node.crash(power=fault.amount < 0.9 and self._may_darken(node))
            if loses_disk:
                lose(node, fault.kind, self.random)
            if fault.kind == "cut-start" or (loses_disk and self.random.random() < 0.5):
                node.cuts = self.random.choice((1, 1, 2, 3))
            self.loop.call_later(fault.for_s, self._start, node)

    def _black_out(self, fault: PlannedFault) -> None:
        """All machines lose power at once. Events that no disk holds are gone then, and clients start anew."""
        syncs = self.plan.sync == "always"
        if not self.checker.is_complete() or (not syncs and (self.plan.observers or self.checker.readmissions)):
            return
        self.world.marks["blackout"] += 1
        for node in self.nodes:
            if node.up:
                node.crash(power=True)
            else:
                node.darken()
            self.loop.call_later(fault.for_s * (0.5 + self.random.random()), self._start, node)
        if not syncs:
            self.checker.on_blackout()
            for at, client in enumerate(self.clients):
                client.gone = True
                index = client.index + 100
                random = Random(f"{self.plan.seed}:client:{index}")
                self.clients[at] = SimClient(self.world, index, self.plan.habits, random)
                self.clients[at].begin()

    def _write_back(self, node: SimNode) -> None:
        node.files.write_back()
        self.loop.call_later(self.random.expovariate(1.0) * WRITE_BACK_S, self._write_back, node)

    def _cut(self, fault: PlannedFault, targets: tuple[int, ...]) -> None:
        links = self._links(fault.kind, targets)
        self.network.blocked |= links
        self.loop.call_later(fault.for_s, self.network.blocked.difference_update, links)

    def _links(self, kind: str, targets: tuple[int, ...]) -> set[tuple[int, int]]:
        others = [index for index in range(len(self.nodes)) if index not in targets]
        outward = {(near, far) for near in targets for far in others}
        inward = {(far, near) for near, far in outward}
        if kind == "mute":
            return outward
        if kind == "deaf":
            return inward
        if kind == "one-way":
            return {link for link in sorted(outward | inward) if self.random.random() < 0.5}
        return outward | inward

    def _clear_up(self) -> None:
        self.network.weather = self._calm

    def _speed_up(self, target: int) -> None:
        self.nodes[target].speed.most_s = self.plan.disk.most_s


def _ledger_words(node: SimNode) -> str:
    report = node.replica.ledger_report()
    return (
        f"lost {report.lost} = repaired {report.repaired} + superseded {report.superseded} + transferred"
        f" {report.transferred}; injected {report.injected_lost} lost, {report.injected_corrupted} corrupted"
    )
