"""Between the protocol and the wire: frames and messages become sealed datagrams, and datagrams proven arrivals."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Final

from mcast.errors import DecodeError
from mcast.net.faulty import Faults
from mcast.net.link import DatagramLink, PeerAddress
from mcast.node.versions import REASONS as VERSION_REASONS
from mcast.node.versions import OtherVersions
from mcast.seal.datagram import Opener, Sealer
from mcast.seal.duplicate_ids import DuplicateIds
from mcast.seal.incarnations import Incarnations, ProvenDatagram
from mcast.wire.envelope import CONTROL, STREAM, UNICAST
from mcast.wire.frame import Frame
from mcast.wire.messages import Commit, Kind, Message, encode_message, kind_of

_FOREVER: Final = float("inf")
_DATA, _TWIN = int(Kind.DATA), int(Kind.TWIN)  # a member of an enum is slow to look up


class Transport:
    """One node's datagrams in and out. Every envelope carries the promise that `promise` was told last.

    `peers` maps nodes to addresses; `dropped` counts refused datagrams by reason, out of a fixed vocabulary.
    """

    def __init__(  # noqa: PLR0913 - the parts it joins
        self, link: DatagramLink, sealer: Sealer, opener: Opener, incarnations: Incarnations,
        peers: Mapping[int, PeerAddress], promised: int, duplicate_ids: DuplicateIds | None = None,
        versions: OtherVersions | None = None,
    ) -> None:  # fmt: skip
        self.link = link
        self.dropped: Counter[str] = Counter()
        self.duplicate_ids = duplicate_ids
        self.versions = versions
        self._sealer = sealer
        self._opener = opener
        self._own = opener.own
        self._incarnations = incarnations
        self.peers = peers
        self._promised = promised
        self._commit: Commit | None = None
        """The COMMIT that `tell_commit` will send."""
        self._faults: Faults | None = None
        self._released: list[bytes] = []
        """Datagrams that the faults still held back when they were cleared."""

    @property
    def has_more(self) -> bool:
        """Whether the last `receive` stopped at its bound rather than at an empty socket."""
        return self.link.has_more

    def stream(self, frames: Sequence[Frame]) -> None:
        """Multicast new frames, each one DATA datagram."""
        self.link.send(STREAM, self._sealer.seal_frames(Kind.DATA, STREAM, self._promised, frames))

    def repair(self, to: int | None, frames: Sequence[Frame]) -> None:
        """Send frames again, to one node or to all."""
        if to is None:
            self.link.send(CONTROL, self._sealer.seal_frames(Kind.REPAIR, CONTROL, self._promised, frames))
        elif (peer := self._address(to)) is not None:
            self.link.send(UNICAST, self._sealer.seal_frames(Kind.REPAIR, UNICAST, self._promised, frames, to), peer)

    def promise(self, epoch: int) -> None:
        """Envelopes carry this promise from now on; a COMMIT that waits leaves first, under the promise before."""
        self.tell_commit()
        self._promised = epoch

    def multicast(self, message: Message) -> None:
        """Send a control message to all; a COMMIT waits for `tell_commit`, and a later one takes its place."""
        if type(message) is Commit:
            self._commit = message
        else:
            self.link.send(CONTROL, [self._seal(message, CONTROL)])

    def tell_commit(self) -> None:
        """Send the COMMIT that waits, if one does."""
        if self._commit is not None:
            commit, self._commit = self._commit, None
            self.link.send(CONTROL, [self._seal(commit, CONTROL)])

    def send(self, to: int, message: Message) -> None:
        """Send a control message to one node."""
        if (peer := self._address(to)) is not None:
            self.link.send(UNICAST, [self._seal(message, UNICAST, to)], peer)

    def seal_for(self, to: int, message: Message) -> bytes:
        """A datagram for one node that is to go over TCP."""
        return self._seal(message, UNICAST, to)

    def open_relayed(self, datagram: bytes, now: float) -> list[ProvenDatagram]:
        """What a datagram brings that came over TCP: nothing if refused, cut off, or its sender not proven yet."""
        if self._faults is not None and self._faults.cuts(datagram):
            return []
        arrivals = self._open([datagram], now)
        self._answer_unsent()
        return arrivals

    def receive(self, now: float) -> list[ProvenDatagram]:
        """One bounded burst of what proven incarnations sent, stream first; consecutive frames of it as one Run."""
        datagrams: Sequence[memoryview | bytes] = self.link.receive()
        faults = self._faults
        if faults is not None:
            is_own = self._opener.is_own
            own = [datagram for datagram in datagrams if is_own(datagram)]  # faults are for what others sent
            others = [datagram for datagram in datagrams if not is_own(datagram)]
            datagrams = [*own, *faults.receive(others, now)]
        if self._released:
            datagrams = [*self._released, *datagrams]
            self._released = []
        arrivals = self._open(datagrams, now)
        self._answer_unsent()
        return arrivals

    def _open(self, datagrams: Sequence[memoryview | bytes], now: float) -> list[ProvenDatagram]:
        arrivals: list[ProvenDatagram] = []
        unseal, admit = self._opener.open_untrusted, self._incarnations.admit
        at, end = 0, len(datagrams)
        while at < end:
            try:
                at += 1
                envelope, message = unseal(datagrams[at - 1])
                if envelope.kind == _TWIN:
                    if self.duplicate_ids is not None and envelope.sender == self._own:
                        self.duplicate_ids.on_twin(envelope, message, now)
                    continue
                admitted = admit(envelope, message, now)
                if envelope.kind == _DATA and len(admitted) == 1 and at < end:
                    run = [message]
                    at = self._opener.open_run(envelope, run, datagrams, at)
                    if len(run) > 1:
                        admitted = [ProvenDatagram(envelope, run)]
                arrivals += admitted
            except DecodeError as error:
                self.dropped[error.reason] += 1
                if self.versions is not None and error.reason in VERSION_REASONS:
                    self.versions.note_datagram(datagrams[at - 1], now)
        return arrivals

    def on_incarnation_proven(self, node: int, incarnation: bytes, now: float) -> list[ProvenDatagram]:
        """A sealed TCP connection proved this incarnation: returns its datagrams that were held for that."""
        return self._incarnations.on_incarnation_proven(node, incarnation, now)

    def silences(self, now: float) -> dict[int, float]:
        """Seconds since each other node was last heard, by whatever way; infinity for one that never was."""
        return self._incarnations.silences(now)

    def incarnation_of(self, node: int) -> bytes | None:
        """The proven incarnation of a node; None before the first."""
        return self._incarnations.live_incarnation(node)

    def tick(self, now: float) -> None:
        """Repeat what is due of challenges; ask for duplicates."""
        self._incarnations.tick(now)
        if self.duplicate_ids is not None:
            self.duplicate_ids.tick(now)
        self._answer()

    def next_deadline(self) -> float:
        """When `tick` or `receive` has something to do even if nothing arrives; infinity if never."""
        if self._released:
            return 0.0
        due = self._faults.next_due() if self._faults is not None else None
        duplicate_ids_due = _FOREVER if self.duplicate_ids is None else self.duplicate_ids.next_deadline()
        return min(self._incarnations.next_deadline(), duplicate_ids_due, _FOREVER if due is None else due)

    def refusals(self) -> dict[str, int]:
        """Refused datagrams by reason; with those that were held for a proof which never came."""
        unproven = self._incarnations.statistics().forgotten
        return {**self.dropped, **({"never proven": unproven} if unproven else {})}

    def set_faults(self, faults: Faults | None) -> None:
        """Replace the faults on received datagrams; those that the old faults held back are delivered."""
        if self._faults is not None:
            self._released += self._faults.release()
        self._faults = faults

    def _seal(self, message: Message, channel: int, to: int | None = None) -> bytes:
        return self._sealer.seal(kind_of[type(message)], channel, self._promised, b"", encode_message(message), to)

    def _address(self, node: int) -> PeerAddress | None:
        peer = self.peers.get(node)
        if peer is None:
            self.dropped["no address"] += 1
        return peer

    def _answer_unsent(self) -> None:
        if self._incarnations.unsent or (self.duplicate_ids is not None and self.duplicate_ids.unsent):
            self._answer()

    def _answer(self) -> None:
        for node, message in self._incarnations.take_outgoing():
            self.send(node, message)
        if self.duplicate_ids is not None:
            for question in self.duplicate_ids.take_outgoing():
                self.multicast(question)
