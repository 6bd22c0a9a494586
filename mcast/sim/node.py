"""A node without an operating system: the production driver, replica, group commit, store, queue and engine.

What is simulated stands in the ports (`network_port`, `disk_port`) and in the files below the store. Here are the
process, which can be killed, paused and started again on the same disk or on an empty one, and its turns and timer.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from random import Random
from types import TracebackType
from typing import Final

from mcast.errors import DiskFailed, EnvironmentProblem
from mcast.machine.engine import Applied, Engine
from mcast.protocol.driver import Driver
from mcast.protocol.effects import (
    CatchUp,
    Contradicted,
    FetchEpochs,
    HaltRequired,
    LogDoubted,
    LogRecovered,
    Notice,
    ReadReady,
    Relay,
)
from mcast.protocol.recovered import Recovered
from mcast.protocol.replica import Replica, Settings
from mcast.sim.applier_port import ApplierPort
from mcast.sim.damage import CUT_WITHIN
from mcast.sim.disk import SimFiles, Stopped
from mcast.sim.disk_port import DiskPort
from mcast.sim.fetching import Fetching
from mcast.sim.invariants import Book, Violation
from mcast.sim.network import Delivery
from mcast.sim.network_port import NetworkPort
from mcast.sim.recorder import Recorder
from mcast.sim.watched import WatchedReplica
from mcast.sim.world import DiskSpeed, World
from mcast.storage.segment import SEGMENT_BYTES_MIN
from mcast.storage.store import Store
from mcast.wire.envelope import name_hash
from mcast.wire.groups import RecordGroup

__all__ = ["DiskSpeed", "SimNode", "World"]

SEGMENT_BYTES: Final = SEGMENT_BYTES_MIN  # so that journals roll
RESTART_S: Final = 0.050  # until a node that could not start is started again
DEATH_SEEN_S: Final = 0.001  # until a peer knows that a connection closed, and that no process answers any more
BUSY_S: Final = 0.000_1  # between two looks at a socket that a node is too busy to read
TIMER_LATE_S: Final = 1e-9  # so that clocks that differ by a rounding error agree that a timer is due
TIMER_STUCK: Final = 1_000  # timers at one instant: then the deadline never moves on


class _Guard:
    """Around whatever a node does: what its disk does to it is the end of this life."""

    def __init__(self, node: SimNode) -> None:
        self._node = node

    def __enter__(self) -> None:
        pass

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> bool:
        node = self._node
        if isinstance(error, Stopped):
            node.world.marks["died in a disk call"] += 1
            node.crash(power=node.world.random.random() < 0.5 and node.may_darken(node))
        elif isinstance(error, DiskFailed | OSError):
            node.fail(error)
        else:
            return False
        return True


class BookedTurn:
    """A booked end of a turn, as `ApplyQueue` wants it."""

    def __init__(self, action: Callable[[], None]) -> None:
        self._action: Callable[[], None] | None = action

    def cancel(self) -> None:
        """See Booked.cancel."""
        self._action = None

    def __call__(self) -> None:
        if self._action is not None:
            self._action()


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
        self.up = False
        self.life = 0
        self.guard = _Guard(self)
        self.held = False
        """A directed scenario's hand on the disk: syncs begin, but do not end."""
        self.driver: Driver
        self.replica: Replica
        self.engine: Engine
        self.recorder: Recorder
        self.store: Store
        self.on_applied: Callable[[SimNode, list[Applied]], None] = lambda node, results: None
        self.on_ready: Callable[[SimNode, ReadReady], None] = lambda node, ready: None
        self.may_darken: Callable[[SimNode], bool] = lambda node: node.syncs
        """Whether its machine may lose power now."""
        self.handler_s = 0.0
        """How long a command's handler takes."""
        self.cuts = 0
        """Starts that are to be cut short, at some change of the disk."""
        self.wall_clock: Callable[[], int] | None = None
        """Gives the offset (ns) that the wall clock has at each start; None: always the same."""
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
        self._missed: list[Callable[[], None]] = []
        """What was due while the process was paused."""
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
        if self.book.meta is not None:
            self.world.marks["renamed"] += self.book.meta.storage_id != recovered.meta.storage_id
        base = recovered.base_seq, recovered.base_chain
        self.world.checker.on_start(self.book, recovered.meta, recovered.frames, base, suspect=recovered.suspect)
        self.recorder = Recorder()
        machine = self.recorder if self.world.machine is None else self.world.machine()
        self.engine = Engine(
            machine, contiguous=rules.dedupe_contiguous, cut=rules.fragments_cut_by_epoch,
            clock=lambda: self._applier.passing_s(),
        )  # fmt: skip
        self.network = NetworkPort(self, random.randbytes(16), recovered.meta.promised, Random(random.getrandbits(64)))
        self.replica = WatchedReplica(self, recovered, Random(random.getrandbits(64)))
        self._disk = DiskPort(self, syncs=self._syncs)
        self._applier = ApplierPort(self)
        self.driver = Driver(
            self.replica, self.network, self._disk, self._applier, self, guard=self.guard, clock=lambda: self.now
        )
        life = self.life
        with self.guard:
            self._replay()
        if self.life != life:
            self.world.loop.call_later(RESTART_S, self._start_again)
            return
        doubt = ", a suspect" if recovered.suspect else ""
        self.world.marks["suspect"] += recovered.suspect
        self.world.loop.say(f"{self.name} starts at event {self.store.last_seq}{doubt}")
        self.driver.start()
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
            self.say(f"!! {error}")
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
            self.note_commit()
            for burst in self.store.frames_from(1):
                frames = [frame for frame in burst if frame.last <= until]
                self.world.checker.on_apply(self.book, frames, self.replica.promised)
                self.on_results(self.engine.apply(frames))

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
        self.say(f"!! {error}")
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
            self.driver.tell(lambda now: self.replica.on_peer_died(name_hash(of.name), now))

    def hand_over(self, to: SimNode) -> None:
        """Ask this node, if it leads, to give its role to another."""
        self.world.marks["handed over"] += self.driver.hand_over(name_hash(to.name)) is None

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

    def resume(self) -> None:
        """Go on: first what the sockets hold, then what was due."""
        if not self.up or not self.paused:
            return
        self.world.loop.say(f"{self.name} goes on")
        self.paused = False
        missed, self._missed = self._missed, []
        life = self.life
        self._read()
        for action in missed:
            if self.life == life:
                action()

    def release(self) -> None:
        """Let a held disk go on."""
        self.held = False

    # What comes in

    def deliver(self, arrivals: list[Delivery]) -> None:
        """A burst of datagrams reaches the socket."""
        if self.up:
            self.network.sockets.put(arrivals)
            if not self.paused:
                self._read()

    def on_relayed(self, datagram: bytes) -> None:
        """A datagram comes over TCP."""
        if self.up:
            self._when_running(lambda: self.driver.on_relayed(datagram))

    def meet(self, peer: SimNode) -> None:
        """A TCP connection with another node proves which process of it lives."""
        node, incarnation = peer.hash, peer.network.incarnation
        self._when_running(lambda: self.driver.on_incarnation_proven(node, incarnation))

    def submit(self, groups: Sequence[RecordGroup], *, elsewhere: bool = False) -> bool:
        """Number groups of records here, of clients `elsewhere` too; False when this node is not the sequencer."""
        return self.driver.submit(groups, elsewhere=elsewhere)

    def end_turn(self) -> None:
        """What was submitted, or told, leaves now."""
        self.driver.on_turn()

    def _read(self) -> None:
        """Read the socket, again and again while the node is too busy for it."""
        if self.up and not self.paused and self.network.has_more:
            self.driver.on_readable()
            if self.up and self.network.has_more:
                self.world.loop.call_later(BUSY_S, self._read)

    def _when_running(self, action: Callable[[], None]) -> None:
        if self.paused:
            self._missed.append(action)
        else:
            action()

    # What the driver asks of its host

    def call_soon(self) -> None:
        """See Host.call_soon."""
        self.book_turn(self.driver.on_turn)

    def ring_at(self, due: float) -> None:
        """See Host.ring_at."""
        self._timer_at = due - self._clock_offset_s + TIMER_LATE_S
        self.world.loop.call_at(self._timer_at, self._ring, self.life, self._timer_at)

    def relay(self, effect: Relay) -> None:
        """See Host.relay."""
        datagram, target = self.network.seal_for(effect.to, effect.message), self.world.index.get(effect.to)
        if target is not None:
            self.world.marks["relayed"] += 1
            peer = self.world.nodes[target]

            def on_arrived() -> None:
                peer.meet(self)
                peer.on_relayed(datagram)

            self.world.network.send_tcp(self.index, target, on_arrived, lambda: None)

    def fetch(self, effect: CatchUp | FetchEpochs) -> None:
        """See Host.fetch."""
        if isinstance(effect, CatchUp):
            self._fetching.catch_up(effect)
        else:
            self._fetching.fetch_history(effect)

    def on_tick(self, now: float) -> None:
        """See Host.on_tick."""

    def on_disk_full(self, full: bool) -> None:
        """See Host.on_disk_full."""
        self.world.marks["disk full"] += full

    def on_protocol_notice(self, notice: Notice) -> None:
        """See Host.on_protocol_notice."""
        self.world.marks[type(notice).__name__] += 1
        if isinstance(notice, HaltRequired):
            raise Violation(f"{self.name} halts: {notice.reason}")
        if isinstance(notice, Contradicted) and not self.world.lies:
            raise Violation(f"{self.name} does not obey: {notice.words}")
        if isinstance(notice, LogDoubted):
            self.world.checker.on_doubt(self.book, lied_to=self.world.lies)
        elif isinstance(notice, LogRecovered):
            self._disk.clear_suspect()
        elif isinstance(notice, ReadReady):
            self.on_ready(self, notice)

    def book_turn(self, action: Callable[[], None], after_s: float = 0.0) -> BookedTurn:
        """Do something at the end of this turn, which takes so long."""
        turn = BookedTurn(action)
        self.world.loop.call_later(after_s, self._end_turn, self.life, turn)
        return turn

    def _end_turn(self, life: int, turn: BookedTurn) -> None:
        if life == self.life:
            self._when_running(turn)

    def _ring(self, life: int, due: float) -> None:
        if life != self.life or due != self._timer_at:
            return
        at, times = self._stuck
        self._stuck = (due, times + 1 if at == due else 0)
        if times > TIMER_STUCK:
            raise Violation(f"{self.name} asks for the timer again and again at one instant")
        self._when_running(self.driver.on_timer)

    def on_results(self, results: list[Applied]) -> None:
        """Committed events have been applied; these are the results of commands that somebody waits for."""
        engine = self.engine
        self.world.checker.on_computed(self.book, engine.applied_seq, engine.result_chain, self.recorder.broken)
        if results:
            self.on_applied(self, results)

    # What the ports ask

    def disk_delay_s(self) -> float:
        """How long the next sync takes."""
        return self.speed.least_s + (self.speed.most_s - self.speed.least_s) * self.world.random.random()

    def note_commit(self) -> None:
        """Have the checker look at the commit, if it moved."""
        commit = self.replica.commit_seq
        if commit != self.book.commit:
            self.world.checker.on_commit(self.book, commit)

    def say(self, text: str) -> None:
        """Add a line about this node to the readable log."""
        self.world.loop.say(f"{self.name} {text}")
