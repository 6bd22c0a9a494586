"""The shell: feeds the protocol what sockets and timers bring, and carries out what it asks for. No task, one timer.

    readable -> transport.receive -> replica.receive --+
    timer -> the same, then tick ----------------------+--> settle: effects in order, completions, notices, timer
    submit (at once; in a flood, a turn's together) ---+        |
    fdatasync ended ------------------------------------        +--> apply, in slices, last: acknowledgements go first

Whatever one turn of the event loop brings goes through the protocol once and leaves in as few system calls as possible.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Sequence
from contextlib import suppress
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
from mcast.node.transport import Transport, ordered_by_epoch
from mcast.node.wallclock import WallClock
from mcast.node.watch import Watch
from mcast.protocol.effects import (
    Append,
    Apply,
    CatchUp,
    Effect,
    EpochChanged,
    FetchEpochs,
    HaltRequired,
    LogRecovered,
    Multicast,
    NoteDoubt,
    Notice,
    Promise,
    Relay,
    Repair,
    Send,
    Stream,
    Truncate,
    WriteMeta,
)
from mcast.protocol.replica import Replica
from mcast.seal.incarnations import ProvenDatagram
from mcast.storage.files import Files, RealFiles
from mcast.storage.store import Store
from mcast.wire.frame import Frame

TIMER_DRAINS_MAX: Final = 8  # bursts received before an overdue timer is judged all the same
DISK_RETRY_S: Final = 0.5  # between attempts to write what a full disk refused
AT_ONCE_APART_S: Final = 0.0001  # between submits that do not wait for others of their turn of the loop
ANSWER_FIRST_BYTES: Final = 16 << 10  # of committed frames: few enough to be applied before the others hear of them
TIMER_GRAIN_S: Final = 0.001  # what asyncio rounds a wait up to
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
        self._submitted: list[tuple[bytes, ...]] = []
        self._guard = Guard(self.halt)
        self._queue = ApplyQueue(self.engine, self._tell_applied, self._guard)
        self.watch = Watch(self)
        self._settling: asyncio.Handle | None = None
        self._running_effects = False
        """Whether this is inside `_settle`: what is submitted there waits for its end."""
        self._at_once_s = 0.0
        self._timer: asyncio.TimerHandle | None = None
        self._timer_due = float("inf")
        self._drains = 0
        self._disk_due = float("inf")
        self._disk_was_full = False
        self._opened = False
        self._active = False
        """Whether this node takes part: it has joined, and neither halted nor stopped."""
        self._closed = False
        self._carry_out: dict[type[Effect], Callable[[Any], None]] = {
            Promise: lambda effect: self.transport.promise(effect.epoch),
            Stream: lambda effect: self.transport.stream(effect.frames),
            Repair: lambda effect: self.transport.repair(effect.to, effect.frames),
            Multicast: lambda effect: self.transport.multicast(effect.message),
            Send: lambda effect: self.transport.send(effect.to, effect.message),
            Append: lambda effect: self._disk.append(effect.ticket, effect.frames),
            **dict.fromkeys((Truncate, WriteMeta, NoteDoubt), lambda effect: self._disk.order(effect)),
            Apply: lambda effect: self._queue.add(effect.frames),
            Relay: lambda effect: self.on_relay and self.on_relay(effect),
            CatchUp: lambda effect: self.on_catch_up and self.on_catch_up(effect),
            FetchEpochs: lambda effect: self.on_catch_up and self.on_catch_up(effect),
        }

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
        try:
            for finding in self.store.findings:
                _log.warning("%s", finding)
            link = await setup.open_link(self.config, self.node, self.incarnation, hub=self._hub, offload=self._offload)
            try:
                peers = await setup.find_peers(self.config, self.node_id, link, self.watch.mending.on_unknown_names)
                self.transport = setup.make_transport(
                    self.config, self.node_id, self.incarnation, link, peers, recovered.meta.promised,
                    lambda: self.replica.votes,
                )  # fmt: skip
                self.replica = setup.make_replica(
                    self.config, self.node, recovered, link.receive_window, self.wall.offset_ns, monotonic_s()
                )
                self._duplicate_ids = DuplicateIdWatch(self.config, self.node_id, self.transport)
                await self._duplicate_ids.check_alone()
                self._set_faults(self._fault)
                self.events = setup.open_events(self.config, self.node_id, self.store, self._files)
                self.recomputing = Recomputing(self.events, self.store, lambda: self.engine.applied_seq, self._another)
                self.engine.on_frames = self.events.take
                self._results = await replay_journal(self, self._files, self.config.data_dir / self.node_id)
            except BaseException:
                link.close()
                raise
        except BaseException:
            self.store.close()
            raise
        self._opened = True

    def join(self) -> None:
        """Take part from now on, unless this node has halted before."""
        if self.halted is not None:
            return
        always = self.config.sync == "always"
        self._disk = GroupCommit(self.store, always=always, wake=self._wake)
        if (ended := self._disk.fileno()) is not None:
            self._loop.add_reader(ended, self._on_synced)
        self.joined = True
        self._active = not self._closed
        self.transport.link.attach(self._loop, self._on_readable)
        self.watch.start()
        self._schedule()

    async def stop(self) -> None:
        """Leave the group, apply what is committed, make the journal durable and close it; idempotent."""
        if self._closed or not self._opened:
            return
        self._closed = True
        self._leave()
        if self.joined:
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

        Where nothing is on its way, and nothing was a moment ago, that is done before this returns. Else they go with
        all that is submitted until the end of this turn of the loop.
        What was taken may still fall to a lost epoch: SteppedDown says so, and it must be sent anew.
        """
        if self.halted is not None or not self.replica.is_sequencer:
            return False
        self._submitted += groups
        if elsewhere:
            self.replica.hasten_commits(monotonic_s())
        if (
            self.replica.is_idle and self._settling is None and not self._running_effects
            and monotonic_s() >= self._at_once_s + AT_ONCE_APART_S
        ):  # fmt: skip
            self._on_turn()
            self._at_once_s = monotonic_s()
        else:
            self._schedule()
        return True

    def ask_read(self) -> int | None:
        """Begin a linearizable read: a ReadReady notice will name the token. None: not now."""
        token: int | None = None
        if self._active:
            with self._guard:
                token = self.replica.ask_read(monotonic_s())
                if self._running_effects:
                    self._schedule()
                else:
                    self._run_effects()
        return token

    def on_transfer(self, frames: Sequence[Frame], peer: int) -> None:
        """Hand over frames fetched over TCP from `peer`, in order."""
        self.tell(lambda now: self.replica.on_transfer(frames, peer, now))

    def on_transfer_failed(self, peer: int) -> None:
        """A catch-up from `peer` broke off."""
        self.tell(lambda now: self.replica.on_transfer_failed(peer, now))

    def on_incarnation_proven(self, node: int, incarnation: bytes) -> None:
        """A TCP connection to `node`, or a sealed one from it, proved that this incarnation of it lives."""
        self.tell(lambda now: self._receive(self.transport.on_incarnation_proven(node, incarnation, now)))

    def on_peer_died(self, node: int) -> None:
        """The process that led as `node` is dead: nobody listens on its port, or another incarnation does."""
        self.tell(lambda now: self.replica.on_peer_died(node, now))

    def on_relayed(self, datagram: bytes) -> None:
        """A datagram came over TCP."""
        self.tell(lambda now: self.replica.receive(self.transport.open_relayed(datagram, now), now, relayed=True))

    def incarnation_of(self, node: int) -> bytes | None:
        """The process of `node` that is alive, as far as is proven here."""
        return self.transport.incarnation_of(node)

    def hand_over(self, to: int) -> str | None:
        """Begin to give the sequencer's role to `to`; None, or what stands in the way."""
        if not self._active:
            return f"{self.node_id} takes no part" + (f": {self.halted}" if self.halted else "")
        refusal: str | None = f"{self.node_id} has halted"
        with self._guard:
            refusal = self.replica.hand_over(to, monotonic_s())
            self._schedule()
        return refusal

    def fault(self, spec: str) -> None:
        """Change what befalls received datagrams: a fault specification, or "clear".

        Raises:
            Refused: the config does not allow it. ConfigError: not a fault specification.
        """
        if not self.config.allow_faults:
            raise Refused("faults on running nodes are off: set allow_faults = true in [cluster] and restart the node")
        self._set_faults(parse_faults(spec))
        self._schedule()

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

    def tell(self, tell: Callable[[float], None]) -> None:
        """Tell the protocol something, while this node takes part; what follows is done at the end of this turn."""
        if self._active:
            with self._guard:
                tell(monotonic_s())
                self._schedule()

    def _on_readable(self) -> None:
        """A socket has something: take one burst; the loop calls again if there is more."""
        with self._guard:
            if self._queue.is_full:
                self._queue.run()
            else:
                self._receive(self.transport.receive(monotonic_s()))
                self._run_effects()

    def _on_timer(self) -> None:
        """The timer. Sockets are drained before the protocol judges who was silent."""
        self._timer = None
        self._timer_due = float("inf")
        with self._guard:
            if (due := self._next_due()) > monotonic_s():
                self._ring_by(due)  # what it was set for has moved
                return
            self._receive(self.transport.receive(monotonic_s()))
            if self.transport.link.has_more and self._drains < TIMER_DRAINS_MAX:
                self._drains += 1
            else:
                self._drains = 0
                self._tick(monotonic_s())
            self._run_effects()

    def _tick(self, now: float) -> None:
        if now >= self._disk_due:
            self._disk_due = float("inf")
            self._disk.retry()
        self.transport.tick(now)
        self._duplicate_ids.judge()
        self.wall.follow(self.replica, now)
        self.replica.tick(now)

    def _on_turn(self) -> None:
        """The end of a turn in which something was submitted or fetched."""
        self._settling = None
        with self._guard:
            self._run_effects()

    def _on_synced(self) -> None:
        with self._guard:
            self._run_effects()

    def _wake(self) -> None:
        """A sync has ended; called in another thread."""
        with suppress(RuntimeError):  # the loop is closed: nobody waits any more
            self._loop.call_soon_threadsafe(self._on_synced)

    def _schedule(self) -> None:
        """Settle once at the end of this turn of the loop."""
        if self._settling is None and self._active:
            self._settling = self._loop.call_soon(self._on_turn)

    def _receive(self, arrivals: list[ProvenDatagram]) -> None:
        replica = self.replica
        if len(arrivals) > 1:
            arrivals = ordered_by_epoch(arrivals, replica.promised, sequencer_known=replica.sequencer is not None)
        if arrivals:
            replica.receive(arrivals, monotonic_s())

    def _run_effects(self) -> None:
        """Carry out effects until there are none, tell the notices, arm the timer; applying comes last."""
        if not self._active:
            return
        self._running_effects = True
        replica, carry_out = self.replica, self._carry_out
        if self._submitted:
            groups, self._submitted = self._submitted, []
            replica.submit(groups, monotonic_s())
        patient = not replica.leads_epoch  # all wait for a follower's acknowledgement, and nobody for a follower else
        while True:
            effects = replica.take_effects()
            for effect in effects:
                carry_out[type(effect)](effect)
            completed = self._disk.take_completed(patient=patient)
            if not completed:
                break
            now = monotonic_s()
            for ticket in completed:
                replica.complete(ticket, now)
        notices = replica.take_notices()
        if notices:
            self._tell(notices)
        if self._queue.bytes > ANSWER_FIRST_BYTES:
            self.transport.tell_commit()
        self._queue.run()
        self.transport.tell_commit()  # at once; but where little was applied, after the client's answer
        self._running_effects = False
        self._arm()

    def _tell(self, notices: Sequence[Notice]) -> None:
        for notice in notices:
            if isinstance(notice, HaltRequired):
                self.halt(notice.reason)
            elif isinstance(notice, EpochChanged) and notice.sequencer is not None:
                self.was_live = True
            elif isinstance(notice, LogRecovered):
                self._disk.clear_suspect()
            for callback in list(self.on_notice):
                callback(notice)

    def _arm(self) -> None:
        """One timer, moved only when it would ring too late."""
        if not self._active:
            return
        full = self._disk.is_full
        if full != self._disk_was_full:
            self._disk_was_full = full
            what = report.why_full() if full else "the disk has room again: events are acknowledged"
            _log.warning("node %s: %s", self.node_id, what)
        if full and self._disk_due == float("inf"):
            self._disk_due = monotonic_s() + DISK_RETRY_S
        if self._timer_due <= monotonic_s() + TIMER_GRAIN_S:
            return  # no timer rings sooner than that one, which then looks again
        self._ring_by(self._next_due())

    def _ring_by(self, due: float) -> None:
        if due >= self._timer_due:
            return
        if self._timer is not None:
            self._timer.cancel()
        self._timer_due = due
        self._timer = self._loop.call_later(max(due - monotonic_s(), 0.0), self._on_timer)

    def _next_due(self) -> float:
        return min(self.replica.next_deadline(), self.transport.next_deadline(), self._disk_due)

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
        self._active = False
        for handle in (self._timer, self._settling):
            if handle is not None:
                handle.cancel()
        self._timer = self._settling = None
        self._queue.stop()
        self.watch.stop()
        if self.joined and (ended := self._disk.fileno()) is not None:
            self._loop.remove_reader(ended)
        self.transport.link.close()
