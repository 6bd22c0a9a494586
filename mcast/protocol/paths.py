"""How large a datagram the path from the sequencer carries, once its repairs have not arrived.

A tunnel or a switch may carry less than the configured mtu, silently. Whoever lacks something that repairs did not
bring asks the sequencer for padded datagrams: a dozen of full size first, for some may just be lost; where none of them
arrives, sizes in between, closer and closer. As long as the path is narrow this is repeated now and then.
"""

from __future__ import annotations

from typing import Final

from mcast.limits import IP_UDP_BYTES, MTU_MIN, SEAL_TAG_BYTES
from mcast.protocol.core import Core
from mcast.protocol.effects import Relay, Send
from mcast.wire.envelope import ENVELOPE_BYTES, Envelope
from mcast.wire.frame import FRAME_HEADER_BYTES
from mcast.wire.messages import PathProbe, PathRequest

PROBES: Final = 12  # of one request; full-sized ones are not all lost by chance
STEP_S: Final = 0.1  # for the probes of one request to arrive
AGAIN_S: Final = 4.0  # between two searches of a path's width
ANSWER_S: Final = 0.05  # between two answers to one node: a small request must not cause much traffic
CLOSE_BYTES: Final = 4  # a size found within so many bytes will do
SMALLEST: Final = MTU_MIN - IP_UDP_BYTES
OVERHEAD: Final = ENVELOPE_BYTES + SEAL_TAG_BYTES + 10  # of a probe beside its padding: also a nonce and a length


class Paths:
    """One node's: asks as a follower, answers always."""

    def __init__(self, core: Core) -> None:
        self.carried: int | None = None
        """Bytes of the largest datagram that arrives of the sequencer's; 0: none; None: as large as they come."""
        self.largest = core.settings.frame_body_max + ENVELOPE_BYTES + FRAME_HEADER_BYTES + SEAL_TAG_BYTES
        """Bytes of a full datagram."""
        self._core = core
        self._peer: int | None = None
        """The node to which the path is, or was, searched."""
        self._nonce = 0
        self._arrived = 0
        """The largest probe of this request that arrived."""
        self._sizes: tuple[int, int] | None = None
        """What is asked for now; None between two searches."""
        self._due = float("inf")
        self._stuck = 0
        self._answered: dict[int, float] = {}

    def tick(self, stuck: int, now: float) -> None:
        """Begin a search when repairs were of no use once more, or go on with one; `stuck` counts how often so."""
        core = self._core
        if core.sequencer != self._peer:
            self._peer, self._sizes, self.carried, self._due = core.sequencer, None, None, float("inf")
        if core.leads_epoch or core.sequencer is None:
            self._stuck = stuck
        elif stuck != self._stuck and self._sizes is None and self.carried is None:
            self._stuck = stuck
            self._ask(self.largest, self.largest, now)
        elif now >= self._due:
            self._judge(now)

    def deadline(self) -> float:
        """When `tick` has work next."""
        return self._due

    def on_path_request(self, envelope: Envelope, request: PathRequest, now: float) -> None:
        """Send a node probes, as many and as large as one may ask for."""
        asker, answered = envelope.sender, self._answered
        if now < answered.get(asker, -1.0) + ANSWER_S or (asker not in answered and len(answered) >= 1_024):
            return
        answered[asker] = now
        smallest, largest = (max(OVERHEAD, min(size, self.largest)) for size in (request.smallest, request.largest))
        for index in range(PROBES):
            size = smallest + (largest - smallest) * index // (PROBES - 1)
            self._core.effects.append(Send(asker, PathProbe(request.nonce, bytes(size - OVERHEAD))))

    def on_path_probe(self, envelope: Envelope, probe: PathProbe) -> None:
        """A probe came through."""
        if envelope.sender == self._peer and probe.nonce == self._nonce and not self._core.relaying:
            self._arrived = max(self._arrived, OVERHEAD + len(probe.padding))

    def _ask(self, smallest: int, largest: int, now: float) -> None:
        core = self._core
        assert self._peer is not None
        self._nonce = core.random.getrandbits(63) or 1
        self._arrived = 0
        self._sizes, self._due = (smallest, largest), now + STEP_S
        core.effects.append(Relay(self._peer, PathRequest(self._nonce, smallest, largest)))  # datagrams may not arrive

    def _judge(self, now: float) -> None:
        if self._sizes is None:  # a search is due again
            self._ask(self.largest, self.largest, now)
            return
        smallest, largest = self._sizes
        if self._arrived >= self.largest:
            self._sizes, self.carried, self._due = None, None, float("inf")
        elif smallest == largest == self.largest:
            self._ask(SMALLEST, self.largest, now)
        elif not self._arrived and smallest == SMALLEST:
            self._end(0, now)
        else:
            best = max(self._arrived, smallest)
            apart = max((largest - smallest) // (PROBES - 1), 1)
            if apart <= CLOSE_BYTES:
                self._end(best, now)
            else:
                self._ask(best, min(best + apart, self.largest - 1), now)

    def _end(self, carried: int, now: float) -> None:
        self._sizes, self.carried, self._due = None, carried, now + AGAIN_S
