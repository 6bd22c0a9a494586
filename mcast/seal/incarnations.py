"""Which process of a sender is alive: datagrams of an older one, recorded and replayed, must not be obeyed.

Every process start draws an incarnation. A receiver believes one only after a CHALLENGE with fresh random bytes came
back as a PROOF under that incarnation's own key; it then replaces the older one. So a receiver that restarts, and
remembers nothing, can't be fed yesterday's stream.

    unknown --datagram--> candidate: its datagrams are held, a challenge goes out, again and again, ever slower
    candidate --PROOF--> live: what was held is released in order; the one before it is retired
    candidate --PROOF by the live one, or silence--> forgotten, with what was held
    retired: refused; only after the live one has been silent for a while may it prove itself again

One challenge per sender serves all its candidates and is void once answered: a challenge goes to the sender's address,
and whoever lives there answers under its own incarnation. So a replayed old datagram costs one challenge, and the live
process's answer to it clears the candidate away; it never displaces the live one. A TLS handshake is a proof too.

Control and unicast datagrams are taken once each (a sliding window of counters); duplicates of the stream are left to
the protocol, which judges them by seq.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Final, NamedTuple

from mcast.errors import DecodeError
from mcast.limits import (
    CANDIDATES_MAX,
    CHALLENGE_RETRY_MAX_S,
    CHALLENGE_RETRY_MIN_S,
    INCARNATIONS_RETIRED_MAX,
    PROOF_INTERVAL_S,
    REPLAY_WINDOW,
    RETIRED_QUIET_S,
    UNPROVEN_BYTES_MAX,
    UNPROVEN_DATAGRAMS_MAX,
    UNPROVEN_S,
)
from mcast.wire.envelope import CONTROL, ENVELOPE_BYTES, STREAM, UNICAST, Envelope
from mcast.wire.frame import Frame
from mcast.wire.messages import Challenge, Proof, encode_message

REASONS: Final = frozenset({
    "unknown sender", "old incarnation", "replayed", "unproven", "hold full", "challenged too often",
})  # fmt: skip
"""Every `DecodeError.reason` that `Incarnations.admit` gives."""

_FOREVER: Final = float("inf")
_LONG_AGO: Final = float("-inf")
_MASK: Final = (1 << REPLAY_WINDOW) - 1
_FOLLOWED: Final = 4  # so many counters near each other, far from those before, mean losses, not forgery


class ProvenDatagram(NamedTuple):
    """A datagram of a proven incarnation: what the protocol receives."""

    envelope: Envelope
    message: Any


_arrival: Final = partial(tuple.__new__, ProvenDatagram)  # as Arrival(...), in half the time


class ReplayWindow:
    """Takes each counter once, in any order within REPLAY_WINDOW of the newest; older ones count as taken."""

    __slots__ = ("_seen", "_top")

    def __init__(self) -> None:
        self._top = 0
        self._seen = 0
        """Bit n: counter `_top - n` was taken."""

    def is_near(self, counter: int) -> bool:
        """Whether this counter could be the next ones', with few lost between."""
        return abs(counter - self._top) < REPLAY_WINDOW

    def take(self, counter: int) -> bool:
        """Whether this counter is taken for the first time."""
        ahead = counter - self._top
        if ahead > 0:
            self._seen = (self._seen << ahead | 1) & _MASK if ahead < REPLAY_WINDOW else 1
            self._top = counter
            return True
        if ahead <= -REPLAY_WINDOW or counter <= 0:
            return False
        bit = 1 << -ahead
        if self._seen & bit:
            return False
        self._seen |= bit
        return True


class WaryWindow(ReplayWindow):
    """Where nothing is sealed, one forged counter must not make all true ones old: a far one is taken, no more.

    The window moves there only when others follow, as they do where many were lost. It finds duplicates; against replay
    it is no help, but nothing is where anybody can forge.
    """

    __slots__ = ("_far", "_followed")

    def __init__(self) -> None:
        super().__init__()
        self._far = ReplayWindow()
        self._followed = 0

    def take(self, counter: int) -> bool:
        """Whether this counter is taken for the first time."""
        if not self._top or self.is_near(counter):
            return super().take(counter)
        if not self._far.is_near(counter):
            self._far, self._followed = ReplayWindow(), 0
        is_new = self._far.take(counter)
        self._followed += is_new
        if self._followed >= _FOLLOWED:
            self._top, self._seen = self._far._top, self._far._seen
            self._far, self._followed = ReplayWindow(), 0
        return is_new


