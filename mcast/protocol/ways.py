"""By which way nodes hear each other: by multicast; where that fails by unicast too; and where that fails over TCP.

A member that multicast does not reach (a firewall, a switch that forgot the group, an interface made anew) is still a
member. Its sequencer notices that it answers no round, and sends it the heartbeats by unicast as well, then over TCP.
Heard so they end its silence, and its answers count. Whoever hears a node over TCP answers over TCP: nobody knows which
direction is blocked. The replica says when it hears without that help (HEARD), by a datagram, so that both directions
are known to work.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from typing import Final

from mcast.limits import RELAY_S, SEEK_EVERY_S, SEEK_LATELY_S, SEEK_TCP_HEARTBEATS, SEEK_UNICAST_HEARTBEATS
from mcast.protocol.core import Core
from mcast.protocol.effects import Relay, Send
from mcast.wire.envelope import Envelope, name_hash
from mcast.wire.messages import Commit, Heard, Heartbeat, Kind

MULTICAST: Final = 0
UNICAST: Final = 1
TCP: Final = 2
_NEVER: Final = float("-inf")
_ANSWERS: Final = frozenset({Kind.READ_INDEX, Kind.BUSY, Kind.GONE, Kind.NEWS, Kind.STALE})
"""... that a node may send again and again; not ACK and VOTE, by which a new sequencer knows at once whom to seek."""


@dataclass(frozen=True, slots=True)
class Reception:
    """What arrives at a node, and how long ago it last did, in seconds; infinity for what never has."""

    multicast_s: float
    """A heartbeat of its sequencer by multicast ..."""
    unicast_s: float
    """... by unicast ..."""
    tcp_s: float
    """... or over TCP."""
    unheard: int
    """DATA datagrams that its sequencer has sent since the last one that arrived."""
    relayed: tuple[int, ...]
    """Nodes of whom something came over TCP lately."""
    stuck: int
    """How often repairs did not arrive, and what was missing was fetched over TCP."""
    carried: int | None
    """Bytes of the largest datagram of its sequencer's that arrives, where not all do; 0: none for it alone."""


class _Way:
    """To one replica. Times in seconds."""

    __slots__ = ("answered", "due", "raised", "way")

    def __init__(self, now: float, way: int) -> None:
        self.way = way
        self.answered = now
        self.raised = now
        self.due = now


class Seeking:
    """The sequencer's side: who answers no round, and how it is reached instead."""

    def __init__(self, core: Core) -> None:
        self._core = core
        self._ways: dict[int, _Way] = {}
        self.sought: tuple[int, ...] = ()
        """Nodes that multicast alone does not reach."""

    def begin(self, now: float) -> None:
        """An epoch begins: nodes whose datagrams come over TCP are sent its heartbeats over TCP."""
        core = self._core
        self._ways = {}
        self.sought = ()
        members = [name_hash(node) for node, _ in core.settings.members]  # one that lost its disk has no vote
        for node in (*core.voters(), *members, *core.settings.observers):
            self._way(node, now)
        self._note()

    def on_answer(self, node: int, now: float) -> None:
        """A replica answered a newer round."""
        self._way(node, now).answered = now

    def on_heard(self, node: int, message: Heard, now: float) -> None:
        """This replica hears us by multicast or unicast again, and its datagrams arrive: send less."""
        way = self._way(node, now)
        way.way = min(way.way, MULTICAST if message.multicast else UNICAST)
        way.answered = way.raised = now
        self._note()

    def tell(self, message: Heartbeat | Commit, now: float) -> None:
        """Send a multicast message by unicast to nodes that need that, and over TCP to those that do not answer it."""
        core = self._core
        if not core.rules.deaf_are_sought:
            return
        heartbeat_s = core.settings.heartbeat_max_s
        raised = False
        for node, way in self._ways.items():
            silent_s = now - max(way.answered, way.raised)
            if way.way < TCP and silent_s > heartbeat_s * (SEEK_UNICAST_HEARTBEATS, SEEK_TCP_HEARTBEATS)[way.way]:
                way.way += 1
                way.raised = now
                raised = True
            if way.way == MULTICAST or now < way.due:
                continue
            if now - way.answered > SEEK_LATELY_S:  # it is likely dead, so there is no hurry
                way.due = now + SEEK_EVERY_S
            core.effects.append(Send(node, message))
            if way.way == TCP:
                core.effects.append(Relay(node, message))
        if raised:
            self._note()

    def _way(self, node: int, now: float) -> _Way:
        known = self._ways.get(node)
        if known is None and node != self._core.me:
            known = self._ways[node] = _Way(now, TCP if node in self._core.relayed else MULTICAST)
        return known or _Way(now, MULTICAST)

    def _note(self) -> None:
        self.sought = tuple(node for node, way in self._ways.items() if way.way)


class Hearing:
    """A follower's side: by which way its sequencer's heartbeats arrive."""

    def __init__(self, core: Core) -> None:
        self._core = core
        self._heard: list[float] = []
        self._bare = [0, 0]
        """Heartbeats in a row that came by multicast, or by unicast, while there was more help than that."""
        self._data = False
        self._sent_then = 0
        self.unheard = 0
        """DATA datagrams sent since the last one that arrived, as the sequencer says."""
        self.reset()

    def reset(self) -> None:
        """Another sequencer, heard by no way yet."""
        self._heard = [_NEVER] * 3
        self._bare = [0, 0]
        self._data, self._sent_then, self.unheard = True, 0, 0

    def on_heartbeat(self, way: int, now: float) -> None:
        """A heartbeat came by this way; its sequencer is told when more help comes than is needed."""
        heard, core = self._heard, self._core
        heard[way] = now
        if way == TCP:
            return
        if max(heard[way + 1 :]) < now - 2 * SEEK_EVERY_S:
            self._bare[way] = 0
            return
        self._bare[way] += 1
        if self._bare[way] > 1 and core.sequencer is not None:
            self._bare[way] = 0
            core.effects.append(Send(core.sequencer, Heard(core.promised, way == MULTICAST)))

    def last(self, way: int) -> float:
        """When the newest came by this way; minus infinity before the first."""
        return self._heard[way]

    def on_data(self) -> None:
        """DATA arrived."""
        self._data = True

    def on_announced(self, sent: int) -> None:
        """Its sequencer has sent so many DATA datagrams by now."""
        if self._data or sent < self._sent_then:
            self._data, self._sent_then = False, sent
        self.unheard = sent - self._sent_then

    def hears_only_tcp(self, now: float) -> bool:
        """Whether heartbeats arrive, but no datagrams."""
        since = now - SEEK_UNICAST_HEARTBEATS * self._core.settings.heartbeat_max_s
        return self._heard[TCP] >= since > max(self._heard[MULTICAST], self._heard[UNICAST])


def note_relayed(core: Core, envelopes: Collection[Envelope], now: float) -> None:
    """Datagrams of these nodes came over TCP: what they are sent goes over TCP for a while.

    An answer tells nothing: it came so because its question did. Two nodes that ask and answer often would else keep
    each other on TCP for good, long after datagrams arrive again.
    """
    for envelope in envelopes:
        if envelope.kind not in _ANSWERS:
            core.relayed[envelope.sender] = now + RELAY_S


def forget_relayed(core: Core, now: float) -> None:
    """Nodes from which nothing came over TCP for a while are sent datagrams again."""
    core.relayed = {node: until for node, until in core.relayed.items() if until > now}
