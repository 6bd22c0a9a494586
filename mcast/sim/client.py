"""A client of a simulated cluster: numbered requests, resent under the same numbers until they are answered."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from random import Random
from typing import Final

import msgpack

from mcast.machine.engine import Applied
from mcast.machine.sessions import APPLIED, OUT_OF_ORDER
from mcast.sim.invariants import Violation
from mcast.sim.node import SimNode, World
from mcast.sim.recorder import REJECTED_EACH
from mcast.wire.records import NONCE_BYTES, RecordKind, encode_record, split_fragments

UNANSWERED_MAX: Final = 12  # records; more only repeats more after an outage
LINK_S: Final = 0.000_3  # one way between a client and its gateway
OUT_OF_ORDER_PAUSE_S: Final = 0.020  # between two resends that a node asked for


@dataclass(slots=True)
class PendingRecord:
    """One record (or one fragmented command) without an answer: its bytes never change."""

    request: int
    count: int
    group: tuple[bytes, ...]
    number: int
    """Of its first command, as the recorder counts."""
    sent: float


@dataclass(frozen=True, slots=True)
class Habits:
    """What a client does. Times in seconds."""

    commands_max: int
    """In its whole life; then it only waits for answers."""
    pause_s: float
    """Mean time between two bursts of records."""
    burst_max: int
    """Records at once."""
    record_commands_max: int
    filler_bytes_max: int
    large_share: float
    """Of commands that need fragments."""
    record_bytes_max: int
    resend_s: float
    moves_share: float = 0.0
    """Of its bursts, before which it goes to another gateway, though this one served it well."""


class SimClient:
    """Client number `index`; talks to one gateway node at a time."""

    def __init__(self, world: World, index: int, habits: Habits, random: Random) -> None:
        self.index = index
        self.answered = 0
        """Commands answered so far."""
        self.issued = 0
        self.newest = 0
        """The highest command that was answered: all before it have been executed too."""
        self.newest_seq = 0
        """The highest event that it was told of."""
        self.wanted = habits.commands_max
        self.gone = False
        """Whether it has stopped for good."""
        self._world = world
        self._habits = habits
        self._random = random
        self._nonce = random.randbytes(NONCE_BYTES)
        self._session = 0
        self._request = 1
        self._pending: dict[int, PendingRecord] = {}
        self._gateway = index % len(world.nodes)
        self._opened_at = float("-inf")
        self._resent_at = float("-inf")

    @property
    def is_idle(self) -> bool:
        """Whether it has had every answer it waited for."""
        return self.answered == self.issued

    def begin(self) -> None:
        """Start working."""
        self._world.loop.call_later(self._random.random() * self._habits.pause_s, self._work)
        self._world.loop.call_later(self._habits.resend_s, self._watch)

    def finish(self, commands: int) -> None:
        """Issue this many commands more, beginning now, and then no others."""
        self.wanted = self.issued + commands
        self._world.loop.call_later(0.0, self._work)

    def on_results(self, node: SimNode, results: Sequence[Applied]) -> None:
        """A gateway saw outcomes in the stream; the client's own reach it if that is still its gateway."""
        own = [one for one in results if one.nonce == self._nonce or (self._session and one.session == self._session)]
        if own and node.index == self._gateway:
            self._world.loop.call_later(LINK_S, self._hear, own)

    # Sending

    def _work(self) -> None:
        if self.issued < self.wanted and not self.gone:
            if self._random.random() < self._habits.moves_share:
                self._gateway = int(self._random.random() * len(self._world.nodes))
            if self._session and len(self._pending) < UNANSWERED_MAX:
                fresh = [self._make() for _ in range(1 + int(self._random.random() * self._habits.burst_max))]
                self._send([one for one in fresh if one is not None])
            self._world.loop.call_later(self._random.expovariate(1.0) * self._habits.pause_s, self._work)

    def _make(self) -> PendingRecord | None:
        room = self.wanted - self.issued
        if not room:
            return None
        habits, draw = self._habits, self._random.random
        lowest = next(iter(self._pending), self._request)
        number = self.issued + 1
        if draw() < habits.large_share:
            command = self._pack(number, habits.record_bytes_max + int(draw() * 2 * habits.record_bytes_max))
            group = tuple(split_fragments(self._session, self._request, lowest, command, habits.record_bytes_max))
            count = 1
        else:
            count = min(room, 1 + int(draw() * habits.record_commands_max))
            commands = [self._pack(number + at, int(draw() * habits.filler_bytes_max)) for at in range(count)]
            while len(payload := b"".join(commands)) > habits.record_bytes_max - 64:
                commands.pop()
            count = len(commands)
            group = (encode_record(RecordKind.COMMANDS, count, self._session, self._request, lowest, payload),)
        pending = PendingRecord(self._request, count, group, number, self._world.loop.now)
        self._pending[self._request] = pending
        self._request += count
        self.issued += count
        return pending

    def _pack(self, number: int, filler_bytes: int) -> bytes:
        packed = msgpack.packb(["execute", self.index, number, bytes(filler_bytes)])
        assert isinstance(packed, bytes)
        return packed

    def _send(self, pending: Sequence[PendingRecord]) -> None:
        now = self._world.loop.now
        for one in pending:
            one.sent = now
        if pending:
            self._submit([one.group for one in pending])

    def _submit(self, groups: list[tuple[bytes, ...]]) -> None:
        node = self._world.nodes[self._gateway]
        self._world.loop.call_later(LINK_S, self._arrive, node, node.life, groups)

    def _arrive(self, node: SimNode, life: int, groups: list[tuple[bytes, ...]]) -> None:
        if not node.up or node.life != life or node.paused:
            return
        node.engine.watch_nonce(self._nonce)
        if self._session:
            node.engine.watch(self._session)
        self._world.hand_in(node, groups)

    def _watch(self) -> None:
        """Resend what is overdue, through another gateway when this one has had its chance."""
        now, resend_s = self._world.loop.now, self._habits.resend_s
        if self.gone:
            return
        if not self._session:
            if now - self._opened_at > resend_s and self.wanted:
                self._change_gateway()
                self._opened_at = now
                self._submit([(encode_record(RecordKind.OPEN, 1, 0, 0, 0, self._nonce),)])
        elif any(now - one.sent > resend_s for one in self._pending.values()):
            self._change_gateway()
            self._send(list(self._pending.values()))
        self._world.loop.call_later(resend_s / 2, self._watch)

    def _change_gateway(self) -> None:
        if not self._world.nodes[self._gateway].up or self._random.random() < 0.5:
            self._gateway = int(self._random.random() * len(self._world.nodes))

    # Hearing

    def _hear(self, results: Sequence[Applied]) -> None:
        for one in results if not self.gone else ():
            if one.kind == "opened":
                self._session = self._session or one.session
            elif one.session == self._session:
                self._on_result(one)

    def _on_result(self, result: Applied) -> None:
        if result.status == OUT_OF_ORDER:
            now = self._world.loop.now
            if now - self._resent_at > OUT_OF_ORDER_PAUSE_S:
                self._resent_at = now
                self._send([one for one in self._pending.values() if one.request >= result.expected])
            return
        pending = self._pending.get(result.request)
        if pending is None:
            return
        if result.status != APPLIED:
            raise Violation(f"client {self.index} got status {result.status} for request {result.request}")
        self._check(pending, result)
        del self._pending[result.request]
        self.answered += pending.count
        self.newest = max(self.newest, pending.number + pending.count - 1)
        self.newest_seq = max(self.newest_seq, result.seq + pending.count - 1)
        for at in range(pending.count):
            self._world.checker.on_acknowledged(self.index, pending.number + at, result.seq + at)

    def _check(self, pending: PendingRecord, result: Applied) -> None:
        values, errors = msgpack.unpackb(result.outcomes, strict_map_key=False)
        numbers = range(pending.number, pending.number + pending.count)
        expected = [None if number % REJECTED_EACH == 0 else number for number in numbers]
        kinds = {at: error[0] for at, error in errors.items()}
        refused = {at: 1 for at, number in enumerate(numbers) if number % REJECTED_EACH == 0}
        if values != expected or kinds != refused:
            raise Violation(f"client {self.index} got {values}, {errors} for the commands {list(numbers)}")
