"""A simulated node's datagrams, as its driver sees them: what it says goes to the network, what it hears is opened."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Final

from mcast.protocol.arrivals import Arrival
from mcast.seal.datagram import Sealer
from mcast.sim.invariants import Violation
from mcast.sim.network import Datagram, Delivery
from mcast.sim.world import in_runs
from mcast.wire.envelope import CONTROL, STREAM, UNICAST, Envelope, address, name_hash
from mcast.wire.frame import Frame
from mcast.wire.messages import Commit, Kind, Message, encode_message, kind_of

if TYPE_CHECKING:
    from mcast.sim.node import SimNode

SOCKET_BURSTS_MAX: Final = 256  # bursts a paused node's socket buffer holds


class NetworkPort:
    """One life's datagrams, for `protocol.driver`. `promised` is what envelopes carry."""

    def __init__(self, node: SimNode, sealer: Sealer, promised: int) -> None:
        self.has_more = False
        self.promised = promised
        self._node = node
        self._sealer = sealer
        self._address = address(name_hash(node.settings.cluster), node.hash)
        self._socket: list[list[Delivery]] = []
        self._commit: Commit | None = None
        """The COMMIT that `tell_commit` will send."""

    @property
    def is_readable(self) -> bool:
        """Whether something waits in the socket."""
        return bool(self._socket)

    def put(self, burst: list[Delivery]) -> None:
        """A burst reaches the socket; one that is full drops it."""
        if len(self._socket) < SOCKET_BURSTS_MAX:
            self._socket.append(burst)

    # What comes in

    def receive(self, now: float) -> Sequence[Arrival]:
        """See Datagrams.receive."""
        socket, self._socket = self._socket, []
        return self._open([delivery for burst in socket for delivery in burst])

    def open_relayed(self, datagram: bytes, now: float) -> Sequence[Arrival]:
        """See Datagrams.open_relayed."""
        return self._open([Delivery(Datagram(datagram, 0, None), "")])

    def on_incarnation_proven(self, node: int, incarnation: bytes, now: float) -> Sequence[Arrival]:
        """See Datagrams.on_incarnation_proven: every incarnation is believed here."""
        return ()

    def tick(self, now: float) -> None:
        """See Datagrams.tick."""

    def next_deadline(self) -> float:
        """See Datagrams.next_deadline."""
        return float("inf")

    def _open(self, deliveries: Sequence[Delivery]) -> Sequence[Arrival]:
        node, world = self._node, self._node.world
        opened: list[tuple[Envelope, Frame | Message]] = []
        for datagram, fate in deliveries:
            if fate and datagram.first is not None:
                node.replica.note_injected(fate, *datagram.first)
            if fate == "lost":
                continue
            result = world.open(datagram)
            if not isinstance(result, str) and self._is_for_another(result[0]):
                node.refused["misdirected"] = node.refused.get("misdirected", 0) + 1
                world.marks["misdirected"] += 1
            elif isinstance(result, str):
                node.refused[result] = node.refused.get(result, 0) + 1
                if not fate:
                    raise Violation(f"{node.name} refused an undamaged datagram: {result}")
            else:
                opened.append(result)
        return in_runs(opened)

    def _is_for_another(self, envelope: Envelope) -> bool:
        """Whether a datagram names another node: opened once for all, it is judged here as each `Opener` would."""
        checked = self._node.settings.rules.receiver_checked
        return checked and envelope.channel == UNICAST and envelope.to != self._address

    # What goes out

    def promise(self, epoch: int) -> None:
        """See Datagrams.promise."""
        self.tell_commit()
        self.promised = epoch

    def stream(self, frames: Sequence[Frame]) -> None:
        """See Datagrams.stream."""
        node, sealer = self._node, self._sealer
        node.world.checker.on_stream(node.book, node.life, frames, self._envelope_promise())
        datagrams = []
        for frame in frames:
            data = sealer.seal(Kind.DATA, STREAM, self.promised, frame.head, frame.body)
            datagrams.append(Datagram(data, Kind.DATA, (sealer.incarnation, sealer.newest_counter(STREAM))))
        node.world.network.multicast(node.index, datagrams)

    def repair(self, to: int | None, frames: Sequence[Frame]) -> None:
        """See Datagrams.repair."""
        node, channel = self._node, CONTROL if to is None else UNICAST
        sealed = self._sealer.seal_frames(Kind.REPAIR, channel, self._envelope_promise(), frames, to)
        datagrams = [Datagram(data, Kind.REPAIR, None) for data in sealed]
        if to is None:
            node.world.network.multicast(node.index, datagrams)
        elif to in node.world.index:
            node.world.network.unicast(node.index, node.world.index[to], datagrams)

    def multicast(self, message: Message) -> None:
        """See Datagrams.multicast."""
        if type(message) is Commit:
            self._commit = message
        else:
            self._multicast(message)

    def tell_commit(self) -> None:
        """See Datagrams.tell_commit."""
        if self._commit is not None:
            commit, self._commit = self._commit, None
            self._multicast(commit)

    def send(self, to: int, message: Message) -> None:
        """See Datagrams.send."""
        node, target = self._node, self._node.world.index.get(to)
        datagram = self.seal(message, to)
        if target is not None:
            node.world.network.unicast(node.index, target, [datagram])

    def seal(self, message: Message, to: int | None = None) -> Datagram:
        """A message for one node, or for all, once the checker has judged it."""
        node, promised = self._node, self._envelope_promise()
        node.world.checker.on_message(node.book, message, to or 0, promised)
        kind, channel = kind_of[type(message)], CONTROL if to is None else UNICAST
        return Datagram(self._sealer.seal(kind, channel, promised, b"", encode_message(message), to), kind, None)

    def _multicast(self, message: Message) -> None:
        self._node.world.network.multicast(self._node.index, [self.seal(message)])

    def _envelope_promise(self) -> int:
        if not self._node.settings.rules.promise_ordered:
            self.promised = self._node.replica.promised
        return self.promised
