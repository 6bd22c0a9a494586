"""Drives the replica: feeds it what came in, carries out what it asks for, and keeps the one deadline. Sans-I/O.

    readable -> network.receive -> replica.receive --+
    timer -> the same, then tick --------------------+--> run_effects: effects in order, completions, notices, deadline
    submit (at once; in a flood, a turn's together) -+        |
    a sync has ended --------------------------------+        +--> apply, in slices, last: acknowledgements go first

Whatever one turn brings goes through the protocol once and leaves in as few system calls as possible. What the turns
are, and where time, bytes and threads come from, is the business of the ports: a node's shell has sockets, files and an
event loop behind them, the simulator has none of these, and both run what stands here.

The order of `run_effects` is part of the protocol's safety and speed:

1. Effects leave in the order in which the replica gave them; a Promise changes only what comes after it.
2. Tickets are completed only between two batches of effects, so no effect meets a state that is newer than itself.
3. Notices are told when nothing is left to carry out: who hears one finds the replica at rest.
4. A COMMIT is held back until what it commits has been applied, if that is little: the client's answer goes first.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from typing import Any, Final, Protocol

from mcast.protocol.arrivals import Arrival, ordered_by_epoch
from mcast.protocol.effects import (
    Append,
    Apply,
    CatchUp,
    Effect,
    FetchEpochs,
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
from mcast.wire.frame import Frame
from mcast.wire.messages import Message

TIMER_DRAINS_MAX: Final = 8  # bursts received before an overdue timer is judged all the same
DISK_RETRY_S: Final = 0.5  # between attempts to write what a full disk refused
AT_ONCE_APART_S: Final = 0.0001  # between submits that do not wait for others of their turn
ANSWER_FIRST_BYTES: Final = 16 << 10  # of committed frames: few enough to be applied before the others hear of them
TIMER_GRAIN_S: Final = 0.001  # what asyncio rounds a wait up to
_FOREVER: Final = float("inf")


class Datagrams(Protocol):
    """Datagrams: sealed under the promise told last, opened, and proven to be of living processes."""

    @property
    def has_more(self) -> bool:
        """Whether the last `receive` stopped at its bound rather than at an empty socket."""

    def receive(self, now: float) -> Sequence[Arrival]:
        """One bounded burst of what others sent."""

    def open_relayed(self, datagram: bytes, now: float) -> Sequence[Arrival]:
        """What a datagram brings that came over TCP."""

    def on_incarnation_proven(self, node: int, incarnation: bytes, now: float) -> Sequence[Arrival]:
        """TCP has proven which process of `node` lives: what was held back for that."""

    def promise(self, epoch: int) -> None:
        """What is sent from now on carries this promise, and nothing that was asked for before."""

    def stream(self, frames: Sequence[Frame]) -> None:
        """Multicast new frames."""

    def repair(self, to: int | None, frames: Sequence[Frame]) -> None:
        """Send frames again, to one node or to all."""

    def multicast(self, message: Message) -> None:
        """Send a control message to all; a COMMIT waits for `tell_commit`."""

    def tell_commit(self) -> None:
        """Send the COMMIT that waits, if one does."""

    def send(self, to: int, message: Message) -> None:
        """Send a control message to one node."""

    def tick(self, now: float) -> None:
        """Do what is due."""

    def next_deadline(self) -> float:
        """When `tick` or `receive` has something to do even if nothing arrives; infinity if never."""


class Disk(Protocol):
    """What must last. Every method may raise DiskFailed: the owner must stop then."""

    @property
    def is_full(self) -> bool:
        """Whether it has no room, and so completes nothing until `retry` finds some."""

    def append(self, ticket: int, frames: Sequence[Frame]) -> None:
        """Write frames behind the journal's end."""

    def order(self, effect: Truncate | WriteMeta | NoteDoubt) -> None:
        """Carry out one of the rare effects."""

    def take_completed(self, *, patient: bool) -> list[int]:
        """Tickets whose effects are durable, since the last call; `patient`: it may wait a moment for that."""

    def clear_suspect(self) -> None:
        """Durably note that the log is known whole again."""

    def retry(self) -> None:
        """Do what it had no room for, if it has by now."""


class Applier(Protocol):
    """The state machine, behind a queue."""

    bytes: int
    """Of committed frames that wait."""

    @property
    def is_full(self) -> bool:
        """Whether applying must catch up before more is taken in."""

    def add(self, frames: Sequence[Frame]) -> None:
        """Append committed frames."""

    def run(self) -> None:
        """Apply for a slice of time; what is left goes on in later turns."""


