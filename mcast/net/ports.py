"""Ports that nobody uses just now, for clusters that are made up on the spot.

They are below those that systems give to whoever asks for any port, and each process takes them in turn, from a place
of its own: whoever binds one a moment later, or again after a restart, finds it free, whatever other processes do.
"""

from __future__ import annotations

import contextlib
import os
import socket
from collections.abc import Iterator
from itertools import count, islice
from typing import Final

from mcast.errors import EnvironmentProblem

FIRST: Final = 10_000
MANY: Final = 22_000  # IANA's dynamic ports begin at 49152, Linux's at 32768
APART: Final = 89  # between the places at which a process and the next one begin

_turns: Final = count(os.getpid() * APART)


def free_ports(many: int) -> list[int]:
    """Ports that no TCP socket of this machine's loopback uses just now."""
    ports = list(islice((port for port in _in_turn() if _is_free(socket.SOCK_STREAM, port)), many))
    if len(ports) < many:
        raise EnvironmentProblem(f"no {many} free TCP ports", "end what holds this machine's ports")
    return ports


def free_port_pair() -> int:
    """A port that, like the one above it, no UDP socket uses just now: for stream and control."""
    for port in _in_turn():
        if _is_free(socket.SOCK_DGRAM, port, port + 1):
            next(_turns)
            return port
    raise EnvironmentProblem("no two free UDP ports side by side", "end what holds this machine's ports")


def _in_turn() -> Iterator[int]:
    """Each port once."""
    for _ in range(MANY):
        yield FIRST + next(_turns) % MANY


def _is_free(kind: socket.SocketKind, *ports: int) -> bool:
    with contextlib.suppress(OSError), contextlib.ExitStack() as stack:
        for port in ports:
            stack.enter_context(socket.socket(socket.AF_INET, kind)).bind(("127.0.0.1", port))
        return True
    return False
