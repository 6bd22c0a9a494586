"""From a client's SUBMIT to its RESULT: what is unanswered here, and what the applied events answer.

Groups are handed to the forwarder as they come, and all of them again when a reign or a connection has changed. What
replicas do with a record submitted twice is the session table's business, so no state here has to survive anything.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING
from zlib import crc32

from mcast.errors import DecodeError
from mcast.limits import CONNECTION_SESSIONS_MAX
from mcast.machine.sessions import mark_of
from mcast.node.connection import Connection
from mcast.node.forward import Group
from mcast.node.served import Served, ServedSessions
from mcast.wire.records import FRAGMENT_HEADER_BYTES, RECORD_HEADER_BYTES, Record, RecordKind
from mcast.wire.stream import Opened, Result, Status, StreamKind, decode_group_untrusted, pack_message

if TYPE_CHECKING:
    from mcast.machine.engine import Applied
    from mcast.node.shell import Shell


class Submissions:
    """The sessions connected here. `send` is the forwarder's."""

    def __init__(self, shell: Shell, send: Callable[[Sequence[Group]], None]) -> None:
        self._shell = shell
        self._send = send
        self._served = ServedSessions()
        self.reused = 0
        """Records refused because their request number had been used for something else."""

    @property
    def size(self) -> int:
        """Bytes of all unanswered groups."""
        return self._served.size

    @property
    def sessions(self) -> int:
        """Sessions connected here."""
        return len(self._served.sessions)

    def decode_untrusted(self, payload: bytes) -> tuple[Group, Record]:
        """A SUBMIT's or FORWARD's group, and its first record's header. Raises DecodeError."""
        records = decode_group_untrusted(payload, self._shell.record_max - RECORD_HEADER_BYTES)
        if len(records) == 1:
            return (payload,), records[0]
        at, group = 0, []
        for record in records:
            end = at + RECORD_HEADER_BYTES + len(record.payload)
            group.append(payload[at:end])
            at = end
        return tuple(group), records[0]

    def keep(self, connection: Connection, first: Record, group: Group) -> None:
        """Remember a client's group until it comes back applied. A CLOSE is not waited for."""
        if first.kind == RecordKind.CLOSE:
            self._release(connection, first.session)
            return
        if len(connection.sessions) + len(connection.nonces) >= CONNECTION_SESSIONS_MAX:
            self._check_known(connection, first)
        if first.kind == RecordKind.OPEN:
            nonce = bytes(first.payload)
            self._shell.engine.watch_nonce(nonce)
            self._served.keep_open(connection, nonce, group)
        else:
            served = self._served.bind(first.session, connection)
            self._shell.engine.watch(first.session)
            self._served.keep(served, first.request, group)

    def _check_known(self, connection: Connection, first: Record) -> None:
        """Raise DecodeError for one session more: whoever opens so many would fill the cluster's table."""
        opens = first.kind == RecordKind.OPEN
        if not (bytes(first.payload) in connection.nonces if opens else first.session in connection.sessions):
            raise DecodeError("too many sessions", f"one connection serves {CONNECTION_SESSIONS_MAX}")

    def _release(self, connection: Connection, session: int) -> None:
        if session in connection.sessions:
            self._served.release(session)
            self._shell.engine.unwatch(session)

    def resend(self) -> None:
        """Hand over everything unanswered once more, each session's in order."""
        self._send(self._served.groups())

    def gone(self, connection: Connection) -> None:
        """Nobody waits on this connection any more."""
        for session in list(connection.sessions):
            self._served.release(session)
            self._shell.engine.unwatch(session)
        for nonce in list(connection.nonces):
            self._served.forget_open(nonce)
            self._shell.engine.unwatch_nonce(nonce)

    def applied(self, applied: Sequence[Applied]) -> None:
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
        if one.status == Status.OUT_OF_ORDER:
            loop = asyncio.get_running_loop()
            if one.request not in served.unanswered or not served.report_missing(one.expected, loop.time()):
                return None, b""
            if one.expected in served.unanswered:
                loop.call_soon(self._resend_from, served, one.expected)  # not from within the shell's apply
                return None, b""
            return self._answer(served, one, one.status, one.expected)
        kept = served.unanswered.get(one.request)
        if kept is None:
            return None, b""
        self._served.forget(served, one.request)
        status = one.status
        if status == Status.APPLIED and one.mark != _mark(kept.group):
            status = Status.REUSED  # what took effect under this number came another way, and is not what waits here
        elif status == Status.EXPIRED and not served.unanswered:
            self._release(served.connection, one.session)
        self.reused += status == Status.REUSED
        return self._answer(served, one, status, one.seq)

    def _resend_from(self, served: Served, expected: int) -> None:
        """Send again what is unanswered by now, in order: also what came since the hole was seen."""
        self._send([kept.group for request, kept in served.unanswered.items() if request >= expected])

    @staticmethod
    def _answer(served: Served, one: Applied, status: int, seq: int) -> tuple[Connection, bytes]:
        result = Result(one.session, one.request, one.count, seq, one.epoch, status, one.outcomes)
        return served.connection, pack_message(StreamKind.RESULT, result)


def _mark(group: Group) -> int:
    """The mark of a group's record, or of the command that its fragments make up."""
    checksum = 0
    kind, count = group[0][0], int.from_bytes(group[0][4:8], "big")
    payload_at = RECORD_HEADER_BYTES + (FRAGMENT_HEADER_BYTES if kind == RecordKind.FRAGMENT else 0)
    for record in group:
        checksum = crc32(memoryview(record)[payload_at:], checksum)
    return mark_of(kind, count, checksum)
