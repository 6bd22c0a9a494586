"""What one datagram must carry at least: an epoch begins with a frame that names every member."""

from __future__ import annotations

from collections.abc import Sequence

from mcast.limits import IP_UDP_BYTES, SEAL_TAG_BYTES
from mcast.wire.envelope import ENVELOPE_BYTES
from mcast.wire.frame import FRAME_HEADER_BYTES
from mcast.wire.messages import Configuration, EpochStart, Genesis, GenesisOffer, Member, encode_message
from mcast.wire.records import RecordKind, encode_record


def mtu_needed(members: Sequence[tuple[str, str]]) -> int:
    """The smallest MTU, in bytes, with which these members, as (id, address), can found a cluster and elect.

    None of what this counts can be cut in pieces: GENESIS, as it is offered to the members, and EPOCH_START.
    """
    config = Configuration(0, tuple(Member(node, bytes(16), address) for node, address in members))
    start = EpochStart(max((node for node, _ in members), key=lambda node: len(node.encode())), config)
    genesis = _record(RecordKind.GENESIS, encode_message(Genesis(bytes(16), config)))
    offer = encode_message(GenesisOffer(bytes(FRAME_HEADER_BYTES) + genesis))
    frame = bytes(FRAME_HEADER_BYTES) + _record(RecordKind.EPOCH_START, encode_message(start))
    return IP_UDP_BYTES + ENVELOPE_BYTES + max(len(offer), len(frame)) + SEAL_TAG_BYTES


def _record(kind: RecordKind, payload: bytes) -> bytes:
    return encode_record(kind, 1, 0, 0, 0, payload)
