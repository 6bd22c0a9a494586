"""What a cluster file says, checked: the values every node and client works with."""

from __future__ import annotations

import ipaddress
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal

from mcast import limits
from mcast.errors import ConfigError

DEFAULT_MACHINE: Final = "mcast.machine.kv:KeyValue"
NOT_SYNCED: Final = 'sync = "os" survives kill -9, not power loss'

ConfiguredRole = Literal["member", "observer"]
Sync = Literal["always", "os"]
Profile = Literal["default", "fast"]


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeConfig:
    """One `[[node]]`. `address` is "host:port" (IPv6 in brackets): TCP for clients and peers, UDP unicast."""

    id: str
    address: str
    role: ConfiguredRole = "member"
    interface: str | None = None
    """Overrides the cluster's."""

    @property
    def host(self) -> str:
        """The address without its port and brackets."""
        return split_address(self.address)[0]

    @property
    def port(self) -> int:
        """The address's port."""
        return split_address(self.address)[1]


class Profiled:
    """What has a `profile`: the times that this stands for."""

    __slots__ = ()
    profile: Profile

    @property
    def heartbeat_max_s(self) -> float:
        """Longest silence of a sequencer, in seconds."""
        return limits.HEARTBEAT_FAST_S if self.profile == "fast" else limits.HEARTBEAT_MAX_S

    @property
    def election_timeout_s(self) -> tuple[float, float]:
        """Range of the silence after which a member calls a pre-vote, in seconds."""
        return limits.ELECTION_TIMEOUT_FAST_S if self.profile == "fast" else limits.ELECTION_TIMEOUT_S


@dataclass(frozen=True, slots=True, kw_only=True)
class Config(Profiled):
    """A checked cluster file. Paths are absolute; `folder` is the file's own, first on `sys.path` for `machine`."""

    name: str
    nodes: tuple[NodeConfig, ...]
    folder: Path
    data_dir: Path
    group: str = "239.77.7.1"
    port: int = 7700
    """The stream's; control is on `port` + 1."""
    interface: str = "127.0.0.1"
    machine: str = DEFAULT_MACHINE
    sync: Sync = "always"
    key_file: Path | None = None
    mtu: int = 1500
    profile: Profile = "default"
    allow_faults: bool = False
    allow_mixed: bool = False
    """Go on beside nodes that run another machine, Python or format."""
    command_values_max: int = limits.COMMAND_VALUES_MAX
    """Values of one command, with those inside others, that this node takes from clients."""

    @property
    def members(self) -> tuple[NodeConfig, ...]:
        """The nodes that vote, in the file's order; the first one founds the cluster."""
        return tuple(node for node in self.nodes if node.role == "member")

    def node(self, node_id: str) -> NodeConfig:
        """The node of this id. Raises ConfigError for an unknown one."""
        for node in self.nodes:
            if node.id == node_id:
                return node
        known = ", ".join(node.id for node in self.nodes)
        raise ConfigError("node id", node_id, "no such node in the config", f"use one of: {known}")

    def interface_of(self, node_id: str) -> str:
        """The interface this node multicasts on, as written: address, name, CIDR or "auto"."""
        return self.node(node_id).interface or self.interface


_HOST: Final = re.compile(r"[A-Za-z0-9_]([A-Za-z0-9_.-]{0,252}[A-Za-z0-9])?")


def split_address(address: str) -> tuple[str, int]:
    """("host", port) of "host:port" or "[host]:port".

    Raises:
        ValueError: anything else, or a port outside 1 to 65535.
    """
    host, colon, digits = address.rpartition(":")
    if not colon or not digits.isascii() or not digits.isdigit() or len(digits) > 5:
        raise ValueError("no port at the end")
    port = int(digits)
    if not 1 <= port <= 65_535:
        raise ValueError("port outside 1 to 65535")
    if host.startswith("[") and host.endswith("]"):
        return str(ipaddress.IPv6Address(host[1:-1])), port
    if ":" in host:
        raise ValueError("an IPv6 host needs brackets")
    if re.fullmatch(r"[0-9.]+", host):
        return str(ipaddress.IPv4Address(host)), port
    if not _HOST.fullmatch(host):
        raise ValueError("not a host name or address")
    return host, port
