"""As much HTTP/2 and gRPC as one client needs that calls one server: a call is two frames, an answer three.

Spoken by hand, because Python's gRPC costs more for a call than the server does.
"""

from __future__ import annotations

import socket
import struct
from collections.abc import Iterator
from typing import Final

from mcast.bench.job import BrokenRun
from tools.other_systems.peer import SILENCE_S

PREFACE: Final = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
DATA, HEADERS, RESET, SETTINGS, PING, GO_AWAY, WINDOW_UPDATE = 0, 1, 3, 4, 6, 7, 8
END_STREAM: Final = 1
ACK: Final = 1
END_HEADERS: Final = 4
HEAD_BYTES: Final = 9
WINDOW_START: Final = 65_535  # bytes a side may send before it is granted more
WINDOW: Final = 1 << 30  # bytes that we grant, and grant again once half are used
_INITIAL_WINDOW: Final = 4
_ENABLE_PUSH: Final = 2


def frame(kind: int, flags: int, stream: int, payload: bytes) -> bytes:
    """A frame as the wire has it."""
    return struct.pack("!I", len(payload) << 8 | kind)[:4] + bytes([flags]) + struct.pack("!I", stream) + payload


def frames(data: bytes) -> Iterator[tuple[int, int, int, bytes, int]]:
    """Kind, flags, stream and payload of each whole frame in `data`, and where it ends."""
    at = 0
    while len(data) - at >= HEAD_BYTES:
        end = at + HEAD_BYTES + int.from_bytes(data[at : at + 3], "big")
        if end > len(data):
            return
        stream = int.from_bytes(data[at + 5 : at + 9], "big") & 0x7FFF_FFFF
        yield data[at + 3], data[at + 4], stream, data[at + HEAD_BYTES : end], end
        at = end


def header_block(path: str) -> bytes:
    """The headers of a gRPC call, in HPACK without any memory: the same bytes for every call of this path."""

    def text(value: bytes) -> bytes:
        return bytes([len(value)]) + value  # shorter than 127, not Huffman-coded

    return b"".join([
        b"\x83\x86",  # :method POST, :scheme http
        b"\x04" + text(path.encode()),
        b"\x01" + text(b"127.0.0.1"),
        b"\x0f\x10" + text(b"application/grpc"),  # content-type, the table's 31st name
        b"\x00" + text(b"te") + text(b"trailers"),
    ])  # fmt: skip


class Http2:
    """A connection that calls. Raises BrokenRun where the server refuses, and on silence OSError."""

    def __init__(self, host: str, port: int, timeout_s: float = SILENCE_S) -> None:
        self._socket = socket.create_connection((host, port), timeout_s)
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        settings = struct.pack("!HIHI", _ENABLE_PUSH, 0, _INITIAL_WINDOW, WINDOW)
        grant = frame(WINDOW_UPDATE, 0, 0, struct.pack("!I", WINDOW))
        self._socket.sendall(PREFACE + frame(SETTINGS, 0, 0, settings) + grant)
        self._rest = b""
        self._stream = -1
        self._room = WINDOW_START
        self._taken = 0
        self._parts: dict[int, bytes] = {}

    def fits(self, size: int) -> bool:
        """Whether the server has room for a message of `size` bytes now."""
        return self._room >= size + 5

    def call(self, headers: bytes, message: bytes) -> bytes:
        """The bytes of one call, to be sent with `write`; they count against the server's room from now on."""
        self._stream += 2
        self._room -= len(message) + 5
        body = b"\0" + struct.pack("!I", len(message)) + message
        return frame(HEADERS, END_HEADERS, self._stream, headers) + frame(DATA, END_STREAM, self._stream, body)

    def write(self, data: bytes) -> None:
        """Send all of it."""
        self._socket.sendall(data)

    def close(self) -> None:
        """Close the connection."""
        self._socket.close()

    def read(self) -> list[bytes]:
        """The answers that came with the next bytes, in the order they came."""
        if not (data := self._socket.recv(1 << 18)):
            raise BrokenRun("the server closed the connection")
        data = self._rest + data
        answers: list[bytes] = []
        end = 0
        for kind, flags, stream, payload, end in frames(data):  # noqa: B007 - where the last whole one ends
            if kind == DATA:
                answers += self._messages(stream, payload)
            elif kind == HEADERS and flags & END_STREAM:
                if stream not in self._parts:
                    raise BrokenRun("the server refused a call")
                del self._parts[stream]
            else:
                self._control(kind, flags, stream, payload)
        self._rest = data[end:]
        return answers

    def _messages(self, stream: int, payload: bytes) -> Iterator[bytes]:
        self._taken += len(payload)
        if self._taken >= WINDOW // 2:
            grant = struct.pack("!I", self._taken)
            self.write(frame(WINDOW_UPDATE, 0, 0, grant) + frame(WINDOW_UPDATE, 0, stream, grant))
            self._taken = 0
        held = self._parts.get(stream, b"") + payload
        at = 0
        while len(held) - at >= 5 and len(held) - at - 5 >= (size := int.from_bytes(held[at + 1 : at + 5], "big")):
            yield held[at + 5 : at + 5 + size]
            at += 5 + size
        self._parts[stream] = held[at:]

    def _control(self, kind: int, flags: int, stream: int, payload: bytes) -> None:
        if kind == WINDOW_UPDATE and stream == 0:
            self._room += int.from_bytes(payload, "big")
        elif kind == SETTINGS and not flags & ACK:
            self.write(frame(SETTINGS, ACK, 0, b""))
        elif kind == PING and not flags & ACK:
            self.write(frame(PING, ACK, 0, payload))
        elif kind in (RESET, GO_AWAY):
            raise BrokenRun(f"the server ended the call: {payload[-80:]!r}")
