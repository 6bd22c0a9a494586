"""A client in virtual time: the client library's own packing and session over simulated connections.

In the place of the library's link: a gateway that hands groups to the sequencer, all of them again whenever there is
another one, and a client that leaves a gateway which is down or silent.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from random import Random
from typing import Final

from mcast.client.calls import Call, Entry
from mcast.client.packing import CommandPacker
from mcast.client.receipts import Receipt, RecordResult
from mcast.client.session import ClientSession
from mcast.errors import Error
from mcast.machine.engine import Applied
from mcast.scenario.workload import Command, Meter
from mcast.sim.node import SimNode, World
from mcast.wire.groups import RecordGroup, Result, decode_groups_untrusted
from mcast.wire.records import NONCE_BYTES, RECORD_HEADER_BYTES, RecordKind
from mcast.wire.stream import Opened

LINK_S: Final = 0.000_3  # one way between a client and its gateway
WATCH_S: Final = 0.010  # between two looks at whether there is another sequencer
SILENCE_S: Final = 0.250  # without an answer, after which another gateway is tried
RESEND_S: Final = 0.020  # between two resends that a node asked for


class _Part(Call):
    """The commands of one pack of commands, as the session's Call."""

    mergeable = True

    def __init__(self, client: ScenarioClient, numbers: range, ticket: int) -> None:
        self._client = client
        self._numbers = numbers
        self._ticket = ticket

    def on_answer(self, entry: Entry, result: RecordResult, offset: int) -> None:
        """Hand the receipts on."""
        receipts = [result.receipt(offset + at) for at in range(len(self._numbers))]
        self._client.on_settled(self._numbers, receipts, self._ticket)

    def on_failure(self, entry: Entry, error: Error) -> None:
        """The receipts stay unknown."""


class ScenarioClient:
    """Client number `index`; its receipts go to `take(numbers, receipts)`."""

    def __init__(  # noqa: PLR0913 - what it works with, each by name
        self, world: World, *, index: int, packer: CommandPacker, record_max: int, random: Random, meter: Meter,
        take: Callable[[range, Sequence[Receipt]], None],
    ) -> None:  # fmt: skip
        self._world = world
        self._packer = packer
        self._record_max = record_max
        self._random = random
        self._meter = meter
        self._take = take
        self._session = ClientSession(lambda: random.randbytes(NONCE_BYTES), record_max)
        self._gateway = index % len(world.nodes)
        self._way: object = None
        """Through whom, and to which epoch, everything unanswered was last sent."""
        self._heard_at = 0.0
        self._resent_at = float("-inf")

    @property
    def is_busy(self) -> bool:
        """Whether it waits for any answer."""
        return self._session.is_busy

    def begin(self) -> None:
        """Start watching over what is unanswered."""
        self._world.loop.call_later(WATCH_S * self._random.random(), self._watch)

    def submit(self, numbers: range, commands: Iterable[Command]) -> None:
        """Submit these commands; `numbers` are theirs."""
        if not self._session.is_busy:
            self._heard_at = self._world.loop.now
        at = 0
        for packed in self._packer.pack(commands):
            part = _Part(self, numbers[at : at + packed.count], self._meter.note_sent(self._world.loop.now))
            self._session.enqueue(Entry(packed, part, 0))
            at += packed.count
        self._send(self._session.take())

    def on_settled(self, numbers: range, receipts: Sequence[Receipt], ticket: int) -> None:
        """These commands were answered."""
        self._meter.on_answer(ticket, self._world.loop.now)
        self._take(numbers, receipts)

    def on_results(self, node: SimNode, results: Sequence[Applied]) -> None:
        """A gateway saw outcomes in the stream; they reach the client if it is still its gateway."""
        if node.index == self._gateway:
            self._world.loop.call_later(LINK_S, self._hear, results)

    def _send(self, groups: Sequence[bytes]) -> None:
        if groups:
            node = self._world.nodes[self._gateway]
            decoded = [self._group(group, node) for group in groups]
            self._world.loop.call_later(LINK_S, self._arrive, node, node.life, decoded)

    def _group(self, records: bytes, node: SimNode) -> RecordGroup:
        (submitted,) = decode_groups_untrusted(records, self._record_max - RECORD_HEADER_BYTES)
        if node.up and submitted.kind == RecordKind.OPEN:
            node.engine.watch_nonce(submitted.group[0][RECORD_HEADER_BYTES:])
        elif node.up:
            node.engine.watch(submitted.session)
        return submitted.group

    def _arrive(self, node: SimNode, life: int, groups: list[RecordGroup]) -> None:
        if node.up and node.life == life and not node.paused:
            self._world.hand_in(node, groups)

    def _watch(self) -> None:
        loop = self._world.loop
        if self._session.is_busy:
            node = self._world.nodes[self._gateway]
            if not node.up or loop.now - self._heard_at > SILENCE_S:
                others = [other.index for other in self._world.nodes if other.up and other.index != self._gateway]
                self._gateway = self._random.choice(others or [self._gateway])
                self._heard_at, self._way = loop.now, None
            way = self._route()
            if way is not None and way != self._way:
                self._way = way
                self._send(self._session.resend() or self._session.take())
        loop.call_later(WATCH_S, self._watch)

    def _route(self) -> object:
        """What tells one way to the sequencer from another; None without one."""
        node = self._world.nodes[self._gateway]
        if not node.up or node.paused or node.replica.sequencer is None:
            return None
        return node.index, node.life, node.replica.promised, node.replica.sequencer

    def _hear(self, results: Sequence[Applied]) -> None:
        now = self._world.loop.now
        missing = False
        for one in results:
            if one.kind == "opened":
                self._session.on_opened(Opened(one.nonce, one.session, one.epoch))
            else:
                self._heard_at = now if one.session == self._session.id else self._heard_at
                missing |= self._session.on_result(
                    Result(one.session, one.request, one.count, one.seq, one.epoch, one.status, one.outcomes)
                )
        if missing and now - self._resent_at > RESEND_S:
            self._resent_at = now
            self._send(self._session.resend())
        self._send(self._session.take())
