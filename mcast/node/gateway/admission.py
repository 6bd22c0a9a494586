"""Which connections count as peers, and how many sessions an address may open: by proof, never by what they claim.

Without a key anybody may call itself a peer. Such a claim is believed as far as limits go if the connection comes from
that node's own address; with a key, its certificate says who it is. Whatever else claims to be a peer takes a client's
place. Sessions are counted by the address they come from, so that one machine cannot fill the cluster's table.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from ipaddress import IPv6Address, ip_address
from typing import TYPE_CHECKING, Final

from mcast.clock import monotonic_s
from mcast.limits import ADDRESS_SESSIONS_MAX, ADDRESS_SESSIONS_MIN
from mcast.wire.envelope import name_hash

if TYPE_CHECKING:
    from mcast.config import Config
    from mcast.net.link import PeerAddress
    from mcast.node.gateway.connection import Connection
    from mcast.wire.stream import Hello

PEER_CONNECTIONS: Final = 4  # of one node beside the clients: to forward, to fetch and to relay by, and one that closes
ADDRESSES_MAX: Final = 4_096  # told apart; beyond, those that are new count as one
PRUNE_S: Final = 1.0  # between two looks for sessions of an address that have ended, or for room
OPENING_S: Final = 60.0  # after which an OPEN that was never applied is forgotten
_OTHERS: Final = "others"


class Places:
    """Which connections take clients' places."""

    def __init__(self, config: Config) -> None:
        self._config = config
        self._addresses: dict[str, str] = {}
        self._peers: Counter[str] = Counter()
        self.clients: set[Connection] = set()

    def learn(self, peers: Mapping[int, PeerAddress]) -> None:
        """The other nodes' own addresses, by their names' hashes; one whose name is unknown has none."""
        found = {node.id: peers.get(name_hash(node.id)) for node in self._config.nodes}
        self._addresses = {node_id: peer[0] for node_id, peer in found.items() if peer is not None}

    def has_evidence(self, connection: Connection, hello: Hello) -> bool:
        """Whether its certificate, which was compared before, or its address proves that it is this peer."""
        if hello.role != "peer":
            return False
        return connection.extra("ssl_object") is not None or connection.address == self._addresses.get(hello.node)

    def take(self, connection: Connection, hello: Hello, clients_max: int) -> bool:
        """A place for this connection, which is `trusted` or not; False: there is none."""
        if connection.trusted and self._peers[hello.node] < PEER_CONNECTIONS:
            self._peers[hello.node] += 1
            connection.peer_place = hello.node
        elif len(self.clients) >= clients_max:
            return False
        else:
            self.clients.add(connection)
        return True

    def on_disconnect(self, connection: Connection) -> None:
        """The connection has ended: its place is free."""
        self.clients.discard(connection)
        if connection.peer_place:
            self._peers[connection.peer_place] -= 1
            connection.peer_place = ""


class Openings:
    """The sessions that were opened through this node and are still known, by the address they came from.

    `alive` says whether a session is in the cluster's table, `room` how many more that takes. Through each of so many
    `nodes` an address gets its share of what is left: so through all of them together it leaves a third of that to
    others, however many nodes there are.
    """

    def __init__(
        self, alive: Callable[[int], bool], room: Callable[[], int], nodes: int,
        clock: Callable[[], float] = monotonic_s,
    ) -> None:  # fmt: skip
        self.refused = 0
        """OPENs that were refused here, and not passed on."""
        self._find_room = room
        self._nodes = nodes
        self._room = 0
        self._looked_s = -PRUNE_S
        self._alive = alive
        self._clock = clock
        self._opening: dict[bytes, tuple[str, float]] = {}
        """Nonce -> the address that asked, and when."""
        self._of: dict[str, set[int | bytes]] = {}
        """Sessions, and nonces of those that are being opened."""
        self._pruned_s: dict[str, float] = {}

    def begin(self, host: str, nonce: bytes) -> bool:
        """Whether somebody at this address may open one more session; the same again is no other one."""
        if nonce in self._opening:
            return True
        address = self._counted_address(host)
        held = self._of.setdefault(address, set())
        if len(held) >= (most := self._most()):
            self._prune(address)
            if len(held) >= most:
                self.refused += 1
                return False
        held.add(nonce)
        self._room -= 1
        self._opening[nonce] = address, self._clock()
        return True

    def on_open_applied(self, nonce: bytes, session: int) -> None:
        """The OPEN with this nonce was applied: as which session, 0 for none."""
        address, _ = self._opening.pop(nonce, (None, 0.0))
        if address is not None:
            held = self._of[address]
            held.discard(nonce)
            if session:
                held.add(session)

    def _most(self) -> int:
        """How many sessions one address may hold now."""
        now_s = self._clock()
        if now_s - self._looked_s >= PRUNE_S:
            self._looked_s, self._room = now_s, self._find_room()
        return min(ADDRESS_SESSIONS_MAX, max(ADDRESS_SESSIONS_MIN, self._room // self._nodes))

    def _counted_address(self, host: str) -> str:
        """The address as it is counted: of IPv6 the network, in which a machine may have any number."""
        try:
            address = ip_address(host.partition("%")[0])
        except ValueError:
            return _OTHERS
        if isinstance(address, IPv6Address) and not address.is_loopback:
            host = str(int(address) >> 64)
        if host not in self._of and len(self._of) >= ADDRESSES_MAX:
            for one in list(self._of):
                self._prune(one)
                if not self._of[one]:
                    del self._of[one]
            if len(self._of) >= ADDRESSES_MAX:
                return _OTHERS
        return host

    def _prune(self, address: str) -> None:
        """Forget sessions that have ended, unless that was done just now."""
        now_s = self._clock()
        if now_s - self._pruned_s.get(address, -PRUNE_S) < PRUNE_S:
            return
        self._pruned_s[address] = now_s
        held = self._of[address]
        for one in list(held):
            if isinstance(one, int):
                ended = not self._alive(one)
            else:
                ended = one not in self._opening or now_s - self._opening[one][1] > OPENING_S
                if ended:
                    self._opening.pop(one, None)
            if ended:
                held.discard(one)
