"""The node's TCP side: clients submit and ask here, peers forward and fetch."""

from __future__ import annotations

import asyncio
import contextlib
import ssl
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import takewhile
from typing import TYPE_CHECKING, Any, Final

from mcast.clock import monotonic_s
from mcast.errors import DecodeError, EnvironmentProblem, Error
from mcast.limits import (
    GATEWAY_BYTES,
    GATEWAY_CLIENT_BYTES,
    PENDING_BYTES_MAX,
)
from mcast.machine.describe import describe
from mcast.net.handshakes import Handshakes
from mcast.net.listener import TOO_MANY, Crowd, Door, listen_problem, open_listener, room_for_connections
from mcast.net.secured import Secured
from mcast.net.tcp import Dialer
from mcast.net.udp import UdpLink
from mcast.node.gateway.admission import Places
from mcast.node.gateway.alike import Likeness
from mcast.node.gateway.catchup import Fetcher, FetchServer
from mcast.node.gateway.connection import Connection
from mcast.node.gateway.forwarder import Forwarder
from mcast.node.gateway.handover import Handovers
from mcast.node.gateway.histories import HistoryFetcher
from mcast.node.gateway.queries import Queries
from mcast.node.gateway.relays import Relays
from mcast.node.gateway.reporting import Reports
from mcast.node.gateway.submissions import Submissions
from mcast.node.gateway.subscriptions import Subscriptions
from mcast.node.gateway.turns import Turns
from mcast.node.watch import hindered
from mcast.protocol.effects import CatchUp, FetchEpochs, Notice, ReadReady
from mcast.wire.envelope import name_hash
from mcast.wire.groups import RecordGroup
from mcast.wire.stream import (
    UNFOUNDED,
    VERSION,
    Ask,
    Failure,
    Fault,
    ForwardRefused,
    HandoverRequest,
    Hello,
    Ping,
    Pong,
    Report,
    StreamKind,
    StreamMessage,
    Subscribe,
    Welcome,
    decode_stream_untrusted,
    pack_message,
)

if TYPE_CHECKING:
    from mcast.machine.engine import Applied
    from mcast.node.shell import Shell

BACKLOG_POLL_S: Final = 0.01  # between looks whether paused clients may go on, besides after every apply
KEEPALIVE_S: Final = 0.25  # between two PONGs that paused clients hear; a busy node looks late, but it looks
DRAIN_S: Final = 1.0  # a stopping gateway waits this long for its clients' answers
FLUSH_S: Final = 0.5  # ... and this long for what was written to leave
_REQUESTS: Final = {StreamKind[it] for it in ("PING", "STATUS", "GAPS", "DESCRIBE", "FAULT", "HANDOVER", "SUBSCRIBE")}
_FOR_THE_ALIKE: Final = frozenset({StreamKind.FORWARD, StreamKind.FETCH})  # not served to a node of another machine
_TRY_ANOTHER: Final = "that is as many as it may; try another node"


@dataclass(frozen=True, slots=True)
class GatewayStatistics:
    """What a gateway has seen: `hostile` counts closed connections by reason."""

    connections: int
    unanswered_bytes: int
    hostile: dict[str, int]


