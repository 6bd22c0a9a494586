"""A simulated LAN: datagrams that get lost, doubled, late, damaged, or to the wrong node; and TCP that breaks.

A burst of datagrams sent together arrives together, as it does from one GSO send, except for those the weather picks
out. Loss is drawn for each receiver alone and, separately, once for all receivers of a multicast: a switch's or the
sender's fault. All of it comes from one random generator, so a seed replays it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from random import Random
from typing import Final, NamedTuple, Protocol, TypeVar

from mcast.sim.loop import Loop

T = TypeVar("T")
LATE_S: Final = 3.0  # that a switch, or an attacker, holds a datagram up at most
TCP_BREAK_S: Final = 0.050  # until a sender learns that its connection is gone
TCP_RETRANSMIT_S: Final = 0.020  # what a lost segment costs: time, never the message


@dataclass(frozen=True, slots=True)
class Weather:
    """How the network treats datagrams. Shares are of 1; delays in seconds."""

    loss: float = 0.0
    shared_loss: float = 0.0
    """One draw for all receivers of a multicast."""
    duplicate: float = 0.0
    reorder: float = 0.0
    corrupt: float = 0.0
    delay_s: float = 0.000_2
    jitter_s: float = 0.000_1
    late: float = 0.0
    """Held up for as long as LATE_S: half of them arrive only then, of the others a copy does."""
    misdirect: float = 0.0
    """Unicast datagrams of which another node than the one they are meant for gets a copy."""

    @property
    def is_calm(self) -> bool:
        """Whether every datagram arrives once and in order."""
        rare = self.duplicate or self.reorder or self.corrupt or self.late
        return not (self.loss or self.shared_loss or rare)


class Datagram:
    """Bytes on the wire. `first` names a first-sent DATA datagram: (incarnation, stream counter)."""

    __slots__ = ("data", "first", "kind")

    def __init__(self, data: bytes, kind: int, first: tuple[bytes, int] | None) -> None:
        self.data = data
        self.kind = kind
        self.first = first


class Delivery(NamedTuple):
    """What reaches one receiver's socket, or (`fate` "lost") would have."""

    datagram: Datagram
    fate: str


class Receiver(Protocol):
    """One node, as its network card sees it."""

    up: bool
    life: int

    def deliver(self, arrivals: list[Delivery]) -> None:
        """A burst has arrived."""


