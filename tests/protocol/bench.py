"""Parts for the protocol's tests: frames, envelopes, a core with a log, a replica under a hand-turned clock."""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import TypeVar

from mcast.protocol.arrivals import Arrival
from mcast.protocol.core import Core, Settings
from mcast.protocol.effects import Append, Effect, Meta, Multicast, Relay, Send, Truncate, WriteMeta
from mcast.protocol.recovered import Recovered
from mcast.protocol.replica import Replica
from mcast.protocol.rules import Rules
from mcast.protocol.sequencing import Sequencing
from mcast.wire.envelope import Envelope, name_hash
from mcast.wire.frame import CHAIN_ZERO, Frame, make_frame
from mcast.wire.messages import Configuration, EpochStart, Genesis, Member, Message, encode_message, kind_of
from mcast.wire.records import RecordKind, encode_record

NODES = ("n1", "n2", "n3")
KEY = {node: name_hash(node) for node in NODES}
STORAGE = {node: node.encode().ljust(16, b".") for node in NODES}
CONFIG = Configuration(1, tuple(Member(node, STORAGE[node], f"{node}:7711") for node in NODES))
UUID = b"u" * 16
SETTLED = Rules(best_log_preferred=False)
"""As of a process whose first seconds are over."""


def settings(node: str = "n1", rules: Rules | None = None, members: Sequence[str] = NODES) -> Settings:
    return Settings(
        node=node, cluster="lab", members=tuple((member, f"{member}:7711") for member in members),
        address=f"{node}:7711", is_member=node in members, frame_body_max=1_000, receive_window=1 << 20,
        wall_offset_ns=0, heartbeat_max_s=0.05, election_timeout_s=(0.5, 1.0), rules=rules or Rules(),
    )  # fmt: skip


def own_epoch(node: Replica) -> Sequencing:
    """What a node has that leads an epoch."""
    sequencing = node._core.sequencing
    assert sequencing is not None
    return sequencing


def command_record(count: int = 1, size: int = 20) -> bytes:
    return encode_record(RecordKind.COMMANDS, count, 9, 1, 1, b"x" * max(size, count))


def genesis(config: Configuration = CONFIG) -> Frame:
    record = encode_record(RecordKind.GENESIS, 1, 0, 0, 0, encode_message(Genesis(UUID, config)))
    return make_frame(0, 1, 1, 0, 1, CHAIN_ZERO, record)


def epoch_start(epoch: int, node: str, after: Frame, commit: int = 0) -> Frame:
    record = encode_record(RecordKind.EPOCH_START, 1, 0, 0, 0, encode_message(EpochStart(node, CONFIG)))
    return make_frame(epoch, after.last + 1, 1, commit, after.time + 1, after.chain, record)


def command_frame(after: Frame, epoch: int | None = None, count: int = 1, commit: int = 0, size: int = 20) -> Frame:
    body = command_record(count, size)
    return make_frame(
        after.epoch if epoch is None else epoch, after.last + 1, count, commit, after.time + 1, after.chain, body
    )


def extended(frames: Sequence[Frame], how_many: int, **how: int) -> list[Frame]:
    """The frames and `how_many` command frames after them."""
    result = list(frames)
    for _ in range(how_many):
        result.append(command_frame(result[-1], **how))
    return result


def epoch_log(epochs: Sequence[tuple[int, str, int]]) -> list[Frame]:
    """GENESIS and then, for each (epoch, sequencer, commands), an epoch of one EPOCH_START and so many commands."""
    frames = [genesis()]
    for epoch, node, commands in epochs:
        frames.append(epoch_start(epoch, node, frames[-1]))
        frames = extended(frames, commands)
    return frames


def recovered(node: str = "n1", frames: Sequence[Frame] = (), promised: int = 0) -> Recovered:
    return Recovered(Meta(STORAGE[node], promised=promised), frames=tuple(frames))


def core(node: str = "n1", frames: Sequence[Frame] = (), promised: int = 0, rules: Rules | None = None) -> Core:
    return Core(settings(node, rules), recovered(node, frames, promised), random.Random(1))


def replica(
    node: str = "n1", frames: Sequence[Frame] = (), promised: int = 0, rules: Rules | None = None, now: float = 0.0
) -> Replica:
    return Replica(settings(node, rules), recovered(node, frames, promised), random.Random(1), now)


def envelope(sender: str, message: Message, promised: int = 0, counter: int = 1) -> Envelope:
    """The envelope in which `sender` would send a control message."""
    return Envelope(kind_of[type(message)], 2, 0, 1, KEY[sender], sender.encode().ljust(16), counter, promised)


def arrival(sender: str, message: Message, promised: int = 0) -> Arrival:
    return envelope(sender, message, promised), message


def frame_arrival(sender: str, frame: Frame, kind: int = 1, counter: int = 1, promised: int | None = None) -> Arrival:
    promise = frame.epoch if promised is None else promised
    return Envelope(kind, 0 if kind == 1 else 2, 0, 1, KEY[sender], sender.encode().ljust(16), counter, promise), frame


T = TypeVar("T")


def of(kind: type[T], effects: Sequence[Effect]) -> list[T]:
    """The effects of one kind, and the messages of one kind among those sent; by several ways at once counts once."""
    found: list[T] = []
    multicast: Message | None = None
    for effect in effects:
        if isinstance(effect, kind):
            found.append(effect)
        elif isinstance(effect, Send | Relay | Multicast) and effect.message is not multicast:
            if isinstance(effect.message, kind):
                found.append(effect.message)
            multicast = effect.message if isinstance(effect, Multicast) else multicast
    return found


def drain(node: Replica, now: float) -> list[Effect]:
    """Complete every ticket until nothing more comes; returns all effects on the way."""
    gathered: list[Effect] = []
    for _ in range(20):
        effects = node.take_effects()
        if not effects:
            break
        gathered.extend(effects)
        for effect in effects:
            if isinstance(effect, Append | Truncate | WriteMeta):
                node.complete(effect.ticket, now)
    return gathered
