"""The shell: puts real sockets, files and an event loop behind the ports of `protocol.driver`. No task, one timer.

What is done in which order, and when, is the driver's; here stands what only a real node has: a data directory that is
locked and recovered, sockets that are opened and left again, a machine, and what the node says of itself.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Sequence
from contextlib import ExitStack, suppress
from typing import Any, Final

from mcast.clock import monotonic_s, ticks_s
from mcast.config import Config
from mcast.errors import DiskFailed, Refused
from mcast.machine.api import StateMachine
from mcast.machine.engine import Applied, Engine
from mcast.net.faulty import Faults, FaultSpec, parse_faults
from mcast.net.memory import Hub
from mcast.node import report, setup
from mcast.node.applying import ApplyQueue
from mcast.node.duplicate_ids import DuplicateIdWatch
from mcast.node.durability import GroupCommit
from mcast.node.eventlog import EventLog
from mcast.node.guard import Guard
from mcast.node.handlerlog import HandlerLog, trace_of
from mcast.node.recomputing import Recomputing
from mcast.node.replaying import Results, replay_journal
from mcast.node.runs import runs_of
from mcast.node.transport import Transport
from mcast.node.wallclock import WallClock
from mcast.node.watch import Watch
from mcast.protocol.driver import Driver
from mcast.protocol.effects import CatchUp, EpochChanged, FetchEpochs, HaltRequired, LogRecovered, Notice, Relay
from mcast.protocol.replica import Replica
from mcast.storage.files import Files, RealFiles
from mcast.storage.store import Store
from mcast.wire.frame import Frame

STOP_DRAIN_S: Final = 2.0  # for committed events to be applied when stopping

_log: Final = logging.getLogger("mcast.node")


class Shell:
    """One node, but for its TCP side. `open`, then `join`; `start` does both.

    `hub` puts the node on an in-process network, `machine` and `files` replace what the config names: for tests.
    Callbacks run in the event loop. What they, the protocol or the machine raise unasked is a bug, and halts the node:
    it goes on saying so, but takes no part.
    """

    store: Store
    replica: Replica
    transport: Transport
    _driver: Driver
    _duplicate_ids: DuplicateIdWatch
    _results: Results

    def __init__(  # noqa: PLR0913 - what tests replace, each by name
        self, config: Config, node_id: str, *, fault: str | None = None, machine: StateMachine | None = None,
        hub: Hub | None = None, files: Files | None = None, offload: bool = True,
    ) -> None:  # fmt: skip
        self.config = config
        self.node_id = node_id
        self.node = config.node(node_id)
        self.incarnation = setup.draw_incarnation()
        self.engine = Engine(machine if machine is not None else setup.load_machine_of(config), clock=ticks_s)
        self._another = setup.another(config, machine)
        self.handlers = HandlerLog(node_id)
        self.runs = runs_of(self.engine.machine)  # for others to compare
        self.engine.observe(self.handlers)
        self.record_max = setup.frame_body_max(config.mtu)
        self.on_applied: list[Callable[[list[Applied]], None]] = []
        self.on_notice: list[Callable[[Notice], None]] = []
        self.on_halted: list[Callable[[], None]] = []
        """Called when the node has halted; `halted` says why."""
        self.on_catch_up: Callable[[CatchUp | FetchEpochs], None] | None = None
        self.on_relay: Callable[[Relay], None] | None = None
        self.on_moved: Callable[[str], None] | None = None
        """Called with the own address when that, or another node's, is another one than before."""
        self.on_look: Callable[[], str | None] | None = None
        """Called once a second; why commands do not get from here to the sequencer, in words."""
        self.events: EventLog
        self.halted: str | None = None
        """Why the node stopped taking part; None while it does."""
        self.joined = self.was_live = False
        """`was_live`: whether an epoch has been known here since the start."""
        self.stopped = asyncio.Event()
        """Set when the node has halted or was stopped."""
        self.wall = WallClock(node_id)
        self._fault = parse_faults(fault) if fault is not None else None
        self._hub = hub
        self._files = files or RealFiles()
        self._offload = offload
        self._loop: asyncio.AbstractEventLoop
        self._disk: GroupCommit
        self._guard = Guard(self.halt)
        self._queue = ApplyQueue(self.engine, self._tell_applied, self._guard)
        self.watch = Watch(self)
        self._turn: asyncio.Handle | None = None
        """The driver's end of this turn of the loop."""
        self._timer: asyncio.TimerHandle | None = None
        """The driver's deadline."""
        self._opened = False
        self._closed = False

    async def start(self) -> None:
        """`open` and `join`, for a node without a TCP side."""
        await self.open()
        self.join()

    async def open(self) -> None:
        """Lock and recover the data directory, replay what is committed, open the sockets; takes no part yet.

        Raises:
            ConfigError, EnvironmentProblem: the message names the fix. Nothing stays open then.
        """
        self._loop = asyncio.get_running_loop()
        self.wall.start()
        self.store, recovered = await asyncio.to_thread(setup.open_store, self.config, self.node_id, self._files)
        with ExitStack() as undo:  # what is open already, if one of these fails
            undo.callback(self.store.close)
            for finding in self.store.findings:
                _log.warning("%s", finding)
            link = await setup.open_link(self.config, self.node, self.incarnation, hub=self._hub, offload=self._offload)
            undo.callback(link.close)
            peers = await setup.find_peers(self.config, self.node_id, link, self.watch.mending.on_unknown_names)
            self.transport = setup.make_transport(
                self.config, self.node_id, self.incarnation, link, peers, recovered.meta.promised,
                lambda: self.replica.votes,
            )  # fmt: skip
            self.replica = setup.make_replica(
                self.config, self.node, recovered, link.receive_window, self.wall.offset_ns, monotonic_s()
            )
            self._disk = GroupCommit(self.store, always=self.config.sync == "always", wake=self._wake)
            undo.callback(self._disk.close)
            self._driver = Driver(
                self.replica, self.transport, self._disk, self._queue, self, guard=self._guard, clock=monotonic_s
            )
            self._duplicate_ids = DuplicateIdWatch(self.config, self.node_id, self.transport)
            await self._duplicate_ids.check_alone()
            self._set_faults(self._fault)
            self.events = setup.open_events(self.config, self.node_id, self.store, self._files)
            self.recomputing = Recomputing(self.events, self.store, lambda: self.engine.applied_seq, self._another)
            self.engine.on_frames = self.events.take
            self._results = await replay_journal(self, self._files, self.config.data_dir / self.node_id)
            undo.pop_all()
        self._opened = True

    def join(self) -> None:
        """Take part from now on, unless this node has halted before."""
        if self.halted is not None or self._closed:
            return
        if (ended := self._disk.fileno()) is not None:
            self._loop.add_reader(ended, self._driver.on_synced)
        self.joined = True
        self.transport.link.attach(self._loop, self._driver.on_readable)
        self.watch.start()
        self._driver.start()

    async def stop(self) -> None:
        """Leave the group, apply what is committed, make the journal durable and close it; idempotent."""
        if self._closed or not self._opened:
            return
        self._closed = True
        self._leave()
        await asyncio.to_thread(self._disk.close)
        if self.halted is None:
            with self._guard:
                await self._queue.drain(STOP_DRAIN_S)
        self._results.keep()
        self.recomputing.stop()
        self.events.close()
        try:
            await asyncio.to_thread(self.store.close)
        except DiskFailed as failed:
            _log.error("node %s: %s", self.node_id, failed)
        self.stopped.set()

    def submit(self, groups: Sequence[tuple[bytes, ...]], *, elsewhere: bool = False) -> bool:
        """Have groups of encoded records numbered, also of clients `elsewhere`. False: this node is not the sequencer.

        See `Driver.submit`.
        """
        return self._driver.submit(groups, elsewhere=elsewhere)

    def ask_read(self) -> int | None:
        """Begin a linearizable read: a ReadReady notice will name the token. None: not now."""
        return self._driver.ask_read()

    def tell(self, tell: Callable[[float], None]) -> None:
        """Tell the protocol something, while this node takes part; what follows is done at the end of this turn."""
        self._driver.tell(tell)

    def on_transfer(self, frames: Sequence[Frame], peer: int) -> None:
        """Hand over frames fetched over TCP from `peer`, in order."""
        self._driver.tell(lambda now: self.replica.on_transfer(frames, peer, now))

    def on_transfer_failed(self, peer: int) -> None:
        """A catch-up from `peer` broke off."""
        self._driver.tell(lambda now: self.replica.on_transfer_failed(peer, now))

    def on_incarnation_proven(self, node: int, incarnation: bytes) -> None:
        """A TCP connection to `node`, or a sealed one from it, proved that this incarnation of it lives."""
        self._driver.on_incarnation_proven(node, incarnation)

    def on_peer_died(self, node: int) -> None:
        """The process that led as `node` is dead: nobody listens on its port, or another incarnation does."""
        self._driver.tell(lambda now: self.replica.on_peer_died(node, now))

    def on_relayed(self, datagram: bytes) -> None:
        """A datagram came over TCP."""
        self._driver.on_relayed(datagram)

    def incarnation_of(self, node: int) -> bytes | None:
        """The process of `node` that is alive, as far as is proven here."""
        return self.transport.incarnation_of(node)

    def hand_over(self, to: int) -> str | None:
        """Begin to give the sequencer's role to `to`; None, or what stands in the way."""
        if not self._driver.active:
            return f"{self.node_id} takes no part" + (f": {self.halted}" if self.halted else "")
        return self._driver.hand_over(to)

    def fault(self, spec: str) -> None:
        """Change what befalls received datagrams: a fault specification, or "clear".

        Raises:
            Refused: the config does not allow it. ConfigError: not a fault specification.
        """
        if not self.config.allow_faults:
            raise Refused("faults on running nodes are off: set allow_faults = true in [cluster] and restart the node")
        self._set_faults(parse_faults(spec))
        self._driver.rearm()

    def status(self) -> dict[str, Any]:
        """This node's object of `mcast status --json`, but for what its gateway adds."""
        return report.status(self)

    def gaps(self) -> dict[str, Any]:
        """This node's object of `mcast gaps --json`."""
        return report.gaps(self)

    @property
    def duplicate(self) -> bytes | None:
        """The incarnation of another process that was found to run under this node's id."""
        return self._duplicate_ids.known

    @property
    def is_apply_backlog_full(self) -> bool:
        """Whether applying must catch up before more is taken in."""
        return self._queue.is_full

    @property
    def is_disk_full(self) -> bool:
        """Whether this node has stopped acknowledging for want of disk space."""
        return self.joined and self._disk.is_full

    # What the driver asks of its host

    def call_soon(self) -> None:
        """See Host.call_soon."""
        self._turn = self._loop.call_soon(self._driver.on_turn)

    def ring_at(self, due: float) -> None:
        """See Host.ring_at."""
        if self._timer is not None:
            self._timer.cancel()
        self._timer = self._loop.call_later(max(due - monotonic_s(), 0.0), self._driver.on_timer)

    def relay(self, effect: Relay) -> None:
        """See Host.relay."""
        if self.on_relay is not None:
            self.on_relay(effect)

    def fetch(self, effect: CatchUp | FetchEpochs) -> None:
        """See Host.fetch."""
        if self.on_catch_up is not None:
            self.on_catch_up(effect)

    def on_tick(self, now: float) -> None:
        """See Host.on_tick."""
        self._duplicate_ids.judge()
        self.wall.follow(self.replica, now)

    def on_protocol_notice(self, notice: Notice) -> None:
        """See Host.on_protocol_notice."""
        if isinstance(notice, HaltRequired):
            self.halt(notice.reason)
        elif isinstance(notice, EpochChanged) and notice.sequencer is not None:
            self.was_live = True
        elif isinstance(notice, LogRecovered):
            self._disk.clear_suspect()
        for callback in list(self.on_notice):
            callback(notice)

    def on_disk_full(self, full: bool) -> None:
        """See Host.on_disk_full."""
        what = report.why_full() if full else "the disk has room again: events are acknowledged"
        _log.warning("node %s: %s", self.node_id, what)

    def _wake(self) -> None:
        """A sync has ended; called in another thread."""
        with suppress(RuntimeError):  # the loop is closed: nobody waits any more
            self._loop.call_soon_threadsafe(self._driver.on_synced)

    def _tell_applied(self, applied: list[Applied]) -> None:
        for callback in list(self.on_applied):
            callback(applied)

    def _set_faults(self, spec: FaultSpec | None) -> None:
        faults = None if spec is None else Faults(spec, self.node_id, self.replica.note_injected)
        self.transport.set_faults(faults)

    def halt(self, reason: str, bug: BaseException | None = None) -> None:
        """Take no further part, but stay to say why."""
        if self.halted is None:
            self.halted = reason
            _log.error("node %s halted: %s%s", self.node_id, reason, f"\n{trace_of(bug)}" if bug is not None else "")
            self._leave()
            self.stopped.set()
            for callback in list(self.on_halted):
                callback()

    def _leave(self) -> None:
        self._driver.stop()
        for handle in (self._timer, self._turn):
            if handle is not None:
                handle.cancel()
        self._timer = self._turn = None
        self._queue.stop()
        self.watch.stop()
        if self.joined and (ended := self._disk.fileno()) is not None:
            self._loop.remove_reader(ended)
        self.transport.link.close()
