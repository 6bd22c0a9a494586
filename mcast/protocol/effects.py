"""What the protocol asks its owner to do (effects) and tells it (notices).

Effects are carried out in the order given. Those with a `ticket` take effect durably and are answered by
`Replica.complete(ticket, now)`. A completion from before a truncation proves nothing, so tickets are never reused.
Nodes stand as the 64-bit hash of their id (`wire.envelope.name_hash`).
"""

from __future__ import annotations

from dataclasses import dataclass

from mcast.wire.frame import Frame
from mcast.wire.messages import Message


@dataclass(frozen=True, slots=True)
class Meta:
    """What a node must never forget; written whole and durably."""

    storage_id: bytes
    """16 random bytes drawn with the data directory."""
    promised: int = 0
    """No datagram of a lower epoch is obeyed, ever."""
    voted_epoch: int = 0
    voted_for: int = 0
    """The node voted for in `voted_epoch`."""


@dataclass(frozen=True, slots=True)
class Promise:
    """A promise has become durable: envelopes of all that follows carry it, and of nothing that came before.

    What was said under the older one may be on its way to the network yet; under the newer one it would be a lie.
    """

    epoch: int


@dataclass(frozen=True, slots=True)
class Stream:
    """Multicast new frames, each one DATA datagram on the stream channel (whose counter counts nothing else)."""

    frames: tuple[Frame, ...]


@dataclass(frozen=True, slots=True)
class Repair:
    """Send frames again, each one REPAIR datagram: to one node, or multicast when `to` is None."""

    to: int | None
    frames: tuple[Frame, ...]


@dataclass(frozen=True, slots=True)
class Multicast:
    """Multicast a control message."""

    message: Message


@dataclass(frozen=True, slots=True)
class Send:
    """Send a control message to one node by UDP."""

    to: int
    message: Message


@dataclass(frozen=True, slots=True)
class Relay:
    """Send a control message to one node over TCP: datagrams may not reach it. Lost where no connection can be had."""

    to: int
    message: Message


@dataclass(frozen=True, slots=True)
class Append:
    """Write frames behind the journal's end and persist them as the sync mode says; then complete the ticket."""

    ticket: int
    frames: tuple[Frame, ...]


@dataclass(frozen=True, slots=True)
class Truncate:
    """Durably cut the journal behind event `last` before any later Append; then complete the ticket."""

    ticket: int
    last: int


@dataclass(frozen=True, slots=True)
class WriteMeta:
    """Durably replace the meta; then complete the ticket."""

    ticket: int
    meta: Meta


@dataclass(frozen=True, slots=True)
class NoteDoubt:
    """Durably note that the log may lack what was acknowledged, before any later effect; then complete the ticket.

    The next start finds it, and LogRecovered takes it back.
    """

    ticket: int


@dataclass(frozen=True, slots=True)
class Apply:
    """These frames are committed; apply their events, in order."""

    frames: tuple[Frame, ...]


@dataclass(frozen=True, slots=True)
class CatchUp:
    """Fetch frames from event `first` on over TCP from any of `peers`; hand them to `Replica.on_transfer`.

    Emitted again with a new `first` when progress is lost; `until` is the seq that must be reached to rejoin.
    """

    first: int
    until: int
    peers: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class FetchEpochs:
    """Fetch over TCP what precedes `Replica.wanted_history`, page after page, until that is None.

    From any of `peers`, or whoever else has it. Hand each page to `Replica.on_history_page`; when all have failed, say
    so with `Replica.on_history_failed`. Emitted again when there is no progress.
    """

    peers: tuple[int, ...]


Effect = (
    Promise
    | Stream
    | Repair
    | Multicast
    | Send
    | Relay
    | Append
    | Truncate
    | WriteMeta
    | NoteDoubt
    | Apply
    | CatchUp
    | FetchEpochs
)


@dataclass(frozen=True, slots=True)
class EpochChanged:
    """An epoch is known here: `sequencer` numbers from now on (None: nobody is known to)."""

    epoch: int
    sequencer: int | None


@dataclass(frozen=True, slots=True)
class SequencerReady:
    """This node's own EPOCH_START has committed: it numbers commands from now on."""

    epoch: int


@dataclass(frozen=True, slots=True)
class SteppedDown:
    """This node leads no longer; commands it took but did not commit must be forwarded anew."""

    epoch: int


@dataclass(frozen=True, slots=True)
class GapOpened:
    """Events `first` to `last` are missing."""

    first: int
    last: int


@dataclass(frozen=True, slots=True)
class GapClosed:
    """A gap is filled, `latency_s` after it opened. There is no notice of one that was only late and never NAKed."""

    first: int
    last: int
    latency_s: float


@dataclass(frozen=True, slots=True)
class Truncated:
    """An uncommitted tail behind event `last` was cut away, for a new epoch."""

    last: int


@dataclass(frozen=True, slots=True)
class HaltRequired:
    """A safety rule is broken; the node must stop and say so."""

    reason: str


@dataclass(frozen=True, slots=True)
class Contradicted:
    """A node said what no node says that keeps the rules: it is forged, or a rule is broken. It was not obeyed."""

    words: str


@dataclass(frozen=True, slots=True)
class ReadReady:
    """All that was committed when these reads were asked for is committed up to `commit`: apply it, then answer."""

    tokens: tuple[int, ...]
    commit: int


@dataclass(frozen=True, slots=True)
class MembersChanged:
    """The newest configuration in the log; `members` are node ids."""

    number: int
    members: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class LogDoubted:
    """Node `by` heard this one acknowledge event `seq` in `epoch`, and its log ended at `last` when it started.

    Its data directory is an older one. It neither votes nor acknowledges until LogRecovered.
    """

    by: int
    epoch: int
    seq: int
    last: int


@dataclass(frozen=True, slots=True)
class LogRecovered:
    """This node's log is known to hold all that was acknowledged: it votes and acknowledges again."""


Notice = (
    EpochChanged
    | SequencerReady
    | SteppedDown
    | GapOpened
    | GapClosed
    | Truncated
    | HaltRequired
    | Contradicted
    | ReadReady
    | MembersChanged
    | LogDoubted
    | LogRecovered
)
