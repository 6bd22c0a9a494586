"""What the kernel was told about each socket. Nothing is sent; IPv6 needs a route that only a namespace has."""

import json
import socket
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Final

import pytest

from mcast.net.interfaces import choose_interface
from mcast.net.sockets import open_group, open_sender, open_unicast

ROOT = Path(__file__).parents[2]
ROUTE = "ip link set lo up && ip -6 route add ff01::/16 dev lo"
PORT = 7_700
PROBE = 3  # of ip(7) and ipv6(7): DF is set, and what the kernel believes of the path holds nothing back
HOSTS: Final = {4: "127.0.0.1", 6: "::1"}
GROUPS: Final = {4: "239.77.1.9", 6: "ff01::7701"}
HOPS: Final = {4: (socket.IPPROTO_IP, socket.IP_MULTICAST_TTL), 6: (socket.IPPROTO_IPV6, socket.IPV6_MULTICAST_HOPS)}
DISCOVER: Final = {4: (socket.IPPROTO_IP, 10), 6: (socket.IPPROTO_IPV6, 23)}  # Linux's IP_MTU_DISCOVER, and IPv6's


def tell_options() -> None:
    """Print, for each IP version: hops on loopback and elsewhere, and what each kind of socket does with large ones."""
    reported = {}
    for version, group in GROUPS.items():
        lo = choose_interface(HOSTS[version], group)
        makers: dict[str, Callable[[], socket.socket]] = {
            "sender": partial(open_sender, group, PORT, lo),
            "group": partial(open_group, group, PORT, lo),
            "unicast": partial(open_unicast, HOSTS[version], PORT + 1),
        }
        hops = []
        for interface in (lo, replace(lo, loopback=False)):
            with open_sender(group, PORT, interface) as sock:
                hops.append(sock.getsockopt(*HOPS[version]))
        discover = {}
        for kind, make in makers.items():
            with make() as sock:
                discover[kind] = sock.getsockopt(*DISCOVER[version])
        reported[version] = (hops, discover)
    print(json.dumps(reported))


def test_multicast_stays_on_this_machine_or_this_lan_and_no_datagram_is_fragmented() -> None:
    if subprocess.run(["unshare", "-n", "sh", "-c", ROUTE], capture_output=True, check=False).returncode:
        pytest.skip("no network namespaces, or no IPv6, here")
    program = "from tests.net.test_sockets import tell_options; tell_options()"
    words = ["unshare", "-n", "sh", "-c", f'{ROUTE} && exec "$@"', "sh", sys.executable, "-c", program]
    done = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    discover = dict.fromkeys(("sender", "group", "unicast"), PROBE)
    assert json.loads(done.stdout) == {"4": [[0, 1], discover], "6": [[0, 1], discover]}
