"""The watermark: how far this node may have acknowledged its log; told by a file of its own, beside the journal.

Nothing in a journal says where it ended: one that lost its tail looks like one that was never longer. So each time
before events are acknowledged, behind the journal's own write (and sync, where the mode wants one), this file is told
of them, and a truncation takes it back first. Two slots are written in turn, so that one is whole at any time. Slot:

    offset  size  field
         0     4  magic "mcwm"
         4     4  format, 2
         8     8  turn: counts the writes; the higher one is the newer
        16    16  storage id
        32     8  epoch of the event
        40     8  seq of the last event that may have been acknowledged
        48    16  chain there
        64     8  turn of the meta file: a meta whose own is lower is an older one, put back
        72    16  BLAKE2b-128 of bytes 0..71

Format 1 is without the meta's turn; its checksum stands at byte 64. All integers are in network order. The slots are
SLOT_BYTES apart: no disk writes both at once. A process is never killed within so short a write, and a disk writes it
whole or not at all: a slot that is not whole is damage.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from hashlib import blake2b
from typing import Final, NamedTuple

from mcast.errors import DecodeError, NewerFormat
from mcast.limits import EPOCH_MAX, SEQ_MAX
from mcast.storage.files import NEW, Files, write_all
from mcast.wire.frame import CHAIN_ZERO

WATERMARK_NAME: Final = "watermark"
FORMAT: Final = 2
FORMAT_NO_TURN: Final = 1  # as they were when the meta file had no turn
SLOT_BYTES: Final = 4_096
_MAGIC: Final = b"mcwm"
_HEAD: Final = struct.Struct("!4sI")
_SLOT: Final = struct.Struct("!4sIQ16sQQ16sQ")
_SLOT_NO_TURN: Final = struct.Struct("!4sIQ16sQQ16s")
_CHECKSUM_BYTES: Final = 16


class Watermark(NamedTuple):
    """Events up to `seq`, which is of `epoch`, may have been acknowledged under `storage_id`; `chain` is behind it."""

    storage_id: bytes
    epoch: int = 0
    seq: int = 0
    chain: bytes = CHAIN_ZERO
    meta_turn: int = 0
    """The meta file's, when this was written: what was promised and voted last stands in that one, or a later one."""


@dataclass(frozen=True, slots=True)
class FoundWatermark:
    """What a directory's watermark file says."""

    watermark: Watermark | None
    """The newest that can be read."""
    whole: bool
    """Whether both slots can be: else a newer one may have been in the other."""
    turn: int = 0


class WatermarkFile:
    """A directory's watermark, open for writing. Threads: whoever syncs and truncates the journal writes it."""

    def __init__(self, files: Files, fd: int, watermark: Watermark, turn: int) -> None:
        """For `open_watermark` only."""
        self._files = files
        self._fd = fd
        self._turn = turn
        self.written = watermark
        """The newest that was written."""

    @property
    def fd(self) -> int:
        """The file's descriptor, for syncing."""
        return self._fd

    def write(self, watermark: Watermark) -> None:
        """Write it, not over the one before; durable once `fd` is synced.

        Raises:
            OSError: it may be written or not; the one before still stands. A next call writes in the same place.
        """
        turn = self._turn + 1
        slot, offset = _encode(watermark, turn), turn % 2 * SLOT_BYTES
        if self._files.pwritev(self._fd, [slot], offset) != len(slot):
            write_all(self._files, self._fd, [slot], offset)
        self._turn = turn
        self.written = watermark

    def replace(self, watermark: Watermark) -> None:
        """Write it, durable on return. Raises OSError."""
        self.write(watermark)
        self._files.fdatasync(self._fd)

    def close(self) -> None:
        """Close the file."""
        self._files.close(self._fd)


def load_watermark(files: Files, directory: str) -> FoundWatermark:
    """What the directory's watermark file says; nothing when there is none. Raises OSError, NewerFormat."""
    path = f"{directory}/{WATERMARK_NAME}"
    if not files.exists(path):
        return FoundWatermark(None, whole=False)
    fd = files.open(path)
    try:
        slots = [files.pread(fd, _SLOT.size + _CHECKSUM_BYTES, place * SLOT_BYTES) for place in (0, 1)]
    finally:
        files.close(fd)
    readable: list[tuple[int, Watermark]] = []
    for slot in slots:
        try:
            readable.append(decode_slot_untrusted(slot))
        except NewerFormat:
            raise
        except DecodeError:
            continue
    if not readable:
        return FoundWatermark(None, whole=False)
    turn, watermark = max(readable)
    return FoundWatermark(watermark, len(readable) == len(slots), turn)


def open_watermark(files: Files, directory: str, watermark: Watermark) -> WatermarkFile:
    """The directory's watermark, made to say this, durably; a file that is not whole is made anew. Raises OSError."""
    path = f"{directory}/{WATERMARK_NAME}"
    found = load_watermark(files, directory)
    if found.whole:
        opened = WatermarkFile(files, files.open(path), watermark, found.turn)
        try:
            opened.replace(watermark)  # even if it says so already: that may not be durable
        except OSError:
            opened.close()
            raise
        return opened
    turn = found.turn + 2 + found.turn % 2  # even, and beyond the other: a slot that was not whole might be newer
    fd = files.open(path + NEW, create=True)
    try:
        for place in (0, 1):
            write_all(files, fd, [_encode(watermark, turn + place).ljust(SLOT_BYTES, b"\0")], place * SLOT_BYTES)
        files.fdatasync(fd)
        files.rename(path + NEW, path)
        files.fsync_dir(directory)
    except OSError:
        files.close(fd)
        raise
    return WatermarkFile(files, fd, watermark, turn + 1)


def decode_slot_untrusted(data: bytes) -> tuple[int, Watermark]:
    """Read one slot: its turn, and what it says.

    Raises:
        DecodeError: not what is written here. NewerFormat: but what a later version writes.
    """
    layout = _SLOT_NO_TURN if data[: _HEAD.size] == _HEAD.pack(_MAGIC, FORMAT_NO_TURN) else _SLOT
    fields, checksum = data[: layout.size], data[layout.size : layout.size + _CHECKSUM_BYTES]
    if len(checksum) < _CHECKSUM_BYTES or blake2b(fields, digest_size=_CHECKSUM_BYTES).digest() != checksum:
        raise DecodeError("damaged watermark")
    magic, version, turn, storage_id, epoch, seq, chain, *meta_turn = layout.unpack(fields)
    if magic == _MAGIC and version > FORMAT:
        raise NewerFormat("watermark of a later format", f"{version}")
    known = version == (FORMAT if layout is _SLOT else FORMAT_NO_TURN)
    if magic != _MAGIC or not known or epoch > EPOCH_MAX or seq > SEQ_MAX:
        raise DecodeError("unknown watermark", f"{magic!r} {version}")
    return turn, Watermark(storage_id, epoch, seq, chain, *meta_turn)


def _encode(watermark: Watermark, turn: int) -> bytes:
    fields = _SLOT.pack(_MAGIC, FORMAT, turn, *watermark)
    return fields + blake2b(fields, digest_size=_CHECKSUM_BYTES).digest()
