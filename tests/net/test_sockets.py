"""What the kernel was told about each socket; nothing is sent here."""

import socket
import sys
from dataclasses import replace

import pytest

from mcast.net.interfaces import Interface, choose_interface
from mcast.net.sockets import open_group, open_sender, open_unicast

from .conftest import free_port

MTU_DISCOVER = {4: (socket.IPPROTO_IP, 10), 6: (socket.IPPROTO_IPV6, 23)}  # Linux: ip(7), ipv6(7)
PROBE = 3  # DF is set, and what the kernel believes of the path holds nothing back
GROUPS = {4: "239.77.1.9", 6: "ff01::7701"}


def loopback(version: int) -> Interface:
    return choose_interface("127.0.0.1" if version == 4 else "::1", GROUPS[version])


@pytest.mark.parametrize("version", [4, 6])
@pytest.mark.parametrize(("on_loopback", "hops"), [(True, 0), (False, 1)])
def test_multicast_stays_on_this_machine_or_on_this_lan(version: int, on_loopback: bool, hops: int) -> None:
    interface = replace(loopback(version), loopback=on_loopback)
    with open_sender(GROUPS[version], 7_700, interface) as sock:
        level, option = (
            (socket.IPPROTO_IP, socket.IP_MULTICAST_TTL) if version == 4
            else (socket.IPPROTO_IPV6, socket.IPV6_MULTICAST_HOPS)
        )  # fmt: skip
        assert sock.getsockopt(level, option) == hops


@pytest.mark.skipif(sys.platform != "linux", reason="the options are Linux's")
@pytest.mark.parametrize("version", [4, 6])
@pytest.mark.parametrize("kind", ["sender", "group", "unicast"])
def test_no_datagram_is_ever_fragmented_on_its_way(version: int, kind: str) -> None:
    interface, group = loopback(version), GROUPS[version]
    if kind == "sender":
        opened = open_sender(group, 7_700, interface)
    elif kind == "group":
        opened = open_group(group, free_port(), interface)
    else:
        opened = open_unicast("127.0.0.1" if version == 4 else "::1", free_port())
    with opened as sock:
        assert sock.getsockopt(*MTU_DISCOVER[version]) == PROBE
