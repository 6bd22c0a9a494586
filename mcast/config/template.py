"""The cluster file that `mcast init` writes."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from mcast.config.model import DEFAULT_MACHINE
from mcast.limits import COMMAND_VALUES_MAX

_COMMENT_COLUMN: Final = 40

_NODE: Final = """
[[node]]
id = "n{number}"
address = {address}
role = "member"
"""


def default_config(  # noqa: PLR0913 - one argument a flag of `mcast init`
    folder: Path,
    hosts: Sequence[str] | None = None,
    *,
    name: str = "lab",
    group: str = "239.77.7.1",
    port: int = 7700,
    nodes: int = 3,
    machine: str = DEFAULT_MACHINE,
    key_file: str | None = None,
    data_dir: str = "./data",
) -> str:
    """The commented TOML of a new cluster in `folder`: `nodes` nodes on this machine, or one on each of `hosts`.

    Nodes are n1, n2, ... on `port` + 11 on. The text is not checked here: `parse_config` says what is wrong with it.
    """
    about = f"on {len(hosts)} hosts" if hosts else f"of {nodes} nodes on this machine, in {folder}"
    interface, faults = ("auto", "false") if hosts else ("127.0.0.1", "true")
    key_line = f"key_file = {_quoted(key_file)}" if key_file else f"# key_file = {_quoted(name + '.key')}"
    text = [
        f"# A cluster {' '.join(about.split())}.\n",
        "# Every node and every client reads this same file.\n",
        "[cluster]\n",
        f"name = {_quoted(name)}\n",
        _line(f"group = {_quoted(group)}", "multicast, IPv4 or IPv6: the stream on port, control on port + 1"),
        f"port = {port}\n",
        _line(f"interface = {_quoted(interface)}", 'address, name, CIDR ("10.77.0.0/24") or "auto"'),
        _line(f"machine = {_quoted(machine)}", "module:Class; this file's folder is first on sys.path"),
        _line(f"data_dir = {_quoted(data_dir)}", "each node keeps its journal in data_dir/<id>; relative to this file"),
        _line('sync = "always"', 'survives power loss; "os" is faster and survives kill -9 only'),
        _line(key_line, "seals all traffic; `mcast keygen` makes it, every host has a copy"),
        _line("mtu = 1500", "bytes of one datagram with its headers; 9000 where the LAN has jumbo frames"),
        _line('profile = "default"', '"fast": failover in a third of the time, for quiet machines and networks'),
        _line(f"# command_values_max = {COMMAND_VALUES_MAX}", "values in one command, those in its lists too"),
        _line(f"allow_faults = {faults}", "whether `mcast fault` may make running nodes lose datagrams"),
        "\n# A node's address takes TCP from clients and peers, and UDP for acknowledgements and repairs.\n",
        "# Members vote (an odd number, 3 or 5, is best); observers are replicas that don't.\n",
    ]
    taken: dict[str, int] = {}
    for number, host in enumerate(hosts or ["127.0.0.1"] * nodes, 1):
        taken[host] = taken.get(host, 0) + 1
        place = f"[{host}]" if ":" in host else host
        text.append(_NODE.format(number=number, address=_quoted(f"{place}:{port + 10 + taken[host]}")))
    return "".join(text)


def _line(setting: str, comment: str) -> str:
    return f"{setting:<{_COMMENT_COLUMN}}# {comment}\n"


def _quoted(text: str) -> str:
    """A TOML basic string: JSON's escapes are a part of TOML's."""
    return json.dumps(text)
