"""The node's TCP side: clients submit and ask here, peers forward and fetch.

A gateway keeps each connected session's unanswered groups. It hands them to the forwarder, hands all of them over again when a
reign or a connection has changed, and recognises its clients' records among what the engine has applied. What replicas
do with a record twice submitted is the session table's business, so no state here has to survive anything.
"""

from __future__ import annotations

import asyncio
import errno
import ssl
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from mcast.client.link import Dialer
from mcast.errors import ConfigError, DecodeError, EnvironmentProblem, Error
from mcast.limits import (
    CONNECTIONS_MAX,
    GATEWAY_BYTES,
    GATEWAY_CLIENT_BYTES,
    HANDSHAKE_S,
    PENDING_BYTES_MAX,
)
from mcast.node.catchup import Fetcher, FetchServer
from mcast.node.connection import Connection
from mcast.node.forward import Forwarder, Group
from mcast.node.queries import Queries
from mcast.node.served import ServedSessions
from mcast.protocol.effects import Notice
from mcast.wire.envelope import name_hash
from mcast.wire.records import RECORD_HEADER_BYTES, Record, RecordKind
from mcast.wire.stream import (
    VERSION,
    Failure,
    ForwardRefused,
    Hello,
    Opened,
    Ping,
    Report,
    Result,
    Status,
    StreamKind,
    Welcome,
    decode_group_untrusted,
    decode_stream_untrusted,
    pack_message,
)

if TYPE_CHECKING:
    from mcast.machine.engine import Applied
    from mcast.node.shell import Shell

BACKLOG_POLL_S: Final = 0.01  # between looks whether paused clients may go on, besides after every apply
KEEPALIVE_LOOKS: Final = 25  # looks after which paused clients hear a PONG: a quarter of a second
DRAIN_S: Final = 1.0  # a stopping gateway waits this long for its clients' answers


@dataclass(frozen=True, slots=True)
class GatewayStatistics:
    """What a gateway has seen: `hostile` counts closed connections by reason."""

    connections: int
    sessions: int
    unanswered_bytes: int
    queries: int
    fetched_frames: int
    hostile: dict[str, int]


