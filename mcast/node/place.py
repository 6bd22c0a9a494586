"""Where a node stands in its network: the own address, and the interface for the group; found once both are there.

At boot a node may be older than its network: no address yet, no interface, no resolver. NetworkMissing says what of it
is missing, so that whoever waits can say for what.
"""

from __future__ import annotations

import asyncio
import ipaddress
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Final, NamedTuple

from mcast.config import Config, NodeConfig
from mcast.errors import ConfigError, NetworkMissing
from mcast.net.interfaces import Interface, carrying, choose_interface, list_interfaces
from mcast.net.link import PeerAddress
from mcast.net.names import look_up
from mcast.net.sockets import is_address, resolve

NAMES_S: Final = 5.0  # for one look at all names: what takes longer is taken for unknown
_LOCALHOST: Final = ("localhost", "ip6-localhost", "ip6-loopback")


@dataclass(frozen=True, slots=True)
class Place:
    """`host` is the own address as the machine has it: an IP address, whatever the config calls it.

    A link-local one with its interface: fe80::1%eth0.
    """

    host: str
    interface: Interface
    why: str
    """In words: why these two."""

    def describe(self, config: Config, node: NodeConfig) -> str:
        """In one line: what is used, and why."""
        version = ipaddress.ip_address(config.group).version
        card = f"{self.interface.name} ({self.interface.address(version)})"
        where = f"[{self.host}]" if ":" in self.host else self.host
        only = "; all of that stays on this machine" if self.interface.loopback else ""
        return (
            f"multicasts to {config.group}, ports {config.port} and {config.port + 1}, on {card}; takes TCP and UDP on "
            f"{where}:{node.port}: {self.why}{only}"
        )


class FoundNode(NamedTuple):
    """Which node of the config this is, and where it stands."""

    node_id: str
    place: Place


def find_place(config: Config, node: NodeConfig, interfaces: Sequence[Interface] | None = None) -> Place:
    """The place of this node on this machine.

    Raises:
        NetworkMissing: something is not there, and may come. ConfigError: what is there does not fit together.
    """
    every = list_interfaces() if interfaces is None else interfaces
    host, scope = _unscoped(resolve(node.host, node.port))
    own = ipaddress.ip_address(host)
    named = not is_address(node.host)
    means = f"{node.host} means {host}" if named else host
    if own.is_loopback and named and _others_elsewhere(config, node):
        raise NetworkMissing(
            f"on this machine {means}, where no other machine reaches it: Debian writes such a line into /etc/hosts",
            f"put the address of its network card before {node.host} in that line, or write it into the config",
        )
    carriers = [each for each in carrying(every, host) if scope in (0, each.index)]
    if not carriers and not own.is_unspecified:
        what = f"this machine has no address {host}" + (f", which {node.host} means" if named else "")
        remedy = f"run {node.id} on its own machine, or correct its address; this one has: "
        raise NetworkMissing(what, remedy + (", ".join(_addresses(every)) or "none yet"))
    if own.version == 6 and own.is_link_local and not scope:
        names = ", ".join(each.name for each in carriers)
        problem = "a link-local address means nothing without the interface that it is on"
        raise ConfigError(
            "address", node.address, problem, f"write [{host}%{carriers[0].name}], or another of: {names}"
        )
    spec = config.interface_of(node.id)
    elsewhere = [each for each in carrying(every, host) if each not in carriers]  # other cards' own fe80::1, say
    chosen = choose_interface(
        spec, config.group, near=host, interfaces=[each for each in every if each not in elsewhere or each.name == spec]
    )
    if own.is_loopback and not chosen.loopback:
        problem = f"{node.id}'s own address {means} is on loopback, where {chosen.name} leads nowhere"
        fix = f'set interface = "auto" to keep to loopback, or give {node.id} an address of {chosen.name}'
        raise ConfigError("interface", spec, problem, fix)
    of_config = f'interface = "{spec}"' if spec != "auto" else f"{chosen.name} carries the own address"
    return Place(
        f"{host}%{carriers[0].name}" if scope else host, chosen, of_config + (f", and {means}" if named else "")
    )


def infer_id(config: Config, addresses: Collection[str]) -> str:
    """The one node whose host is among these addresses of this machine.

    Not to be called where a loop runs. A host name that means loopback is taken for this machine's, too.

    Raises:
        NetworkMissing: none is. ConfigError: several are.
    """
    known, _ = asyncio.run(look_up({node.id: (node.host, node.port) for node in config.nodes}, NAMES_S))
    unknown = [node.host for node in config.nodes if node.id not in known]
    found = []
    for node in config.nodes:
        if node.id not in known:
            continue
        host = known[node.id][0].partition("%")[0]
        here = ipaddress.ip_address(host).is_loopback and not is_address(node.host)
        if host in addresses or here:
            found.append(node.id)
    if len(found) == 1:
        return found[0]
    if found:
        raise ConfigError(
            "--id",
            None,
            f"{', '.join(found)} all have an address of this machine",
            "name one with --id, or id= in a program",
        )
    hosts = ", ".join(f"{node.id} at {node.host}" for node in config.nodes)
    unknown_too = f"; the names of {', '.join(unknown)} cannot be resolved" if unknown else ""
    raise NetworkMissing(
        f"no node has an address of this machine ({hosts}){unknown_too}", "run it on one of those hosts, or give --id"
    )


def look(config: Config, node_id: str | None) -> FoundNode:
    """Which node of the config this is, where `node_id` is None, and its place, as things are now.

    Not to be called where a loop runs; may keep its thread for as long as a resolver takes.

    Raises:
        NetworkMissing: it is not there, and may come. ConfigError: it does not fit together.
    """
    if node_id is None:
        node_id = infer_id(config, {address for interface in list_interfaces() for address in interface.addresses})
    return FoundNode(node_id, find_place(config, config.node(node_id)))


def _unscoped(peer: PeerAddress) -> tuple[str, int]:
    """An IP address, and the index of the interface that it is on where that belongs to it, else 0."""
    return peer[0].partition("%")[0], peer[3] if len(peer) == 4 else 0


def _others_elsewhere(config: Config, node: NodeConfig) -> bool:
    """Whether the config has nodes that are not on this node's machine, and its name is not loopback's own."""
    if node.host.lower().rstrip(".") in _LOCALHOST:
        return False
    return any(other.host != node.host and not _is_loopback(other.host) for other in config.nodes)


def _is_loopback(host: str) -> bool:
    if is_address(host):
        return ipaddress.ip_address(host).is_loopback
    return host.lower().rstrip(".") in _LOCALHOST


def _addresses(interfaces: Sequence[Interface]) -> list[str]:
    return [address for interface in interfaces for address in interface.addresses]