@dataclass(slots=True)
class _Sender:
    live: bytes | None = None
    heard: float = _LONG_AGO
    """When the live one was last heard."""
    windows: dict[int, ReplayWindow] = field(default_factory=dict)
    retired: list[bytes] = field(default_factory=list)
    """Oldest first."""
    candidates: dict[bytes, float] = field(default_factory=dict)
    """Unproven incarnations, oldest first, and when each was last heard."""
    held: list[ProvenDatagram] = field(default_factory=list)
    held_bytes: int = 0
    challenge: bytes | None = None
    """The random bytes of the challenge that is out."""
    challenge_due: float = _LONG_AGO
    """No challenge before this."""
    retry_s: float = CHALLENGE_RETRY_MIN_S
    proof_due: float = _LONG_AGO
    """No proof to an unproven incarnation before this."""

    def forget_candidates(self) -> None:
        self.candidates.clear()
        self.held.clear()
        self.held_bytes = 0
        self.challenge = None
        self.retry_s = CHALLENGE_RETRY_MIN_S


@dataclass(frozen=True, slots=True)
class IncarnationStatistics:
    """Counted since start; `held` is now."""

    live: int
    """Senders with a proven incarnation."""
    held: int
    """Datagrams waiting for a proof."""
    forgotten: int
    """Datagrams held in vain: their incarnation was never proven."""
    replaced: int
    """Times a newer incarnation took an older one's place."""


