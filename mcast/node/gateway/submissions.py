"""From a client's SUBMIT to its RESULT: what is unanswered here, and what the applied events answer.

Groups are handed to the forwarder as they come, and all of them again when an epoch or a connection has changed. What
replicas do with a record submitted twice is the session table's business, so no state here has to survive anything.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from itertools import groupby
from operator import itemgetter
from struct import Struct
from typing import TYPE_CHECKING, Final

from mcast.errors import DecodeError
from mcast.limits import CONNECTION_SESSIONS_MAX, VALUES_MAX
from mcast.machine.outcomes import nothing_returned
from mcast.machine.sessions import ContentMark, mark_number, mark_of
from mcast.node.gateway.admission import Openings
from mcast.node.gateway.connection import Connection
from mcast.node.gateway.served import ServedSession, ServedSessions
from mcast.wire.groups import RecordGroup, Submitted, decode_groups_untrusted, encode_results, pack_run
from mcast.wire.records import FRAGMENT_HEADER_BYTES, RECORD_HEADER_BYTES, RecordKind
from mcast.wire.stream import Opened, Status, StreamKind, pack_message

if TYPE_CHECKING:
    from mcast.machine.engine import Applied
    from mcast.node.shell import Shell

_APPLIED: Final = int(Status.APPLIED)
_ALIKE: Final = int(Status.ALIKE)
_COMMANDS: Final = int(RecordKind.COMMANDS)
_OPEN: Final = int(RecordKind.OPEN)
_FRAGMENT: Final = int(RecordKind.FRAGMENT)
_KIND_AND_SESSION: Final = itemgetter(0, 1)
_KIND_AND_COUNT: Final = Struct("!B3xI").unpack_from
_REUSED: Final = int(Status.REUSED)
_Result = tuple[int, int, int, int, int, int, bytes]  # the fields of a wire.groups.Result


class Submissions:
    """The sessions connected here. `send` is the forwarder's."""

    def __init__(self, shell: Shell, send: Callable[[Sequence[RecordGroup]], None]) -> None:
        self._shell = shell
        self._send = send
        self._served = ServedSessions()
        self.openings = Openings(
            lambda session: session in shell.engine.sessions, lambda: shell.engine.sessions.room(),
            len(shell.config.nodes),
        )  # fmt: skip
        self.reused = 0
        """Records refused because their request number had been used for something else."""

    @property
    def size(self) -> int:
        """Bytes of all unanswered groups."""
        return self._served.size

    def decode(self, connection: Connection, payload: bytes, peer: bool) -> list[RecordGroup]:
        """The groups of a SUBMIT or FORWARD that are to be passed on; a client's are kept until they come back applied.

        Raises:
            DecodeError: as `decode_groups_untrusted`, or more sessions than one connection may have.
        """
        shell = self._shell
        proven = connection.trusted and shell.config.key_file is not None  # a node, which may be configured otherwise
        most = VALUES_MAX if proven else shell.config.command_values_max
        submitted: Sequence[Submitted] = decode_groups_untrusted(payload, shell.record_max - RECORD_HEADER_BYTES, most)
        submitted = self.admit(connection, submitted)
        if not peer:
            self.keep(connection, submitted)
        return [one.group for one in submitted]

    def admit(self, connection: Connection, submitted: Sequence[Submitted]) -> Sequence[Submitted]:
        """Those to be passed on: all but the OPENs that are too many from this connection's address.

        A client is told so; whoever forwards for clients is a peer that is not trusted, and its clients wait in vain.
        """
        if connection.trusted or not any([one.kind == _OPEN for one in submitted]):
            return submitted
        admitted: list[Submitted] = []
        for one in submitted:
            nonce = one.group[0][RECORD_HEADER_BYTES:]
            if one.kind != _OPEN or self.openings.begin(connection.address, nonce):
                admitted.append(one)
                if one.kind == _OPEN:
                    self._shell.engine.watch_nonce(nonce)
            else:
                epoch = self._shell.replica.promised
                connection.post(pack_message(StreamKind.OPENED, Opened(nonce, 0, epoch)))
        return admitted

    def keep(self, connection: Connection, submitted: Sequence[Submitted]) -> None:
        """Remember a client's groups until they come back applied. A CLOSE is not waited for.

        Raises:
            DecodeError: more sessions than one connection may have.
        """
        for (kind, session), groups in groupby(submitted, _KIND_AND_SESSION):
            if kind == RecordKind.OPEN or kind == RecordKind.CLOSE:
                for one in groups:
                    self._keep_other(connection, kind, session, one.group)
                continue
            if session not in connection.sessions:
                self._check_room(connection)
            served = self._served.bind(session, connection)
            self._shell.engine.watch(session)
            self._served.keep(served, groups)

    def _keep_other(self, connection: Connection, kind: int, session: int, group: RecordGroup) -> None:
        if kind == RecordKind.CLOSE:
            self._release(connection, session)
            return
        nonce = group[0][RECORD_HEADER_BYTES:]
        if nonce not in connection.nonces:
            self._check_room(connection)
        self._shell.engine.watch_nonce(nonce)
        self._served.keep_open(connection, nonce, group)

    @staticmethod
    def _check_room(connection: Connection) -> None:
        """Raise DecodeError where a session more is too many: whoever opens so many would fill the cluster's table."""
        if len(connection.sessions) + len(connection.nonces) >= CONNECTION_SESSIONS_MAX:
            raise DecodeError("too many sessions", f"one connection serves {CONNECTION_SESSIONS_MAX}")

    def _release(self, connection: Connection, session: int) -> None:
        if session in connection.sessions:
            self._served.release(session)
            self._shell.engine.unwatch(session)

    def resend(self) -> None:
        """Hand over everything unanswered once more, each session's in order."""
        self._send(self._served.groups())

    def on_disconnect(self, connection: Connection) -> None:
        """The connection has ended: forget what its client waits for."""
        for session in list(connection.sessions):
            self._served.release(session)
            self._shell.engine.unwatch(session)
        for nonce in list(connection.nonces):
            self._served.forget_open(nonce)
            self._shell.engine.unwatch_nonce(nonce)

    def on_applied(self, applied: Sequence[Applied]) -> None:
        """Send clients the results of their records, with one write a connection and turn of the event loop."""
        sessions = self._served.sessions
        answers: dict[Connection, list[_Result]] = {}
        served: ServedSession | None = None
        results: list[_Result] = []
        for one in applied:
            if one.kind == "opened":
                self._on_open_applied(one)
                continue
            if served is None or served.session != one.session:
                served = sessions.get(one.session)
                if served is None:
                    continue
                results = answers.setdefault(served.connection, [])
            result = self._result(served, one)
            if result is not None:
                results.append(result)
        for connection, results in answers.items():
            if results:
                parts = pack_run(StreamKind.RESULT, encode_results(results))
                connection.post(*parts, last=not connection.unanswered_bytes)

    def _on_open_applied(self, opened: Applied) -> None:
        self.openings.on_open_applied(opened.nonce, opened.session)
        connection = self._served.forget_open(opened.nonce)
        self._shell.engine.unwatch_nonce(opened.nonce)
        if connection is None:
            return
        if opened.session:
            self._served.bind(opened.session, connection)
            self._shell.engine.watch(opened.session)
        message = pack_message(StreamKind.OPENED, Opened(opened.nonce, opened.session, opened.epoch))
        connection.post(message, last=not connection.unanswered_bytes)

    def _result(self, served: ServedSession, one: Applied) -> _Result | None:
        """What to tell the client; None if it does not wait for that, or is not to hear it now."""
        _, session, request, count, seq, epoch, status, outcomes, _, expected, mark = one
        if status == _APPLIED:
            group = self._served.forget(served, request)
            if group is None:
                return None
            if not _is_content(group, mark):
                status = _REUSED  # what took effect under this number came another way, and is not what waits here
                self.reused += 1
            elif outcomes == nothing_returned(count):
                status, outcomes = _ALIKE, b""
        elif request not in served.unanswered:
            return None
        elif status == Status.OUT_OF_ORDER:
            if not self._tell_missing(served, expected):
                return None
            seq = expected
        else:
            self._served.forget(served, request)
            if status == Status.EXPIRED and not served.unanswered:
                self._release(served.connection, session)
            self.reused += status == _REUSED
        return session, request, count, seq, epoch, status, outcomes

    def _tell_missing(self, served: ServedSession, expected: int) -> bool:
        """Replicas lack request `expected`: whether the client has to send it. What is here is sent again from here."""
        loop = asyncio.get_running_loop()
        if not served.report_missing(expected, loop.time()):
            return False
        if expected in served.unanswered:
            loop.call_soon(self._resend_from, served, expected)  # not from within the shell's apply
            return False
        return True

    def _resend_from(self, served: ServedSession, expected: int) -> None:
        """Send again what is unanswered by now, in order: also what came since the hole was seen."""
        self._send([group for request, group in served.unanswered.items() if request >= expected])


def _is_content(group: RecordGroup, mark: ContentMark) -> bool:
    """Whether what took effect is the group's record, or the command that its fragments make up."""
    record = group[0]
    if record == mark:
        return True
    kind, commands = _KIND_AND_COUNT(record)
    begins = RECORD_HEADER_BYTES + (FRAGMENT_HEADER_BYTES if kind == _FRAGMENT else 0)
    content = mark_of(kind, commands, *[memoryview(one)[begins:] for one in group])
    return mark_number(mark) == content  # a record may have come with another `lowest`
