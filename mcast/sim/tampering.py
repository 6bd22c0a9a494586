"""Every datagram that nodes send each other, forged with every extreme value in every field.

Without a key a checksum is all that a forger has to get right, and a fault may get it right, too. So whatever one
datagram says, a cluster must be none the worse a moment later: `unwell` says what it still suffers from.
"""

from __future__ import annotations

import dataclasses
import struct
from collections.abc import Callable, Iterator
from typing import Annotated, Any, Final, NamedTuple, get_args, get_origin, get_type_hints

from mcast.seal.datagram import checksum
from mcast.sim.network import Datagram, Delivery
from mcast.sim.node import SimNode
from mcast.sim.stage import Stage
from mcast.wire.envelope import CONTROL, UNICAST, Envelope, address, encode_envelope, name_hash
from mcast.wire.frame import HEADER, Frame
from mcast.wire.messages import Kind, Message, encode_message

HUGE_TIME_NS: Final = 2**62  # in 2116
FORGED: Final = "forged"
Forger = Callable[[Envelope, Any, SimNode], None]
"""Given what was said, and to whom."""


class Forgery(NamedTuple):
    """One datagram that nobody sent. `what` names the field and its value."""

    what: str
    envelope: Envelope
    head: bytes
    body: bytes

    def to(self, node: SimNode, *, alone: bool) -> Datagram:
        """As it reaches a node: meant for it `alone`, or for all."""
        envelope = self.envelope
        if envelope.kind != Kind.DATA:
            to = address(name_hash(node.settings.cluster), node.hash if alone else None)
            envelope = envelope._replace(channel=UNICAST if alone else CONTROL, to=to)
        clear = encode_envelope(envelope) + self.head
        return Datagram(clear + self.body + checksum(clear, self.body), envelope.kind, None)


def forgeries(envelope: Envelope, said: Frame | Message) -> Iterator[Forgery]:
    """All that can be made of what somebody said: each field of envelope and message, each extreme value."""
    head, body = (said.head, said.body) if isinstance(said, Frame) else (b"", encode_message(said))
    name = Kind(envelope.kind).name
    for field, value in _envelopes(envelope):
        yield Forgery(f"{name} under {field} {_words(value)}", envelope._replace(**{field: value}), head, body)
    made = _frames(said) if isinstance(said, Frame) else _messages(said)
    for field, head, body in made:
        yield Forgery(f"{name} {field}", envelope, head, body)


def deliver(forgery: Forgery, *targets: SimNode) -> None:
    """Deliver the datagram to these nodes at once."""
    for node in targets:
        if envelope_sender(forgery) != node.hash:
            node.deliver([Delivery(forgery.to(node, alone=len(targets) == 1), FORGED)])


def envelope_sender(forgery: Forgery) -> int:
    """In whose name it is."""
    return forgery.envelope.sender


def unwell(stage: Stage) -> str:
    """What is still wrong with the cluster, in words; nothing once all is as before, and every node says so."""
    if missing := stage.cluster.what_is_missing():
        return missing
    (sequencer, *others) = [node for node in stage.nodes if node.replica.is_sequencer]
    if others:
        return "more than one rules"
    for node in stage.nodes:
        replica, statistics = node.replica, node.replica.statistics()
        if (replica.promised, replica.sequencer) != (sequencer.replica.promised, sequencer.hash):
            return f"{node.name} follows another one"
        if statistics.catching_up or statistics.history_wanted or statistics.suspect or statistics.gaps_open:
            return f"{node.name} is catching up"
        if replica.high_seq != replica.last_seq or replica.commit_seq != replica.last_seq:
            return f"{node.name} has a lag: {replica.last_seq} of {replica.high_seq}, committed {replica.commit_seq}"
        if replica.in_touch_s(node.now) > 5 * node.settings.heartbeat_max_s:
            return f"{node.name} is out of touch"
    if sequencer.replica.statistics().sought:
        return f"{sequencer.name} looks for somebody"
    return ""