class Network:
    """Links between `nodes`, numbered from 0; every fault is set here."""

    def __init__(self, loop: Loop, random: Random, weather: Weather) -> None:
        self.weather = weather
        self.blocked: set[tuple[int, int]] = set()
        """(from, to) pairs that nothing passes."""
        self.deaf: set[int] = set()
        """Nodes that no multicast reaches."""
        self.no_datagrams: set[tuple[int, int]] = set()
        """(from, to) pairs that TCP passes, but no datagram."""
        self.gate: Callable[[int, int, Datagram], bool] | None = None
        """A directed scenario's own filter: False drops."""
        self.tcp_open = True
        """Whether connections can be made at all: False where a directed scenario leaves nothing but datagrams."""
        self.nodes: list[Receiver] = []
        self.sent = 0
        self.dropped = 0
        self._loop = loop
        self._random = random
        self._newest: dict[tuple[int, int], float] = {}
        self._newest_tcp: dict[tuple[int, int], float] = {}

    def multicast(self, source: int, datagrams: Sequence[Datagram]) -> None:
        """To every node but the sender."""
        share, draw = self.weather.shared_loss, self._random.random
        shared = [draw() < share for _ in datagrams] if share else None
        self._mark(datagrams)
        for target in range(len(self.nodes)):
            if target != source:
                self._deliver_burst(
                    source, target, datagrams, [True] * len(datagrams) if target in self.deaf else shared
                )

    def unicast(self, source: int, target: int, datagrams: Sequence[Datagram]) -> None:
        """To one node."""
        self._mark(datagrams)
        self._deliver_burst(source, target, datagrams, None)
        if self.weather.misdirect:
            self._misdirect(source, target, datagrams)

    def isolate(self, inside: Sequence[int]) -> None:
        """Block every link between the nodes `inside` and the others, both ways."""
        for near in inside:
            for far in range(len(self.nodes)):
                if far not in inside:
                    self.blocked |= {(near, far), (far, near)}

    def is_reachable(self, source: int, target: int) -> bool:
        """Whether TCP between the two works: both ways open, both up."""
        is_open = (source, target) not in self.blocked and (target, source) not in self.blocked
        return self.tcp_open and is_open and self.nodes[source].up and self.nodes[target].up

    def send_tcp(self, source: int, target: int, arrived: Callable[[], None], broken: Callable[[], None]) -> None:
        """One message on a connection: `arrived` runs at the target, or `broken` at the source, if that still lives."""
        near, far = self.nodes[source], self.nodes[target]
        lives = near.life, far.life

        def fail() -> None:
            if near.up and near.life == lives[0]:
                broken()

        def land() -> None:
            if self.is_reachable(source, target) and (near.life, far.life) == lives:
                arrived()
            else:
                self._loop.call_later(TCP_BREAK_S, fail)

        self._loop.call_at(self._tcp_arrival((source, target)), land)

    def exchange(
        self, source: int, target: int, ask: Callable[[], T], arrived: Callable[[T], None], broken: Callable[[], None]
    ) -> None:
        """A question and its answer on one connection; `broken` runs at the source when either is lost with it."""
        near, far = self.nodes[source], self.nodes[target]
        lives = near.life, far.life

        def fail() -> None:
            if near.up and near.life == lives[0]:
                broken()

        def answer() -> None:
            if self.is_reachable(source, target) and (near.life, far.life) == lives:
                reply = ask()
                self._loop.call_at(self._tcp_arrival((target, source)), land, reply)
            else:
                self._loop.call_later(TCP_BREAK_S, fail)

        def land(reply: T) -> None:
            if self.is_reachable(source, target) and (near.life, far.life) == lives:
                arrived(reply)
            else:
                self._loop.call_later(TCP_BREAK_S, fail)

        self._loop.call_at(self._tcp_arrival((source, target)), answer)

    def _tcp_arrival(self, link: tuple[int, int]) -> float:
        weather = self.weather
        late = TCP_RETRANSMIT_S if self._random.random() < weather.loss + weather.shared_loss else 0.0
        when = self._loop.now + 2 * weather.delay_s + weather.jitter_s * self._random.random() + late
        self._newest_tcp[link] = max(when, self._newest_tcp.get(link, 0.0))
        return self._newest_tcp[link]

    def _mark(self, datagrams: Sequence[Datagram]) -> None:
        self.sent += len(datagrams)
        for datagram in datagrams:
            self._loop.mark(datagram.data)

    def _deliver_burst(
        self, source: int, target: int, datagrams: Sequence[Datagram], shared: list[bool] | None
    ) -> None:
        weather, draw, link = self.weather, self._random.random, (source, target)
        deliver = self.nodes[target].deliver
        when = self._loop.now + weather.delay_s + weather.jitter_s * draw()
        when = self._newest[link] = max(when, self._newest.get(link, 0.0))
        is_blocked = link in self.blocked or link in self.no_datagrams
        if weather.is_calm and not is_blocked and shared is None and self.gate is None:
            self._loop.call_at(when, deliver, [Delivery(datagram, "") for datagram in datagrams])
            return
        together: list[Delivery] = []
        for index, datagram in enumerate(datagrams):
            is_lost = is_blocked or (shared is not None and shared[index])
            is_lost = is_lost or (self.gate is not None and not self.gate(source, target, datagram))
            if is_lost or draw() < weather.loss:
                self.dropped += 1
                if datagram.first is not None:
                    together.append(Delivery(datagram, "lost"))
                continue
            chance = draw()  # one draw decides between the rarer fates
            if weather.late and draw() < weather.late:
                is_copy = draw() < 0.5
                late = when + LATE_S * draw()
                self._loop.call_at(late, deliver, [Delivery(datagram, "duplicated" if is_copy else "reordered")])
                if not is_copy:
                    continue
            if chance < weather.corrupt:
                together.append(Delivery(self._damage(datagram), "corrupted"))
            elif chance < weather.corrupt + weather.reorder:
                late = when + (1 + draw() * 10) * weather.delay_s
                self._loop.call_at(late, deliver, [Delivery(datagram, "reordered")])
            else:
                together.append(Delivery(datagram, ""))
                if chance > 1.0 - weather.duplicate:
                    again = when + draw() * 20 * weather.delay_s
                    self._loop.call_at(again, deliver, [Delivery(datagram, "duplicated")])
        if together:
            self._loop.call_at(when, deliver, together)

    def _misdirect(self, source: int, target: int, datagrams: Sequence[Datagram]) -> None:
        """Give others copies of what is meant for one, at once or much later; those that nothing keeps from them."""
        weather, draw = self.weather, self._random.random
        others = [node for node in range(len(self.nodes)) if node not in (source, target)]
        for datagram in datagrams:
            if not others or draw() >= weather.misdirect:
                continue
            other = others[int(draw() * len(others))]
            if (source, other) in self.blocked or (self.gate is not None and not self.gate(source, other, datagram)):
                continue
            after = weather.delay_s * (1 + 20 * draw()) if draw() < 0.8 else LATE_S * draw()
            self._loop.call_later(after, self.nodes[other].deliver, [Delivery(datagram, "misdirected")])

    def _damage(self, datagram: Datagram) -> Datagram:
        data = bytearray(datagram.data)
        for _ in range(1 + int(self._random.random() * 3)):
            bit = int(self._random.random() * len(data) * 8)
            data[bit >> 3] ^= 1 << (bit & 7)
        if data == datagram.data:  # an even number of flips of one bit
            data[0] ^= 1
        return Datagram(bytes(data), datagram.kind, datagram.first)
