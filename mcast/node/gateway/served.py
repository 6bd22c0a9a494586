"""The sessions whose clients are connected here: their unanswered groups, and where answers go."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from mcast.node.gateway.connection import Connection
from mcast.wire.groups import RecordGroup, Submitted

RESEND_S: Final = 0.2  # the same missing request is not answered by another resend sooner than this


class ServedSession:
    """One session at its gateway. `unanswered` is in the order of requests."""

    __slots__ = ("connection", "missing", "missing_s", "session", "unanswered")

    def __init__(self, session: int, connection: Connection) -> None:
        self.session = session
        self.connection = connection
        self.unanswered: dict[int, RecordGroup] = {}
        self.missing = 0
        self.missing_s = 0.0

    def report_missing(self, expected: int, now_s: float) -> bool:
        """Replicas lack request `expected`: whether to act on it now, or an answer to the same is still on its way."""
        if expected == self.missing and now_s - self.missing_s < RESEND_S:
            return False
        self.missing, self.missing_s = expected, now_s
        return True


class ServedSessions:
    """All sessions and pending OPENs of one gateway, and their bytes in sum."""

    def __init__(self) -> None:
        self.sessions: dict[int, ServedSession] = {}
        self.opening: dict[bytes, tuple[Connection, RecordGroup]] = {}
        self.size = 0

    def keep(self, served: ServedSession, submitted: Iterable[Submitted]) -> None:
        """Remember a session's groups until they are answered. The same request again replaces the older group."""
        unanswered, size = served.unanswered, 0
        for _, _, request, group in submitted:
            if request in unanswered:
                self.forget(served, request)
            unanswered[request] = group
            size += _size(group)
        self._count(served.connection, size)

    def keep_open(self, connection: Connection, nonce: bytes, group: RecordGroup) -> None:
        """Remember an OPEN until it is answered."""
        self.forget_open(nonce)
        self.opening[nonce] = connection, group
        connection.nonces.add(nonce)
        self._count(connection, _size(group))

    def forget(self, served: ServedSession, request: int) -> RecordGroup | None:
        """Remove the group of a request that was answered, or for which nobody waits any more; returns it."""
        group = served.unanswered.pop(request, None)
        if group is not None:
            size = _size(group)
            served.connection.unanswered_bytes -= size
            self.size -= size
        return group

    def forget_open(self, nonce: bytes) -> Connection | None:
        """Remove an OPEN that was answered; returns the connection that waited for it."""
        connection, group = self.opening.pop(nonce, (None, ()))
        if connection is not None:
            connection.nonces.discard(nonce)
            self._count(connection, -_size(group))
        return connection

    def _count(self, connection: Connection, size: int) -> None:
        connection.unanswered_bytes += size
        self.size += size

    def bind(self, session: int, connection: Connection) -> ServedSession:
        """The session is served on this connection from now on; a client that moved is not answered on its old one."""
        served = self.sessions.get(session)
        if served is None:
            served = self.sessions[session] = ServedSession(session, connection)
        elif served.connection is not connection:
            self.release(session)
            served = self.sessions[session] = ServedSession(session, connection)
        connection.sessions.add(session)
        return served

    def release(self, session: int) -> None:
        """The session is served here no longer."""
        served = self.sessions.pop(session, None)
        if served is not None:
            for request in list(served.unanswered):
                self.forget(served, request)
            served.connection.sessions.discard(session)

    def groups(self) -> list[RecordGroup]:
        """Every unanswered group, each session's in order."""
        opening = [group for _, group in self.opening.values()]
        return opening + [group for served in self.sessions.values() for group in served.unanswered.values()]


def _size(group: RecordGroup) -> int:
    return len(group[0]) if len(group) == 1 else sum(map(len, group))
