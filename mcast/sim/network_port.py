"""A simulated node's datagrams, as its driver sees them: the production transport over a link that is simulated.

What is the same for all receivers is worked out once: opening a datagram, which every node does with the same keys.
Only sealed DATA each opens by itself, for a run of it goes on with the cipher that opened its first. The checker hears
what is said before it leaves.
"""

from __future__ import annotations

from collections.abc import Sequence
from random import Random
from typing import TYPE_CHECKING, Any

from mcast.errors import DecodeError
from mcast.node.transport import Transport
from mcast.seal.datagram import Opener, Sealer
from mcast.seal.incarnations import Incarnations
from mcast.sim.invariants import Violation
from mcast.sim.link import SimLink
from mcast.wire.envelope import STREAM, UNICAST, Envelope
from mcast.wire.frame import Frame
from mcast.wire.messages import Message

if TYPE_CHECKING:
    from mcast.sim.node import SimNode


class NetworkPort(Transport):
    """One life's transport, for `protocol.driver`."""

    def __init__(self, node: SimNode, incarnation: bytes, promised: int, random: Random) -> None:
        self._node = node
        self.incarnation = incarnation
        every, ring = list(node.world.index), node.world.ring
        link = SimLink(node)
        super().__init__(
            link,
            Sealer(ring, node.settings.cluster, node.name, incarnation),
            _SharedOpener(node, link),
            Incarnations(node.hash, every, random.randbytes, sealed=ring is not None),
            {each: (node.world.names[at], at) for each, at in node.world.index.items() if each != node.hash},
            promised,
        )
        self.sockets = link

    def stream(self, frames: Sequence[Frame]) -> None:
        """See Datagrams.stream."""
        self._note_promise()
        self._node.world.checker.on_stream(self._node.book, self._node.life, frames, self._promised)
        super().stream(frames)

    def repair(self, to: int | None, frames: Sequence[Frame]) -> None:
        """See Datagrams.repair."""
        self._note_promise()
        super().repair(to, frames)

    def _seal(self, message: Message, channel: int, to: int | None = None) -> bytes:
        self._note_promise()
        self._node.world.checker.on_message(self._node.book, message, to or 0, self._promised)
        return super()._seal(message, channel, to)

    def _note_promise(self) -> None:
        if not self._node.settings.rules.promise_ordered:
            self._promised = self._node.replica.promised


class _SharedOpener(Opener):
    """One node's opener; what others have opened already, it takes from them."""

    def __init__(self, node: SimNode, link: SimLink) -> None:
        checked = node.settings.rules.receiver_checked
        super().__init__(node.world.ring, node.settings.cluster, list(node.world.index), node.hash if checked else 0)
        self._node = node
        self._link = link

    def open_untrusted(self, data: bytes | memoryview) -> tuple[Envelope, Any]:
        """See Opener.open_untrusted."""
        opened = self._node.world.opened.get(data)
        if opened is not None and not (self.sealed and opened[0].channel == STREAM):  # own cipher
            return opened
        try:
            opened = super().open_untrusted(data)
        except DecodeError as error:
            self._node.world.marks["misdirected"] += error.reason == "misdirected"
            if data not in self._link.spoiled:
                raise Violation(f"{self._node.name} refused an undamaged datagram: {error.reason}") from None
            raise
        if opened[0].channel != UNICAST:
            self._node.world.note_opened(bytes(data), opened)
        return opened
