"""Typed control messages: what datagrams other than DATA and REPAIR say.

Field order is the wire order (see `layout`). Nodes stand as the BLAKE2b-64 of their id, as in the envelope.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum
from typing import Annotated, Any, Final

from mcast.errors import DecodeError
from mcast.limits import HISTORY_ENTRIES_MAX, MEMBERS_MAX, NAK_RANGES_MAX, NODES_MAX
from mcast.wire.layout import U32, U64, Blob, Bytes16, Epoch, Flag, Seq, Text, codec_for


class Kind(IntEnum):
    """The envelope's `kind`."""

    DATA = 1
    REPAIR = 2
    HEARTBEAT = 3
    COMMIT = 4
    ACK = 5
    NAK = 6
    BUSY = 7
    GONE = 8
    STALE = 9
    PRE_VOTE_REQUEST = 10
    PRE_VOTE = 11
    VOTE_REQUEST = 12
    VOTE = 13
    FOUND = 14
    VIRGIN = 15
    GENESIS = 16
    CONFIRM = 17
    CHALLENGE = 18
    PROOF = 19
    READ = 22
    READ_INDEX = 23
    HANDOVER = 24
    SURVEY = 25
    STANDING = 26
    TWIN = 27
    HEARD = 28
    KNOCK = 29
    NEWS = 30
    PATH_REQUEST = 31
    PATH_PROBE = 32


FRAME_KINDS: Final = frozenset({Kind.DATA, Kind.REPAIR})


@dataclass(frozen=True, slots=True)
class EpochEntry:
    """One entry of the epoch history: where an epoch begins, and the chain before its first event."""

    epoch: Epoch
    first: Seq
    chain_before: Bytes16


@dataclass(frozen=True, slots=True)
class PeerState:
    """What the sequencer knows of one replica: its acknowledged seq and its own echoed stamp (ns)."""

    node: U64
    acked: Seq
    stamp: U64


@dataclass(frozen=True, slots=True)
class Heartbeat:
    """The sequencer lives, this is its log's end, its commit, its newest history; round `round` is open."""

    epoch: Epoch
    cluster_uuid: Bytes16
    high: Seq
    high_chain: Bytes16
    commit: Seq
    commit_chain: Bytes16
    round: U64
    """Replicas answer with an ACK naming it."""
    confirmed: U64
    """The highest round a majority has answered."""
    stream_base: U64
    """Stream counter before this epoch's first DATA datagram."""
    stream_sent: U64
    """Stream counter of the newest DATA datagram sent."""
    history: Annotated[tuple[EpochEntry, ...], HISTORY_ENTRIES_MAX]
    """The newest epochs, oldest first."""
    peers: Annotated[tuple[PeerState, ...], NODES_MAX]


@dataclass(frozen=True, slots=True)
class Commit:
    """An advance of commit, or of the confirmed round, that no data carries."""

    epoch: Epoch
    commit: Seq
    commit_chain: Bytes16
    confirmed: U64


@dataclass(frozen=True, slots=True)
class Ack:
    """All up to `seq` is persisted here, and the chain there is `chain`. `stamp` is the replica's own clock (ns)."""

    epoch: Epoch
    storage_id: Bytes16
    seq: Seq
    chain: Bytes16
    round: U64
    stamp: U64
    window: U32
    """Bytes its receive buffer takes."""


@dataclass(frozen=True, slots=True)
class Range:
    """Events `first` to `last`, both included."""

    first: Seq
    last: Seq

    def problem(self) -> str:
        """Why no honest node sends this range; empty if one may."""
        return "" if 0 < self.first <= self.last else f"range {self.first} to {self.last}"


@dataclass(frozen=True, slots=True)
class Nak:
    """These events are missing here; oldest first. `nonce` is the asker's for this epoch; a refusal echoes it."""

    epoch: Epoch
    ranges: Annotated[tuple[Range, ...], NAK_RANGES_MAX]
    nonce: U64


@dataclass(frozen=True, slots=True)
class Busy:
    """The answer to a Nak: the repair budget is spent; ask again after `retry_after_us`."""

    retry_after_us: U32
    nonce: U64


@dataclass(frozen=True, slots=True)
class RepairGone:
    """The answer to a Nak: events before `low_water` are not repaired over UDP any more: fetch them over TCP."""

    low_water: Seq
    snapshot_seq: Seq
    nonce: U64


@dataclass(frozen=True, slots=True)
class Stale:
    """Your datagram of epoch `refused` lies below what I promised (the envelope says what)."""

    refused: Epoch


@dataclass(frozen=True, slots=True)
class PreVoteRequest:
    """Would you vote for me in `epoch`, with a log ending at (`last_epoch`, `last_seq`)?"""

    epoch: Epoch
    last_epoch: Epoch
    last_seq: Seq
    nonce: U64


