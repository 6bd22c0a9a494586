"""The seal on every datagram: bytes <-> (envelope, frame or message), authenticated and encrypted hop by hop.

    envelope (56)  |  frame header (56, DATA and REPAIR only)  |  body  |  tag (16)

With a key the body is encrypted by AES-256-GCM and envelope and frame header are its additional data. Key:
HKDF-SHA256(secret, salt = incarnation, info = "mcast datagram" + cluster + sender), one per process start of a sender,
so a counter that starts anew never repeats a nonce. Nonce: channel (4 bytes) + counter (8 bytes), both read from the
envelope. Without a key the body is plain and the tag a BLAKE2b-128 checksum over everything before it; that finds
damage and no attack. Which of the two a datagram is, its flags say; a receiver takes only its own kind.

After the tag of a frame, and nowhere else, zero bytes are tolerated: GSO sends a burst in equal segments.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Collection, Sequence
from hashlib import blake2b
from typing import Any, Final

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from mcast.errors import DecodeError
from mcast.limits import INCARNATIONS_OPENED_MAX, SEAL_TAG_BYTES
from mcast.seal.keys import KeyRing, derive
from mcast.wire.envelope import (
    CONSTANT_BYTES,
    COUNTED,
    ENVELOPE_BYTES,
    RECEIVER,
    SEALED,
    SENDER,
    STREAM,
    UNICAST,
    Envelope,
    address,
    decode_envelope_untrusted,
    encode_envelope,
    name_hash,
)
from mcast.wire.frame import (
    FRAME_HEADER_BYTES,
    HEADER,
    Frame,
    FrameRun,
    decode_header_untrusted,
    new_frame,
    within_bounds,
)
from mcast.wire.messages import FRAME_KINDS, Kind, decode_message_untrusted, type_of

FRAME_OVERHEAD_BYTES: Final = ENVELOPE_BYTES + FRAME_HEADER_BYTES + SEAL_TAG_BYTES
"""What a DATA or REPAIR datagram adds to its frame's body."""
CONTROL_OVERHEAD_BYTES: Final = ENVELOPE_BYTES + SEAL_TAG_BYTES
"""What any other datagram adds to its message."""

REASONS: Final = frozenset({
    "short envelope", "not an mcast datagram", "older version", "newer version", "bad envelope", "foreign cluster",
    "misdirected", "own datagram", "unknown sender", "unsealed", "sealed", "unknown kind", "wrong channel",
    "short frame", "bad frame header", "bad padding", "wrong key or damaged", "checksum", "short message",
    "field too long", "bad text", "bad field", "trailing bytes",
})  # fmt: skip
"""Every `DecodeError.reason` an Opener gives: a fixed vocabulary, so counters by reason are bounded."""

_VERSIONS: Final = ("older version", "newer version")
_DATA, _TWIN = int(Kind.DATA), int(Kind.TWIN)  # a member of an enum is slow to look up
_NONCE: Final = struct.Struct("!IQ")
_BODY_AT: Final = ENVELOPE_BYTES + FRAME_HEADER_BYTES
_ZEROS: Final = bytes(65_536)
_HEAD: Final = struct.Struct(f"!{CONSTANT_BYTES}sQQ{FRAME_HEADER_BYTES}s")
"""A frame's datagram before the body: constant part of the envelope, counter, promised epoch, frame header."""

Bytes = bytes | memoryview
Unbox = Callable[[bytes, Bytes, Bytes], bytes]
"""(nonce, body and tag, what stands before them) -> the plaintext of the body. Raises InvalidTag."""


def datagram_key(secret: bytes, cluster: int, sender: int, incarnation: bytes) -> bytes:
    """The AES-256 key of one incarnation of one sender; `cluster` and `sender` are name hashes."""
    info = b"mcast datagram" + cluster.to_bytes(8, "big") + sender.to_bytes(8, "big")
    return derive(secret, incarnation, info)


def checksum(*parts: bytes | memoryview) -> bytes:
    """What stands in the tag's place without a key."""
    digest = blake2b(digest_size=SEAL_TAG_BYTES)
    for part in parts:
        digest.update(part)
    return digest.digest()


