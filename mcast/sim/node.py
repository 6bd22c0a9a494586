"""A node without an operating system: the real replica, store and engine, in the shell's place a few queues.

It does what `mcast.node.shell` does: opens datagrams, feeds the replica in bursts, carries out its effects, arms one
timer. Its disk is a worker that takes jobs in order and answers after a while; its process can be killed, paused and
started again on the same disk, or on an empty one.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from random import Random
from typing import Final

from mcast.errors import EnvironmentProblem
from mcast.machine.engine import Applied, Engine
from mcast.protocol.effects import (
    Append,
    Apply,
    CatchUp,
    Contradicted,
    Effect,
    FetchEpochs,
    HaltRequired,
    LogDoubted,
    LogRecovered,
    Multicast,
    NoteDoubt,
    Notice,
    Promise,
    ReadReady,
    Relay,
    Repair,
    Send,
    Stream,
    Truncate,
    WriteMeta,
)
from mcast.protocol.recovered import Recovered
from mcast.protocol.replica import Replica, Settings
from mcast.protocol.rules import Rules
from mcast.seal.datagram import Sealer
from mcast.sim.damage import CUT_WITHIN
from mcast.sim.disk import SimFiles, Stopped
from mcast.sim.fetching import Fetching
from mcast.sim.groupworker import GroupWorker
from mcast.sim.invariants import Book, Violation
from mcast.sim.network import Datagram, Delivery
from mcast.sim.recorder import Recorder
from mcast.sim.voice import Voice
from mcast.sim.worker import DiskWorker, Job
from mcast.sim.world import DiskSpeed, World, in_runs
from mcast.storage.segment import SEGMENT_BYTES_MIN
from mcast.storage.store import Store
from mcast.wire.envelope import UNICAST, Envelope, address, name_hash
from mcast.wire.frame import Frame
from mcast.wire.messages import Message

__all__ = ["DiskSpeed", "SimNode", "World"]

GATHERED: Final = 0.3  # of disk jobs that others wait behind
DUE_MAX: Final = 64  # times a replica is asked for what is due, before something that is not
PAUSED_ARRIVALS_MAX: Final = 256  # bursts a paused node's socket buffer holds
SEGMENT_BYTES: Final = SEGMENT_BYTES_MIN  # so that journals roll
RESTART_S: Final = 0.050  # until a node that could not start is started again
DEATH_SEEN_S: Final = 0.001  # until a peer knows that a connection closed, and that no process answers any more
TIMER_STUCK: Final = 1_000  # timers at one instant: then the deadline never moves on


class SimNode:
    """One node of a simulated cluster. `settings` holds for all its lives; `life` counts them."""

    def __init__(  # noqa: PLR0913 - each by name
        self, world: World, settings: Settings, book: Book, speed: DiskSpeed, *, syncs: bool, cache_bytes: int
    ) -> None:
        self.world = world
        self.settings = settings
        self.book = book
        self.speed = speed
        self.index = world.index[name_hash(settings.node)]
        self.name = settings.node
        self.files = SimFiles(Random(world.random.getrandbits(64)))
        self.hash = name_hash(settings.node)
        self._address = address(name_hash(settings.cluster), self.hash)
        self.up = False
        self.life = 0
        self.held = False
        """A directed scenario's hand on the disk: jobs begin, but do not end."""
        self.gathered = GATHERED
        """Share of disk jobs whose end is told only with that of the next, as a shell takes several together."""
        self.replica: Replica
        self.engine: Engine
        self.recorder: Recorder
        self.store: Store
        self.on_applied: Callable[[SimNode, list[Applied]], None] = lambda node, results: None
        self.on_ready: Callable[[SimNode, ReadReady], None] = lambda node, ready: None
        self.may_darken: Callable[[SimNode], bool] = lambda node: node.syncs
        """Whether its machine may lose power now."""
        self.groups = False
        """Whether its disk works behind the shell's own group commit."""
        self.cuts = 0
        """Starts that are to be cut short, at some change of the disk."""
        self.wall_clock: Callable[[], int] | None = None
        """Gives the offset (ns) that the wall clock has at each start; None: always the same."""
        self.refused: dict[str, int] = {}
        self._syncs = syncs
        self._cache_bytes = cache_bytes
        self._clock_offset_s = world.random.uniform(1.0, 1000.0)

    @property
    def syncs(self) -> bool:
        """Whether what it acknowledges is synced."""
        return self._syncs

    @property
    def now(self) -> float:
        """This node's own monotonic clock, in seconds."""
        return self.world.loop.now + self._clock_offset_s

    def turn_clock(self, by_ns: int) -> None:
        """Somebody sets the wall clock, or it drifts."""
        self.settings = replace(self.settings, wall_offset_ns=self.settings.wall_offset_ns + by_ns)
        if self.up:
            self.replica.set_wall_offset(self.settings.wall_offset_ns)

    # Life and death

    def start(self) -> None:
        """Start the process on its disk."""
        assert not self.up
        self.life += 1
        self.up = True
        self.paused = False
        self._waiting: list[list[Delivery]] = []
        self._timer_at = float("inf")
        self._stuck = (0.0, 0)
        self._fetching = Fetching(self)
        random = self.world.random
        if self.wall_clock is not None:
            self.settings = replace(self.settings, wall_offset_ns=self.wall_clock())
        rules = self.settings.rules
        opened = self._open()
        if opened is None:
            return
        self.store, recovered = opened
        worker = GroupWorker if self.groups and rules == Rules() else DiskWorker
        self._worker: DiskWorker | GroupWorker = worker(self, syncs=self._syncs)
        base = recovered.base_seq, recovered.base_chain
        if self.book.meta is not None:
            self.world.marks["renamed"] += self.book.meta.storage_id != recovered.meta.storage_id
        self.world.checker.on_start(self.book, recovered.meta, recovered.frames, base, suspect=recovered.suspect)
        self.recorder = Recorder()
        machine = self.recorder if self.world.machine is None else self.world.machine()
        self.engine = Engine(machine, contiguous=rules.dedupe_contiguous, cut=rules.fragments_cut_by_epoch)
        sealer = Sealer(None, self.settings.cluster, self.name, random.randbytes(16))
        self._voice = Voice(sealer, recovered.meta.promised)
        self.replica = Replica(self.settings, recovered, Random(random.getrandbits(64)), self.now)
        try:
            self._replay()
        except OSError as error:
            self.fail(error)
            self.world.loop.call_later(RESTART_S, self._start_again)
            return
        doubt = ", a suspect" if recovered.suspect else ""
        self.world.marks["suspect"] += recovered.suspect
        self.world.loop.say(f"{self.name} starts at event {self.store.last_seq}{doubt}")
        self.run_effects()
        if self.life > 1:
            self._show_end_to_peers()  # a reconnecting peer meets another incarnation

    def _open(self) -> tuple[Store, Recovered] | None:
        """Open the data directory; None when the node died of it, to be started again a little later."""
        rules, random = self.settings.rules, self.world.random
        if self.cuts:
            self.cuts -= 1
            self.files.stop_after(int(random.random() * CUT_WITHIN))
        try:
            return Store.open(
                self.files,
                "/data",
                self.settings.cluster,
                self.name,
                sync="always" if self._syncs else "os",
                read_boot_id=self.files.read_boot_id,
                draw_id=lambda: random.randbytes(16),
                owner=self.name,
                segment_bytes=SEGMENT_BYTES,
                cache_bytes=self._cache_bytes,
                rules=rules,
            )
        except (Stopped, EnvironmentProblem) as error:
            self.world.marks["died at start"] += 1
            self._say(f"!! {error}")
            self.crash(power=isinstance(error, Stopped) and random.random() < 0.5 and self.may_darken(self))
            self.world.loop.call_later(RESTART_S, self._start_again)
            return None

    def _start_again(self) -> None:
        if not self.up:
            self.start()

    def _replay(self) -> None:
        """Apply from the journal what is known committed, as a node does before it takes part."""
        until = self.replica.commit_seq
        if until:
            self._note_commit()
            for burst in self.store.frames_from(1):
                self._apply([frame for frame in burst if frame.last <= until])

    def crash(self, *, power: bool) -> None:
        """kill -9; with `power` the machine goes too, and what was not synced may be lost or torn."""
        assert self.up
        self.world.loop.say(f"{self.name} {'loses power' if power else 'is killed'}")
        self.up = False
        self.life += 1
        if power:
            self.darken()
        else:
            self.files.kill()
            self._show_end_to_peers()

    def fail(self, error: Exception) -> None:
        """The disk refuses: a node halts then, and is killed."""
        self.world.marks["disk failed"] += 1
        self._say(f"!! {error}")
        self.crash(power=False)

    def darken(self) -> None:
        """The machine of a stopped node loses power."""
        assert not self.up
        self.files.crash()
        self.world.checker.on_power_loss(self.book, synced=self._syncs)

    def _show_end_to_peers(self) -> None:
        """Peers see this process end: their connections to it close, and a new one is refused, or finds another."""
        for peer in self.world.nodes:
            if peer is not self and peer.up and not peer.paused:
                self.world.loop.call_later(DEATH_SEEN_S, peer.learn_death, peer.life, self)

    def learn_death(self, life: int, of: SimNode) -> None:
        """A connection to another node's process closed; unless the network is in the way, it is known to be dead."""
        ways = (self.index, of.index), (of.index, self.index)
        if self.up and self.life == life and not self.paused and not self.world.network.blocked.intersection(ways):
            self.world.marks["seen death"] += 1
            self.replica.on_peer_died(name_hash(of.name), self.now)
            self.run_effects()

    def hand_over(self, to: SimNode) -> None:
        """Ask this node, if it leads, to give its role to another."""
        self.world.marks["handed over"] += self.replica.hand_over(name_hash(to.name), self.now) is None
        self.run_effects()

    def wipe(self) -> None:
        """The disk of a stopped node is replaced by an empty one."""
        assert not self.up
        self.world.loop.say(f"{self.name} loses its disk")
        self.files = SimFiles(Random(self.world.random.getrandbits(64)))
        self.world.checker.on_wipe(self.book)

    def pause(self) -> None:
        """Stop the process in its tracks (SIGSTOP); its sockets go on filling."""
        self.world.loop.say(f"{self.name} pauses")
        self.paused = True

    def release(self) -> None:
        """Let a held disk go on."""
        self.held = False
        if self.up:
            self._worker.go_on()

    def resume(self) -> None:
        """Go on: first what the sockets hold, then the timer."""
        if not self.up or not self.paused:
            return
        self.world.loop.say(f"{self.name} goes on")
        self.paused = False
        waiting, self._waiting = self._waiting, []
        if waiting:
            self.deliver([arrival for burst in waiting for arrival in burst])
        self._worker.go_on()
        self.replica.tick(self.now)
        self.run_effects()

    # What comes in

    def deliver(self, arrivals: list[Delivery], *, relayed: bool = False) -> None:
        """A burst of datagrams reaches the socket; or, `relayed`, came over TCP."""
        if not self.up:
            return
        if self.paused:
            if len(self._waiting) < PAUSED_ARRIVALS_MAX:
                self._waiting.append(arrivals)
            return
        opened: list[tuple[Envelope, Frame | Message]] = []
        for datagram, fate in arrivals:
            if fate and datagram.first is not None:
                self.replica.note_injected(fate, *datagram.first)
            if fate == "lost":
                continue
            result = self.world.open(datagram)
            if not isinstance(result, str) and self._is_for_another(result[0]):
                self.refused["misdirected"] = self.refused.get("misdirected", 0) + 1
                self.world.marks["misdirected"] += 1
            elif isinstance(result, str):
                self.refused[result] = self.refused.get(result, 0) + 1
                if not fate:
                    raise Violation(f"{self.name} refused an undamaged datagram: {result}")
            else:
                opened.append(result)
        if opened:
            if self.world.loop.lines is not None:
                for envelope, body in opened:
                    self._say(self.world.words.arrival(envelope.kind, envelope.sender, envelope.promised, body))
            if any(envelope.promised < self.replica.promised for envelope, _ in opened):
                opened = self._fence(opened)
            self.replica.receive(in_runs(opened), self.now, relayed=relayed)
            self.run_effects()

    def _is_for_another(self, envelope: Envelope) -> bool:
        """Whether a datagram names another node: opened once for all, it is judged here as each `Opener` would."""
        return envelope.channel == UNICAST and envelope.to != self._address and self.settings.rules.receiver_checked

    def _fence(self, opened: list[tuple[Envelope, Frame | Message]]) -> list[tuple[Envelope, Frame | Message]]:
        """Give the replica what lies below its promise one by one, with the checker looking on; returns the rest."""
        replica, rest, life = self.replica, [], self.life
        for _ in range(DUE_MAX):  # what is due anyway is no answer; one read served may begin the next
            replica.receive([], self.now)
            if not self.run_effects() or self.life != life:
                break
        for arrival in opened if self.life == life else ():
            if arrival[0].promised >= replica.promised:
                rest.append(arrival)
                continue
            replica.receive([arrival], self.now)
            effects = replica.take_effects()
            self.world.checker.on_fenced(self.book, effects)
            for effect in effects:
                self._do(effect)
        return rest

    def submit(self, groups: Sequence[tuple[bytes, ...]], *, elsewhere: bool = False) -> bool:
        """Number groups of records here, of clients `elsewhere` too; False when this node is not the sequencer."""
        if elsewhere:
            self.replica.hasten_commits(self.now)
        taken = self.replica.submit(groups, self.now)
        self.run_effects()
        return taken

    # What goes out

    def run_effects(self) -> bool:
        """Carry out what the replica wants done, hear what it says, and set its timer; whether that was anything."""
        replica, life = self.replica, self.life
        anything = False
        while True:
            effects, notices = replica.take_effects(), replica.take_notices()
            if not effects and not notices:
                break
            anything = True
            self._note_commit()
            for effect in effects:
                self._do(effect)
                if self.life != life:
                    return True  # it died of that
            for notice in notices:
                self._tell(notice)
                if self.life != life:
                    return True
        self._note_commit()
        self._arm()
        return anything

    def _note_commit(self) -> None:
        commit = self.replica.commit_seq
        if commit != self.book.commit:
            self.world.checker.on_commit(self.book, commit)

    def _do(self, effect: Effect) -> None:
        kind, voice = type(effect), self._voice
        if not self.settings.rules.promise_ordered:
            voice.promised = self.replica.promised
        if self.world.loop.lines is not None:
            self._say(self.world.words.effect(effect))
        if isinstance(effect, Promise):
            voice.promised = effect.epoch
        elif isinstance(effect, Stream):
            self.world.checker.on_stream(self.book, self.life, effect.frames, voice.promised)
            self._multicast([voice.data(frame) for frame in effect.frames])
        elif isinstance(effect, Repair):
            self._repair(effect)
        elif isinstance(effect, Multicast):
            self.world.checker.on_message(self.book, effect.message, 0, voice.promised)
            self._multicast([voice.control(effect.message)])
        elif isinstance(effect, Send):
            self.world.checker.on_message(self.book, effect.message, effect.to, voice.promised)
            target = self.world.index.get(effect.to)
            if target is not None:
                self.world.network.unicast(self.index, target, [voice.control(effect.message, effect.to)])
        elif isinstance(effect, Relay):
            self.world.checker.on_message(self.book, effect.message, effect.to, voice.promised)
            self._relay(effect)
        elif isinstance(effect, Append | Truncate | WriteMeta | NoteDoubt):
            self._order(effect)
        elif isinstance(effect, Apply):
            self._apply(effect.frames)
        elif isinstance(effect, CatchUp):
            self._fetching.catch_up(effect)
        elif isinstance(effect, FetchEpochs):
            self._fetching.fetch_history(effect)
        else:
            raise AssertionError(f"unknown effect {kind}")

    def _tell(self, notice: Notice) -> None:
        if self.world.loop.lines is not None:
            self._say(self.world.words.notice(notice))
        self.world.marks[type(notice).__name__] += 1
        if isinstance(notice, HaltRequired):
            raise Violation(f"{self.name} halts: {notice.reason}")
        if isinstance(notice, Contradicted) and not self.world.lies:
            raise Violation(f"{self.name} does not obey: {notice.words}")
        if isinstance(notice, LogDoubted):
            self.world.checker.on_doubt(self.book, lied_to=self.world.lies)
        elif isinstance(notice, LogRecovered):
            self.world.checker.on_cleared(self.book, noted=self._worker.clear_suspect())
        elif isinstance(notice, ReadReady):
            self.on_ready(self, notice)

    def _relay(self, effect: Relay) -> None:
        target = self.world.index.get(effect.to)
        if target is not None:
            self.world.marks["relayed"] += 1
            arrivals, peer = [Delivery(self._voice.control(effect.message, effect.to), "")], self.world.nodes[target]
            self.world.network.send_tcp(self.index, target, lambda: peer.deliver(arrivals, relayed=True), lambda: None)

    def _repair(self, effect: Repair) -> None:
        datagrams = self._voice.repairs(effect.frames, effect.to)
        if effect.to is None:
            self._multicast(datagrams)
        elif effect.to in self.world.index:
            self.world.network.unicast(self.index, self.world.index[effect.to], datagrams)

    def _multicast(self, datagrams: list[Datagram]) -> None:
        self.world.network.multicast(self.index, datagrams)

    def _apply(self, frames: Sequence[Frame]) -> None:
        checker = self.world.checker
        checker.on_apply(self.book, frames, self.replica.promised)
        results = self.engine.apply(frames)
        checker.on_computed(self.book, self.engine.applied_seq, self.engine.result_chain, self.recorder.broken)
        if results:
            self.on_applied(self, results)

    # The timer

    def _arm(self) -> None:
        deadline = self.replica.next_deadline() - self._clock_offset_s
        if deadline < self._timer_at - 1e-9:
            self._timer_at = deadline
            self.world.loop.call_at(deadline, self._ring, self.life, deadline)

    def _ring(self, life: int, deadline: float) -> None:
        if life != self.life or deadline != self._timer_at:
            return
        self._timer_at = float("inf")
        if self.paused:
            return
        now, due = self.now, self.replica.next_deadline()
        if due - now < 1e-6:
            at, times = self._stuck
            self._stuck = (now, times + 1 if at == now else 0)
            if times > TIMER_STUCK:
                raise Violation(f"{self.name} asks for the timer again and again at one instant")
            self.replica.tick(max(now, due))
            self.run_effects()
        else:
            self._arm()

    def _order(self, effect: Job) -> None:
        if isinstance(effect, Append):
            self.world.checker.on_append(self.book, effect.frames)
        elif isinstance(effect, Truncate):
            self.world.checker.on_truncate(self.book, effect.last)
        self._worker.order(effect)

    def complete(self, jobs: Sequence[Job]) -> None:
        """The disk is done with these."""
        for job in jobs:
            self.replica.complete(job.ticket, self.now)
        self.run_effects()

    def _say(self, text: str) -> None:
        self.world.loop.say(f"{self.name} {text}")