class Incarnations:
    """One node's knowledge of who is alive. Sans-I/O: time is passed in, what to send is taken out.

    `own` and `senders` are name hashes; `random(n)` gives n fresh unpredictable bytes. Where datagrams are not `sealed`
    no counter is believed for being high. After every call the owner sends
    what `take_outgoing()` gives and re-arms a timer at `next_deadline()`.
    """

    def __init__(
        self, own: int, senders: Collection[int], random: Callable[[int], bytes], *, sealed: bool = True
    ) -> None:
        self._own = own
        self._window = ReplayWindow if sealed else WaryWindow
        self._senders = {sender: _Sender() for sender in senders if sender != own}
        self._waiting: set[int] = set()
        """Senders with candidates."""
        self._random = random
        self.unsent: list[tuple[int, Challenge | Proof]] = []
        """What `take_outgoing` is to take."""
        self._forgotten = 0
        self._replaced = 0

    def admit(self, envelope: Envelope, message: Any, now: float) -> list[ProvenDatagram]:
        """What the protocol may have now that this opened datagram came: itself, nothing, or all that it proves.

        Raises:
            DecodeError: refused, with a `reason` out of REASONS. An own datagram gives nothing and no error.
        """
        sender = self._senders.get(envelope.sender)
        if sender is None:
            if envelope.sender == self._own:
                return []
            raise DecodeError("unknown sender", f"{envelope.sender:016x}")
        if envelope.incarnation != sender.live:
            return self._admit_unproven(sender, envelope, message, now)
        sender.heard = now
        if envelope.channel != STREAM:
            if not sender.windows[envelope.channel].take(envelope.counter):
                raise DecodeError("replayed", f"channel {envelope.channel}, counter {envelope.counter}")
            if type(message) is Challenge:
                self._prove(envelope.sender, message)
                return []
            if type(message) is Proof:
                if message.random == sender.challenge:
                    self._forget_candidates(envelope.sender, sender)
                return []
        return [_arrival((envelope, message))]

    def on_incarnation_proven(self, node: int, incarnation: bytes, now: float) -> list[ProvenDatagram]:
        """A TLS connection just opened proved this incarnation of `node`: gives what was held of it.

        A retired incarnation stays retired: the words of a dying process may be read after its successor's.
        """
        sender = self._senders.get(node)
        if sender is None or incarnation == sender.live or incarnation in sender.retired:
            return []
        return self._accept(node, sender, incarnation, now)

    def live_incarnation(self, node: int) -> bytes | None:
        """The proven incarnation of a node; None before the first."""
        sender = self._senders.get(node)
        return None if sender is None else sender.live

    def silences(self, now: float) -> dict[int, float]:
        """Seconds since each sender's live incarnation was last heard; infinity for one that never was."""
        return {node: now - sender.heard for node, sender in self._senders.items()}

    def tick(self, now: float) -> None:
        """Repeat unanswered challenges that are due; forget candidates that fell silent."""
        for node in sorted(self._waiting):
            sender = self._senders[node]
            for incarnation in [key for key, heard in sender.candidates.items() if now - heard >= UNPROVEN_S]:
                self._drop_candidate(sender, incarnation)
            if not sender.candidates:
                self._forget_candidates(node, sender)
            elif now >= sender.challenge_due:
                self._ask(node, sender, now)

    def next_deadline(self) -> float:
        """When `tick` has something to do next; infinity if nothing waits."""
        deadline = _FOREVER
        for node in self._waiting:
            sender = self._senders[node]
            deadline = min(deadline, sender.challenge_due, min(sender.candidates.values()) + UNPROVEN_S)
        return deadline

    def take_outgoing(self) -> list[tuple[int, Challenge | Proof]]:
        """Takes what is to be sent: (node, message) pairs, each by unicast."""
        taken, self.unsent = self.unsent, []
        return taken

    def statistics(self) -> IncarnationStatistics:
        """Counters since start, and what is held now."""
        senders = self._senders.values()
        return IncarnationStatistics(
            live=sum(sender.live is not None for sender in senders),
            held=sum(len(sender.held) for sender in senders),
            forgotten=self._forgotten,
            replaced=self._replaced,
        )

    def _admit_unproven(self, sender: _Sender, envelope: Envelope, message: Any, now: float) -> list[ProvenDatagram]:
        node, incarnation = envelope.sender, envelope.incarnation
        if type(message) is Proof:
            if message.random != sender.challenge:
                raise DecodeError("unproven", "a proof of no challenge that is out")
            return self._accept(node, sender, incarnation, now)
        if incarnation in sender.retired and now - sender.heard < RETIRED_QUIET_S:
            raise DecodeError("old incarnation", incarnation.hex())
        self._note_candidate(node, sender, incarnation, now)
        if type(message) is not Challenge:
            self._hold(sender, ProvenDatagram(envelope, message))
        elif now < sender.proof_due:
            raise DecodeError("challenged too often", incarnation.hex())
        else:
            # Answered though unproven: when both sides have just started, one must begin.
            sender.proof_due = now + PROOF_INTERVAL_S
            self._prove(node, message)
        return []

    def _note_candidate(self, node: int, sender: _Sender, incarnation: bytes, now: float) -> None:
        if incarnation not in sender.candidates and len(sender.candidates) >= CANDIDATES_MAX:
            self._drop_candidate(sender, next(iter(sender.candidates)))
        sender.candidates[incarnation] = now
        self._waiting.add(node)
        if now >= sender.challenge_due:
            self._ask(node, sender, now)

    def _hold(self, sender: _Sender, arrival: ProvenDatagram) -> None:
        size = _size(arrival.message)
        if len(sender.held) >= UNPROVEN_DATAGRAMS_MAX or sender.held_bytes + size > UNPROVEN_BYTES_MAX:
            raise DecodeError("hold full", f"{len(sender.held)} datagrams, {sender.held_bytes} bytes")
        sender.held.append(arrival)
        sender.held_bytes += size

    def _ask(self, node: int, sender: _Sender, now: float) -> None:
        if sender.challenge is None:
            sender.challenge = self._random(16)
        self.unsent.append((node, Challenge(sender.challenge)))
        sender.challenge_due = now + sender.retry_s
        sender.retry_s = min(2 * sender.retry_s, CHALLENGE_RETRY_MAX_S)

    def _prove(self, node: int, challenge: Challenge) -> None:
        self.unsent.append((node, Proof(challenge.random)))

    def _accept(self, node: int, sender: _Sender, incarnation: bytes, now: float) -> list[ProvenDatagram]:
        if sender.live is not None:
            self._replaced += 1
            sender.retired = [*sender.retired, sender.live][-INCARNATIONS_RETIRED_MAX:]
        sender.live, sender.heard = incarnation, now
        sender.windows = {CONTROL: self._window(), UNICAST: self._window()}
        released = [arrival for arrival in sender.held if arrival.envelope.incarnation == incarnation]
        self._forgotten -= len(released)
        self._forget_candidates(node, sender)
        return [arrival for arrival in released if _first_time(sender, arrival.envelope)]

    def _drop_candidate(self, sender: _Sender, incarnation: bytes) -> None:
        del sender.candidates[incarnation]
        kept = [arrival for arrival in sender.held if arrival.envelope.incarnation != incarnation]
        self._forgotten += len(sender.held) - len(kept)
        sender.held[:] = kept
        sender.held_bytes = sum(_size(arrival.message) for arrival in kept)

    def _forget_candidates(self, node: int, sender: _Sender) -> None:
        self._forgotten += len(sender.held)
        sender.forget_candidates()
        self._waiting.discard(node)


def _first_time(sender: _Sender, envelope: Envelope) -> bool:
    return envelope.channel == STREAM or sender.windows[envelope.channel].take(envelope.counter)


def _size(message: Any) -> int:
    """Bytes a held datagram counts for."""
    return ENVELOPE_BYTES + (message.size if type(message) is Frame else len(encode_message(message)))
