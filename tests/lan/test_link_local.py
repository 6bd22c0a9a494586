"""A cluster on link-local IPv6 addresses, of which two cards of its machine have the same: real processes.

As root on Linux, in a network namespace of its own.
"""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from mcast.config import Config, NodeConfig
from mcast.errors import ConfigError
from mcast.lab.lan import lan_problem, own_namespace, run_command
from mcast.lab.processes import Processes
from mcast.node.place import find_place

ROOT = Path(__file__).parents[2]
CARDS = ("card0", "card1")

pytestmark = pytest.mark.timeout(90)


async def story() -> None:
    """Both ends of a veth pair have fe80::1 to fe80::3; the nodes are at those of the second."""
    await run_command(f"ip link add {CARDS[0]} type veth peer name {CARDS[1]}")
    await run_command("ip link set lo up")
    for card in CARDS:
        await run_command(f"ip link set {card} addrgenmode none up")
        for number in (1, 2, 3):
            await run_command(f"ip addr add fe80::{number}/64 dev {card} nodad")
    for card in CARDS:
        settings = placed(f"[fe80::1%{card}]:7711")
        found = find_place(settings, settings.nodes[0])
        assert (found.host, found.interface.name) == (f"fe80::1%{card}", card)
    with pytest.raises(ConfigError, match=r"write \[fe80::1%card"):
        find_place(placed("[fe80::1]:7711"), placed("[fe80::1]:7711").nodes[0])
    hosts = [f"[fe80::{number}%{CARDS[1]}]" for number in (1, 2, 3)]
    async with Processes(hosts=hosts, interface="auto", ipv6=True, sealed=True) as processes:
        for node in processes.ids:
            async with processes.connect(node, strict=True) as client:
                await client.submit("incr", "n")
        status = await processes.wait_until_settled()
        assert status["findings"] == []


def placed(address: str) -> Config:
    """The config of one node at this address."""
    nodes = (NodeConfig(id="n1", address=address),)
    return Config(
        name="lab", nodes=nodes, folder=Path("/"), data_dir=Path("/data"), group="ff02::77:1", interface="auto"
    )


def test_nodes_are_where_their_link_local_addresses_say() -> None:
    if (problem := lan_problem()) is not None:
        pytest.skip(f"no network namespaces here: {problem}")
    program = "import asyncio; from tests.lan.test_link_local import story; asyncio.run(story())"
    done = subprocess.run(
        own_namespace(["-c", program]), cwd=ROOT, capture_output=True, text=True, timeout=80, check=False
    )
    assert done.returncode == 0, done.stderr
