"""The yardstick's own bare multicast sockets on loopback, with segmentation offload where the kernel has it."""

from __future__ import annotations

import socket
import struct
import sys
from collections.abc import Iterable
from contextlib import suppress
from typing import Final, NamedTuple

GROUP: Final = "239.77.7.9"
LOOPBACK: Final = "127.0.0.1"
UDP_SEGMENT: Final = 103
UDP_GRO: Final = 104
_RCVBUFFORCE: Final = 33
_RECEIVE_BYTES: Final = 16 << 20


class MeetingPlace(NamedTuple):
    """Where one measurement's processes meet: ports on loopback and a folder of its own."""

    group_port: int
    ack_port: int
    folder: str


def unused_port() -> int:
    """A UDP port of the group that nobody uses now, so that two measurements at a time do not hear each other."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.bind(("", 0))
        return int(sock.getsockname()[1])


def group_receiver(port: int, gro: bool = False) -> socket.socket:
    """A socket that hears the group on loopback; `gro` merges a burst's segments where the kernel can."""
    sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    if sys.platform == "linux":
        try:
            sock.setsockopt(socket.SOL_SOCKET, _RCVBUFFORCE, _RECEIVE_BYTES)
        except PermissionError:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _RECEIVE_BYTES)
        if gro:
            with suppress(OSError):  # a kernel without it hands over single datagrams
                sock.setsockopt(socket.IPPROTO_UDP, UDP_GRO, 1)
    sock.bind((GROUP, port))
    sock.setsockopt(socket.IPPROTO_IP, socket.IP_ADD_MEMBERSHIP, socket.inet_aton(GROUP) + socket.inet_aton(LOOPBACK))
    return sock


def group_sender(port: int) -> socket.socket:
    """A socket that sends to the group and never beyond this machine."""
    sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    sock.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_IF, socket.inet_aton(LOOPBACK))
    sock.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_TTL, 0)
    sock.connect((GROUP, port))
    return sock


class BurstSender:
    """Sends bursts of datagrams of `size` bytes each: one system call a burst where the kernel cuts it up."""

    def __init__(self, port: int, size: int) -> None:
        self.size = size
        self._sock = group_sender(port)
        self._whole = sys.platform == "linux"
        if self._whole:
            try:
                self._sock.setsockopt(socket.IPPROTO_UDP, UDP_SEGMENT, size)
            except OSError:
                self._whole = False

    def __enter__(self) -> BurstSender:
        return self

    def __exit__(self, kind: object, error: object, trace: object) -> None:
        self._sock.close()

    def send(self, datagrams: Iterable[bytes]) -> None:
        """Send them all, in order."""
        for data in [b"".join(datagrams)] if self._whole else datagrams:
            self._sock.send(data)


def segment_size(ancillary: Iterable[tuple[int, int, bytes]]) -> int:
    """The size of a received burst's segments, 0 if it is a single datagram."""
    for _, kind, data in ancillary:
        if kind == UDP_GRO:
            return int(struct.unpack("i", data[:4])[0])
    return 0
