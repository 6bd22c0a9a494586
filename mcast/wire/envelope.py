"""The envelope: the fixed header in front of every datagram.

    offset  size  field
         0     2  magic "mc"
         2     1  version
         3     1  kind (see messages.Kind)
         4     1  channel (0 stream, 1 control, 2 unicast)
         5     1  flags (bit 0: sealed with a key)
         6     2  reserved, zero
         8     8  to: whom it is for (see `address`)
        16     8  sender: BLAKE2b-64 of the node's id
        24    16  incarnation: random, drawn at process start
        40     8  counter: one more for each datagram of this incarnation on this channel
        48     8  promised epoch

All integers are in network order. Fencing looks only at `promised`; identity of an event only at its frame.

A unicast datagram names the one node it is for, under the seal: one that reaches another counts for nothing there. All
others name everybody, by the cluster's name.
"""

from __future__ import annotations

import hashlib
import struct
from functools import partial
from typing import Final, NamedTuple

from mcast.errors import DecodeError
from mcast.limits import EPOCH_MAX

MAGIC: Final = b"mc"
VERSION: Final = 2
SEALED: Final = 1

STREAM: Final = 0
CONTROL: Final = 1
UNICAST: Final = 2

_LAYOUT: Final = struct.Struct("!2sBBBBHQQ16sQQ")
ENVELOPE_BYTES: Final = _LAYOUT.size
VERSION_OFFSET: Final = 2
KIND_OFFSET: Final = 3
RECEIVER: Final = slice(8, 16)  # the bytes that say whom it is for
SENDER: Final = slice(16, 24)  # the bytes of its hash
INCARNATION_OFFSET: Final = 24
INCARNATION_BYTES: Final = 16
CONSTANT_BYTES: Final = 40
"""Of an envelope: what all datagrams of one kind share that an incarnation sends on one channel to one receiver."""
COUNTED: Final = struct.Struct("!QQ")
"""The rest of it: counter and promised epoch."""


class Envelope(NamedTuple):
    """One datagram's header. `sender` is a name hash, `to` an `address`; `counter` starts at 1."""

    kind: int
    channel: int
    flags: int
    to: int
    sender: int
    incarnation: bytes
    counter: int
    promised: int


new_envelope: Final = partial(tuple.__new__, Envelope)  # as Envelope(...), in half the time


def name_hash(name: str) -> int:
    """A node id or cluster name as it stands in the envelope: its BLAKE2b-64 as an integer."""
    return int.from_bytes(hashlib.blake2b(name.encode(), digest_size=8).digest(), "big")


def address(cluster: int, node: int | None = None) -> int:
    """Whom a datagram is for, as it stands in the envelope: one node, or everybody in the cluster.

    `cluster` and `node` are name hashes. Everybody is the cluster's; a node the BLAKE2b-64 of both.
    """
    if node is None:
        return cluster
    both = cluster.to_bytes(8, "big") + node.to_bytes(8, "big")
    return int.from_bytes(hashlib.blake2b(both, digest_size=8).digest(), "big")


def encode_envelope(envelope: Envelope) -> bytes:
    """The envelope's 56 bytes."""
    kind, channel, flags, *rest = envelope
    return _LAYOUT.pack(MAGIC, VERSION, kind, channel, flags, 0, *rest)


def decode_envelope_untrusted(data: bytes | bytearray | memoryview, at: int = 0) -> Envelope:
    """Read an envelope at offset `at`.

    Raises:
        DecodeError: too short, wrong magic, another version ("older version", "newer version"), a reserved bit set, or
            a field outside its bounds.
    """
    if len(data) - at < ENVELOPE_BYTES:
        raise DecodeError("short envelope", f"{len(data) - at} of {ENVELOPE_BYTES} bytes")
    magic, version, kind, channel, flags, reserved, to, sender, incarnation, counter, promised = _LAYOUT.unpack_from(
        data, at
    )
    if magic != MAGIC:
        raise DecodeError("not an mcast datagram", f"magic {magic!r}")
    if version != VERSION:
        raise DecodeError("older version" if version < VERSION else "newer version", str(version))
    if channel > UNICAST or flags > SEALED or reserved:
        raise DecodeError("bad envelope", f"channel {channel}, flags {flags}, reserved {reserved}")
    if promised > EPOCH_MAX or not counter:
        raise DecodeError("bad envelope", f"counter {counter}, promised {promised}")
    return new_envelope((kind, channel, flags, to, sender, incarnation, counter, promised))
