"""A whole simulated cluster: nodes, clients, network and disks in one virtual second after another.

A run has two halves. In the first, anything goes wrong as its plan says, and safety must hold at every step. Then
everything is healed for good, and within a bound the cluster must be whole: a sequencer, every command answered, every
gap closed, every node at the same event with the same chain and the same results.
"""

from __future__ import annotations

import errno
from random import Random
from typing import Final

from mcast.machine.engine import Applied
from mcast.protocol.replica import Settings
from mcast.protocol.rules import Rules
from mcast.sim.client import SimClient
from mcast.sim.invariants import Checker, Violation
from mcast.sim.loop import Loop
from mcast.sim.network import Network, Weather
from mcast.sim.node import DiskSpeed, SimNode, World
from mcast.sim.plan import Fault, Plan

HEAL_S: Final = 12.0  # virtual seconds in which a healed cluster must be whole
LATE_S: Final = 0.1  # after which every datagram has arrived, however late
COMMANDS_AFTER_HEALING: Final = 3  # of each client
RECEIVE_WINDOW_BYTES: Final = 1 << 20


class Cluster:
    """One run of a plan. `random` feeds everything but the plan itself."""

    def __init__(self, plan: Plan, rules: Rules, lines: list[str] | None = None) -> None:
        self.plan = plan
        self.loop = Loop(lines)
        self.random = Random(f"{plan.seed}:run")
        self.network = Network(self.loop, Random(f"{plan.seed}:network"), plan.weather)
        names = [f"n{index + 1}" for index in range(plan.members + plan.observers)]
        self.checker = Checker(names)
        self.world = World(self.loop, self.network, self.checker, self.random, names)
        members = tuple((name, f"10.0.0.{at + 1}:7700") for at, name in enumerate(names[: plan.members]))
        for index, name in enumerate(names):
            settings = Settings(
                node=name,
                cluster="sim",
                members=members,
                address=f"10.0.0.{index + 1}:7700",
                is_member=index < plan.members,
                frame_body_max=plan.frame_body_max,
                receive_window=RECEIVE_WINDOW_BYTES,
                wall_offset_ns=int(self.random.random() * 2e18),
                heartbeat_max_s=plan.heartbeat_max_s,
                election_timeout_s=plan.election_timeout_s,
                cache_bytes_max=plan.cache_bytes,
                deep_gap_frames=plan.deep_gap_frames,
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
            node.on_applied = self._results
            self.world.nodes.append(node)
        self.nodes = self.world.nodes
        self.network.nodes = list(self.nodes)
        self.clients = [
            SimClient(self.world, index, plan.habits, Random(f"{plan.seed}:client:{index}"))
            for index in range(plan.clients)
        ]
        self.faults_done = 0

    def run(self) -> None:
        """Both halves. Raises Violation."""
        self.start()
        for fault in self.plan.faults:
            self.loop.at(fault.at, self._break, fault)
        self.loop.run(self.plan.trouble_s)
        self.heal()
        if not self.loop.run(self.loop.now + HEAL_S, self.is_whole):
            raise Violation(f"not whole {HEAL_S} s after healing: {self.what_is_missing()}")
        if self.plan.reconciles:
            self.loop.run(self.loop.now + LATE_S)
            self.check_ledgers()

    def start(self) -> None:
        """All nodes and clients begin within the first moments."""
        for node in self.nodes:
            self.loop.after(self.random.random() * 0.05, self._start, node)
        for client in self.clients:
            client.begin()

    def heal(self) -> None:
        """Everything works from now on; only the weather stays, if milder than a storm."""
        self.loop.say("-- healed")
        self.network.blocked.clear()
        self.network.weather = self.plan.weather
        for node in self.nodes:
            node.speed.most_s = self.plan.disk.most_s
            node.files.mend()
            self._start(node)
            node.resume()
        for client in self.clients:
            client.finish(COMMANDS_AFTER_HEALING)

    def is_whole(self) -> bool:
        """Whether a healed cluster has got over everything."""
        return not self.what_is_missing()

    def what_is_missing(self) -> str:
        """What keeps the cluster from being whole, in words."""
        for client in self.clients:
            if client.issued < client.wanted or not client.idle:
                answered = f"{client.answered} answers to {client.issued}"
                return f"client {client.index} has {answered} of {client.wanted} commands"
        for node in self.nodes:
            if not node.up:
                return f"{node.name} is down"
        if not any(node.replica.ruling for node in self.nodes):
            return "nobody rules"
        last = self.checker.last
        for node in self.nodes:
            if node.engine.applied_seq != last or node.replica.last_seq != last:
                held, commit = node.replica.last_seq, node.replica.commit_seq
                return f"{node.name} holds {held}, committed {commit}, applied {node.engine.applied_seq} of {last}"
            report = node.replica.ledger_report()
            if report.open:
                return f"{node.name} has open gaps {report.open}"
            if report.lost != report.repaired + report.superseded + report.transferred:
                return f"{node.name} does not reconcile: {_ledger_words(node)}"
        return ""

    def check_ledgers(self) -> None:
        """What was injected is what was found, where nothing else can lose a datagram."""
        for node in self.nodes:
            report = node.replica.ledger_report()
            if report.lost != report.injected_lost + report.injected_corrupted:
                raise Violation(f"{node.name} found other losses than were injected: {_ledger_words(node)}")

    def sequencer(self) -> int | None:
        """The index of the node that rules in the highest epoch."""
        ruling = [node for node in self.nodes if node.up and node.replica.ruling]
        return max(ruling, key=lambda node: node.replica.epoch).index if ruling else None

    def _results(self, node: SimNode, results: list[Applied]) -> None:
        for client in self.clients:
            client.results(node, results)

    def _start(self, node: SimNode) -> None:
        if not node.up:
            node.start()

    def _break(self, fault: Fault) -> None:
        sequencer = self.sequencer()
        targets = fault.nodes or ((sequencer,) if sequencer is not None else (0,))
        self.faults_done += 1
        names = ", ".join(self.nodes[target].name for target in targets)
        self.loop.say(f"-- {fault.kind} of {names} for {fault.for_s:.3f} s")
        if fault.kind in {"crash", "wipe", "rot"}:
            self._crash(fault, targets)
        elif fault.kind == "pause":
            for target in targets:
                if self.nodes[target].up and not self.nodes[target].paused:
                    self.nodes[target].pause()
                    self.loop.after(fault.for_s, self.nodes[target].resume)
        elif fault.kind == "storm":
            calm = self.network.weather
            self.network.weather = Weather(0.3, fault.amount * 0.3, 0.1, 0.1, 0.02, calm.delay_s, calm.jitter_s)
            self.loop.after(fault.for_s, self._calm)
        elif fault.kind in {"torn-call", "bad-sync"}:
            for target in targets:
                node = self.nodes[target]
                if fault.kind == "torn-call":
                    node.files.stop_after(int(self.random.random() * 6))
                else:
                    node.files.fail("fdatasync", errno.EIO, after=int(self.random.random() * 3))
                self.loop.after(fault.for_s, self._start, node)
        elif fault.kind == "slow-disk":
            for target in targets:
                self.nodes[target].speed.most_s = 0.05
                self.loop.after(fault.for_s, self._speed_up, target)
        else:
            self._cut(fault, targets)

    def _crash(self, fault: Fault, targets: tuple[int, ...]) -> None:
        for target in targets:
            node = self.nodes[target]
            if not node.up:
                continue
            node.crash(power=self.plan.sync == "always" and fault.amount < 0.9)
            if fault.kind == "wipe":
                node.wipe()
            elif fault.kind == "rot":
                node.rot()
            self.loop.after(fault.for_s, self._start, node)

    def _cut(self, fault: Fault, targets: tuple[int, ...]) -> None:
        links = self._links(fault.kind, targets)
        self.network.blocked |= links
        self.loop.after(fault.for_s, self.network.blocked.difference_update, links)

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

    def _calm(self) -> None:
        self.network.weather = self.plan.weather

    def _speed_up(self, target: int) -> None:
        self.nodes[target].speed.most_s = self.plan.disk.most_s


def _ledger_words(node: SimNode) -> str:
    report = node.replica.ledger_report()
    return (
        f"lost {report.lost} = repaired {report.repaired} + superseded {report.superseded} + transferred"
        f" {report.transferred}; injected {report.injected_lost} lost, {report.injected_corrupted} corrupted"
    )
