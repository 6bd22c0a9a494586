"""Whether a node is in touch with its cluster, and which of its ways are blocked: told in its log and its status.

Looks once a second. What has just begun may pass by itself; what lasts is said once when it begins and once when it has
passed, and stands among the node's findings as long as it lasts.
"""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING, Final

from mcast.clock import monotonic_s
from mcast.limits import IP_UDP_BYTES
from mcast.node.mending import Mending
from mcast.node.strangers import Strangers
from mcast.wire.envelope import name_hash
from mcast.wire.stream import Failure, StreamKind, pack_message

if TYPE_CHECKING:
    from mcast.node.gateway.connection import Connection
    from mcast.node.shell import Shell
    from mcast.protocol.ways import Reception

LOOK_S: Final = 1.0  # between two looks
DEAF_S: Final = 1.0  # without a heartbeat by one way, while they come by another
LASTS_LOOKS: Final = 3  # in a row, before something that may pass by itself is told
STREAM_UNHEARD: Final = 32  # DATA datagrams in a row that did not arrive
WORDS_MAX: Final = 1_000  # characters of what a client is told
STREAM_LATELY_S: Final = 10.0  # since the newest of these: whether the next one would arrive, nobody knows

_log: Final = logging.getLogger("mcast.node")


class Watch:
    """One node's. `isolated` is the newest look's `isolation`."""

    def __init__(self, shell: Shell) -> None:
        self.isolated: str | None = None
        self.mending = Mending(shell)
        self._strangers = Strangers(shell)
        self._shell = shell
        self._names = {name_hash(node.id): node.id for node in shell.config.nodes}
        self._timer: asyncio.TimerHandle | None = None
        self._looks: dict[str, int] = {}
        """Looks in a row in which a way was blocked."""
        self._unheard, self._unheard_s = 0, 0.0
        """DATA datagrams that did not arrive, and when they became more."""
        self._reported: dict[str, str] = {}
        """The blocked ways that have lasted, in words."""
        self._blocked: str | None = None
        """Why commands that come here do not get to the sequencer, as of the newest look."""

    def start(self) -> None:
        """Look from now on."""
        self._timer = asyncio.get_running_loop().call_later(LOOK_S, self._look)

    def stop(self) -> None:
        """Stop looking."""
        if self._timer is not None:
            self._timer.cancel()
        self._timer = None
        self.mending.stop()

    def findings(self) -> list[str]:
        """Which ways have been blocked for a while, each with the likely reason and what to do."""
        return list(self._reported.values())

    def hindrance(self) -> str | None:
        """Why what clients wait for may not come by this node, and what to do; None: nothing is known."""
        isolated = self.isolation(monotonic_s())
        return f"{self._shell.node_id} is {isolated}" if isolated is not None else self._blocked

    def _look(self) -> None:
        self.start()
        now, replica = monotonic_s(), self._shell.replica
        was_isolated = self.isolated is not None
        self.isolated = self.isolation(now)
        if was_isolated != (self.isolated is not None):
            _log.warning("node %s is %s", self._shell.node_id, self.isolated or "in touch with a majority again")
        ways = {} if self.isolated else self._blocked_ways(replica.reception(now), now)
        unforwarded = self._forwarding_faults()
        self._blocked = next(iter(unforwarded.values()), None)
        amiss = ways | unforwarded
        self._looks = {what: self._looks.get(what, 0) + 1 for what in amiss}
        lasting = {what: words for what, words in amiss.items() if self._looks[what] >= LASTS_LOOKS}
        lasting |= self.mending.findings() | self._strangers.look()
        if not ways and not self.isolated:
            lasting |= self._path_faults(replica.reception(now).carried)
        for what in lasting.keys() - self._reported.keys():
            _log.warning("node %s: %s", self._shell.node_id, lasting[what])
        for what in self._reported.keys() - lasting.keys():
            _log.warning("node %s: %s: no more", self._shell.node_id, what)
        self._reported = lasting
        self.mending.look(
            deaf=self.isolated is not None or any(what.startswith("no") for what in ways),
            unreached=self.isolated is not None or bool(amiss) or bool(replica.statistics().sought),
        )

    def isolation(self, now: float) -> str | None:
        """Since when it is isolated, what is heard at all, and what to do; None while it is in touch."""
        shell = self._shell
        if not shell.replica.is_isolated(now):
            return None
        alone_s = shell.replica.in_touch_s(now)
        silences = shell.transport.silences(now).items()
        heard = [self._names[node] for node, s in silences if s < alone_s and s < DEAF_S and node in self._names]
        mute = [node.id for node in shell.config.nodes if node.id not in (shell.node_id, *heard)]
        what = f"it hears {' and '.join(heard)}" if heard else "it hears no other node"
        if heard and mute:
            what += f", and nothing of {' and '.join(mute)}"
        return (
            f"isolated: for {alone_s:.0f} s no majority has confirmed to it what is committed; {what}. Start those of "
            f"{', '.join(mute or heard)} that do not run; else look for what blocks the network between them and "
            f"{shell.node_id}: {self._ports()}"
        )

    def _blocked_ways(self, reception: Reception, now: float) -> dict[str, str]:
        """A finding if a way between this node and its sequencer is blocked."""
        shell, replica = self._shell, self._shell.replica
        sequencer = self._names.get(replica.sequencer or 0)
        if replica.leads_epoch or sequencer is None:
            return {}
        multicast, unicast, tcp = (
            age_s < DEAF_S for age_s in (reception.multicast_s, reception.unicast_s, reception.tcp_s)
        )
        if not multicast and (unicast or tcp):
            which = "multicast" if unicast else "datagram"
            what = f"no {which} of {sequencer} arrives"
            way = "unicast" if unicast else "TCP"
            return {what: f"{what}, and its heartbeats come by {way}: {self._ports()}; {self._how_to_compare()}"}
        if multicast and tcp:
            what = f"its datagrams do not arrive at {sequencer}"
            host = next(node.address for node in shell.config.nodes if node.id == sequencer)
            return {what: f"{what}, and it answers over TCP: open UDP {host} for it in the firewalls between them"}
        if reception.unheard != self._unheard:
            self._unheard, self._unheard_s = reception.unheard, now
        if multicast and reception.unheard >= STREAM_UNHEARD and now < self._unheard_s + STREAM_LATELY_S:
            what = f"nothing of {sequencer}'s stream arrives"
            return {what: f"{what}, which is repaired piece by piece: {self._ports()}"}
        return {}

    def _forwarding_faults(self) -> dict[str, str]:
        """A finding if commands from here do not reach the sequencer, though its stream may arrive."""
        why = self._shell.on_look() if self._shell.on_look is not None else None
        sequencer = self._names.get(self._shell.replica.sequencer or 0)
        if why is None or sequencer is None or self.isolated or self._shell.replica.leads_epoch:
            return {}
        what = f"commands that come to it do not get to {sequencer}"
        host = next(node.address for node in self._shell.config.nodes if node.id == sequencer)
        return {what: f"{what}: {why}; open TCP {host} for it in the firewalls between them, both ways"}

    def _path_faults(self, carried: int | None) -> dict[str, str]:
        """A finding if the sequencer's datagrams are too large for the path between them, or do not pass at all."""
        shell = self._shell
        sequencer = self._names.get(shell.replica.sequencer or 0)
        if carried is None or sequencer is None or shell.replica.leads_epoch:
            return {}
        if not carried:
            what = f"no datagram of {sequencer} to this node's own address arrives"
            return {what: f"{what}, nor repairs, which are fetched over TCP: {self._ports()}"}
        what = f"the path from {sequencer} to {shell.node_id} is too narrow"
        mtu = shell.config.mtu
        return {
            what: f"{what}: datagrams arrive that are made for mtu = {carried + IP_UDP_BYTES}, larger ones do not, and "
            f"are fetched over TCP; set mtu = {carried + IP_UDP_BYTES} in [cluster] for all nodes, or let the cards, "
            f"switches and tunnels between them carry {mtu} bytes"
        }

    def _ports(self) -> str:
        config, node = self._shell.config, self._shell.node
        return (
            f"UDP ports {config.port} and {config.port + 1} of group {config.group}, and UDP and TCP port {node.port} "
            "must pass its firewall, and IGMP its switches"
        )

    def _how_to_compare(self) -> str:
        return "and compare group, port and interface in the cluster files of the two"


def hindered(shell: Shell, connection: Connection, number: int) -> list[bytes]:
    """For a client that waits and asked by PING `number`: what keeps this node from serving it, if anything does."""
    if connection.hello is None or connection.hello.role != "client" or (why := shell.watch.hindrance()) is None:
        return []
    return [pack_message(StreamKind.HINDERED, Failure(number, why[:WORDS_MAX]))]