class Gateway:
    """Serves clients and peers on the node's address, and follows the shell's notices. `start` before the shell's own.

    It takes the shell's `on_catch_up` and joins `on_applied` and `on_notice`; `stop` drains and leaves them.
    """

    def __init__(self, shell: Shell) -> None:
        self._shell = shell
        dialer = Dialer(shell.config, "peer", shell.node_id, shell.incarnation)
        self._names = {name_hash(node.id): node.id for node in shell.config.nodes}
        self._served = ServedSessions()
        self._forwarder = Forwarder(shell, dialer, self._resend, self._reconsider)
        self._queries = Queries(shell)
        self._fetches = FetchServer(shell)
        self._fetcher = Fetcher(shell, dialer)
        self._connections: set[Connection] = set()
        self._paused: set[Connection] = set()
        self._hostile: Counter[str] = Counter()
        self._server: asyncio.Server | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._looks = 0
        self._stopping = False
        self._drained = asyncio.Event()
        self._single: dict[int, Callable[[Connection, Any], bytes | None]] = {
            StreamKind.PING: lambda connection, ping: pack_message(StreamKind.PONG, Ping(ping.id)),
            StreamKind.QUERY: self._query,
            StreamKind.STATUS: self._status,
            StreamKind.GAPS: self._gaps,
            StreamKind.FAULT: self._fault,
        }

    async def start(self) -> None:
        """Listen on the node's address.

        Raises:
            EnvironmentProblem: the address is in use, or not this machine's. ConfigError: an unusable key file.
        """
        shell = self._shell
        node = shell.config.node(shell.node_id)
        try:
            self._server = await asyncio.get_running_loop().create_server(
                lambda: Connection(self), node.host, node.port, ssl=_server_context(shell), backlog=1_024, reuse_address=True,
            )  # fmt: skip
        except OSError as error:
            raise _listen_problem(error, node.id, node.address) from None
        shell.on_applied.append(self._applied)
        shell.on_notice.append(self._notice)
        shell.on_catch_up = self._fetcher.asked

    async def stop(self) -> None:
        """Take no more commands, give clients what is answered within DRAIN_S, then close."""
        self._stopping = True
        if self._server is not None:
            self._server.close()
        for connection in list(self._connections):
            connection.pause(True)
        if self._served.size:
            try:
                async with asyncio.timeout(DRAIN_S):
                    await self._drained.wait()
            except TimeoutError:
                pass
        for remove, callback in ((self._shell.on_applied, self._applied), (self._shell.on_notice, self._notice)):
            if callback in remove:
                remove.remove(callback)
        self._shell.on_catch_up = None
        if self._timer is not None:
            self._timer.cancel()
        self._queries.stop()
        await self._forwarder.stop()
        await self._fetcher.stop()
        await self._fetches.stop()
        for connection in list(self._connections):
            connection.close()
        await asyncio.sleep(0)
        for connection in list(self._connections):
            connection.abort()

    def statistics(self) -> GatewayStatistics:
        """Counters at this moment."""
        return GatewayStatistics(
            len(self._connections), len(self._served.sessions), self._served.size, self._queries.answered,
            self._fetcher.fetched_frames, dict(self._hostile),
        )  # fmt: skip

    def accept(self, connection: Connection) -> bool:
        """Whether there is room for one more connection."""
        self._connections.add(connection)
        return len(self._connections) <= CONNECTIONS_MAX and not self._stopping

    def greet(self, connection: Connection, hello: Hello) -> bytes:
        """Answer HELLO. Raises DecodeError for another version, another cluster or an unknown peer."""
        shell = self._shell
        if hello.version != VERSION:
            raise DecodeError("other version", f"this node speaks {VERSION}, not {hello.version}")
        if hello.cluster != shell.config.name:
            raise DecodeError("other cluster", f"this is a node of {shell.config.name!r}, not of {hello.cluster!r}")
        if hello.role == "peer" and hello.node not in self._names.values():
            raise DecodeError("unknown peer", f"no node {hello.node!r} in this node's config")
        engine = shell.engine
        return pack_message(
            StreamKind.WELCOME,
            Welcome(
                shell.node_id, shell.config.name, shell.record_max, dict(engine.commands), dict(engine.queries),
                shell.incarnation,
            ),
        )  # fmt: skip

    def burst(self, connection: Connection, messages: Sequence[tuple[int, bytes]]) -> None:
        """Handle one read's messages: commands together, the rest one by one."""
        assert connection.hello is not None
        peer = connection.hello.role == "peer"
        commands = StreamKind.FORWARD if peer else StreamKind.SUBMIT
        groups: list[Group] = []
        replies: list[bytes] = []
        try:
            for kind, payload in messages:
                if kind == commands:
                    group, first = self._group(payload)
                    groups.append(group)
                    if not peer:
                        self._keep(connection, first, group)
                elif kind in self._single:
                    reply = self._single[kind](connection, decode_stream_untrusted(kind, payload))
                    if reply is not None:
                        replies.append(reply)
                elif kind == StreamKind.FETCH and peer:
                    self._fetches.fetch(connection, decode_stream_untrusted(kind, payload))
                else:
                    raise DecodeError("unexpected message", str(kind))
        finally:
            if groups:
                self._take(connection, peer, groups)
            connection.send(replies)

    def writable(self, connection: Connection) -> None:
        """A fetch may go on."""
        self._fetches.writable(connection)

    def gone(self, connection: Connection) -> None:
        """The connection has ended: nobody waits there any more."""
        self._connections.discard(connection)
        self._paused.discard(connection)
        self._fetches.gone(connection)
        for session in list(connection.sessions):
            self._served.release(session)
            self._shell.engine.unwatch(session)
        for nonce in list(connection.nonces):
            self._served.forget_open(nonce)
            self._shell.engine.unwatch_nonce(nonce)

    def hostile(self, reason: str) -> None:
        """Count a connection closed for what it sent, or did not send or read."""
        self._hostile[reason] += 1

    def _group(self, payload: bytes) -> tuple[Group, Record]:
        records = decode_group_untrusted(payload, self._shell.record_max - RECORD_HEADER_BYTES)
        if len(records) == 1:
            return (payload,), records[0]
        at, group = 0, []
        for record in records:
            end = at + RECORD_HEADER_BYTES + len(record.payload)
            group.append(payload[at:end])
            at = end
        return tuple(group), records[0]

    def _keep(self, connection: Connection, first: Record, group: Group) -> None:
        """Remember a client's group until it comes back applied. A CLOSE is not waited for."""
        if first.kind == RecordKind.OPEN:
            nonce = bytes(first.payload)
            self._shell.engine.watch_nonce(nonce)
            self._served.keep_open(connection, nonce, group)
        elif first.kind != RecordKind.CLOSE:
            served = self._served.bind(first.session, connection)
            self._shell.engine.watch(first.session)
            self._served.keep(served, first.request, group)

    def _take(self, connection: Connection, peer: bool, groups: list[Group]) -> None:
        if not peer:
            self._forwarder.send(groups)
        elif not self._shell.submit(groups):
            replica = self._shell.replica
            sequencer = self._names.get(replica.sequencer, "") if replica.sequencer is not None else ""
            connection.send([pack_message(StreamKind.FORWARD_REFUSED, ForwardRefused(replica.epoch, sequencer))])
        self._hold_back(connection)

    def _resend(self) -> None:
        self._forwarder.send(self._served.groups())

    def _applied(self, applied: Sequence[Applied]) -> None:
        """Tell clients what became of their records: one write a connection."""
        answers: dict[Connection, list[bytes]] = {}
        for one in applied:
            if one.kind == "opened":
                connection = self._opened(one)
                message = pack_message(StreamKind.OPENED, Opened(one.nonce, one.session, one.epoch))
            else:
                connection, message = self._result(one)
            if connection is not None:
                answers.setdefault(connection, []).append(message)
        for connection, messages in answers.items():
            connection.send(messages)
        self._queries.applied()
        if self._paused:
            self._reconsider()
        if self._stopping and not self._served.size:
            self._drained.set()

    def _opened(self, opened: Applied) -> Connection | None:
        connection = self._served.forget_open(opened.nonce)
        self._shell.engine.unwatch_nonce(opened.nonce)
        if connection is not None and opened.session:
            self._served.bind(opened.session, connection)
            self._shell.engine.watch(opened.session)
        return connection

    def _result(self, one: Applied) -> tuple[Connection | None, bytes]:
        served = self._served.sessions.get(one.session)
        if served is None:
            return None, b""
        seq = one.seq
        if one.status == Status.OUT_OF_ORDER:
            now_s = asyncio.get_running_loop().time()
            if one.request not in served.unanswered or not served.report_missing(one.expected, now_s):
                return None, b""
            if one.expected in served.unanswered:
                later = [group for request, (group, _) in served.unanswered.items() if request >= one.expected]
                self._forwarder.send(later)
                return None, b""
            seq = one.expected
        elif not self._served.forget(served, one.request):
            return None, b""
        result = Result(one.session, one.request, one.count, seq, one.epoch, one.status, one.outcomes)
        return served.connection, pack_message(StreamKind.RESULT, result)

    def _notice(self, notice: Notice) -> None:
        self._forwarder.notice(notice)

    def _query(self, connection: Connection, query: Any) -> None:
        self._queries.ask(query, lambda message: connection.send([message]))

    def _status(self, connection: Connection, ask: Any) -> bytes:
        extra: dict[str, Any] = {"queries": self._queries.answered}
        catching_up = self._fetcher.progress()
        if catching_up is not None:
            extra["catch_up"] = catching_up
        return self._report(ask.id, {**self._shell.status(), **extra})

    def _gaps(self, connection: Connection, ask: Any) -> bytes:
        return self._report(ask.id, self._shell.gaps())

    def _fault(self, connection: Connection, fault: Any) -> bytes:
        if not self._shell.config.allow_faults:
            why = "faults on running nodes are off; set allow_faults = true in [cluster] and restart the node"
            return pack_message(StreamKind.ERROR, Failure(fault.id, why))
        try:
            self._shell.fault(fault.spec)
        except (Error, ValueError) as error:
            return pack_message(StreamKind.ERROR, Failure(fault.id, str(error)[:1_000]))
        return self._report(fault.id, {"fault": fault.spec})

    def _report(self, number: int, node: dict[str, Any]) -> bytes:
        replica = self._shell.replica
        sequencer = self._names.get(replica.sequencer) if replica.sequencer is not None else None
        try:
            return pack_message(
                StreamKind.REPORT, Report(number, {"node": node, "epoch": replica.epoch, "sequencer": sequencer})
            )
        except (TypeError, ValueError, OverflowError) as error:
            return pack_message(StreamKind.ERROR, Failure(number, f"the report cannot be sent: {error}"))

    def _full(self, connection: Connection) -> bool:
        return (
            connection.unanswered_bytes > GATEWAY_CLIENT_BYTES
            or self._served.size > GATEWAY_BYTES
            or self._shell.replica.backlog_bytes > PENDING_BYTES_MAX
            or (self._forwarder.congested and connection.hello is not None and connection.hello.role == "client")
            or self._stopping
        )

    def _hold_back(self, connection: Connection) -> None:
        """Read this connection no further while too much waits."""
        if self._full(connection) and not connection.paused:
            connection.pause(True)
            self._paused.add(connection)
            if self._timer is None:
                self._timer = asyncio.get_running_loop().call_later(BACKLOG_POLL_S, self._look)

    def _look(self) -> None:
        self._timer = None
        self._looks += 1
        self._reconsider()
        if self._paused:
            if self._looks % KEEPALIVE_LOOKS == 0:
                for connection in list(self._paused):
                    connection.send([pack_message(StreamKind.PONG, Ping(0))])
            self._timer = asyncio.get_running_loop().call_later(BACKLOG_POLL_S, self._look)

    def _reconsider(self) -> None:
        """Read on where there is room again."""
        for connection in [one for one in self._paused if not self._full(one)]:
            self._paused.discard(connection)
            connection.pause(False)


def _server_context(shell: Shell) -> ssl.SSLContext | None:
    if shell.config.key_file is None:
        return None
    from mcast.seal.keys import load_keys
    from mcast.seal.tls import server_context

    return server_context(load_keys(shell.config.key_file), shell.node_id)


def _listen_problem(error: OSError, node: str, address: str) -> EnvironmentProblem:
    if error.errno == errno.EADDRINUSE:
        return EnvironmentProblem(
            f"node {node} cannot listen on {address}: the port is in use",
            "stop the process that holds it (is this node running already?), or give the node another port",
        )
    if error.errno == errno.EADDRNOTAVAIL:
        return EnvironmentProblem(
            f"node {node} cannot listen on {address}: this machine does not have that address",
            "start the node on its own machine, or correct its address in the config",
        )
    return EnvironmentProblem(f"node {node} cannot listen on {address}: {error.strerror or error}", "correct its address")


__all__ = ["ConfigError", "Gateway", "GatewayStatistics"]