class _Plain:
    """What stands in a cipher's place without a key: the same two methods as AESGCM's, with a checksum for the tag."""

    def encrypt(self, _nonce: bytes, body: bytes, clear: bytes) -> bytes:
        return body + checksum(clear, body)

    def decrypt(self, _nonce: bytes, box: Bytes, clear: Bytes) -> bytes:
        body = box[: len(box) - SEAL_TAG_BYTES]
        if box[len(body) :] != checksum(clear, body):
            raise InvalidTag
        return bytes(body)


_PLAIN: Final = _Plain()


class Sealer:
    """Makes one node's datagrams; counts one counter per channel, from 1, for the life of the process.

    `incarnation`: 16 random bytes drawn at process start and never used again. `cluster` and `node` are names.
    """

    def __init__(self, ring: KeyRing | None, cluster: str, node: str, incarnation: bytes) -> None:
        assert len(incarnation) == 16, "an incarnation has 16 bytes"
        self.incarnation = incarnation
        self._cluster = name_hash(cluster)
        self._sender = name_hash(node)
        self._sent = [0, 0, 0]
        self._constants: dict[tuple[int, int, int | None], bytes] = {}
        """How envelopes begin, by kind, channel and receiver."""
        self._aead = (
            None if ring is None else AESGCM(datagram_key(ring.keys[0], self._cluster, self._sender, incarnation))
        )

    def newest_counter(self, channel: int) -> int:
        """The counter of the newest datagram sealed on this channel; 0 before the first."""
        return self._sent[channel]

    def seal(  # noqa: PLR0913 - one argument a part of the datagram
        self, kind: int, channel: int, promised: int, head: bytes, body: bytes, to: int | None = None
    ) -> bytes:
        """One datagram. `head` is the frame's header for DATA and REPAIR, else empty; `body` the plaintext.

        `to` is the node (its name hash) that a datagram on the unicast channel is for; None: everybody.
        """
        return self._seal(kind, channel, promised, ((head, body),), to)[0]

    def seal_frames(
        self, kind: int, channel: int, promised: int, frames: Sequence[Frame], to: int | None = None
    ) -> list[bytes]:
        """One DATA or REPAIR datagram a frame, in order."""
        return self._seal(kind, channel, promised, [(frame.head, frame.body) for frame in frames], to)

    def _seal(
        self, kind: int, channel: int, promised: int, parts: Sequence[tuple[bytes, bytes]], to: int | None
    ) -> list[bytes]:
        assert (kind == _DATA) == (channel == STREAM), "the stream channel carries DATA and nothing else"
        constant = self._constants.get((kind, channel, to)) or self._constant(kind, channel, to)
        encrypt, counted, nonce = (self._aead or _PLAIN).encrypt, COUNTED.pack, _NONCE.pack
        counter = self._sent[channel]
        self._sent[channel] += len(parts)
        sealed: list[bytes] = []
        for head, body in parts:
            counter += 1
            clear = constant + counted(counter, promised) + head
            sealed.append(clear + encrypt(nonce(channel, counter), body, clear))
        return sealed

    def _constant(self, kind: int, channel: int, to: int | None) -> bytes:
        flags = 0 if self._aead is None else SEALED
        first = Envelope(kind, channel, flags, address(self._cluster, to), self._sender, self.incarnation, 0, 0)
        constant = self._constants[kind, channel, to] = encode_envelope(first)[:CONSTANT_BYTES]
        return constant


