"""Where one TCP message ends and the next begins; no length is believed beyond its bound. The layout is `stream`'s."""

from __future__ import annotations

from mcast.errors import DecodeError
from mcast.limits import TCP_MESSAGE_BYTES_MAX
from mcast.wire.stream import HEAD_BYTES, LENGTH


class Splitter:
    """Cuts a TCP byte stream into messages. Between two calls it holds what came of one message, and nothing else."""

    __slots__ = ("_begun", "_length_max")

    def __init__(self, length_max: int = TCP_MESSAGE_BYTES_MAX) -> None:
        self._begun = bytearray()
        self._length_max = length_max

    def allow_whole_messages(self) -> None:
        """Raise the bound to TCP_MESSAGE_BYTES_MAX: the other side is known now."""
        self._length_max = TCP_MESSAGE_BYTES_MAX

    def feed(self, data: bytes | memoryview) -> list[tuple[int, bytes]]:
        """The messages (kind, payload) that `data` completes.

        Raises:
            DecodeError: a length of zero or beyond the bound; the stream cannot be read any further.
        """
        return self.cut(data, len(data))[0]

    def cut(self, data: bytes | memoryview, most: int) -> tuple[list[tuple[int, bytes]], int]:
        """As `feed`, but about `most` messages; and how much of `data` they took. The rest is to be given again.

        Raises:
            DecodeError: as `feed`.
        """
        messages: list[tuple[int, bytes]] = []
        at, end = self._complete(data, messages) if self._begun else 0, len(data)
        while end - at >= LENGTH.size:
            if len(messages) >= most:
                return messages, at
            (length,) = LENGTH.unpack_from(data, at)
            if not 0 < length <= self._length_max:
                raise _bad_length(length)
            after = at + LENGTH.size + length
            if after > end:
                break
            messages.append((data[at + LENGTH.size], bytes(data[at + HEAD_BYTES : after])))
            at = after
        if at < end:
            self._begun += data[at:]
        return messages, end

    def _complete(self, data: bytes | memoryview, messages: list[tuple[int, bytes]]) -> int:
        """Give the message that has begun what it lacks, no byte more; how much of `data` that took."""
        begun, at = self._begun, 0
        if len(begun) < LENGTH.size:
            at = LENGTH.size - len(begun)
            begun += data[:at]
            if len(begun) < LENGTH.size:
                return len(data)
        (length,) = LENGTH.unpack_from(begun)
        if not 0 < length <= self._length_max:
            raise _bad_length(length)
        end: int = at + LENGTH.size + length - len(begun)
        begun += data[at:end]
        if end > len(data):
            return len(data)
        messages.append((begun[LENGTH.size], bytes(memoryview(begun)[HEAD_BYTES:])))
        self._begun = bytearray()
        return end


def _bad_length(length: int) -> DecodeError:
    return DecodeError("bad message length", str(length))