def extremes(hint: Any, value: Any) -> list[Any]:
    """What a forger writes into a field."""
    if hint is str:
        return ["", "n1"]
    if hint is bytes:
        return [b"", value[:-1], value[:-1] + bytes([value[-1] ^ 1])] if value else [b"", b"x"]
    kind, layout, *limit = get_args(hint)
    if kind is bool:
        return [not value]
    if kind is bytes:
        return [bytes(len(value)), b"\xff" * len(value), value[:-1] + bytes([(value[-1] + 1) % 256])]
    most = limit[0] if limit else 2 ** (8 * layout.size) - 1
    found = (0, 1, value - 1, value + 1, HUGE_TIME_NS, most - 1, most)
    return [number for number in dict.fromkeys(found) if 0 <= number <= most and number != value]


def _envelopes(envelope: Envelope) -> Iterator[tuple[str, Any]]:
    most = 2**64 - 1
    for field in ("counter", "promised"):
        value = getattr(envelope, field)
        for number in dict.fromkeys((0, 1, value - 1, value + 1, value + 1_000, HUGE_TIME_NS, most - 1, most)):
            if 0 <= number != value:
                yield field, number
    yield "incarnation", bytes(16)
    yield "incarnation", b"\xff" * 16


def _frames(frame: Frame) -> Iterator[tuple[str, bytes, bytes]]:
    names = ("epoch", "first", "count", "length", "commit", "time", "chain")
    values = HEADER.unpack(frame.head)
    sizes = dict(zip(names, ("!Q", "!Q", "!I", "!I", "!Q", "!Q", "!16s"), strict=True))
    for at, name in enumerate(names):
        kind = bytes if name == "chain" else int
        for value in extremes(Annotated[kind, struct.Struct(sizes[name])], values[at]):
            yield f"{name} {_words(value)}", HEADER.pack(*values[:at], value, *values[at + 1 :]), frame.body
    for body in extremes(bytes, frame.body)[1:]:
        head = HEADER.pack(*values[:3], len(body), *values[4:])
        yield f"body of {len(body)} bytes", head, body


def _messages(message: Message) -> Iterator[tuple[str, bytes, bytes]]:
    for where, changed in _changed(message):
        try:
            yield where, b"", encode_message(changed)
        except (struct.error, AssertionError):
            continue  # no bytes say so


def _changed(value: Any) -> Iterator[tuple[str, Any]]:
    """Copies of a message with one field changed each, and where."""
    for name, hint in get_type_hints(type(value), include_extras=True).items():
        held = getattr(value, name)
        if isinstance(held, tuple):
            yield f"{name} none", dataclasses.replace(value, **{name: ()})
            for at in sorted({0, len(held) - 1}) if held else ():
                for where, item in _changed(held[at]):
                    items = (*held[:at], item, *held[at + 1 :])
                    yield f"{name}[{at}].{where}", dataclasses.replace(value, **{name: items})
        elif get_origin(hint) is Annotated or hint in (str, bytes):
            for other in extremes(hint, held):
                yield f"{name} {_words(other)}", dataclasses.replace(value, **{name: other})


def _words(value: Any) -> str:
    return value.hex() if isinstance(value, bytes) else str(value)


class Tap:
    """Listens to a stage's network: the newest datagram of each kind and sender, and one kind's next one, on demand."""

    def __init__(self, stage: Stage) -> None:
        self.newest: dict[tuple[int, str], tuple[Envelope, Any]] = {}
        self.awaited: dict[int, Forger] = {}
        """Kind -> what is to be done with the next one, before it goes on its way."""
        self.lost: set[tuple[str, int]] = set()
        """(to, kind) of which the next one is lost."""
        self._stage = stage
        stage.drop(self._passes)

    def _passes(self, source: str, target: str, datagram: Datagram) -> bool:
        opened = self._stage.cluster.world.open(datagram)
        if isinstance(opened, str):
            return False
        self.newest[datagram.kind, source] = opened
        if (forger := self.awaited.pop(datagram.kind, None)) is not None:
            forger(*opened, self._stage.node(target))
        if (target, datagram.kind) in self.lost:
            self.lost.discard((target, datagram.kind))
            return True
        return False