class Host(Protocol):
    """Who owns the turns, and whom everything else concerns."""

    def call_soon(self) -> None:
        """Have `Driver.on_turn` called at the end of this turn."""

    def ring_at(self, due: float) -> None:
        """Have `Driver.on_timer` called at that time, and not at the one that was asked for before."""

    def relay(self, effect: Relay) -> None:
        """Send a message over TCP."""

    def fetch(self, effect: CatchUp | FetchEpochs) -> None:
        """Fetch frames, or epochs, over TCP."""

    def on_tick(self, now: float) -> None:
        """The timer has rung; the replica's turn comes next."""

    def on_protocol_notice(self, notice: Notice) -> None:
        """The protocol has something to tell."""

    def on_disk_full(self, full: bool) -> None:
        """The disk has filled up, or has room again."""


class Driver:
    """One replica between its ports, from `start` to `stop`: before and after, nothing is fed and nothing carried out.

    `clock` gives monotonic seconds. Whatever a port or the replica raises goes through `guard`, which must `stop` this
    driver for it: to go on with half an effect carried out could break a promise.
    """

    def __init__(  # noqa: PLR0913 - its ports
        self, replica: Replica, network: Datagrams, disk: Disk, applier: Applier, host: Host, *,
        guard: AbstractContextManager[object], clock: Callable[[], float],
    ) -> None:  # fmt: skip
        self.replica = replica
        self.active = False
        """Whether this node takes part."""
        self._network = network
        self._disk = disk
        self._applier = applier
        self._host = host
        self._guard = guard
        self._clock = clock
        self._submitted: list[tuple[bytes, ...]] = []
        """Groups of records that wait for the end of this turn."""
        self._running = False
        """Whether this is inside `run_effects`: what is submitted there waits for its end."""
        self._booked = False
        """Whether `on_turn` is to come."""
        self._at_once = 0.0
        """When a lone submit was last carried out at once."""
        self._timer_due = _FOREVER
        """When the timer rings."""
        self._drains = 0
        """Bursts taken in since the timer became due."""
        self._disk_due = _FOREVER
        """When a full disk is tried again."""
        self._disk_was_full = False
        self._handlers: dict[type[Effect], Callable[[Any], None]] = {
            Promise: lambda effect: network.promise(effect.epoch),
            Stream: lambda effect: network.stream(effect.frames),
            Repair: lambda effect: network.repair(effect.to, effect.frames),
            Multicast: lambda effect: network.multicast(effect.message),
            Send: lambda effect: network.send(effect.to, effect.message),
            Append: lambda effect: disk.append(effect.ticket, effect.frames),
            **dict.fromkeys((Truncate, WriteMeta, NoteDoubt), disk.order),
            Apply: lambda effect: applier.add(effect.frames),
            Relay: host.relay,
            **dict.fromkeys((CatchUp, FetchEpochs), host.fetch),
        }

    def start(self) -> None:
        """Take part from now on."""
        self.active = True
        self._schedule()

    def stop(self) -> None:
        """Take no further part."""
        self.active = False

    # What comes in

    def on_readable(self) -> None:
        """A socket has something: take one burst; who calls does so again if there is more."""
        with self._guard:
            if self._applier.is_full:
                self._applier.run()
            else:
                self._receive(self._network.receive(self._clock()))
                self.run_effects()

    def on_timer(self) -> None:
        """The deadline has come. Sockets are drained before the protocol judges who was silent."""
        self._timer_due = _FOREVER
        with self._guard:
            if not self.active:
                return
            if (due := self._next_due()) > self._clock():
                self._ring_by(due)  # what it was set for has moved
                return
            self._receive(self._network.receive(self._clock()))
            if self._network.has_more and self._drains < TIMER_DRAINS_MAX:
                self._drains += 1
            else:
                self._drains = 0
                self._tick(self._clock())
            self.run_effects()

    def on_turn(self) -> None:
        """The end of a turn in which something was submitted or told."""
        self._booked = False
        self._settle()

    def on_synced(self) -> None:
        """Something may have become durable."""
        self._settle()

    def on_relayed(self, datagram: bytes) -> None:
        """A datagram came over TCP."""
        self.tell(lambda now: self.replica.receive(self._network.open_relayed(datagram, now), now, relayed=True))

    def on_incarnation_proven(self, node: int, incarnation: bytes) -> None:
        """A TCP connection to `node`, or a sealed one from it, proved that this incarnation of it lives."""
        self.tell(lambda now: self._receive(self._network.on_incarnation_proven(node, incarnation, now)))

    def tell(self, tell: Callable[[float], None]) -> None:
        """Tell the protocol something, while this node takes part; what follows is done at the end of this turn."""
        if self.active:
            with self._guard:
                tell(self._clock())
                self._schedule()

    def submit(self, groups: Sequence[tuple[bytes, ...]], *, elsewhere: bool = False) -> bool:
        """Have groups of encoded records numbered, also of clients `elsewhere`. False: this node is not the sequencer.

        Where nothing is on its way, and nothing was a moment ago, that is done before this returns. Else they go with
        all that is submitted until the end of this turn.
        What was taken may still fall to a lost epoch: SteppedDown says so, and it must be sent anew.
        """
        if not self.active or not self.replica.is_sequencer:
            return False
        self._submitted += groups
        if elsewhere:
            self.replica.hasten_commits(self._clock())
        if (
            self.replica.is_idle and not self._booked and not self._running
            and self._clock() >= self._at_once + AT_ONCE_APART_S
        ):  # fmt: skip
            self._settle()
            self._at_once = self._clock()
        else:
            self._schedule()
        return True

    def ask_read(self) -> int | None:
        """Begin a linearizable read: a ReadReady notice will name the token. None: not now."""
        token: int | None = None
        if self.active:
            with self._guard:
                token = self.replica.ask_read(self._clock())
                if self._running:
                    self._schedule()
                else:
                    self.run_effects()
        return token

    def hand_over(self, to: int) -> str | None:
        """Begin to give the sequencer's role to `to`; None, or what stands in the way."""
        refusal: str | None = "it takes no part"
        if self.active:
            with self._guard:
                refusal = self.replica.hand_over(to, self._clock())
                self._schedule()
        return refusal

    def rearm(self) -> None:
        """A port's deadline may have come nearer."""
        self._schedule()

    # What goes out

    def run_effects(self) -> None:
        """Carry out effects until there are none, tell the notices, arm the timer; applying comes last."""
        if not self.active:
            return
        self._running = True
        replica, network = self.replica, self._network
        if self._submitted:
            groups, self._submitted = self._submitted, []
            replica.submit(groups, self._clock())
        patient = not replica.leads_epoch  # all wait for a follower's acknowledgement, and nobody for a follower else
        while True:
            self.carry_out(replica.take_effects())
            completed = self._disk.take_completed(patient=patient)
            if not completed:
                break
            now = self._clock()
            for ticket in completed:
                replica.complete(ticket, now)
        for notice in replica.take_notices():
            self._host.on_protocol_notice(notice)
        if self._applier.bytes > ANSWER_FIRST_BYTES:
            network.tell_commit()
        self._applier.run()
        network.tell_commit()  # at once; but where little was applied, after the client's answer
        self._running = False
        self._arm()

    def _settle(self) -> None:
        with self._guard:
            self.run_effects()

    def carry_out(self, effects: Sequence[Effect]) -> None:
        """Carry out effects, in their order."""
        handlers = self._handlers
        for effect in effects:
            handlers[type(effect)](effect)

    def _schedule(self) -> None:
        """Run the effects once at the end of this turn."""
        if not self._booked and self.active:
            self._booked = True
            self._host.call_soon()

    def _receive(self, arrivals: Sequence[Arrival]) -> None:
        replica = self.replica
        if len(arrivals) > 1:
            arrivals = ordered_by_epoch(arrivals, replica.promised, sequencer_known=replica.sequencer is not None)
        if arrivals:
            replica.receive(arrivals, self._clock())

    def _tick(self, now: float) -> None:
        if now >= self._disk_due:
            self._disk_due = _FOREVER
            self._disk.retry()
        self._network.tick(now)
        self._host.on_tick(now)
        self.replica.tick(now)

    def _arm(self) -> None:
        """One timer, moved only when it would ring too late."""
        if not self.active:
            return
        full = self._disk.is_full
        if full != self._disk_was_full:
            self._disk_was_full = full
            self._host.on_disk_full(full)
        if full and self._disk_due == _FOREVER:
            self._disk_due = self._clock() + DISK_RETRY_S
        if self._timer_due <= self._clock() + TIMER_GRAIN_S:
            return  # no timer rings sooner than that one, which then looks again
        self._ring_by(self._next_due())

    def _ring_by(self, due: float) -> None:
        if due < self._timer_due:
            self._timer_due = due
            self._host.ring_at(due)

    def _next_due(self) -> float:
        return min(self.replica.next_deadline(), self._network.next_deadline(), self._disk_due)
