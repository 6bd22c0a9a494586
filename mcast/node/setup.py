"""Builds one node's parts from its config."""

from __future__ import annotations

import copy
import logging
import os
import random
from collections.abc import Callable, Mapping
from functools import partial
from typing import Final

from mcast.config import Config, NodeConfig
from mcast.errors import ConfigError, EnvironmentProblem
from mcast.limits import IP_UDP_BYTES
from mcast.machine.api import StateMachine
from mcast.machine.loading import load_machine
from mcast.net.link import DatagramLink, PeerAddress
from mcast.net.memory import Hub
from mcast.net.names import in_thread, look_up
from mcast.net.udp import UdpLink
from mcast.node.eventlog import EventLog
from mcast.node.notices import log_of
from mcast.node.place import find_place
from mcast.node.transport import Transport
from mcast.node.versions import OtherVersions
from mcast.protocol.recovered import Recovered
from mcast.protocol.replica import Replica, Settings
from mcast.seal.datagram import FRAME_OVERHEAD_BYTES, Opener, Sealer
from mcast.seal.duplicate_ids import DuplicateIds
from mcast.seal.incarnations import Incarnations
from mcast.seal.keys import load_keys
from mcast.storage.files import Files, RealFiles
from mcast.storage.outcomes import OutcomeLog
from mcast.storage.store import Store
from mcast.wire.envelope import INCARNATION_BYTES, name_hash

NAMES_S: Final = 1.0  # a start waits for the names of other nodes; what is known later is used later

_log: Final = logging.getLogger("mcast.node")


def draw_incarnation() -> bytes:
    """The random bytes that tell this process start from every other."""
    return os.urandom(INCARNATION_BYTES)


def frame_body_max(mtu: int) -> int:
    """Bytes of records that one datagram of this MTU carries; the largest record too."""
    return mtu - IP_UDP_BYTES - FRAME_OVERHEAD_BYTES


def load_machine_of(config: Config) -> StateMachine:
    """A new instance of the config's state machine. Raises ConfigError."""
    machine = load_machine(config.machine, str(config.folder))
    try:
        return machine()
    except (Exception, SystemExit) as error:
        problem = f"creating it raised {type(error).__name__}: {error}"
        raise ConfigError("machine", config.machine, problem, "give it an __init__ without arguments") from error


def open_store(config: Config, node_id: str, files: Files | None) -> tuple[Store, Recovered]:
    """The node's data directory. Raises EnvironmentProblem."""
    try:
        config.data_dir.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        is_file = isinstance(error, FileExistsError)
        problem = "it is a file" if is_file else f"cannot be made: {error.strerror or error}"
        remedy = "set data_dir to a folder that this user can write"
        raise EnvironmentProblem(f"data_dir = {str(config.data_dir)!r}: {problem}", remedy) from error
    directory = config.data_dir / node_id
    return Store.open(files or RealFiles(), directory, config.name, node_id, sync=config.sync)


def another(config: Config, machine: StateMachine | None) -> Callable[[], StateMachine | None]:
    """Gives more machines like the one that a node begins with; None where that cannot be done."""
    if machine is None:
        return lambda: load_machine_of(config)
    try:
        fresh = copy.deepcopy(machine)
    except Exception:
        return lambda: None
    return lambda: copy.deepcopy(fresh)


def open_events(config: Config, node_id: str, store: Store, files: Files | None) -> EventLog:
    """What subscribers of this node are served from, empty."""
    outcomes = OutcomeLog(files or RealFiles(), str(config.data_dir / node_id / "outcomes"))
    for path in outcomes.set_aside:
        _log.warning("node %s: what stood where outcomes for subscribers go is now %s", node_id, path)
    return EventLog(store, outcomes)


async def open_link(
    config: Config, node: NodeConfig, incarnation: bytes, *, hub: Hub | None, offload: bool
) -> DatagramLink:
    """The node's sockets, or its end of a hub.

    Raises:
        ConfigError: datagrams larger than the interface carries, ... NetworkMissing: no such interface, no such
            address, ... EnvironmentProblem: a port in use, ...
    """
    if hub is not None:
        return hub.link((node.host, node.port))
    place = await in_thread(partial(find_place, config, node))
    log_of(node.id).info("%s", place.describe(config, node))
    interface = place.interface
    if config.mtu > interface.mtu:
        problem = f"{interface.name} carries packets of {interface.mtu} bytes at most"
        raise ConfigError("mtu", config.mtu, problem, f"set mtu = {interface.mtu} for all nodes")
    return UdpLink(
        group=config.group, port=config.port, interface=interface, host=place.host, unicast_port=node.port,
        ignored_incarnation=incarnation, offload=offload and "MCAST_NO_OFFLOAD" not in os.environ,
    )  # fmt: skip


async def find_peers(
    config: Config, node_id: str, link: DatagramLink, tell: Callable[[Mapping[int, str]], None]
) -> dict[int, PeerAddress]:
    """Every other node's address. `tell` hears why some have none: no unknown name keeps a node waiting."""
    hosts = {name_hash(node.id): (node.host, node.port) for node in config.nodes if node.id != node_id}
    if not isinstance(link, UdpLink):
        return dict(hosts)
    found, unknown = await look_up(hosts, NAMES_S)
    tell(unknown)
    return found


def make_transport(  # noqa: PLR0913 - all of them
    config: Config, node_id: str, incarnation: bytes, link: DatagramLink, peers: Mapping[int, PeerAddress],
    promised: int, votes: Callable[[], bool],
) -> Transport:  # fmt: skip
    """The node's seal around its link. Raises ConfigError: an unusable key file."""
    ring = load_keys(config.key_file) if config.key_file is not None else None
    own, every = name_hash(node_id), [name_hash(node.id) for node in config.nodes]
    return Transport(
        link,
        Sealer(ring, config.name, node_id, incarnation),
        Opener(ring, config.name, every, own),
        Incarnations(own, every, os.urandom, sealed=ring is not None),
        peers,
        promised,
        DuplicateIds(incarnation, os.urandom, votes),
        OtherVersions(node_id, {name_hash(node.id): node.id for node in config.nodes}),
    )


def make_replica(  # noqa: PLR0913 - all of them
    config: Config, node: NodeConfig, recovered: Recovered, receive_window: int, offset_ns: int, now: float
) -> Replica:
    """The protocol, as it goes on from what was recovered."""
    settings = make_settings(config, node, receive_window, offset_ns)
    return Replica(settings, recovered, random.Random(os.urandom(16)), now)


def make_settings(config: Config, node: NodeConfig, receive_window: int, offset_ns: int) -> Settings:
    """One node's part in the protocol."""
    return Settings(
        node=node.id,
        cluster=config.name,
        members=tuple((member.id, member.address) for member in config.members),
        address=node.address,
        is_member=node.role == "member",
        observers=tuple(name_hash(each.id) for each in config.nodes if each.role != "member"),
        frame_body_max=frame_body_max(config.mtu),
        receive_window=receive_window,
        wall_offset_ns=offset_ns,
        heartbeat_max_s=config.heartbeat_max_s,
        election_timeout_s=config.election_timeout_s,
    )