class Gateway:
    """Serves clients and peers on the node's address, and follows the shell's notices.

    `start` takes the shell's `on_catch_up` and joins its lists of callbacks; `stop` drains and leaves them. Start it
    before the shell and stop it before the shell. A halted node's gateway reports and refuses: whoever submits there,
    or waits for an outcome, is sent away to another node, where the same requests take effect once.
    """

    def __init__(self, shell: Shell) -> None:
        self._shell = shell
        dialer = Dialer(shell.config, "peer", shell.node_id, shell.incarnation)
        self._names = {name_hash(node.id): node.id for node in shell.config.nodes}
        self._forwarder = Forwarder(shell, dialer, lambda: self._submissions.resend(), self._reconsider)
        self._submissions = Submissions(shell, self._forwarder.send)
        self._queries = Queries(shell, self._alive_nodes, lambda: self._forwarder.dead_node)
        self._subscriptions = Subscriptions(shell)
        self._fetches = FetchServer(shell)
        self._reports = Reports({
            StreamKind.STATUS: lambda: self._document(self.status()),
            StreamKind.GAPS: lambda: self._document(shell.gaps()),
            StreamKind.DESCRIBE: lambda: self._document({**describe(type(shell.engine.machine), shell.config.machine)}),
        })  # fmt: skip
        self._handovers = Handovers(shell, self._report)
        self._fetcher = Fetcher(shell, dialer)
        self._relays = Relays(shell, dialer)
        self.alike = Likeness(shell, dialer)
        self._histories = HistoryFetcher(shell, dialer)
        self.turns = Turns()
        self._handshakes = Handshakes()
        self._connections: set[Connection] = set()
        """All accepted connections, whether they have said HELLO or not."""
        self._places = Places(shell.config)
        self.clients_max = 0
        """Clients that this process has file descriptors for."""
        self.spare = 0
        """Connections besides: of peers, and of those who have not introduced themselves."""
        self._crowd = Crowd(shell.node_id)
        self._paused: set[Connection] = set()
        self._hostile: Counter[str] = Counter()
        self._door: Door | None = None
        self._host = ""
        self._moving: asyncio.Task[None] | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._keepalive_due_s = 0.0
        self._stopping = False
        self._started_s = monotonic_s()
        self._changed = asyncio.Event()

    async def start(self) -> None:
        """Listen on the node's address.

        Raises:
            EnvironmentProblem: the address is in use, or not this machine's. ConfigError: an unusable key file.
        """
        shell = self._shell
        node = shell.config.node(shell.node_id)
        context = _server_context(shell)
        self._places.learn(shell.transport.peers)
        self.clients_max, self.spare = room_for_connections(node.id)
        link = shell.transport.link
        self._host = link.host if isinstance(link, UdpLink) else node.host
        self._listen(context)
        shell.on_moved = partial(self._move, context)
        shell.on_look = self._forwarder.look
        shell.on_applied.append(self._on_applied)
        shell.on_notice.append(self._on_notice)
        shell.on_halted.append(self._on_halted)
        shell.on_catch_up, shell.on_relay = self._catch_up, self._relays.relay

    def _listen(self, context: ssl.SSLContext | None) -> None:
        node, host = self._shell.config.node(self._shell.node_id), self._host
        words = b"" if context else pack_message(StreamKind.ERROR, Failure(0, f"{node.id} is full; {_TRY_ANOTHER}"))
        try:
            listener = open_listener(host, node.port, self._is_full, words, self.count_hostile)
            try:
                self._door = Door(listener, partial(self._accept, context), lambda: self._handshakes.is_crowded)
            except BaseException:
                listener.close()
                raise
        except OSError as error:
            raise listen_problem(error, node.id, node.address) from None

    def _move(self, context: ssl.SSLContext | None, host: str) -> None:
        """Some address is another one now. Connections from or to the old one may hang: what peers need is dialled."""
        self._places.learn(self._shell.transport.peers)
        self._forwarder.on_address_change()
        self._relays.on_address_change()
        self._fetcher.on_address_change()
        if host not in (self._host, self._shell.node.host):
            self._host, before = host, self._door
            with contextlib.suppress(EnvironmentProblem):  # it is in use: nobody else listens there for long
                self._listen(context)
            if before is not None and self._door is not before:
                self._moving = asyncio.get_running_loop().create_task(before.close())

    async def retire(self) -> None:
        """Before an orderly stop: if this node leads, let the best other member do so first; bounded."""
        await self._handovers.retire()

    async def stop(self, drain_s: float = DRAIN_S) -> None:
        """Take no more commands, give clients what is answered within `drain_s` (0: close at once), then close."""
        self._stopping = True
        self.turns.stop()
        self._handshakes.stop()
        if self._door is not None:
            await self._door.close()
        for connection in self._connections:
            connection.pause(True)
        await self._wait_until(lambda: not self._submissions.size, drain_s)
        if self._on_applied in self._shell.on_applied:
            self._shell.on_applied.remove(self._on_applied)
            self._shell.on_notice.remove(self._on_notice)
            self._shell.on_halted.remove(self._on_halted)
            self._shell.on_catch_up = self._shell.on_relay = self._shell.on_moved = self._shell.on_look = None
        if self._timer is not None:
            self._timer.cancel()
        self._queries.stop()
        self._subscriptions.stop()
        await self._handovers.stop()
        await self.alike.stop()
        await self._forwarder.stop()
        await self._fetcher.stop()
        await self._relays.stop()
        await self._histories.stop()
        await self._fetches.stop()
        if drain_s > 0:
            for connection in list(self._connections):
                connection.close()
            await self._wait_until(lambda: not any(one.is_open for one in self._connections), FLUSH_S)
        for connection in list(self._connections):
            connection.abort()
        await self._wait_until(lambda: not self._connections, FLUSH_S)  # peers that lost one dial again at once

    async def _wait_until(self, condition: Callable[[], bool], timeout_s: float) -> None:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(timeout_s):
                while not condition():
                    self._changed.clear()
                    await self._changed.wait()

    def statistics(self) -> GatewayStatistics:
        """Counters at this moment."""
        return GatewayStatistics(
            sum(one.is_open for one in self._connections), self._submissions.size, dict(self._hostile)
        )

    def status(self) -> dict[str, Any]:
        """This node's object of `mcast status --json`."""
        status = {**self._shell.status(), "queries": self._queries.answered}
        status["up_s"] = round(monotonic_s() - self._started_s, 1)
        status["refused_connections"] = dict(self._hostile)
        status["clients"], status["clients_max"] = len(self._places.clients), self.clients_max
        status["subscribers"], status["subscribers_behind"] = len(self._subscriptions), self._subscriptions.behind_count
        status["findings"] = [*status.get("findings", ()), *self._crowd.findings(self.clients_max)]
        status["refused_sessions"] = self._submissions.openings.refused
        status["reused_requests"] = self._submissions.reused
        catching_up = self._fetcher.progress()
        if catching_up is not None:
            status["catch_up"] = catching_up
        history = self._histories.progress()
        if history is not None:
            status["history"] = history
        return status

    def greet(self, connection: Connection, hello: Hello) -> bytes:
        """Answer HELLO. Raises DecodeError for another version, another cluster or an unknown peer."""
        shell = self._shell
        if hello.version != VERSION:
            raise DecodeError("other version", f"this node speaks {VERSION}, not {hello.version}")
        if hello.cluster != shell.config.name:
            raise DecodeError("other cluster", f"this is a node of {shell.config.name!r}, not of {hello.cluster!r}")
        if hello.role == "peer" and hello.node not in self._names.values():
            raise DecodeError("unknown peer", f"no node {hello.node!r} in this node's config")
        if hello.role == "peer" and (secured := connection.extra("ssl_object")) is not None:
            from mcast.seal.tls import peer_node

            if peer_node(secured) != hello.node:
                raise DecodeError("unknown peer", f"its certificate is not that of {hello.node!r}")
            shell.on_incarnation_proven(name_hash(hello.node), hello.incarnation)
        if hello.role == "peer":
            self.alike.on_hello(hello.node, hello.incarnation)
        connection.trusted = self._places.has_evidence(connection, hello)
        if not self._places.take(connection, hello, self.clients_max):
            raise DecodeError(TOO_MANY, f"{shell.node_id} serves {self.clients_max} clients; {_TRY_ANOTHER}")
        commands, queries = dict(shell.engine.commands), dict(shell.engine.queries)
        welcome = Welcome(
            shell.node_id, shell.config.name, shell.record_max, commands, queries, shell.incarnation,
            shell.engine.cluster_uuid or UNFOUNDED, shell.config.command_values_max,
        )  # fmt: skip
        return pack_message(StreamKind.WELCOME, welcome)

    def on_messages(self, connection: Connection, messages: Sequence[tuple[int, bytes]], until_s: float) -> int:
        """Handle messages until it is `until_s`: commands together, queries together, the rest one by one; how many."""
        assert connection.hello is not None
        peer = connection.hello.role == "peer"
        commands = StreamKind.FORWARD if peer else StreamKind.SUBMIT
        groups: list[RecordGroup] = []
        at = 0
        try:
            while at < len(messages):
                kind, payload = messages[at]
                if not connection.is_open:
                    return len(messages)  # it was sent more than it may leave unread
                if kind == StreamKind.QUERY:
                    run = [one for _, one in takewhile(_is_query, messages[at:])]
                    at += self._queries.on_queries(run, connection.post, partial(connection.post, last=True), until_s)
                else:
                    at += 1
                    if peer and self.alike.refused and kind in _FOR_THE_ALIKE:
                        self.alike.admit(connection.hello.node)
                    if kind == commands:
                        groups += self._submissions.decode(connection, payload, peer)
                    elif kind in _REQUESTS:
                        self._on_request(connection, kind, decode_stream_untrusted(kind, payload))
                    elif kind == StreamKind.DATAGRAM and peer:
                        self._relays.on_datagram(connection, payload)
                    elif kind == StreamKind.FETCH and peer:
                        self._fetches.on_fetch(connection, decode_stream_untrusted(StreamKind.FETCH, payload))
                    elif kind == StreamKind.FETCH_HISTORY and peer:
                        wanted = decode_stream_untrusted(StreamKind.FETCH_HISTORY, payload)
                        self._fetches.on_fetch_history(connection, wanted)
                    else:
                        raise DecodeError("unexpected message", str(kind))
                if monotonic_s() >= until_s:
                    break
        finally:
            if groups:
                self._take(connection, peer, groups)
        return at

    def on_caught_up(self, connection: Connection) -> None:
        """All that the connection has sent is handled: read on, unless too much waits."""
        if connection not in self._paused:
            connection.pause(False)

    def on_writable(self, connection: Connection) -> None:
        """A fetch or a subscription may go on."""
        self._fetches.on_writable(connection)
        self._subscriptions.on_writable(connection)

    def on_disconnect(self, connection: Connection) -> None:
        """The connection has ended: nobody waits there any more."""
        self._connections.discard(connection)
        self._places.on_disconnect(connection)
        self._paused.discard(connection)
        self._fetches.on_disconnect(connection)
        self._relays.on_disconnect(connection)
        self._subscriptions.on_disconnect(connection)
        self._submissions.on_disconnect(connection)
        self._changed.set()

    def count_hostile(self, reason: str) -> None:
        """Count a connection closed for what it sent, or did not send or read."""
        self._hostile[reason] += 1
        self._crowd.on_turned_away(reason)

    def _accept(self, context: ssl.SSLContext | None) -> asyncio.BaseProtocol:
        """One more connection; before its TLS handshake, if it needs one."""
        connection = Connection(self)
        self._connections.add(connection)
        return connection if context is None else Secured(connection, context, server_side=True, queue=self._handshakes)

    def _is_full(self) -> bool:
        return self._stopping or len(self._connections) >= self.clients_max + self.spare

    def _take(self, connection: Connection, peer: bool, groups: list[RecordGroup]) -> None:
        if self._shell.halted is not None:
            self._send_away(connection)
            return
        if not peer:
            self._forwarder.send(groups)
        elif not self._shell.submit(groups, elsewhere=True):
            replica = self._shell.replica
            refusal = ForwardRefused(replica.promised, self._sequencer() or "")
            connection.post(pack_message(StreamKind.FORWARD_REFUSED, refusal))
        self._hold_back(connection)

    def _send_away(self, connection: Connection) -> None:
        reason = f"{self._shell.node_id} has halted: {self._shell.halted}"
        connection.post(pack_message(StreamKind.ERROR, Failure(0, reason[:1_000])))
        connection.close()

    def _catch_up(self, request: CatchUp | FetchEpochs) -> None:
        if isinstance(request, CatchUp):
            self._fetcher.fetch(request)
        else:
            self._histories.fetch(request)

    def _on_halted(self) -> None:
        """Nothing is applied here any more: tell all that wait for that."""
        self._queries.on_halted()
        self._subscriptions.on_halted()
        for connection in list(self._connections):
            if connection.unanswered_bytes:
                self._send_away(connection)

    def _on_applied(self, applied: Sequence[Applied]) -> None:
        self._submissions.on_applied(applied)
        self._queries.on_applied()
        self._subscriptions.on_applied()
        if self._paused and not self._is_node_full() and not self._forwarder.is_congested:
            self._reconsider()  # else none of them, and there may be thousands, could go on
        if self._stopping:  # nobody else waits for an answer
            self._changed.set()

    def _on_notice(self, notice: Notice) -> None:
        """Followed in the next turn of the loop: the shell is in the middle of its own."""
        loop = asyncio.get_running_loop()
        if isinstance(notice, ReadReady):
            loop.call_soon(self._queries.on_read_ready, notice)
        else:
            loop.call_soon(self._forwarder.on_notice, notice)
            self.alike.on_notice(notice)

    def _sequencer(self) -> str | None:
        sequencer = self._shell.replica.sequencer
        return None if sequencer is None else self._names.get(sequencer)

    def _alive_nodes(self) -> set[str]:
        """The nodes whose processes have a connection to this one's, or this one's to theirs: a dead one has none."""
        peers = {one.hello.node for one in self._connections if one.is_open and one.hello and one.hello.role == "peer"}
        return peers | ({self._forwarder.linked_node} if self._forwarder.linked_node else set())

    def _pong(self, number: int) -> bytes:
        """This node lives, and knew itself in touch with the cluster so long ago; before that, since its start."""
        now_s = monotonic_s()
        proof = self._shell.replica.proof(now_s)
        alone_s = now_s - self._started_s if proof is None else proof[1]
        return pack_message(StreamKind.PONG, Pong(number, int(alone_s * 1e3)))

    def _on_request(self, connection: Connection, kind: int, message: StreamMessage) -> None:
        """One of _REQUESTS."""
        match message:
            case Ping():
                connection.post(self._pong(message.id), *hindered(self._shell, connection, message.id))
            case Ask():
                connection.post(self._reports.answer(kind, message.id))
            case Fault():
                self._on_fault(connection, message)
            case HandoverRequest():
                self._handovers.on_handover(connection, message)
            case Subscribe():
                self._subscriptions.on_subscribe(connection, message)

    def _on_fault(self, connection: Connection, fault: Fault) -> None:
        try:
            self._shell.fault(fault.spec)
        except (Error, ValueError) as error:
            connection.post(pack_message(StreamKind.ERROR, Failure(fault.id, str(error)[:1_000])))
        else:
            self._report(connection, fault.id, {"id": self._shell.node_id, "fault": fault.spec})

    def _report(self, connection: Connection, number: int, node: dict[str, Any]) -> None:
        connection.post(pack_message(StreamKind.REPORT, Report(number, self._document(node))), last=True)

    def _document(self, node: dict[str, Any]) -> dict[str, Any]:
        return {"node": node, "epoch": self._shell.replica.promised, "sequencer": self._sequencer()}

    def _must_pause(self, connection: Connection) -> bool:
        forwards = connection.hello is not None and connection.hello.role == "client"
        return (
            connection.unanswered_bytes > GATEWAY_CLIENT_BYTES
            or self._is_node_full()
            or (forwards and self._forwarder.is_congested)
        )

    def _is_node_full(self) -> bool:
        """Whether nobody at all should be read further."""
        return (
            self._stopping
            or self._submissions.size > GATEWAY_BYTES
            or self._shell.replica.backlog_bytes > PENDING_BYTES_MAX
            or self._shell.is_apply_backlog_full
        )

    def _hold_back(self, connection: Connection) -> None:
        """Read this connection no further while too much waits."""
        if self._must_pause(connection) and connection not in self._paused:
            connection.pause(True)
            self._paused.add(connection)
            if self._timer is None:
                self._timer = asyncio.get_running_loop().call_later(BACKLOG_POLL_S, self._look)

    def _look(self) -> None:
        """Paused clients send no PINGs that are heard; unasked PONGs tell them that this node lives."""
        self._timer = None
        self._reconsider()
        if self._paused:
            if monotonic_s() >= self._keepalive_due_s:
                self._keepalive_due_s = monotonic_s() + KEEPALIVE_S
                for connection in list(self._paused):
                    connection.post(self._pong(0))
            self._timer = asyncio.get_running_loop().call_later(BACKLOG_POLL_S, self._look)

    def _reconsider(self) -> None:
        """Read on where there is room again."""
        for connection in [one for one in self._paused if not self._must_pause(one)]:
            self._paused.discard(connection)
            if not connection.is_behind:
                connection.pause(False)


def _is_query(message: tuple[int, bytes]) -> bool:
    return message[0] == StreamKind.QUERY


def _server_context(shell: Shell) -> ssl.SSLContext | None:
    if shell.config.key_file is None:
        return None
    from mcast.seal.keys import load_keys
    from mcast.seal.tls import server_context

    return server_context(load_keys(shell.config.key_file), shell.node_id)
