"""Ports that nobody uses just now, for clusters that are made up on the spot."""

from __future__ import annotations

import contextlib
import socket

from mcast.errors import EnvironmentProblem


def free_ports(count: int) -> list[int]:
    """Ports that no TCP socket of this machine's loopback uses just now."""
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for listener in sockets:
            listener.bind(("127.0.0.1", 0))
        return [listener.getsockname()[1] for listener in sockets]


def free_port_pair() -> int:
    """A port that, like the one above it, no UDP socket uses just now: for stream and control."""
    for _ in range(64):
        with contextlib.suppress(OSError), contextlib.ExitStack() as stack:
            one, two = (stack.enter_context(socket.socket(socket.AF_INET, socket.SOCK_DGRAM)) for _ in range(2))
            one.bind(("127.0.0.1", 0))
            port = int(one.getsockname()[1])
            two.bind(("127.0.0.1", port + 1))
            return port
    raise EnvironmentProblem("no two free UDP ports side by side", "end what holds this machine's ports")
