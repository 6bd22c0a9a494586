"""Joins the groups anew and looks addresses up again, while a node is deaf or out of touch; so it needs no restart.

An interface that was deleted and made anew has another index, and no group. A switch may have forgotten who joined. A
name may mean another address now: the own one, or a peer's. What costs time is done in a thread, one thing at a time,
and never more often than it says here.
"""

from __future__ import annotations

import asyncio
import logging
import socket
from collections.abc import Mapping
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING, Final

from mcast.clock import monotonic_s
from mcast.errors import ConfigError, EnvironmentProblem
from mcast.net.names import in_thread, look_up
from mcast.net.sockets import is_address, is_own
from mcast.net.udp import UdpLink
from mcast.node.place import Place, find_place
from mcast.wire.envelope import name_hash

if TYPE_CHECKING:
    from mcast.node.shell import Shell

EVERY_S: Final = 2.0  # between two looks at the own place, or at peers' names, at least
NAMES_S: Final = 5.0  # for one look at peers' names: what takes longer is taken for unknown
REJOIN_S: Final = 10.0  # between two joins of the same groups on the same interface: switches are told anew
_PLACE_LOST: Final = ("ENODEV", "ENXIO", "ENETUNREACH", "ENETDOWN", "EADDRNOTAVAIL", "EINVAL", "EMSGSIZE")
"""Errors of sends after which the own place is looked at."""

_log: Final = logging.getLogger("mcast.node")


class Mending:
    """One node's. `look` is called once a second."""

    def __init__(self, shell: Shell) -> None:
        self.missing: str | None = None
        """The part of the network that is missing, in words."""
        self.narrow: str | None = None
        """A finding if the interface carries less than the config's mtu."""
        self.unknown: dict[str, str] = {}
        """Node id -> why its name has no address."""
        self._shell = shell
        self._task: asyncio.Task[None] | None = None
        self._due_s = 0.0
        self._rejoin_due_s = 0.0
        self._refused = 0
        self._named = any(not is_address(node.host) for node in shell.config.nodes)

    def look(self, *, deaf: bool, unreached: bool) -> None:
        """See whether something is to be mended. `unreached`: some node does not answer this one."""
        link, now = self._shell.transport.link, monotonic_s()
        if not isinstance(link, UdpLink) or self._task is not None or now < self._due_s:
            return
        refused = sum(link.counters.sends_lost.get(name, 0) for name in _PLACE_LOST)
        moved = refused != self._refused or _index(link.interface.name) != link.interface.index
        moved = moved or not is_own(link.host)
        if deaf or moved or self.missing or self.narrow or self.unknown or (unreached and self._named):
            self._refused, self._due_s = refused, now + EVERY_S
            self._task = asyncio.get_running_loop().create_task(self._mend(link, deaf))
            self._task.add_done_callback(self._on_done)

    def stop(self) -> None:
        """Mend nothing any more."""
        if self._task is not None:
            self._task.cancel()

    def findings(self) -> dict[str, str]:
        """What of its place is amiss: in short, and in words."""
        found = {"its network is not as it was": self.missing, "its card is too narrow": self.narrow}
        unknown = {
            f"the name of {node} is unknown": f"the name of {node} is unknown: {why}; write its IP address into the "
            "cluster's file of each node and client, or mend DNS or /etc/hosts here; it is looked up again and again"
            for node, why in self.unknown.items()
        }
        return {what: words for what, words in found.items() if words} | unknown

    def _on_done(self, task: asyncio.Task[None]) -> None:
        self._task = None
        if not task.cancelled():
            task.result()

    async def _mend(self, link: UdpLink, deaf: bool) -> None:
        try:
            await self._find_place(link, deaf)
        except OSError as error:  # for want of descriptors, say: it is looked at again
            self.missing = f"its network cannot be looked at: {error.strerror or error}"

    async def _find_place(self, link: UdpLink, deaf: bool) -> None:
        shell = self._shell
        try:
            place = await in_thread(partial(find_place, shell.config, shell.node))
        except (ConfigError, EnvironmentProblem) as problem:
            self.missing = f"its network is not as it was: {problem}"
            return
        if self._shell.stopped.is_set():
            return
        before = link.host
        self._use(link, place, deaf)
        if self._named:
            await self._look_up_peers(link.host, tell=link.host == before)

    def _use(self, link: UdpLink, place: Place, deaf: bool) -> None:
        shell, now, before = self._shell, monotonic_s(), link.host
        moved = (place.interface.index, place.host) != (link.interface.index, before)
        if moved or (deaf and now >= self._rejoin_due_s):
            try:
                link.rejoin(place.interface, place.host)
            except EnvironmentProblem as problem:
                self.missing = f"it cannot join its groups anew: {problem}"
                return
            self._rejoin_due_s = now + REJOIN_S
        if moved:
            _log.warning(
                "node %s joined its groups anew: it %s", shell.node_id, place.describe(shell.config, shell.node)
            )
        if place.host != before and shell.on_moved is not None:
            shell.on_moved(place.host)
        self.missing = None
        mtu, carried = shell.config.mtu, place.interface.mtu
        self.narrow = None if carried >= mtu else (
            f"{place.interface.name} carries packets of {carried} bytes, and mtu = {mtu}: what is larger is fetched "
            f"over TCP; set mtu = {carried} in [cluster] for all nodes, or let {place.interface.name} carry more"
        )  # fmt: skip

    async def _look_up_peers(self, host: str, *, tell: bool) -> None:
        """Use every other node's address as it is now; that of a name which nobody knows as it was."""
        shell = self._shell
        hosts = {name_hash(node.id): (node.host, node.port) for node in shell.config.nodes if node.id != shell.node_id}
        found, unknown = await look_up(hosts, NAMES_S)
        peers, known = {**shell.transport.peers, **found}, shell.transport.peers
        self.on_unknown_names(unknown)
        shell.transport.peers = peers
        if peers != known and tell and shell.on_moved is not None:
            shell.on_moved(host)

    def on_unknown_names(self, unknown: Mapping[int, str]) -> None:
        """Why other nodes' names mean nothing now, by their hashes: told, and looked up again."""
        names = {name_hash(node.id): node.id for node in self._shell.config.nodes}
        self.unknown = {names[node]: why for node, why in unknown.items()}


def _index(name: str) -> int:
    """The index of the interface of this name; 0 if there is none."""
    with suppress(OSError):
        return socket.if_nametoindex(name)
    return 0
