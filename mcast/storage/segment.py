"""The journal's bytes: segments named by number, each a header and entries up to the first zeros.

Header, HEADER_BYTES in all, the rest zeros:

    offset  size  field
         0     8  magic "mcastseg"
         8     4  format, 1
        12     4  reserved, zero
        16    16  cluster uuid; zeros while unknown (the first segment begins with the event that draws it)
        32     8  segment number, from 1
        40     8  first: seq of the first event behind the header
        48    16  chain before it
        64     8  synced: the journal was known durable up to this seq when the segment was begun
        72    16  BLAKE2b-128 of bytes 0..71

Entry:

    offset  size  field
         0     4  magic "mcj1"
         4     4  CRC-32 of `synced` and the frame's 56-byte header, seeded by the segment
         8     8  synced: the journal was known durable up to this seq when the entry was written
        16     -  frame (header and body; the frame's chain vouches for the body)
         -     1  end mark 0xA5

All integers are in network order. The seed (CRC-32 of number, first and chain before) makes an entry valid only in its
own segment, so neither recycled blocks nor a client's bytes pass for one. The end mark is never zero: an entry whose
bytes turn into zeros before it is a write cut short, one with its mark in place and a wrong chain is damage.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Sequence
from hashlib import blake2b
from itertools import repeat
from operator import attrgetter
from typing import Final, NamedTuple

from mcast.errors import DecodeError, NewerFormat
from mcast.limits import EPOCH_MAX, FRAME_BODY_BYTES_MAX, SEQ_MAX
from mcast.wire.frame import FRAME_HEADER_BYTES, TIME_MAX_NS, Frame, chain_after
from mcast.wire.frame import HEADER as FRAME_HEADER

SEGMENT_BYTES: Final = 64 << 20  # bytes preallocated; a roll a second at the highest rates, not a file too many
HEADER_BYTES: Final = 512  # one sector, so that no entry shares it
FORMAT: Final = 1

_MAGIC: Final = b"mcastseg"
_HEADER: Final = struct.Struct("!8sI4x16sQQ16sQ")
_CHECKSUM_BYTES: Final = 16
_SEED: Final = struct.Struct("!QQ16s")

ENTRY_MAGIC: Final = b"mcj1"
END_MARK: Final = b"\xa5"
_END_MARK_BYTE: Final = END_MARK[0]
_PREFIX: Final = struct.Struct("!4sIQ")
_FOLLOWING: Final = struct.Struct(f"!5sIQ{FRAME_HEADER_BYTES}s")
_MARKED_MAGIC: Final = END_MARK + ENTRY_MAGIC  # the end of one entry and the beginning of the next
_SYNCED: Final = struct.Struct("!Q")
PREFIX_BYTES: Final = _PREFIX.size
ENTRY_HEAD_BYTES: Final = PREFIX_BYTES + FRAME_HEADER_BYTES
ENTRY_EXTRA_BYTES: Final = ENTRY_HEAD_BYTES + len(END_MARK)  # an entry's bytes beyond its body
ENTRY_BYTES_MAX: Final = ENTRY_EXTRA_BYTES + FRAME_BODY_BYTES_MAX
_BODY_LENGTH: Final = struct.Struct("!I")
_BODY_LENGTH_AT: Final = PREFIX_BYTES + 20
_ENTRY: Final = struct.Struct("!4sIQQQIIQQ16s")

SEGMENT_BYTES_MIN: Final = HEADER_BYTES + ENTRY_BYTES_MAX  # so that any frame fits an empty segment


class SegmentHeader(NamedTuple):
    """What a segment says of itself."""

    cluster_uuid: bytes
    number: int
    first: int
    chain_before: bytes
    synced: int

    @property
    def seed(self) -> int:
        """The start value of this segment's entry checksums."""
        return entry_seed(self.number, self.first, self.chain_before)


_HEAD_OF: Final = attrgetter("head")
_BODY_OF: Final = attrgetter("body")


def segment_name(number: int) -> str:
    """A segment's file name."""
    return f"{number:010d}.segment"


def segment_number(name: str) -> int | None:
    """The number in a segment's file name; None for any other file."""
    stem, dot, kind = name.partition(".")
    return int(stem) if dot and kind == "segment" and len(stem) == 10 and stem.isdecimal() else None


def entry_seed(number: int, first: int, chain_before: bytes) -> int:
    """The start value of a segment's entry checksums."""
    return zlib.crc32(_SEED.pack(number, first, chain_before))


def encode_header(header: SegmentHeader) -> bytes:
    """A segment's first HEADER_BYTES."""
    uuid, number, first, chain_before, synced = header
    fields = _HEADER.pack(_MAGIC, FORMAT, uuid, number, first, chain_before, synced)
    return (fields + blake2b(fields, digest_size=_CHECKSUM_BYTES).digest()).ljust(HEADER_BYTES, b"\0")


