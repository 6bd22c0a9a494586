"""One session's bookkeeping: what waits, what is numbered and unanswered, and what its gateway must hear again.

Numbers are used only when a record is written, so a command that never left needs none. A record, once numbered, keeps
its bytes until it is answered: whichever gateway the client moves to hears the same bytes under the same numbers, in
order, and the replicas apply each number once. A number nobody waits for any more still has to be filled, or all later
ones would be out of order: a single command's is filled by a NOOP, which cannot take effect late; a batch's record is
sent again. Either way the number's answer comes some time, and tells what happened.

No I/O here: methods return the groups to submit, each as its records' bytes.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from itertools import groupby
from typing import Final

from mcast.client.calls import Call, Entry
from mcast.client.receipts import RecordResult
from mcast.errors import DecodeError, Error, NotSent, Refused, Unknown
from mcast.limits import SESSION_PENDING_RECORDS_MAX
from mcast.machine.outcomes import NOTHING, nothing_returned
from mcast.wire.groups import Result
from mcast.wire.records import RECORD_HEADER_BYTES, RecordKind, encode_record, pack_commands_head, split_fragments
from mcast.wire.stream import Opened, Status

OUTSTANDING_BYTES_MAX: Final = 4 << 20  # bytes of unanswered records; one more record may exceed it
BEHIND_MAX: Final = 5  # answers in a row, at least 0.2 s apart, that ask for something answered: then it is lost
_APPLIED: Final = int(Status.APPLIED)
_ALIKE: Final = int(Status.ALIKE)
_OTHER: Final = "the command did not happen: its request number was used for another one"


class Pending:
    """One numbered, unanswered group and the entries packed into it, `count` commands in all."""

    __slots__ = ("count", "entries", "filled", "group", "resent")

    def __init__(self, group: bytes, count: int, entries: list[Entry]) -> None:
        self.group = group
        self.count = count
        self.entries = entries
        self.filled = False
        """Whether a NOOP competes with it for its number."""
        self.resent = False
        """Whether more than one gateway may have it: what one of them says need not be the first that was said."""


class ClientSession:
    """A queue of entries, and the window of records that were sent under this session's numbers.

    `draw_nonce` gives 16 random bytes, anew for each life of the session.
    """

    def __init__(self, draw_nonce: Callable[[], bytes], record_max: int) -> None:
        self.record_max = record_max
        self.id: int | None = None
        self.queue: deque[Entry] = deque()
        self.queued_bytes = 0
        self.pending: dict[int, Pending] = {}
        self.pending_bytes = 0
        self.last_seq = 0
        self._draw_nonce = draw_nonce
        self._nonce = draw_nonce()
        self._next_request = 1
        self._opening = False
        self._behind = 0
        """Answers in a row that tell of a session which knows less than it acknowledged."""

    @property
    def is_busy(self) -> bool:
        """Whether anything waits for an answer."""
        return bool(self.pending or self.queue or self._opening)

    def enqueue(self, *entries: Entry) -> None:
        """Line the entries up behind the others."""
        self.queue.extend(entries)
        self.queued_bytes += sum([len(entry.payload) for entry in entries])

    def take(self) -> list[bytes]:
        """Number what may go out now. The session is opened first if need be."""
        self._drop_given_up()
        if not self.queue:
            return []
        if self.id is None:
            if self._opening:
                return []
            self._opening = True
            return [self._open_group()]
        queue, pending, groups = self.queue, self.pending, []
        lowest = self._lowest()
        while queue and len(pending) < SESSION_PENDING_RECORDS_MAX and self.pending_bytes < OUTSTANDING_BYTES_MAX:
            entry = queue.popleft()
            self.queued_bytes -= len(entry.payload)
            if not entry.given_up:
                groups.append(self._number(self._next_record(entry) if entry.call.mergeable else [entry], lowest))
        self._drop_given_up()
        return groups

    def resend(self) -> list[bytes]:
        """Everything unanswered, in order: for a new gateway, or after a request went missing."""
        if self.id is None:
            return [self._open_group()] if self._opening else []
        for pending in self.pending.values():
            pending.resent = True
        return [pending.group for pending in self.pending.values()]

    def give_up(self, entry: Entry) -> list[bytes]:
        """The entry's caller waits no longer; what fills its number."""
        entry.given_up = True
        pending = self.pending.get(entry.request)
        if not entry.is_numbered or pending is None or pending.count > 1 or pending.entries != [entry]:
            return []
        assert self.id is not None
        noop = encode_record(RecordKind.NOOP, 1, self.id, entry.request, self._lowest(), b"")
        pending.filled = True
        self.pending_bytes += len(noop) - len(pending.group)
        pending.group = noop
        return [noop]

    def on_opened(self, opened: Opened) -> None:
        """The cluster knows the session. An answer to an older nonce is ignored."""
        if opened.nonce != self._nonce or self.id is not None:
            return
        if opened.session == 0:
            self.renew()
            for entry in self.queue:
                entry.given_up = True
                entry.call.on_failure(
                    entry, Refused("the cluster holds as many sessions as it may, or as one address may open")
                )
        else:
            self.id = opened.session
            self._opening = False
            self.last_seq = max(self.last_seq, opened.session)

    def on_result(self, result: Result) -> bool:
        """Settle one record; whether the unanswered ones must be sent again.

        Raises:
            DecodeError: the answer does not fit the record.
        """
        session, request, events, seq, epoch, status, outcomes = result
        pending = self.pending.get(request)
        if session != self.id or pending is None:
            return False
        if status != _APPLIED or pending.filled:
            if status == Status.OUT_OF_ORDER:
                return self._on_out_of_order(expected=seq)
            if status == Status.EXPIRED:
                self._expire("the cluster no longer knows the session")
                return False
            error = _why_not(pending, result)
        elif events != pending.count:
            raise DecodeError("bad result", f"{events} of {pending.count} commands")
        else:
            error = None
        self._forget(request, pending, seq + events - 1)
        if error is not None:
            _fail(pending, error)
            return False
        record = RecordResult(seq, epoch, events, outcomes)
        offset = 0
        for entry in pending.entries:
            try:
                entry.call.on_answer(entry, record, offset)
            except DecodeError as undecodable:
                entry.call.on_failure(entry, undecodable)
            offset += entry.count
        return False

    def on_results(self, results: Sequence[Result]) -> bool:
        """Settle records as `on_result` does, those of a batch together; whether the unanswered must be sent again."""
        again = False
        settled: list[tuple[Entry, RecordResult]] = []
        try:
            for result in results:
                if result.session != self.id or result.status not in (_APPLIED, _ALIKE):
                    _tell(settled)  # before that fails their batch
                    again |= self.on_result(result)
                    continue
                for request, pending, seq, outcomes in self._parts(result):
                    entries, count, epoch = pending.entries, pending.count, result.epoch
                    if pending.filled or entries[0].call.mergeable:
                        self.on_result(Result(result.session, request, count, seq, epoch, _APPLIED, outcomes))
                        continue
                    settled.append((entries[0], RecordResult(seq, epoch, count, outcomes)))
                    self._forget(request, pending, seq + count - 1)
        finally:  # whatever a later result is: no other gateway will be asked for these
            _tell(settled)
        return again

    def _parts(self, result: Result) -> list[tuple[int, Pending, int, bytes]]:
        """Request, record, first event and outcomes of each record that an applied result is about, if still awaited.

        Raises:
            DecodeError: its commands are not those of whole records; of one, unless it is ALIKE.
        """
        _, request, events, seq, _, status, outcomes = result
        pending = self.pending.get(request)
        if status == _APPLIED:
            if pending is not None and pending.count != events:
                raise DecodeError("bad result", f"{events} of {pending.count} commands")
            return [] if pending is None else [(request, pending, seq, outcomes)]
        parts, end = [], request + events
        if end > self._next_request:
            raise DecodeError("bad result", f"request {end - 1} of {self._next_request - 1}")
        if pending is None:
            answered = max(self._lowest() - request, 0)
            request, seq = request + answered, seq + answered
        while request < end:
            pending = self.pending.get(request)
            count = 1 if pending is None else pending.count
            if request + count > end:
                raise DecodeError("bad result", f"{events} commands, {count} in request {request}")
            if pending is not None:
                parts.append((request, pending, seq, nothing_returned(count)))
            request, seq = request + count, seq + count
        return parts

    def _forget(self, request: int, pending: Pending, last: int) -> None:
        """The record was answered; its last event is `last`."""
        del self.pending[request]
        self.pending_bytes -= len(pending.group)
        self._behind = 0
        if last > self.last_seq:
            self.last_seq = last

    def on_forgotten(self) -> None:
        """Another cluster answers under the name of the one that knew the session.

        A recovered one holds some of what the former had: whatever was sent may have happened.
        """
        self.last_seq = 0
        for pending in self.pending.values():
            pending.resent = True
        if self.id is not None:
            self._expire("the cluster was founded anew")

    def renew(self) -> None:
        """Begin again as another session. Nothing may be unanswered."""
        assert not self.pending, "a session with unanswered records cannot be renewed"
        self.id, self._nonce, self._next_request, self._opening = None, self._draw_nonce(), 1, False

    def close_group(self) -> list[bytes]:
        """What ends the session; [] if it was never opened or still waits for answers."""
        if self.id is None or self.pending:
            return []
        return [encode_record(RecordKind.CLOSE, 1, self.id, self._next_request, self._next_request, b"")]

    def _drop_given_up(self) -> None:
        while self.queue and self.queue[0].given_up:
            self.queued_bytes -= len(self.queue.popleft().payload)

    def _next_record(self, first: Entry) -> list[Entry]:
        """One record's worth: single commands that wait together travel together."""
        entries, queue = [first], self.queue
        room = self.record_max - RECORD_HEADER_BYTES - len(first.payload)
        while queue and queue[0].call.mergeable and len(queue[0].payload) <= room:
            entry = queue.popleft()
            self.queued_bytes -= len(entry.payload)
            if not entry.given_up:
                entries.append(entry)
                room -= len(entry.payload)
        return entries

    def _number(self, entries: list[Entry], lowest: int) -> bytes:
        session, request = self.id, self._next_request
        assert session is not None
        payload, count = entries[0].payload, entries[0].count
        if len(entries) > 1:
            payload = b"".join([entry.payload for entry in entries])
            count = sum([entry.count for entry in entries])
        length = len(payload)
        if length + RECORD_HEADER_BYTES > self.record_max:
            group = b"".join(split_fragments(session, request, lowest, payload, self.record_max))
        else:
            group = pack_commands_head(count, session, request, lowest, length) + payload
        self.pending[request] = Pending(group, count, entries)
        self.pending_bytes += len(group)
        self._next_request = request + count
        for entry in entries:
            entry.request = request
        return group

    def _lowest(self) -> int:
        """The lowest request whose outcome is waited for. Numbers only rise: the first pending one, or the next."""
        return next(iter(self.pending), self._next_request)

    def _open_group(self) -> bytes:
        return encode_record(RecordKind.OPEN, 1, 0, 0, 0, self._nonce)

    def _on_out_of_order(self, expected: int) -> bool:
        """Whether to send all again. A cluster that goes on asking for what it had answered has lost that."""
        if expected >= next(iter(self.pending)):
            return True
        self._behind += 1
        if self._behind < BEHIND_MAX:
            return True
        self._expire("the cluster has lost what it had acknowledged")
        return False

    def _expire(self, why: str) -> None:
        """The session is over: what one gateway alone had, and refused, did not happen; the rest may have, before."""
        unanswered = list(self.pending.values())
        self.pending.clear()
        self.pending_bytes = self._behind = 0
        self.renew()
        for pending in unanswered:
            if pending.resent:
                _fail(pending, Unknown(f"{why}; the command may have happened before"))
            else:
                _fail(pending, NotSent(f"{why}; the command did not happen"))


def _call_of(answer: tuple[Entry, RecordResult]) -> Call:
    return answer[0].call


def _tell(settled: list[tuple[Entry, RecordResult]]) -> None:
    """Tell each batch what its records came to; then nothing is left to tell."""
    for call, answers in groupby(settled, _call_of):
        call.on_answers(list(answers))
    settled.clear()


def _why_not(pending: Pending, result: Result) -> Error | None:
    """The error that a final answer means for the record's commands; None if it holds their outcomes."""
    if result.status == Status.OUTCOME_GONE:
        known = "whether it happened" if pending.filled else "it happened, but its outcome"
        return Unknown(f"{known} is no longer kept")
    if pending.filled:  # either of the two took effect, and REUSED comes with what is kept
        if result.outcomes == NOTHING:
            return NotSent("the command did not happen and never will: its request number was filled in time")
        return None if result.events == pending.count else Refused(_OTHER)
    return Refused(_OTHER) if result.status == Status.REUSED else None


def _fail(pending: Pending, error: Error) -> None:
    for entry in pending.entries:
        entry.call.on_failure(entry, error)
