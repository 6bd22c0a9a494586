"""The driver between fakes of its ports: what comes in when, and in which order it leaves."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import nullcontext
from typing import Any

import pytest

from mcast.protocol import driver as driver_module
from mcast.protocol.arrivals import Arrival
from mcast.protocol.driver import DISK_RETRY_S, TIMER_DRAINS_MAX, Driver
from mcast.protocol.effects import (
    Append,
    Apply,
    CatchUp,
    Effect,
    EpochChanged,
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
)
from mcast.wire.envelope import CONTROL, Envelope
from mcast.wire.frame import CHAIN_ZERO, Frame, make_frame
from mcast.wire.messages import Busy, Commit, Message, Stale

FRAME = make_frame(1, 1, 1, 0, 1, CHAIN_ZERO, b"record")
COMMIT = Multicast(Commit(1, 1, bytes(16), 0))


class Replica:
    """Gives the effects and notices of a script, and says in `log` what it is told."""

    def __init__(self, log: list[Any]) -> None:
        self.log = log
        self.batches: list[list[Effect]] = []
        self.notices: list[Notice] = []
        self.arrivals: list[Arrival] = []
        self.after_completion: dict[int, list[Effect]] = {}
        self.is_sequencer = self.is_idle = self.leads_epoch = True
        self.promised, self.sequencer = 1, 7
        self.deadline = float("inf")

    def take_effects(self) -> list[Effect]:
        return self.batches.pop(0) if self.batches else []

    def take_notices(self) -> list[Notice]:
        notices, self.notices = self.notices, []
        return notices

    def complete(self, ticket: int, now: float) -> None:
        self.log.append(f"complete {ticket}")
        if ticket in self.after_completion:
            self.batches.append(self.after_completion.pop(ticket))

    def receive(self, arrivals: Sequence[Arrival], now: float, *, relayed: bool = False) -> None:
        self.arrivals += arrivals
        self.log.append(f"receive {len(arrivals)}{' relayed' if relayed else ''}")

    def submit(self, groups: Sequence[tuple[bytes, ...]], now: float) -> None:
        self.log.append(f"submit {len(groups)}")

    def hasten_commits(self, now: float) -> None:
        self.log.append("hasten")

    def ask_read(self, now: float) -> int:
        self.log.append("ask read")
        return 5

    def tick(self, now: float) -> None:
        self.log.append("tick")

    def next_deadline(self) -> float:
        return self.deadline


class Ports:
    """All ports of a driver; `log` says in which order they were used."""

    def __init__(self) -> None:
        self.log: list[Any] = []
        self.now = 1.0
        self.replica = Replica(self.log)
        self.commit: Message | None = None
        self.arrived: list[list[Arrival]] = []
        self.has_more = False
        self.tickets: list[int] = []
        self.is_disk_full = False
        self.applier = _Applier(self)
        self.turns = 0
        self.rings: list[float] = []
        replica: Any = self.replica
        disk: Any = _Disk(self)
        self.driver = Driver(replica, self, disk, self.applier, self, guard=nullcontext(), clock=lambda: self.now)
        self.driver.start()

    def run(self, *effects: Effect) -> list[Any]:
        """What these effects lead to."""
        self.replica.batches.append(list(effects))
        self.log.clear()
        self.driver.on_turn()
        return list(self.log)

    # Datagrams

    def receive(self, now: float) -> list[Arrival]:
        self.log.append("socket")
        return self.arrived.pop(0) if self.arrived else []

    def open_relayed(self, datagram: bytes, now: float) -> list[Arrival]:
        return [(Envelope(0, CONTROL, 0, 0, 0, bytes(16), 1, 1), Stale(1))]

    def on_incarnation_proven(self, node: int, incarnation: bytes, now: float) -> list[Arrival]:
        return [(Envelope(0, CONTROL, 0, 0, 0, bytes(16), 1, 1), Stale(1))]

    def promise(self, epoch: int) -> None:
        self.log.append(f"promise {epoch}")

    def stream(self, frames: Sequence[Frame]) -> None:
        self.log.append("stream")

    def repair(self, to: int | None, frames: Sequence[Frame]) -> None:
        self.log.append(f"repair to {to}")

    def multicast(self, message: Message) -> None:
        if isinstance(message, Commit):
            self.commit = message
        else:
            self.log.append("multicast")

    def tell_commit(self) -> None:
        if self.commit is not None:
            self.commit = None
            self.log.append("commit")

    def send(self, to: int, message: Message) -> None:
        self.log.append(f"send to {to}")

    def next_deadline(self) -> float:
        return float("inf")

    def tick(self, now: float) -> None:
        self.log.append("network tick")

    # Host

    def call_soon(self) -> None:
        self.turns += 1

    def ring_at(self, due: float) -> None:
        self.rings.append(due)

    def relay(self, effect: Relay) -> None:
        self.log.append("relay")

    def fetch(self, effect: CatchUp | FetchEpochs) -> None:
        self.log.append("fetch")

    def on_tick(self, now: float) -> None:
        self.log.append("host tick")

    def on_protocol_notice(self, notice: Notice) -> None:
        self.log.append(type(notice).__name__)

    def on_disk_full(self, full: bool) -> None:
        self.log.append(f"disk full: {full}")


class _Applier:
    def __init__(self, ports: Ports) -> None:
        self._ports = ports
        self.bytes = 0
        self.is_full = False

    def add(self, frames: Sequence[Frame]) -> None:
        self._ports.log.append("apply later")
        self.bytes += sum(frame.size for frame in frames)

    def run(self) -> None:
        if self.bytes:
            self._ports.log.append("applied")
            self.bytes = 0


class _Disk:
    def __init__(self, ports: Ports) -> None:
        self._ports = ports

    @property
    def is_full(self) -> bool:
        return self._ports.is_disk_full

    def append(self, ticket: int, frames: Sequence[Frame]) -> None:
        self._ports.log.append(f"append {ticket}")
        self._ports.tickets.append(ticket)

    def order(self, effect: Any) -> None:
        self._ports.log.append(f"{type(effect).__name__} {effect.ticket}")
        self._ports.tickets.append(effect.ticket)

    def take_completed(self, *, patient: bool) -> list[int]:
        if self._ports.is_disk_full:
            return []
        done, self._ports.tickets = self._ports.tickets, []
        if done:
            self._ports.log.append(f"durable{' patiently' if patient else ''}")
        return done

    def retry(self) -> None:
        self._ports.log.append("retry")


def test_effects_leave_in_the_order_given() -> None:
    ports = Ports()
    fetches = CatchUp(1, 2, (7,)), FetchEpochs((7,))
    effects: list[Effect] = [
        Stream((FRAME,)), Append(1, (FRAME,)), Promise(2), Send(7, Busy(1, 0)), Multicast(Stale(1)),
        Repair(None, (FRAME,)), Relay(7, Stale(1)), *fetches,
    ]  # fmt: skip
    assert ports.run(*effects)[:9] == [
        "stream", "append 1", "promise 2", "send to 7", "multicast", "repair to None", "relay", "fetch", "fetch",
    ]  # fmt: skip


def test_tickets_complete_behind_all_effects_of_their_batch_and_before_those_that_follow() -> None:
    ports = Ports()
    ports.replica.after_completion[2] = [Promise(2), Send(7, Stale(1))]
    assert ports.run(Truncate(1, 0), NoteDoubt(2), Send(7, Busy(1, 0))) == [
        "Truncate 1", "NoteDoubt 2", "send to 7", "durable", "complete 1", "complete 2", "promise 2", "send to 7",
    ]  # fmt: skip


def test_notices_are_told_when_nothing_is_left_to_carry_out() -> None:
    ports = Ports()
    ports.replica.notices = [EpochChanged(1, 7)]
    ports.replica.after_completion[1] = [Multicast(Stale(1))]
    assert ports.run(Append(1, (FRAME,))) == ["append 1", "durable", "complete 1", "multicast", "EpochChanged"]


def test_a_follower_may_wait_for_its_disk_and_the_sequencer_may_not() -> None:
    ports = Ports()
    assert "durable" in ports.run(Append(1, (FRAME,)))
    ports.replica.leads_epoch = False
    assert "durable patiently" in ports.run(Append(2, (FRAME,)))


def test_the_clients_answer_goes_before_the_commit_where_little_is_to_be_applied() -> None:
    ports = Ports()
    assert ports.run(COMMIT, Apply((FRAME,))) == ["apply later", "applied", "commit"]


def test_the_commit_goes_first_where_much_is_to_be_applied(monkeypatch: pytest.MonkeyPatch) -> None:
    ports = Ports()
    monkeypatch.setattr(driver_module, "ANSWER_FIRST_BYTES", 1)
    assert ports.run(COMMIT, Apply((FRAME,))) == ["apply later", "commit", "applied"]


def test_what_came_over_tcp_is_told_apart() -> None:
    ports = Ports()
    ports.driver.on_relayed(b"")
    assert ports.log == ["receive 1 relayed"]
    ports.driver.on_incarnation_proven(7, bytes(16))
    assert ports.log[1:] == ["receive 1"]


def test_a_lone_submit_is_carried_out_at_once_and_a_flood_once_a_turn() -> None:
    ports = Ports()
    ports.driver.on_turn()
    assert ports.driver.submit([(b"a",)]) and ports.log == ["submit 1"]
    turns = ports.turns
    for _ in range(3):
        ports.driver.submit([(b"b",)])
    assert ports.log == ["submit 1"] and ports.turns == turns + 1
    ports.driver.on_turn()
    assert ports.log == ["submit 1", "submit 3"]


def test_commits_are_hastened_for_clients_of_other_nodes() -> None:
    ports = Ports()
    ports.driver.on_turn()
    ports.driver.submit([(b"a",)], elsewhere=True)
    assert ports.log == ["hasten", "submit 1"]


def test_who_does_not_lead_takes_no_commands() -> None:
    ports = Ports()
    ports.replica.is_sequencer = False
    assert not ports.driver.submit([(b"a",)]) and ports.log == []


def test_sockets_are_drained_before_the_timer_judges_who_was_silent() -> None:
    ports = Ports()
    ports.replica.deadline, ports.has_more = 0.5, True
    for _ in range(TIMER_DRAINS_MAX):
        ports.driver.on_timer()
    assert ports.log == ["socket"] * TIMER_DRAINS_MAX
    ports.driver.on_timer()
    assert ports.log[TIMER_DRAINS_MAX:] == ["socket", "network tick", "host tick", "tick"]


def test_a_timer_whose_deadline_has_moved_is_set_anew() -> None:
    ports = Ports()
    ports.replica.deadline = 2.0
    ports.driver.on_turn()
    ports.replica.deadline = 3.0
    ports.driver.on_timer()
    assert ports.rings == [2.0, 3.0] and "tick" not in ports.log


def test_the_timer_moves_only_when_it_would_ring_too_late() -> None:
    ports = Ports()
    for deadline in (2.0, 3.0, 1.5):
        ports.replica.deadline = deadline
        ports.driver.on_turn()
    assert ports.rings == [2.0, 1.5]


def test_a_full_disk_is_tried_again_until_it_has_room() -> None:
    ports = Ports()
    ports.is_disk_full = True
    assert ports.run(Append(1, (FRAME,))) == ["append 1", "disk full: True"]
    assert ports.rings == [1.0 + DISK_RETRY_S]
    ports.now += DISK_RETRY_S
    ports.is_disk_full = False
    ports.log.clear()
    ports.driver.on_timer()
    assert [what for what in ports.log if "tick" not in what] == [
        "socket", "retry", "durable", "complete 1", "disk full: False",
    ]  # fmt: skip


def test_a_full_queue_is_worked_off_before_more_is_received() -> None:
    ports = Ports()
    ports.applier.is_full, ports.applier.bytes = True, 1
    ports.driver.on_readable()
    assert ports.log == ["applied"]


def test_a_new_epochs_heartbeat_is_heard_before_its_frames() -> None:
    ports = Ports()
    frame, beat = ((Envelope(0, CONTROL, 0, 0, 0, bytes(16), 1, 2), body) for body in (FRAME, Stale(1)))
    ports.arrived.append([frame, beat])
    ports.driver.on_readable()
    assert ports.replica.arrivals == [beat, frame]


def test_nothing_is_fed_and_nothing_carried_out_before_the_start_and_after_the_stop() -> None:
    ports = Ports()
    ports.driver.stop()
    ports.replica.deadline = 0.0
    assert ports.run(Stream((FRAME,))) == []
    ports.driver.on_timer()
    ports.driver.tell(lambda now: ports.log.append("told"))
    assert ports.driver.ask_read() is None
    assert ports.driver.hand_over(7) == "it takes no part"
    assert not ports.driver.submit([(b"a",)])
    assert ports.log == []


def test_what_is_told_is_carried_out_at_the_end_of_the_turn() -> None:
    ports = Ports()
    ports.driver.on_turn()
    turns = ports.turns
    ports.driver.tell(lambda now: ports.log.append(now))
    ports.driver.tell(lambda now: ports.log.append(now))
    assert (ports.log, ports.turns) == ([1.0, 1.0], turns + 1)


def test_a_read_is_asked_for_at_once() -> None:
    ports = Ports()
    ports.replica.batches.append([Multicast(Stale(1))])
    assert ports.driver.ask_read() == 5
    assert ports.log == ["ask read", "multicast"]