def decode_header_untrusted(data: bytes) -> SegmentHeader:
    """Read a segment's header.

    Raises:
        DecodeError: too short, another format, or a checksum that does not hold.
    """
    fields = data[: _HEADER.size]
    checksum = data[_HEADER.size : _HEADER.size + _CHECKSUM_BYTES]
    if len(data) < HEADER_BYTES or blake2b(fields, digest_size=_CHECKSUM_BYTES).digest() != checksum:
        raise DecodeError("damaged segment header")
    magic, version, uuid, number, first, chain_before, synced = _HEADER.unpack(fields)
    if magic == _MAGIC and version > FORMAT:
        raise NewerFormat("segment of a later format", f"{version}")
    if magic != _MAGIC or version != FORMAT:
        raise DecodeError("unknown segment format", f"{magic!r} {version}")
    return SegmentHeader(uuid, number, first, chain_before, synced)


def encode_entries(frames: Sequence[Frame], synced: int, seed: int) -> list[bytes]:
    """The buffers of one write: two a frame and the last end mark; bodies are not copied."""
    start = zlib.crc32(_SYNCED.pack(synced), seed)
    heads = list(map(_HEAD_OF, frames))
    checksums = map(zlib.crc32, heads, repeat(start))
    buffers: list[bytes] = [END_MARK] * (2 * len(frames) + 1)
    buffers[:-1:2] = map(_FOLLOWING.pack, repeat(_MARKED_MAGIC), checksums, repeat(synced), heads)
    buffers[1::2] = map(_BODY_OF, frames)
    buffers[0] = buffers[0][len(END_MARK) :]
    return buffers


def body_length(data: bytes, at: int) -> int:
    """The body length claimed by the entry at offset `at`, unchecked."""
    return int(_BODY_LENGTH.unpack_from(data, at + _BODY_LENGTH_AT)[0])


def entry_synced(data: bytes, at: int, seed: int) -> int | None:
    """The synced point in the entry head at offset `at`; None when that is no intact entry head of this segment."""
    if len(data) - at < ENTRY_HEAD_BYTES:
        return None
    magic, crc, synced = _PREFIX.unpack_from(data, at)
    if magic != ENTRY_MAGIC or zlib.crc32(data[at + 8 : at + ENTRY_HEAD_BYTES], seed) != crc:
        return None
    return int(synced)


def sound_entry(data: bytes, at: int, seed: int, after: int, epoch: int, chain: bytes) -> tuple[Frame, int] | None:  # noqa: PLR0913
    """The entry at offset `at` and its synced point, if it continues, beyond any doubt, a log that ends so.

    None says only that something is amiss, or uncommon: `recovery` finds out what.
    """
    body = at + ENTRY_HEAD_BYTES
    if len(data) <= body:
        return None
    magic, crc, synced, entry_epoch, first, count, length, commit, time, chain_then = _ENTRY.unpack_from(data, at)
    behind = body + length
    if not (
        magic == ENTRY_MAGIC
        and synced <= after
        and first == after + 1
        and epoch <= entry_epoch <= EPOCH_MAX
        and 0 < count <= length <= FRAME_BODY_BYTES_MAX
        and commit < first <= SEQ_MAX - count
        and time <= TIME_MAX_NS
        and behind < len(data)
        and data[behind] == _END_MARK_BYTE
        and zlib.crc32(data[at + 8 : body], seed) == crc
    ):
        return None
    head, content = data[at + PREFIX_BYTES : body], data[body:behind]
    if chain_after(chain, head, content) != chain_then:
        return None
    return Frame(entry_epoch, first, count, commit, time, chain_then, content, head), synced


def read_entries(data: bytes, at: int = 0) -> tuple[list[Frame], int]:
    """Every whole entry in `data` from offset `at` on, and the offset behind the last one.

    For entries that were checked when the journal was opened, or written since: lengths bound the loop, nothing else
    is checked. Stops at zeros.
    """
    frames: list[Frame] = []
    unpack, end = FRAME_HEADER.unpack_from, len(data)
    while end - at > ENTRY_HEAD_BYTES and data.startswith(ENTRY_MAGIC, at):
        head = at + PREFIX_BYTES
        epoch, first, count, length, commit, time, chain = unpack(data, head)
        body = head + FRAME_HEADER_BYTES
        behind = body + length
        if behind >= end:
            break
        frames.append(Frame(epoch, first, count, commit, time, chain, data[body:behind], data[head:body]))
        at = behind + 1
    return frames, at


assert _HEADER.size + _CHECKSUM_BYTES <= HEADER_BYTES
assert _ENTRY.size == ENTRY_HEAD_BYTES
