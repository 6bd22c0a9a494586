"""What a simulated node says: frames and messages sealed as they go out, under its promise of that moment."""

from __future__ import annotations

from collections.abc import Sequence

from mcast.seal.datagram import Sealer
from mcast.sim.network import Datagram
from mcast.wire.envelope import CONTROL, STREAM, UNICAST
from mcast.wire.frame import Frame
from mcast.wire.messages import Kind, Message, encode_message, kind_of


class Voice:
    """One life's datagrams. `promised` is what envelopes carry."""

    def __init__(self, sealer: Sealer, promised: int) -> None:
        self.promised = promised
        self._sealer = sealer

    def data(self, frame: Frame) -> Datagram:
        """A new frame, for all."""
        sealer = self._sealer
        data = sealer.seal(Kind.DATA, STREAM, self.promised, frame.head, frame.body)
        return Datagram(data, Kind.DATA, (sealer.incarnation, sealer.newest_counter(STREAM)))

    def control(self, message: Message, to: int | None = None) -> Datagram:
        """A message for one node, or for all."""
        kind, channel = kind_of[type(message)], CONTROL if to is None else UNICAST
        return Datagram(self._sealer.seal(kind, channel, self.promised, b"", encode_message(message), to), kind, None)

    def repairs(self, frames: Sequence[Frame], to: int | None) -> list[Datagram]:
        """Frames again, for one node or for all."""
        channel = CONTROL if to is None else UNICAST
        sealed = self._sealer.seal_frames(Kind.REPAIR, channel, self.promised, frames, to)
        return [Datagram(data, Kind.REPAIR, None) for data in sealed]