class Opener:
    """Opens datagrams of other nodes. Holds at most INCARNATIONS_OPENED_MAX ciphers a sender, least recently used out.

    `senders` are the name hashes that may send; others are refused before any cipher runs. `own` is this node's, whom
    every unicast datagram must name; 0 is nobody's, and opens what is for any of them.
    """

    def __init__(self, ring: KeyRing | None, cluster: str, senders: Collection[int], own: int) -> None:
        self._ring = ring
        self._cluster = name_hash(cluster)
        self._cluster_bytes = self._cluster.to_bytes(8, "big")
        """Where older versions have it in every datagram, and this one in all that is for everybody."""
        self.own = own
        self._own_bytes = own.to_bytes(8, "big")
        self._address = address(self._cluster, own)
        self._others = {address(self._cluster, sender) for sender in senders} - {self._address}
        self._flags = 0 if ring is None else SEALED
        self.sealed = ring is not None
        self._ciphers = {sender: _Ciphers(ring, self._cluster, sender) for sender in senders if sender != own}
        self._own_ciphers = _Ciphers(ring, self._cluster, own)

    def is_own(self, data: bytes | memoryview) -> bool:
        """Whether a datagram names this node as its sender: multicast loops back. Cannot fail."""
        return data[SENDER] == self._own_bytes

    def open_untrusted(self, data: bytes | memoryview) -> tuple[Envelope, Any]:
        """The envelope and its Frame (DATA, REPAIR) or Message. The frame's chain is not checked: that needs the log.

        Raises:
            DecodeError: with a `reason` out of REASONS.
        """
        try:
            envelope = decode_envelope_untrusted(data)
        except DecodeError as error:
            if error.reason in _VERSIONS and data[RECEIVER] != self._cluster_bytes:
                raise DecodeError("foreign cluster", str(error)) from None
            raise
        kind = envelope.kind
        if envelope.to != (self._address if envelope.channel == UNICAST else self._cluster):
            self._check_receiver(envelope)
        ciphers = self._ciphers.get(envelope.sender)
        if ciphers is None and kind == _TWIN and envelope.sender == self.own:
            ciphers = self._own_ciphers
        if ciphers is None:
            reason = "own datagram" if envelope.sender == self.own else "unknown sender"
            raise DecodeError(reason, f"{envelope.sender:016x}")
        if envelope.flags != self._flags:
            raise DecodeError("sealed" if envelope.flags else "unsealed", "only one side has a key file")
        if (kind == _DATA) != (envelope.channel == STREAM):
            raise DecodeError("wrong channel", f"kind {kind} on channel {envelope.channel}")
        view = memoryview(data)
        if kind in FRAME_KINDS:
            return envelope, _open_frame(envelope, view, ciphers)
        if kind not in type_of:
            raise DecodeError("unknown kind", str(kind))
        if len(view) < CONTROL_OVERHEAD_BYTES:
            raise DecodeError("short message", f"{len(view)} of {CONTROL_OVERHEAD_BYTES} bytes")
        return envelope, decode_message_untrusted(kind, ciphers.open_untrusted(envelope, view, ENVELOPE_BYTES))

    def _check_receiver(self, envelope: Envelope) -> None:
        """Judge a datagram that does not name whom its channel would have it name."""
        if envelope.to == self._cluster or envelope.to == self._address:
            raise DecodeError("wrong channel", f"for {envelope.to:016x} on channel {envelope.channel}")
        if envelope.to not in self._others:
            raise DecodeError("foreign cluster", f"{envelope.to:016x}")
        if self.own or envelope.channel != UNICAST:
            raise DecodeError("misdirected", f"for {envelope.to:016x}")

    def open_run(self, first: Envelope, run: FrameRun, datagrams: Sequence[Bytes], at: int) -> int:
        """Append to `run` the frames of the datagrams from `datagrams[at]` on that go on where `first` and `run` end.

        `first` is an opened DATA datagram's envelope, and `run` holds its frame. Each must come from the same process,
        with the next counter and the same promise, and open as `open_untrusted` would open it; the first that does not
        ends the run, to be judged there. Returns its index.
        """
        ciphers = self._ciphers[first.sender]
        unbox = ciphers.unbox(first.incarnation)
        constant, counter, promised = encode_envelope(first)[:CONSTANT_BYTES], first.counter, first.promised
        unpack, unpack_header, nonce = _HEAD.unpack_from, HEADER.unpack, _NONCE.pack
        for index in range(at, len(datagrams)):
            view = datagrams[index]
            if len(view) < _BODY_AT:
                return index
            begins, number, epoch_promised, head = unpack(view)
            counter += 1
            if begins != constant or number != counter or epoch_promised != promised:
                return index
            header = unpack_header(head)
            epoch, entry, count, length, commit, time, chain = header
            end = _BODY_AT + length + SEAL_TAG_BYTES
            size = len(view)
            if size < end or not within_bounds(header) or (size > end and view[end:] != _ZEROS[: size - end]):
                return index
            try:
                body = unbox(nonce(STREAM, counter), view[_BODY_AT:end], view[:_BODY_AT])
            except InvalidTag:
                return index
            run.append(new_frame((epoch, entry, count, commit, time, chain, body, head)))
        return len(datagrams)


