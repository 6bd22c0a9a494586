"""Which address and interface a node takes, or what it lacks."""

from __future__ import annotations

import socket
from pathlib import Path
from typing import Any

import pytest

from mcast.config import Config, NodeConfig
from mcast.errors import ConfigError, NetworkMissing
from mcast.net.interfaces import Interface
from mcast.node.place import find_place, infer_id

NAMES = {"alpha": ["10.77.0.11"], "beta": ["10.77.0.12"], "debian": ["127.0.1.1"], "both": ["127.0.1.1", "10.77.0.11"],
         "localhost": ["127.0.0.1"]}  # fmt: skip


@pytest.fixture(autouse=True)
def resolver(monkeypatch: pytest.MonkeyPatch) -> None:
    real = socket.getaddrinfo

    def resolved(host: str, port: int, **options: Any) -> list[Any]:
        if host in NAMES:
            return [entry for address in NAMES[host] for entry in real(address, port, **options)]
        if host[0].isalpha() and ":" not in host:
            raise socket.gaierror(socket.EAI_AGAIN, "Temporary failure in name resolution")
        return real(host, port, **options)

    monkeypatch.setattr(socket, "getaddrinfo", resolved)


def interface(name: str, *addresses: str) -> Interface:
    return Interface(
        name=name, index=1, addresses=addresses, up=True, multicast=name != "lo", loopback=name == "lo", mtu=1500
    )


LO = interface("lo", "127.0.0.1", "::1")
LAN, OTHER = interface("eth0", "192.168.1.5"), interface("eth1", "10.77.0.11")


def config(*hosts: str, spec: str = "auto") -> Config:
    nodes = tuple(NodeConfig(id=f"n{index}", address=f"{host}:7711") for index, host in enumerate(hosts, 1))
    return Config(name="lab", nodes=nodes, folder=Path("/"), data_dir=Path("/data"), interface=spec)


def place(settings: Config, *interfaces: Interface) -> tuple[str, str]:
    found = find_place(settings, settings.nodes[0], interfaces)
    assert settings.group in found.describe(settings, settings.nodes[0])
    return found.host, found.interface.name


def test_a_name_is_resolved_first_and_of_two_cards_the_one_with_the_own_address_is_taken() -> None:
    assert place(config("alpha", "beta"), LO, LAN, OTHER) == ("10.77.0.11", "eth1")
    assert place(config("10.77.0.11", "beta"), LO, LAN, OTHER) == ("10.77.0.11", "eth1")
    assert place(config("both", "beta"), LO, LAN, OTHER) == ("10.77.0.11", "eth1")


@pytest.mark.parametrize("host", ["localhost", "127.0.0.1", "127.0.0.5", "debian"])
def test_an_own_address_on_loopback_keeps_to_loopback(host: str) -> None:
    settings = config(host, host)
    assert place(settings, LAN, LO)[1] == "lo"
    reported = find_place(settings, settings.nodes[0], [LAN, LO]).describe(settings, settings.nodes[0])
    assert "stays on this machine" in reported
    with pytest.raises(ConfigError, match="on loopback, where eth0 leads nowhere"):
        find_place(config(host, host, spec="eth0"), settings.nodes[0], [LO, LAN])


def test_the_line_that_debian_writes_is_told_with_the_fix() -> None:
    with pytest.raises(NetworkMissing, match=r"debian means 127.0.1.1.*/etc/hosts") as caught:
        place(config("debian", "beta"), LO, OTHER)
    assert "network card" in caught.value.remedy


@pytest.mark.parametrize(
    ("host", "says"),
    [("gamma", "cannot be resolved"), ("beta", "no address 10.77.0.12, which beta means"), ("10.0.0.1", "no address")],
)
def test_what_is_not_there_is_named(host: str, says: str) -> None:
    with pytest.raises(NetworkMissing, match=says):
        place(config(host, "alpha"), LO, OTHER)


def test_the_id_is_inferred_from_a_local_address() -> None:
    assert infer_id(config("10.77.0.11", "10.77.0.12", "[fe80::1]"), {"127.0.0.1", "10.77.0.12"}) == "n2"
    assert infer_id(config("10.77.0.11", "[::1]"), {"::1"}) == "n2"
    assert infer_id(config("10.77.0.11", "127.0.0.1"), {"127.0.0.1", "::1"}) == "n2"
    assert infer_id(config("alpha", "beta"), {"10.77.0.12"}) == "n2"
    assert infer_id(config("alpha", "debian"), {"127.0.0.1"}) == "n2", "whose place is then found wanting"
    assert infer_id(config("gamma", "beta"), {"10.77.0.12"}) == "n2"


def test_it_is_asked_for_where_it_is_not_plain() -> None:
    with pytest.raises(ConfigError, match="n1, n2 all have"):
        infer_id(config("10.77.0.11", "10.77.0.12"), {"10.77.0.11", "10.77.0.12"})
    with pytest.raises(NetworkMissing, match=r"no node has an address .*; the names of gamma cannot be resolved"):
        infer_id(config("10.77.0.11", "gamma"), {"10.77.0.13"})