@dataclass(frozen=True, slots=True)
class PreVote:
    """The answer to the PreVoteRequest of `candidate`; promises nothing."""

    epoch: Epoch
    storage_id: Bytes16
    granted: Flag
    nonce: U64
    candidate: U64


@dataclass(frozen=True, slots=True)
class VoteRequest:
    """Vote for me in `epoch`: my log ends at (`last_epoch`, `last_seq`)."""

    epoch: Epoch
    last_epoch: Epoch
    last_seq: Seq


@dataclass(frozen=True, slots=True)
class Vote:
    """The durable answer to the VoteRequest of `candidate`: nobody else may count it."""

    epoch: Epoch
    storage_id: Bytes16
    granted: Flag
    candidate: U64


@dataclass(frozen=True, slots=True)
class Found:
    """The founder asks every member: are you VIRGIN, and is your member list mine?"""

    nonce: Bytes16
    members_hash: Bytes16


@dataclass(frozen=True, slots=True)
class Virgin:
    """No vote given here, and no event but GENESIS held; `nonce` echoes the founder's."""

    nonce: Bytes16
    storage_id: Bytes16
    members_hash: Bytes16


@dataclass(frozen=True, slots=True)
class GenesisOffer:
    """The founder's first frame, to be stored and confirmed."""

    frame: Blob


@dataclass(frozen=True, slots=True)
class Confirm:
    """The GENESIS frame with this chain is durable here."""

    chain: Bytes16
    storage_id: Bytes16


@dataclass(frozen=True, slots=True)
class Challenge:
    """Prove that your incarnation is alive: echo this."""

    random: Bytes16


@dataclass(frozen=True, slots=True)
class Proof:
    """The echo of a challenge."""

    random: Bytes16


@dataclass(frozen=True, slots=True)
class Read:
    """Give me a read index: a commit, and a round begun after this was asked that proves it still is the newest."""

    epoch: Epoch
    nonce: U64


@dataclass(frozen=True, slots=True)
class ReadIndex:
    """The answer to a Read: all committed when `round` began is `commit`; it counts once that round is confirmed."""

    epoch: Epoch
    nonce: U64
    round: U64
    commit: Seq
    high: Seq
    """The log's end then."""


@dataclass(frozen=True, slots=True)
class Handover:
    """Stand for the next epoch at once: you have all that I have."""

    epoch: Epoch


@dataclass(frozen=True, slots=True)
class Survey:
    """While there is no sequencer: where does your log stand?"""

    nonce: U64


@dataclass(frozen=True, slots=True)
class Standing:
    """The answer to the Survey of `asker`. `suspect`: events acknowledged here before a restart may be missing."""

    nonce: U64
    storage_id: Bytes16
    last_epoch: Epoch
    last_seq: Seq
    config_number: U32
    suspect: Flag
    config_epoch: Epoch
    """Of the event that brought the newest configuration: two epochs can write two of one number."""
    config_hash: Bytes16
    """BLAKE2b-128 of that configuration: an epoch that only repeats one does not make another of it."""
    asker: U64
    heard_epoch: Epoch = 0
    """The newest epoch in which the asker was heard to acknowledge, or to lead; 0: none."""
    heard_seq: Seq = 0
    """How far it was heard to acknowledge in that epoch."""
    heard_id: Bytes16 = bytes(16)
    """The storage id under which."""


@dataclass(frozen=True, slots=True)
class Twin:
    """To all, from a node to itself: does another process run under my id? The answer echoes `random`."""

    random: Bytes16
    answer: Flag
    votes: Flag
    """Whether the process that speaks has a vote."""
    age_ms: U64
    """Since it started to take part."""


@dataclass(frozen=True, slots=True)
class Heard:
    """To the sequencer, which helps out with unicast or TCP: its heartbeats arrive without that, too."""

    epoch: Epoch
    multicast: Flag
    """Whether it came by multicast; else by unicast, so TCP is not needed."""


@dataclass(frozen=True, slots=True)
class Knock:
    """From a node that is out of touch, over TCP: what do you know?"""

    nonce: U64


@dataclass(frozen=True, slots=True)
class News:
    """The answer to a Knock: who leads the epoch that the envelope promises (0: nobody known), what is committed."""

    nonce: U64
    cluster_uuid: Bytes16
    sequencer: U64
    commit: Seq
    commit_chain: Bytes16


@dataclass(frozen=True, slots=True)
class PathRequest:
    """Send me PathProbes of sizes from `smallest` to `largest` (bytes): repairs may be too large for the path."""

    nonce: U64
    smallest: U32
    largest: U32


@dataclass(frozen=True, slots=True)
class PathProbe:
    """A datagram of a size asked for: if it arrives, the path carries as much."""

    nonce: U64
    padding: Blob


