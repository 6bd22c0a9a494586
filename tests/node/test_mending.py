"""When a node looks for its place in the network again, and what it does with what it finds."""

from __future__ import annotations

import asyncio
import errno
from types import SimpleNamespace
from typing import Any

import pytest

from mcast.errors import EnvironmentProblem, NetworkMissing
from mcast.net.interfaces import Interface, list_interfaces
from mcast.net.udp import UdpLink
from mcast.node import mending
from mcast.node.mending import Mending
from mcast.node.place import Place
from mcast.wire.envelope import name_hash

LOOPBACK = next(interface for interface in list_interfaces() if interface.loopback)


class Link(UdpLink):
    """Counts how often its groups are joined."""

    def __init__(self) -> None:
        self.counters = SimpleNamespace(sends_lost={})  # type: ignore[assignment]
        self.interface, self.host = LOOPBACK, "127.0.0.1"
        self.joined: list[tuple[int, str]] = []
        self.fails = False

    def rejoin(self, interface: Interface, host: str) -> None:
        if self.fails:
            raise EnvironmentProblem("no room", "make some")
        self.interface, self.host = interface, host
        self.joined.append((interface.index, host))


class Lab:
    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.place: Place | Exception = Place("127.0.0.1", LOOPBACK, "so it is")
        self.link = Link()
        self.moved: list[str] = []
        self.addresses = {"two.lab": ("127.0.0.2", 7712)}
        nodes = [
            SimpleNamespace(id="n1", host="127.0.0.1", port=7711),
            SimpleNamespace(id="n2", host="two.lab", port=7712),
        ]
        config = SimpleNamespace(nodes=nodes, mtu=1500, group="239.1.2.3", port=7700)
        transport = SimpleNamespace(link=self.link, peers={name_hash("n2"): ("127.0.0.2", 7712)})
        shell: Any = SimpleNamespace(
            node_id="n1", node=nodes[0], config=config, transport=transport, stopped=asyncio.Event(),
            on_moved=self.moved.append,
        )  # fmt: skip
        self.shell = shell
        self.mending = Mending(shell)
        monkeypatch.setattr(mending, "find_place", lambda config, node: self._find())
        monkeypatch.setattr(mending, "look_up", self._look_up)
        monkeypatch.setattr(mending, "EVERY_S", 0.0)

    async def look(self, *, deaf: bool = False, unreached: bool = False) -> dict[str, str]:
        self.mending.look(deaf=deaf, unreached=unreached)
        if self.mending._task is not None:
            await self.mending._task
            await asyncio.sleep(0)
        return self.mending.findings()

    async def _look_up(
        self, hosts: dict[int, tuple[str, int]], timeout_s: float
    ) -> tuple[dict[int, tuple[str, int]], dict[int, str]]:
        known = {node: self.addresses[host] for node, (host, _) in hosts.items() if host in self.addresses}
        return known, {node: f"{host}: nobody knows" for node, (host, _) in hosts.items() if node not in known}

    def _find(self) -> Place:
        if isinstance(self.place, Exception):
            raise self.place
        return self.place


@pytest.fixture
async def lab(monkeypatch: pytest.MonkeyPatch) -> Lab:
    return Lab(monkeypatch)


async def test_a_node_in_its_place_is_left_alone(lab: Lab) -> None:
    lab.place = RuntimeError("not to be looked at")
    assert await lab.look() == {}


async def test_a_deaf_node_joins_its_groups_again_but_not_all_the_time(lab: Lab) -> None:
    for _ in range(5):
        assert await lab.look(deaf=True) == {}
    assert lab.link.joined == [(LOOPBACK.index, "127.0.0.1")] and lab.moved == []


async def test_an_interface_of_another_index_is_joined_at_once(lab: Lab) -> None:
    lab.link.interface = Interface("lo", 99, ("127.0.0.1",), True, False, True, 65536)
    await lab.look()
    assert lab.link.joined == [(LOOPBACK.index, "127.0.0.1")] and lab.moved == []


async def test_another_own_address_is_used_and_told(lab: Lab) -> None:
    lab.link.host = "192.0.2.77"
    await lab.look()
    assert lab.link.joined == [(LOOPBACK.index, "127.0.0.1")] and lab.moved == ["127.0.0.1"]


async def test_sends_that_the_system_refuses_are_looked_into(lab: Lab) -> None:
    lab.link.counters.sends_lost["EMSGSIZE"] = 3
    lab.place = Place("127.0.0.1", Interface("lo", LOOPBACK.index, ("127.0.0.1",), True, False, True, 1300), "")
    found = await lab.look()
    assert "set mtu = 1300 in [cluster] for all nodes" in found["its card is too narrow"]
    lab.place = Place("127.0.0.1", LOOPBACK, "")
    assert await lab.look() == {}, "it is looked at until it has passed"


async def test_what_is_missing_is_told_until_it_is_there(lab: Lab) -> None:
    lab.place = NetworkMissing("this machine has no address 10.0.0.1", "bring it up")
    assert "no address 10.0.0.1" in (await lab.look(deaf=True))["its network is not as it was"]
    lab.place = Place("127.0.0.1", LOOPBACK, "")
    lab.link.fails = True
    assert "no room" in (await lab.look(deaf=True))["its network is not as it was"]
    lab.link.fails = False
    lab.place = OSError(errno.EMFILE, "Too many open files")
    assert "cannot be looked at: Too many open files" in (await lab.look())["its network is not as it was"]
    lab.place = Place("127.0.0.1", LOOPBACK, "")
    assert await lab.look() == {}


async def test_peers_names_are_looked_up_while_some_do_not_answer(lab: Lab) -> None:
    lab.addresses["two.lab"] = ("127.0.0.9", 7712)
    await lab.look()
    assert lab.shell.transport.peers == {name_hash("n2"): ("127.0.0.2", 7712)}
    await lab.look(unreached=True)
    assert lab.shell.transport.peers == {name_hash("n2"): ("127.0.0.9", 7712)} and lab.moved == ["127.0.0.1"]


async def test_a_name_that_nobody_knows_is_told_and_looked_up_until_it_is_known(lab: Lab) -> None:
    lab.shell.transport.peers = {}
    lab.mending.on_unknown_names({name_hash("n2"): "two.lab:7712: nobody knows"})
    two = lab.addresses.pop("two.lab")
    for _ in range(2):
        words = (await lab.look())["the name of n2 is unknown"]
        assert "two.lab: nobody knows; write its IP address" in words and lab.moved == []
    lab.addresses["two.lab"] = two
    assert await lab.look() == {}
    assert lab.shell.transport.peers == {name_hash("n2"): two} and lab.moved == ["127.0.0.1"]
    lab.addresses.clear()
    assert "the name of n2 is unknown" in await lab.look(unreached=True)
    assert lab.shell.transport.peers == {name_hash("n2"): two}, "as it was"
