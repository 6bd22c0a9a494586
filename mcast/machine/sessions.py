"""The replicated table of sessions: each numbered request takes effect at most once, in its client's order.

A session is opened by an event and named by that event's seq. Its client numbers requests from 1 without holes; a
record holds consecutive ones. At apply, with `last` the session's last request:

    request <= last        known: the kept outcome, or REUSED (other content), or OUTCOME_GONE (released or dropped)
    request == last + 1    APPLIED: execute, keep the outcome
    request >  last + 1    OUT_OF_ORDER: no effect; the gateway resends from `last + 1`
    no such session        SESSION_EXPIRED: no effect, ever

Everything here is a function of the events alone, so all replicas hold equal tables, in equal order: sessions by last
activity, which makes the longest idle one the first. Times are the sequencer's, in ns.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import OrderedDict, deque
from collections.abc import Sequence
from hashlib import sha256
from itertools import takewhile
from operator import itemgetter
from struct import Struct
from typing import Any, Final, NamedTuple

from mcast.limits import (
    SESSION_IDLE_S,
    SESSION_KEPT_BYTES_MAX,
    SESSION_KEPT_RECORDS_MAX,
    SESSION_UNUSED_S,
    SESSIONS_CONTENT_BYTES_MAX,
    SESSIONS_KEPT_BYTES_MAX,
    SESSIONS_MAX,
)
from mcast.wire.records import RECORD_HEADER_BYTES, RecordKind, record_count
from mcast.wire.stream import Status

KEPT_OVERHEAD_BYTES: Final = 256  # bytes counted for each kept outcome besides its own
MARK_BYTES: Final = 16  # bytes of the hash that tells contents apart
_IDLE_NS: Final = int(SESSION_IDLE_S * 1e9)
_UNUSED_NS: Final = int(SESSION_UNUSED_S * 1e9)
_MARKED: Final = Struct("!BI").pack


# What became of a record, as RESULT says it; plain integers, since they are compared for each one.
APPLIED: Final = int(Status.APPLIED)
REUSED: Final = int(Status.REUSED)
OUTCOME_GONE: Final = int(Status.OUTCOME_GONE)
OUT_OF_ORDER: Final = int(Status.OUT_OF_ORDER)
SESSION_EXPIRED: Final = int(Status.EXPIRED)


ContentMark = int | bytes
"""What tells a record's content from another one's under the same numbers: its `mark_of`; or, until somebody has to
compare it, the record itself, one of COMMANDS. Most are released before."""


def mark_of(kind: int, count: int, *content: bytes | memoryview) -> int:
    """The mark of a record with so many commands and this payload, given whole or in pieces.

    Of 128 bits, by a hash that nobody finds collisions of: a client is told "ok" by it.
    """
    marked = sha256(_MARKED(kind, count))
    for piece in content:
        marked.update(piece)
    return int.from_bytes(marked.digest()[:MARK_BYTES])


class Kept(NamedTuple):
    """The outcome of one applied record, and what its content was."""

    request: int
    count: int  # type: ignore[assignment] # shadows tuple.count, as Frame's does
    seq: int
    epoch: int
    mark: ContentMark
    outcomes: bytes


_REQUEST: Final = itemgetter(0)
_COMMANDS: Final = int(RecordKind.COMMANDS)


def mark_number(mark: ContentMark) -> int:
    """The mark as a number: a record's, if it is one."""
    if isinstance(mark, int):
        return mark
    return mark_of(_COMMANDS, record_count(mark), memoryview(mark)[RECORD_HEADER_BYTES:])


def _content_bytes(mark: ContentMark) -> int:
    """Of the record that is the mark, if one is."""
    return 0 if isinstance(mark, int) else len(mark)


def _settled(kept: Kept) -> Kept:
    """The same, its mark a number."""
    return kept if isinstance(kept.mark, int) else kept._replace(mark=mark_number(kept.mark))


class Session:
    """One client's progress. `kept` is in the order of requests, which only grow."""

    __slots__ = ("content_bytes", "id", "kept", "kept_bytes", "last", "nonce", "time")

    def __init__(self, session: int, nonce: bytes, time: int) -> None:
        self.id = session
        self.nonce = nonce
        self.time = time
        self.last = 0
        self.kept: deque[Kept] = deque()
        self.kept_bytes = 0
        self.content_bytes = 0
        """Of the records among the marks of `kept`."""