def _open_frame(envelope: Envelope, view: memoryview, ciphers: _Ciphers) -> Frame:
    epoch, first, count, length, commit, time, chain = decode_header_untrusted(view, ENVELOPE_BYTES)
    end = _BODY_AT + length + SEAL_TAG_BYTES
    padding = len(view) - end
    if padding:
        if padding < 0:
            raise DecodeError("short frame", f"{len(view)} of {end} bytes")
        if view[end:] != _ZEROS[:padding]:
            raise DecodeError("bad padding", f"{padding} bytes after the frame")
        view = view[:end]
    body = ciphers.open_untrusted(envelope, view, _BODY_AT)
    return new_frame((epoch, first, count, commit, time, chain, body, bytes(view[ENVELOPE_BYTES:_BODY_AT])))


class _Ciphers:
    """One sender's ciphers by incarnation; only what opened a datagram is kept, so that a forger can't displace it."""

    __slots__ = ("_aead", "_cluster", "_incarnation", "_known", "_ring", "_sender", "_worked")

    def __init__(self, ring: KeyRing | None, cluster: int, sender: int) -> None:
        self._ring = ring
        self._cluster = cluster
        self._sender = sender
        self._incarnation = b""
        """Of the last datagram opened: nearly always that of the next one too."""
        self._aead: AESGCM | None = None
        self._known: dict[bytes, AESGCM] = {}
        """Least recently used first."""
        self._worked = 0
        """Index of the key that opened this sender's newest incarnation; tried first for the next."""

    def open_untrusted(self, envelope: Envelope, view: memoryview, at: int) -> bytes:
        """The plaintext between offset `at` and the tag at the view's end. Raises DecodeError."""
        nonce = _NONCE.pack(envelope.channel, envelope.counter)
        if self._ring is None:
            try:
                return _PLAIN.decrypt(nonce, view[at:], view[:at])
            except InvalidTag:
                raise DecodeError("checksum") from None
        if envelope.incarnation != self._incarnation or self._aead is None:
            return self._open_other(self._ring, envelope.incarnation, (nonce, view[at:], view[:at]))
        try:
            return self._aead.decrypt(nonce, view[at:], view[:at])
        except InvalidTag:
            raise DecodeError("wrong key or damaged") from None

    def unbox(self, incarnation: bytes) -> Unbox:
        """What opens the datagrams of an incarnation that has been opened before."""
        return _PLAIN.decrypt if self._ring is None else self._known[incarnation].decrypt

    def _open_other(self, ring: KeyRing, incarnation: bytes, box: tuple[bytes, memoryview, memoryview]) -> bytes:
        known = self._known.get(incarnation)
        order = [] if known else sorted(range(len(ring.keys)), key=lambda index: index != self._worked)
        for index in order or [self._worked]:
            aead = known or AESGCM(datagram_key(ring.keys[index], self._cluster, self._sender, incarnation))
            try:
                body = aead.decrypt(*box)
            except InvalidTag:
                continue
            if not known:
                self._worked = index
            self._keep(incarnation, aead)
            return body
        raise DecodeError("wrong key or damaged")

    def _keep(self, incarnation: bytes, aead: AESGCM) -> None:
        self._known.pop(incarnation, None)
        while len(self._known) >= INCARNATIONS_OPENED_MAX:
            del self._known[next(iter(self._known))]
        self._known[incarnation] = self._aead = aead
        self._incarnation = incarnation
