"""The frame: one datagram's worth of records with consecutive numbers; also the journal's entry.

    offset  size  field
         0     8  epoch: of the sequencer that numbered it
         8     8  first: the first event's seq
        16     4  count: events, at least 1
        20     4  length: of the body in bytes
        24     8  commit: the sequencer's commit seq when it was numbered
        32     8  time: the sequencer's clock, ns since 1970, never decreasing
        40    16  chain: SHA-256(chain before + bytes 0..39 of this header + body), the first 16 bytes
        56     -  body: records

The chain runs over the plaintext and names all that decides how a frame is applied, so one comparison at the end of a
log proves intact bytes and equal logs up to there (Raft's log matching). A frame never changes once numbered.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Sequence
from functools import partial
from hashlib import sha256
from operator import attrgetter
from typing import Final, NamedTuple

from mcast.errors import DecodeError
from mcast.limits import EPOCH_MAX, FRAME_BODY_BYTES_MAX, SEQ_MAX

HEADER: Final = struct.Struct("!QQIIQQ16s")
"""Epoch, first, count, length, commit, time, chain."""
_CHAINED: Final = struct.Struct("!QQIIQQ")
FRAME_HEADER_BYTES: Final = HEADER.size
CHAIN_BYTES: Final = 16
CHAIN_ZERO: Final = bytes(CHAIN_BYTES)
TIME_MAX_NS: Final = 2**63 - 1


class Frame(NamedTuple):
    """A run of consecutive events. `time` is in ns; `head` is the encoded header, so that nothing is re-encoded."""

    epoch: int
    first: int
    count: int  # type: ignore[assignment] # a field hides tuple.count, which a frame has no use for
    commit: int
    time: int
    chain: bytes
    body: bytes
    head: bytes

    @property
    def last(self) -> int:
        """The seq of the frame's last event."""
        return self.first + self.count - 1

    @property
    def size(self) -> int:
        """Bytes of header and body."""
        return FRAME_HEADER_BYTES + len(self.body)


FrameRun = list[Frame]
"""Frames that came in consecutive DATA datagrams of one sender, under the envelope of the first."""

new_frame: Final[Callable[[tuple[int, int, int, int, int, bytes, bytes, bytes]], Frame]] = partial(tuple.__new__, Frame)
"""A Frame of its fields, in order: half the cost of calling the class, where there is one a datagram."""


_BODY: Final = attrgetter("body")


def frames_bytes(frames: Sequence[Frame]) -> int:
    """Bytes of all headers and bodies."""
    return FRAME_HEADER_BYTES * len(frames) + sum(map(len, map(_BODY, frames)))


def make_frame(  # noqa: PLR0913 - one argument a header field
    epoch: int, first: int, count: int, commit: int, time: int, chain_before: bytes, body: bytes
) -> Frame:
    """Number a run of records: computes the chain and encodes the header."""
    chained = _CHAINED.pack(epoch, first, count, len(body), commit, time)
    chain = chain_after(chain_before, chained, body)
    return new_frame((epoch, first, count, commit, time, chain, body, chained + chain))


def chain_after(chain_before: bytes, head: bytes, body: bytes) -> bytes:
    """The chain after a frame with this (at least 40-byte) header and body."""
    chain = sha256(chain_before + head[:40])
    chain.update(body)
    return chain.digest()[:CHAIN_BYTES]


def follows(frame: Frame, chain_before: bytes) -> bool:
    """Whether the frame's own chain is what its bytes give after `chain_before`."""
    return chain_after(chain_before, frame.head, frame.body) == frame.chain


def decode_header_untrusted(
    data: bytes | bytearray | memoryview, at: int = 0
) -> tuple[int, int, int, int, int, int, bytes]:
    """Read a frame's header at offset `at`: epoch, first, count, length, commit, time, chain.

    Raises:
        DecodeError: too short, or a field outside its bounds.
    """
    if len(data) - at < FRAME_HEADER_BYTES:
        raise DecodeError("short frame", f"{len(data) - at} of {FRAME_HEADER_BYTES} bytes")
    header: tuple[int, int, int, int, int, int, bytes] = HEADER.unpack_from(data, at)
    if not within_bounds(header):
        raise DecodeError(
            "bad frame header", "epoch {}, first {}, count {}, length {}, commit {}, time {}".format(*header)
        )
    return header


def within_bounds(header: tuple[int, int, int, int, int, int, bytes]) -> bool:
    """Whether a header's fields can be those of a frame."""
    epoch, first, count, length, commit, time, _ = header
    return (
        0 < count <= length <= FRAME_BODY_BYTES_MAX
        and commit < first <= SEQ_MAX - count
        and epoch <= EPOCH_MAX
        and time <= TIME_MAX_NS
    )


def decode_frame_untrusted(data: bytes | bytearray | memoryview, at: int = 0) -> Frame:
    """Read one frame at offset `at`; bytes after it are left alone (GSO pads the last frame of a burst).

    Raises:
        DecodeError: too short, or a field outside its bounds. The chain is not checked here: that needs the log.
    """
    epoch, first, count, length, commit, time, chain = decode_header_untrusted(data, at)
    start = at + FRAME_HEADER_BYTES
    if len(data) - start < length:
        raise DecodeError("short frame", f"body {len(data) - start} of {length} bytes")
    return Frame(epoch, first, count, commit, time, chain, bytes(data[start : start + length]), bytes(data[at:start]))