class SessionTable:
    """All sessions. `contiguous` is the safety rule that a record must follow its session's last request."""

    def __init__(self, *, contiguous: bool = True, sessions_max: int = SESSIONS_MAX) -> None:
        self._sessions: OrderedDict[int, Session] = OrderedDict()
        self._nonces: dict[bytes, int] = {}
        self._unused: OrderedDict[int, None] = OrderedDict()
        """Sessions without a command so far, the longest idle first."""
        self._kept_bytes = 0
        self._unsettled: dict[int, Session] = {}
        """Sessions that may have records among their marks."""
        self._content_bytes = 0
        self._contiguous = contiguous
        self._sessions_max = sessions_max

    def __len__(self) -> int:
        return len(self._sessions)

    def __contains__(self, session: int) -> bool:
        return session in self._sessions

    def open(self, nonce: bytes, seq: int, time: int) -> int:
        """The session of this nonce: the one it has, else a new one named `seq`; 0 when the table is full."""
        known = self._nonces.get(nonce)
        if known is not None:
            self.find(known, time)
            return known
        if len(self._sessions) >= self._sessions_max and not self._make_room(time):
            return 0
        self._sessions[seq] = Session(seq, nonce, time)
        self._unused[seq] = None
        self._nonces[nonce] = seq
        return seq

    def room(self) -> int:
        """How many more sessions could be opened as of the newest activity: those to be forgotten then make room."""
        room = self._sessions_max - len(self._sessions)
        if self._sessions:
            now = self._sessions[next(reversed(self._sessions))].time
            idle = takewhile(lambda session: now - session.time >= _IDLE_NS, self._sessions.values())
            unused = takewhile(
                lambda session: now - session.time >= _UNUSED_NS, map(self._sessions.__getitem__, self._unused)
            )
            room += sum(1 for _ in idle)
            room += sum(now - session.time < _IDLE_NS for session in unused)
        return room

    def _make_room(self, time: int) -> bool:
        """Forget a session, if there is one to be forgotten: an OPEN travels with a first command, and who sent none...

        ... for SESSION_UNUSED_S has no need of it; else one that was idle for SESSION_IDLE_S.
        """
        if self._unused:
            unused = self._sessions[next(iter(self._unused))]
            if time - unused.time >= _UNUSED_NS:
                return self.close(unused.id)
        longest_idle = next(iter(self._sessions.values()))
        return time - longest_idle.time >= _IDLE_NS and self.close(longest_idle.id)

    def close(self, session: int) -> bool:
        """Forget a session; False when there is none."""
        closed = self._sessions.pop(session, None)
        if closed is None:
            return False
        self._unused.pop(session, None)
        self._unsettled.pop(session, None)
        self._content_bytes -= closed.content_bytes
        del self._nonces[closed.nonce]
        self._kept_bytes -= closed.kept_bytes
        return True

    def find(self, session: int, time: int) -> Session | None:
        """The session, now the most recently active one."""
        found = self._sessions.get(session)
        if found is not None:
            found.time = time
            self._sessions.move_to_end(session)
            if not found.last and session in self._unused:
                self._unused.move_to_end(session)
        return found

    def judge(
        self, number: int, time: int, request: int, lowest: int, mark: ContentMark
    ) -> tuple[int, Session | None, Kept | None]:
        """What a record of session `number` is; a known session is now the most recently active one.

        (APPLIED, session, None) to execute now, (APPLIED, session, kept) for one already executed, or a refusal.
        REUSED comes with what is kept under its number. Outcomes below `lowest` are released first.
        """
        session = self.find(number, time)
        if session is None:
            return SESSION_EXPIRED, None, None
        kept = session.kept
        if kept and kept[0].request + kept[0].count <= lowest:
            self._release(session, lowest)
        expected = session.last + 1
        if request == expected:
            return APPLIED, session, None
        if request > expected:
            return (OUT_OF_ORDER if self._contiguous else APPLIED), session, None
        at = bisect_left(kept, request, key=_REQUEST)
        if at == len(kept) or kept[at].request != request:
            return OUTCOME_GONE, session, None
        same = mark_number(kept[at].mark) == mark_number(mark)
        return (APPLIED if same else REUSED), session, kept[at]

    def find_expecting(self, number: int, request: int) -> Session | None:
        """The session, if `request` is what it expects next."""
        session = self._sessions.get(number)
        return session if session is not None and request == session.last + 1 else None

    def keep_all(self, session: Session, kept: Sequence[Kept], lowests: Sequence[int], content_bytes: int) -> None:
        """Store the outcomes of consecutive records, each after releasing what its `lowest` says, as `judge` does.

        Their marks may be records, of so many bytes in all.
        """
        size = sum([len(one.outcomes) for one in kept]) + len(kept) * KEPT_OVERHEAD_BYTES
        if (
            self._kept_bytes + size > SESSIONS_KEPT_BYTES_MAX
            or session.kept_bytes + size > SESSION_KEPT_BYTES_MAX
            or len(session.kept) + len(kept) > SESSION_KEPT_RECORDS_MAX
        ):
            for one, lowest in zip(kept, lowests, strict=True):
                self._release(session, lowest)
                self.keep(session, one)
            return
        self._refer(session, content_bytes)
        self._use(session)
        last = kept[-1]
        session.last = last.request + last.count - 1
        session.kept.extend(kept)
        session.kept_bytes += size
        self._kept_bytes += size
        self._release(session, max(lowests))  # none of these, whose requests are not below their own `lowest`

    def keep(self, session: Session, kept: Kept) -> None:
        """Store an executed record's outcome, dropping the oldest beyond the bounds."""
        request, count, _, _, mark, outcomes = kept
        size = len(outcomes) + KEPT_OVERHEAD_BYTES
        if not isinstance(mark, int):
            self._refer(session, len(mark))
        self._use(session)
        session.last = request + count - 1
        session.kept.append(kept)
        session.kept_bytes += size
        self._kept_bytes += size
        allowed = SESSION_KEPT_BYTES_MAX
        if self._kept_bytes > SESSIONS_KEPT_BYTES_MAX:
            allowed = SESSIONS_KEPT_BYTES_MAX // len(self._sessions)
        while session.kept_bytes > allowed or len(session.kept) > SESSION_KEPT_RECORDS_MAX:
            self._drop_oldest(session)

    def _use(self, session: Session) -> None:
        """A command of it is kept."""
        if not session.last:
            self._unused.pop(session.id, None)

    def _refer(self, session: Session, content_bytes: int) -> None:
        """Records of so many bytes are about to be kept as marks."""
        if self._content_bytes + content_bytes > SESSIONS_CONTENT_BYTES_MAX:
            self._drop_content()
        self._unsettled[session.id] = session
        session.content_bytes += content_bytes
        self._content_bytes += content_bytes

    def _drop_content(self) -> None:
        """Let go of records: what is still kept of them is marked."""
        for session in self._unsettled.values():
            session.kept = deque(map(_settled, session.kept))
            session.content_bytes = 0
        self._unsettled.clear()
        self._content_bytes = 0

    def _release(self, session: Session, lowest: int) -> None:
        kept, freed, content = session.kept, 0, 0
        while kept:
            request, count, _, _, mark, outcomes = kept[0]
            if request + count > lowest:
                break
            freed += len(outcomes) + KEPT_OVERHEAD_BYTES
            content += _content_bytes(mark)
            del kept[0]
        self._forget(session, freed, content)

    def _drop_oldest(self, session: Session) -> None:
        _, _, _, _, mark, outcomes = session.kept.popleft()
        self._forget(session, len(outcomes) + KEPT_OVERHEAD_BYTES, _content_bytes(mark))

    def _forget(self, session: Session, kept_bytes: int, content_bytes: int) -> None:
        session.kept_bytes -= kept_bytes
        self._kept_bytes -= kept_bytes
        session.content_bytes -= content_bytes
        self._content_bytes -= content_bytes

    def snapshot(self) -> list[Any]:
        """The table as plain data."""
        return [
            [one.id, one.nonce, one.last, one.time, list(map(list, map(_settled, one.kept)))]
            for one in self._sessions.values()
        ]

    def restore(self, data: list[Any]) -> None:
        """Become the table that `snapshot` returned."""
        self._sessions.clear()
        self._unused.clear()
        self._nonces.clear()
        self._unsettled.clear()
        self._content_bytes = 0
        self._kept_bytes = 0
        for id_, nonce, last, time, kept in data:
            session = Session(id_, nonce, time)
            session.last = last
            session.kept.extend(Kept(*item) for item in kept)
            session.kept_bytes = sum(len(item.outcomes) + KEPT_OVERHEAD_BYTES for item in session.kept)
            self._sessions[id_] = session
            if not last:
                self._unused[id_] = None
            self._nonces[nonce] = id_
            self._kept_bytes += session.kept_bytes
        self._check()

    def _check(self) -> None:
        assert len(self._nonces) == len(self._sessions)
        assert self._kept_bytes == sum(one.kept_bytes for one in self._sessions.values())
        content = {one.id: sum(_content_bytes(kept.mark) for kept in one.kept) for one in self._sessions.values()}
        assert {one.id: one.content_bytes for one in self._sessions.values()} == content
        assert self._content_bytes == sum(content.values())
        assert all(one in self._unsettled for one, size in content.items() if size)
        assert list(self._unused) == [one.id for one in self._sessions.values() if not one.last]
        times = [one.time for one in self._sessions.values()]
        assert times == sorted(times), "sessions stand in the order of their last activity"
