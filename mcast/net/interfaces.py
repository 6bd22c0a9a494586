"""Which network interface the group is joined on: chosen by address, name, CIDR or "auto", never by accident.

With multicast there is no right interface to guess: a host with two cards, a bridge and a tunnel has four, and the
kernel's default is the default route's. So one is chosen here, refused with its reason if it cannot serve, and named
to the kernel by index in every later call. The only module that imports netifaces.
"""

from __future__ import annotations

import fcntl
import ipaddress
import socket
import struct
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import netifaces

from mcast.errors import ConfigError, NetworkMissing

IFF_UP: Final = 0x1
IFF_LOOPBACK: Final = 0x8
IFF_MULTICAST: Final = 0x1000
MTU_UNKNOWN: Final = 1_500  # bytes; where the system does not say, what every Ethernet carries
_IOCTLS: Final = {"flags": 0x8913, "mtu": 0x8921}
"""Linux's numbers. Not /sys/class/net: that may show another network namespace than this process is in."""


@dataclass(frozen=True, slots=True)
class Interface:
    """One network interface of this machine, as it is now."""

    name: str
    index: int
    addresses: tuple[str, ...]
    """IPv4 first, then IPv6 without scope."""
    up: bool
    multicast: bool
    loopback: bool
    mtu: int
    """Bytes of the largest IP packet it carries."""

    def address(self, version: int) -> str | None:
        """Its first address of this IP version, or None."""
        return next((text for text in self.addresses if ipaddress.ip_address(text).version == version), None)


def list_interfaces() -> tuple[Interface, ...]:
    """Every interface that has an IP address, in the system's order."""
    found = []
    for name in netifaces.interfaces():
        by_family = netifaces.ifaddresses(name)
        entries = [*by_family.get(netifaces.AF_INET, ()), *by_family.get(netifaces.AF_INET6, ())]
        addresses = tuple(entry["addr"].partition("%")[0] for entry in entries if "addr" in entry)
        if addresses:
            found.append(_describe(name, addresses))
    return tuple(found)


def choose_interface(
    spec: str, group: str, *, near: str | None = None, interfaces: Sequence[Interface] | None = None
) -> Interface:
    """The interface that `spec` (an address, a name, a CIDR or "auto") means for this multicast group.

    `near` is the node's own IP address. "auto" takes the interface that carries it, else the only one that could serve;
    an own address on loopback keeps to loopback. Of several that match, the one that carries it is meant.

    Raises:
        NetworkMissing: nothing here matches, has an address of the group's IP version, is up, or has multicast.
        ConfigError: several match, or loopback cannot deliver this group.
    """
    every = list_interfaces() if interfaces is None else tuple(interfaces)
    version = ipaddress.ip_address(group).version
    matching = _auto(every, version, near) if spec == "auto" else _match(every, spec)
    if not matching:
        what = f"interface = {spec!r}: no interface of this machine matches"
        raise NetworkMissing(what, f"use one of: {_list(every)}")
    if len(matching) > 1 and near is not None:
        matching = [each for each in matching if each in carrying(every, near)] or matching
    if len(matching) > 1:
        raise ConfigError("interface", spec, "several interfaces match", f"name one of: {_list(matching)}")
    chosen = matching[0]
    if chosen.address(version) is None:
        what = f"interface = {spec!r}: {chosen.name} has no IPv{version} address, which group {group} needs"
        serving = [interface for interface in every if interface.address(version)]
        other = f"no interface has an IPv{version} address: use an IPv{4 if version == 6 else 6} group"
        raise NetworkMissing(what, f"use one of: {_list(serving)}" if serving else other)
    if version == 6 and chosen.loopback and not group.lower().startswith("ff01:"):
        raise ConfigError("group", group, "loopback delivers interface-local IPv6 groups only", "use one of ff01::/16")
    if not chosen.up:
        raise NetworkMissing(f"interface {chosen.name} is down", f"run: ip link set {chosen.name} up")
    if not (chosen.multicast or chosen.loopback):  # lo carries no MULTICAST flag, yet a group joined there works
        remedy = f"run: ip link set {chosen.name} multicast on"
        raise NetworkMissing(f"interface {chosen.name} has no multicast", remedy)
    return chosen


def carrying(interfaces: Sequence[Interface], address: str) -> list[Interface]:
    """Those that have this IP address; loopback has all of 127.0.0.0/8, whatever it lists."""
    try:
        wanted = ipaddress.ip_address(address)
    except ValueError:
        return []
    found = [each for each in interfaces if any(ipaddress.ip_address(text) == wanted for text in each.addresses)]
    if not found and wanted.is_loopback:
        return [each for each in interfaces if each.loopback]
    return found


def _match(every: Sequence[Interface], spec: str) -> list[Interface]:
    by_name = [interface for interface in every if interface.name == spec]
    if by_name:
        return by_name
    try:
        network = ipaddress.ip_network(spec, strict=False)
    except ValueError:
        return []
    return [each for each in every if any(ipaddress.ip_address(text) in network for text in each.addresses)]


def _auto(every: Sequence[Interface], version: int, near: str | None) -> list[Interface]:
    if near is not None:
        own = carrying(every, near)
        if own:
            return own
    usable = [each for each in every if each.up and not each.loopback and each.multicast and each.address(version)]
    return usable or [each for each in every if each.loopback and each.address(version)]


def _list(interfaces: Sequence[Interface]) -> str:
    return ", ".join(f"{each.name} ({' '.join(each.addresses)})" for each in interfaces) or "none"


def _describe(name: str, addresses: tuple[str, ...]) -> Interface:
    flags, mtu = _number(name, "flags"), _number(name, "mtu")
    looped = any(ipaddress.ip_address(text).is_loopback for text in addresses)
    if flags is None:
        flags = IFF_UP | IFF_MULTICAST | (IFF_LOOPBACK if looped else 0)
    return Interface(
        name=name,
        index=socket.if_nametoindex(name),
        addresses=addresses,
        up=bool(flags & IFF_UP),
        multicast=bool(flags & IFF_MULTICAST),
        loopback=bool(flags & IFF_LOOPBACK),
        mtu=mtu or MTU_UNKNOWN,
    )


def _number(name: str, what: str) -> int | None:
    """A number that the kernel gives for an interface; None where it gives none (off Linux)."""
    request = struct.pack("16s24x", name.encode()[:15])
    try:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as asking:
            answer = fcntl.ioctl(asking, _IOCTLS[what], request)
    except OSError:
        return None
    return int(struct.unpack_from("=i" if what == "mtu" else "=H", answer, 16)[0])
