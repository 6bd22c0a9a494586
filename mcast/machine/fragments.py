"""Puts fragmented commands together again: one at a time, since a command's fragments are numbered contiguously."""

from __future__ import annotations

from mcast.errors import DecodeError
from mcast.limits import COMMAND_BYTES_MAX
from mcast.wire.records import Record, RecordKind, decode_fragment_untrusted


class Assembly:
    """The partial command, if any. `cut` is the safety rule that a new epoch discards it."""

    def __init__(self, *, cut: bool = True) -> None:
        self.partial = False
        """Whether a command has begun and not ended."""
        self._cut = cut
        self._of = (0, 0, 0)
        self._slices: list[bytes] = []
        self._size = 0

    def interrupt(self, kind: int) -> None:
        """A record of this kind, not a fragment, follows: the partial command is void."""
        if self.partial and (self._cut or kind != RecordKind.EPOCH_START):
            self._discard()

    def add(self, record: Record) -> bytes | None:
        """Take the next fragment; the whole command with its last one. A fragment out of place voids what there is."""
        try:
            index, total, piece = decode_fragment_untrusted(record.payload)
        except DecodeError:
            self._discard()
            return None
        of = (record.session, record.request, total)
        if index == 0:
            self._discard()
            self._of = of
        elif index != len(self._slices) or of != self._of:
            self._discard()
            return None
        if self._size + len(piece) > COMMAND_BYTES_MAX:
            self._discard()
            return None
        self.partial = True
        self._slices.append(bytes(piece))
        self._size += len(piece)
        if index + 1 < total:
            return None
        command = b"".join(self._slices)
        self._discard()
        return command

    def _discard(self) -> None:
        self.partial = False
        self._slices = []
        self._size = 0
        self._of = (0, 0, 0)
