"""Reading a cluster file: accepts exactly what the whole fabric can run with.

Anything else is one ConfigError that names the field, the value and the fix, so that a typo is found here and not by a
node that behaves oddly.
"""

from __future__ import annotations

import ipaddress
import os.path
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Final

import msgspec

from mcast import limits
from mcast.config.capacity import mtu_needed
from mcast.config.model import DEFAULT_MACHINE, Config, ConfiguredRole, NodeConfig, Profile, Sync, split_address
from mcast.config.toml import PLAIN_NAME, convert_untrusted, item_field, parse_toml_untrusted, short
from mcast.errors import ConfigError
from mcast.wire.envelope import name_hash


class _ClusterTable(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    name: str
    group: str
    port: int
    interface: str = "auto"
    machine: str = DEFAULT_MACHINE
    data_dir: str = "./data"
    sync: Sync = "always"
    key_file: str | None = None
    mtu: int = 1500
    profile: Profile = "default"
    allow_faults: bool = False
    allow_mixed: bool = False
    command_values_max: int = limits.COMMAND_VALUES_MAX


class _NodeTable(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    id: str
    address: str
    role: ConfiguredRole = "member"
    interface: str | None = None


class _File(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    cluster: _ClusterTable
    node: list[_NodeTable]


_FIXES: Final = {
    "cluster": "begin the file with a [cluster] table; `mcast init` writes a whole one",
    "node": "add a [[node]] table with id and address for each node; `mcast init` shows how",
    "cluster.name": 'give the cluster a name, such as "lab"',
    "cluster.group": 'give a multicast group, such as "239.77.7.1" or "ff15::7701"',
    "cluster.port": "give a whole number from 1 to 65534; control takes the next port",
    "cluster.interface": 'give an address, a name, a CIDR such as "10.77.0.0/24", or "auto"',
    "cluster.machine": 'give "module:Class", such as "mcast.machine.kv:KeyValue"',
    "cluster.data_dir": 'give a folder, such as "./data"',
    "cluster.sync": 'use "always" (survives power loss) or "os" (survives kill -9)',
    "cluster.key_file": "give the path of a file made by `mcast keygen PATH`, or leave the line out",
    "cluster.mtu": f"give whole bytes from {limits.MTU_MIN} to {limits.MTU_MAX}; 1500 suits a LAN, 9000 jumbo frames",
    "cluster.profile": 'use "default" or "fast"',
    "cluster.allow_faults": "use true or false",
    "cluster.allow_mixed": "use true or false",
    "cluster.command_values_max": f"give a whole number from {limits.COMMAND_VALUES_MIN} to {limits.VALUES_MAX}",
    "node.id": "give letters, digits, '.', '_' or '-', beginning with a letter or digit",
    "node.address": 'give "host:port", such as "10.77.0.11:7711", an IPv6 host in brackets',
    "node.role": 'use "member" (votes) or "observer" (does not)',
    "node.interface": 'give an address, a name, a CIDR such as "10.77.0.0/24", or "auto"',
}

_FIX_FILE: Final = "name a cluster file with -c"
_MACHINE: Final = re.compile(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)*:[A-Za-z_]\w*(\.[A-Za-z_]\w*)*")
_RESERVED_GROUPS: Final = ipaddress.ip_network("224.0.0.0/24")
_TEXT_CHARS_MAX: Final = 4096  # characters of a path or a class name; PATH_MAX on Linux


def load_config(path: Path | str) -> Config:
    """Read and check a cluster file.

    Raises:
        ConfigError: the file cannot be read, is not TOML, or holds something a cluster cannot run with.
    """
    file = Path(path)
    try:
        with file.open("rb") as stream:
            data = stream.read(limits.CONFIG_BYTES_MAX + 1)
    except OSError as error:
        problem = _lower(error.strerror or str(error))
        raise ConfigError("config", str(file), problem, "write one with `mcast init`, or name yours with -c") from error
    document = parse_toml_untrusted(data, "config", file, _FIX_FILE)
    try:
        return _checked(document, file.resolve())
    except ConfigError as error:
        raise error.with_file(file) from error.__cause__


def parse_config(data: bytes, file: Path) -> Config:
    """Check the content of a cluster file that stands, or will stand, at the absolute path `file`.

    Raises:
        ConfigError: as `load_config`.
    """
    return _checked(parse_toml_untrusted(data, "config", file, _FIX_FILE), file)


def _checked(document: dict[str, Any], file: Path) -> Config:
    tables = convert_untrusted(document, _File, _FIXES)
    folder = file.parent
    _check_cluster(tables.cluster)
    _check_nodes(tables.node)
    cluster = tables.cluster
    _check_mtu(cluster.mtu, [(node.id, node.address) for node in tables.node if node.role == "member"])
    return Config(
        name=cluster.name,
        nodes=tuple(
            NodeConfig(id=node.id, address=node.address, role=node.role, interface=node.interface)
            for node in tables.node
        ),
        folder=folder,
        data_dir=_resolved(folder, "data_dir", cluster.data_dir),
        group=str(ipaddress.ip_address(cluster.group)),
        port=cluster.port,
        interface=cluster.interface,
        machine=cluster.machine,
        sync=cluster.sync,
        key_file=None if cluster.key_file is None else _key_file(folder, cluster.key_file),
        mtu=cluster.mtu,
        profile=cluster.profile,
        allow_faults=cluster.allow_faults,
        allow_mixed=cluster.allow_mixed,
        command_values_max=cluster.command_values_max,
    )


def _lower(problem: str) -> str:
    return problem[:1].lower() + problem[1:]


def _check_cluster(cluster: _ClusterTable) -> None:
    _check("cluster.name", cluster.name, _name_problem(cluster.name), "node.id")
    _check("cluster.group", cluster.group, _group_problem(cluster.group))
    _check("cluster.port", cluster.port, None if 1 <= cluster.port <= 65_534 else "outside 1 to 65534")
    _check("cluster.interface", cluster.interface, _interface_problem(cluster.interface))
    _check("cluster.machine", cluster.machine, _machine_problem(cluster.machine))
    _check("cluster.data_dir", cluster.data_dir, _path_problem(cluster.data_dir))
    if cluster.key_file is not None:
        _check("cluster.key_file", cluster.key_file, _path_problem(cluster.key_file))
    if not limits.MTU_MIN <= cluster.mtu <= limits.MTU_MAX:
        _check("cluster.mtu", cluster.mtu, f"outside {limits.MTU_MIN} to {limits.MTU_MAX}")
    if not limits.COMMAND_VALUES_MIN <= (values := cluster.command_values_max) <= limits.VALUES_MAX:
        _check("cluster.command_values_max", values, f"outside {limits.COMMAND_VALUES_MIN} to {limits.VALUES_MAX}")


def _check_nodes(nodes: Sequence[_NodeTable]) -> None:
    if not 1 <= len(nodes) <= limits.NODES_MAX:
        fix = _FIXES["node"] if not nodes else "split it into several clusters"
        raise ConfigError("node", len(nodes), f"a cluster has 1 to {limits.NODES_MAX} nodes", fix)
    for index, node in enumerate(nodes):
        field = item_field("node", {"id": node.id}, index)
        _check(f"{field}.id", node.id, _name_problem(node.id), "node.id")
        _check(f"{field}.address", node.address, _address_problem(node.address), "node.address")
        if node.interface is not None:
            _check(f"{field}.interface", node.interface, _interface_problem(node.interface), "node.interface")
    _check_distinct(nodes, lambda node: node.id, "id", "the same id as another node", "give every node its own id")
    _check_distinct(nodes, lambda node: name_hash(node.id), "id", "the same 64-bit hash as another id", "rename one")
    _check_distinct(nodes, lambda node: split_address(node.address), "address", "the same as another node's",
                    "give every node its own host or port")  # fmt: skip
    voters = sum(node.role == "member" for node in nodes)
    if not voters:
        raise ConfigError("node.role", "observer", "no node is a member", 'give at least one node role = "member"')
    if voters > limits.MEMBERS_MAX:
        raise ConfigError("node.role", "member", f"{voters} members, at most {limits.MEMBERS_MAX} may vote",
                          'give the others role = "observer"')  # fmt: skip


def _check_mtu(mtu: int, members: Sequence[tuple[str, str]]) -> None:
    needed = mtu_needed(members)
    if mtu < needed:
        problem = f"too small for {len(members)} members: the frame that names them all needs {needed}"
        raise ConfigError("cluster.mtu", mtu, problem, f"give {needed} or more, or the nodes shorter ids and addresses")


def _check(field: str, value: object, problem: str | None, fix: str | None = None) -> None:
    if problem is not None:
        raise ConfigError(field, short(value), problem, _FIXES[fix or field])


def _check_distinct(
    nodes: Sequence[_NodeTable], key: Callable[[_NodeTable], object], name: str, problem: str, fix: str
) -> None:
    seen: set[object] = set()
    for node in nodes:
        if key(node) in seen:
            raise ConfigError(f"node[{node.id}].{name}", getattr(node, name), problem, fix)
        seen.add(key(node))


def _name_problem(name: str) -> str | None:
    if len(name.encode(errors="replace")) > limits.NAME_BYTES_MAX:
        return f"over {limits.NAME_BYTES_MAX} bytes"
    return None if PLAIN_NAME.fullmatch(name) else "not a plain name"


def _group_problem(group: str) -> str | None:
    try:
        address = ipaddress.ip_address(group)
    except ValueError:
        return "not an IP address"
    if not address.is_multicast:
        return "not a multicast group"
    if isinstance(address, ipaddress.IPv6Address) and address.scope_id is not None:
        return "a zone belongs into `interface`"
    return "reserved for routing protocols" if address in _RESERVED_GROUPS else None


def _interface_problem(interface: str) -> str | None:
    if not interface or len(interface) > limits.NAME_BYTES_MAX or not interface.isprintable():
        return "not an interface"
    if "/" in interface:
        try:
            ipaddress.ip_network(interface, strict=False)
        except ValueError:
            return "not a CIDR"
    return None


def _machine_problem(machine: str) -> str | None:
    return None if len(machine) <= _TEXT_CHARS_MAX and _MACHINE.fullmatch(machine) else "not module:Class"


def _path_problem(path: str) -> str | None:
    if not path or len(path) > _TEXT_CHARS_MAX or "\0" in path:
        return "not a path"
    return None


def _address_problem(address: str) -> str | None:
    if len(address.encode(errors="replace")) > limits.NAME_BYTES_MAX:
        return f"over {limits.NAME_BYTES_MAX} bytes; its IP address is shorter"
    try:
        split_address(address)
    except ValueError as error:
        return _lower(str(error))
    return None


def _resolved(folder: Path, key: str, path: str) -> Path:
    try:
        return (folder / Path(path).expanduser()).resolve()
    except (OSError, RuntimeError, ValueError) as error:
        raise ConfigError(f"cluster.{key}", path, _lower(str(error)), _FIXES[f"cluster.{key}"]) from error


def _key_file(folder: Path, path: str) -> Path:
    file = _resolved(folder, "key_file", path)
    if not os.path.isfile(file):
        problem = "not a file" if os.path.exists(file) else "no such file"
        fix = f"make one with `mcast keygen {file}`, or copy the cluster's"
        raise ConfigError("cluster.key_file", path, problem, fix)
    return file
