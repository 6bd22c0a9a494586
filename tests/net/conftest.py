"""Loopback addresses that no other test process uses at the same time."""

import os
import socket
from collections.abc import Callable, Iterator

import pytest

from mcast.net.interfaces import choose_interface
from mcast.net.udp import UdpLink


def free_port() -> int:
    """A UDP port that was free a moment ago, with the one behind it."""
    for _ in range(100):
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as first:
            first.bind(("127.0.0.1", 0))
            port = int(first.getsockname()[1])
            with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as second:
                try:
                    second.bind(("127.0.0.1", port + 1))
                except OSError:
                    continue
        return port
    raise AssertionError("no two free ports side by side")


MakeLink = Callable[..., UdpLink]


@pytest.fixture
def make_link() -> Iterator[MakeLink]:
    """Links of one group on loopback; closed at the end."""
    group, port = f"239.77.{os.getpid() % 250}.{os.getpid() // 250 % 250}", free_port()
    made: list[UdpLink] = []

    def make(*, incarnation: bytes = b"", offload: bool = True, unicast_port: int | None = None) -> UdpLink:
        link = UdpLink(
            group=group, port=port, interface=choose_interface("127.0.0.1", group), host="127.0.0.1",
            unicast_port=unicast_port or free_port(), ignored_incarnation=incarnation, offload=offload,
        )  # fmt: skip
        made.append(link)
        return link

    yield make
    for link in made:
        link.close()