@dataclass(frozen=True, slots=True)
class Member:
    """One voter: its node id, storage id and address as bootstrap or CONFIG wrote them into the log."""

    node: Text
    storage_id: Bytes16
    address: Text


@dataclass(frozen=True, slots=True)
class Configuration:
    """The voters from this event on. `number` rises by one with each CONFIG."""

    number: U32
    members: Annotated[tuple[Member, ...], MEMBERS_MAX]


@dataclass(frozen=True, slots=True)
class Genesis:
    """Payload of event 1: the cluster's uuid and first voters."""

    cluster_uuid: Bytes16
    config: Configuration


@dataclass(frozen=True, slots=True)
class EpochStart:
    """Payload of an epoch's first event: who leads. Repeats the config, never changes it."""

    node: Text
    config: Configuration


@dataclass(frozen=True, slots=True)
class Recovery:
    """A majority was lost for ever: from this event on the log belongs to another cluster, with a voter of its own."""

    cluster_uuid: Bytes16
    config: Configuration
    former: Annotated[tuple[Member, ...], MEMBERS_MAX]
    """Every node that ever voted in this log: they may come back, with empty disks."""


type_of: Final[dict[int, type]] = {
    Kind.HEARTBEAT: Heartbeat, Kind.COMMIT: Commit, Kind.ACK: Ack, Kind.NAK: Nak, Kind.BUSY: Busy,
    Kind.GONE: RepairGone, Kind.STALE: Stale, Kind.PRE_VOTE_REQUEST: PreVoteRequest, Kind.PRE_VOTE: PreVote,
    Kind.VOTE_REQUEST: VoteRequest, Kind.VOTE: Vote, Kind.FOUND: Found, Kind.VIRGIN: Virgin,
    Kind.GENESIS: GenesisOffer, Kind.CONFIRM: Confirm, Kind.CHALLENGE: Challenge, Kind.PROOF: Proof,
    Kind.READ: Read, Kind.READ_INDEX: ReadIndex,
    Kind.HANDOVER: Handover, Kind.SURVEY: Survey, Kind.STANDING: Standing,
    Kind.TWIN: Twin, Kind.HEARD: Heard, Kind.KNOCK: Knock, Kind.NEWS: News,
    Kind.PATH_REQUEST: PathRequest, Kind.PATH_PROBE: PathProbe,
}  # fmt: skip
kind_of: Final[dict[type, Kind]] = {message: Kind(kind) for kind, message in type_of.items()}

Message = (
    Heartbeat | Commit | Ack | Nak | Busy | RepairGone | Stale | PreVoteRequest | PreVote | VoteRequest | Vote | Found
    | Virgin | GenesisOffer | Confirm | Challenge | Proof | Read | ReadIndex | Handover
    | Survey | Standing | Twin | Heard | Knock | News | PathRequest | PathProbe
)  # fmt: skip

_PAYLOADS: Final = (Genesis, EpochStart, Configuration, Recovery)
_CODECS: Final = {message: codec_for(message) for message in (*kind_of, *_PAYLOADS)}
_DECODERS: Final = {kind: _CODECS[message].decode_untrusted for kind, message in type_of.items()}


def encode_message(message: Message | Genesis | EpochStart | Configuration | Recovery) -> bytes:
    """A control message's or internal payload's bytes."""
    return _CODECS[type(message)].encode(message)


def decode_message_untrusted(kind: int, data: bytes | bytearray | memoryview) -> Any:
    """The control message of this kind.

    Raises:
        DecodeError: unknown kind, or bytes that are not exactly one such message.
    """
    decode = _DECODERS.get(kind)
    if decode is None:
        raise DecodeError("unknown kind", str(kind))
    return decode(data)


def decode_genesis_untrusted(data: bytes | memoryview) -> Genesis:
    """The payload of a GENESIS record. Raises DecodeError."""
    genesis = _CODECS[Genesis].decode_untrusted(data)
    assert isinstance(genesis, Genesis)
    return genesis


def decode_recovery_untrusted(data: bytes | memoryview) -> Recovery:
    """The payload of a RECOVERY record. Raises DecodeError."""
    recovery = _CODECS[Recovery].decode_untrusted(data)
    assert isinstance(recovery, Recovery)
    return recovery


def decode_config_untrusted(data: bytes | memoryview) -> Configuration:
    """The payload of a CONFIG record. Raises DecodeError."""
    config = _CODECS[Configuration].decode_untrusted(data)
    assert isinstance(config, Configuration)
    return config


def decode_epoch_start_untrusted(data: bytes | memoryview) -> EpochStart:
    """The payload of an EPOCH_START record. Raises DecodeError."""
    start = _CODECS[EpochStart].decode_untrusted(data)
    assert isinstance(start, EpochStart)
    return start
