"""Applies committed frames to a state machine, in order, each event once; keeps the sessions and the result chain."""

from __future__ import annotations

import math
import struct
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from itertools import chain as chain_of
from itertools import repeat
from operator import add
from typing import Any, Final, Literal, NamedTuple

from mcast.errors import DecodeError, Halted, QueryFailed, Refused, Rejected
from mcast.machine.api import Arity, StateMachine
from mcast.machine.batches import BATCH_FRAMES_MIN, batch_of
from mcast.machine.canonical import digest
from mcast.machine.commands import decode_small_records_untrusted
from mcast.machine.executor import RUN_MIN, Executor, Observer
from mcast.machine.fragments import Assembly
from mcast.machine.interrupts import on_purpose
from mcast.machine.marks import ChainMark, Marks, chosen
from mcast.machine.outcomes import NOTHING, rejection_text
from mcast.machine.resultchain import ResultChain
from mcast.machine.sessions import APPLIED, SESSION_EXPIRED, ContentMark, Kept, Session, SessionTable, mark_of
from mcast.wire.events import Executed
from mcast.wire.frame import CHAIN_ZERO, Frame
from mcast.wire.messages import decode_genesis_untrusted, decode_recovery_untrusted
from mcast.wire.records import (
    NONCE_BYTES,
    RECORD_HEADER_BYTES,
    Record,
    RecordKind,
    list_records_untrusted,
    sole_commands_untrusted,
)

_FRAME: Final = struct.Struct("!QQI")
_RECORD: Final = struct.Struct("!BIQQ")
_SOLE: Final = struct.Struct("!QQIBIQQ")
"""_FRAME and _RECORD: all of the proof of a frame with one executed record, but its outcomes."""
_MALFORMED: Final = b"\xff"
_COMMANDS: Final = int(RecordKind.COMMANDS)
_FRAGMENT: Final = int(RecordKind.FRAGMENT)
_NOOP: Final = int(RecordKind.NOOP)


class Applied(NamedTuple):
    """What became of one record of a watched session, or of an OPEN with a watched nonce.

    `seq` is the number of the record's first event, of a fragmented command its last. For REUSED, the fields are those
    of what is kept under the record's number. OPEN gets SESSION_EXPIRED when the table is full.
    """

    kind: Literal["result", "opened"]
    session: int
    request: int
    count: int  # type: ignore[assignment] # shadows tuple.count, as Frame's does
    seq: int
    epoch: int
    status: int
    outcomes: bytes
    nonce: bytes
    expected: int
    """The session's next request number."""
    mark: ContentMark = 0
    """Tells whose content `outcomes` are of: two may compete for one request number."""


class _Paused(NamedTuple):
    """A frame of which one record is half executed."""

    frame: Frame
    record: Any
    payload: bytes | memoryview
    seq: int
    at: int
    """Where the record begins in the body."""
    rest: Iterator[Any]
    proof: list[bytes]
    executions: list[tuple[int, bytes]]


_applied: Final = partial(tuple.__new__, Applied)  # as Applied(...), in half the time
_kept: Final = partial(tuple.__new__, Kept)


class Engine:
    """One replica's machine with its sessions. Public fields are read-only to others.

    `contiguous` and `cut` are safety rules, switched off only to show that tests would notice; `runs` says whether run
    handlers are used, which must make no difference. `clock` is what `apply_until` looks at.
    """

    def __init__(
        self, machine: StateMachine, *, contiguous: bool = True, cut: bool = True, runs: bool = True,
        clock: Callable[[], float] = float,
    ) -> None:  # fmt: skip
        self.machine = machine
        self.commands: dict[str, Arity] = machine.commands()
        self.queries: dict[str, Arity] = machine.queries()
        self.applied_seq = 0
        self.applied_epoch = 0
        self.chain = CHAIN_ZERO
        self.cluster_uuid: bytes | None = None
        self.sessions = SessionTable(contiguous=contiguous)
        self.on_frames: Callable[[Sequence[Frame], Sequence[Executed]], None] | None = None
        """Called with applied frames and what was executed of each."""
        self._results = ResultChain()
        self._marks = Marks()
        self._marked: tuple[int, list[ChainMark]] = 0, []
        self._executor = Executor(machine, runs=runs, clock=clock)
        self._assembly = Assembly(cut=cut)
        self._paused: _Paused | None = None
        self._watched: set[int] = set()
        self._watched_nonces: set[bytes] = set()
        self._halted: Halted | None = None

    def apply(self, frames: Sequence[Frame]) -> list[Applied]:
        """Apply the frames that follow; what became of watched sessions' records, in order.

        Raises:
            Halted: a handler ran out of memory or stack, or the frames don't follow. The engine is unusable then.
        """
        return self.apply_until(frames, math.inf)[1]

    def apply_until(self, frames: Sequence[Frame], until: float) -> tuple[int, list[Applied]]:
        """Apply the frames that follow until the clock says `until`, at least one command: how many, and as `apply`.

        The next call goes on with the first frame that was not wholly applied. Between commands, not inside a handler,
        is where it stops; `reached` says where, `applied_seq` keeps to frames.

        Raises Halted as `apply`.
        """
        if self._halted is not None:
            raise self._halted
        applied: list[Applied] = []
        by_frame: list[Executed] = []
        executor = self._executor
        executor.until = until
        at, end = 0, len(frames)
        try:
            while at < end:
                begins = end - at >= BATCH_FRAMES_MIN and frames[at].count < RUN_MIN and self._paused is None
                if not begins or not self._apply_batch(frames, at, applied, by_frame):
                    self._apply_frame(frames[at], applied, by_frame)
                at = len(by_frame)
                if self._paused is not None or executor.clock() >= until:
                    break
        except Halted as halted:
            self._halted = halted
            raise
        if self.on_frames is not None and at:
            self.on_frames(frames if at == end else frames[:at], by_frame)
        return at, applied

    def observe(self, observer: Observer) -> None:
        """Tell this one from now on what handlers do that is in no outcome."""
        self._executor.observer = observer

    def watch(self, session: int) -> None:
        """Report this session's records from now on."""
        self._watched.add(session)

    def unwatch(self, session: int) -> None:
        """Report this session's records no longer."""
        self._watched.discard(session)

    def watch_nonce(self, nonce: bytes) -> None:
        """Report the OPENs with this nonce, until `unwatch_nonce`."""
        self._watched_nonces.add(nonce)

    def unwatch_nonce(self, nonce: bytes) -> None:
        """Report OPENs with this nonce no longer."""
        self._watched_nonces.discard(nonce)

    def query(self, name: str, args: Sequence[Any]) -> Any:
        """Ask the machine, as of `applied_seq`. The value may be part of the state: encode it before the next apply.

        Raises:
            Refused: no such query, or not with that many arguments.
            QueryFailed: its handler raised.
        """
        arity = self.queries.get(name) if isinstance(name, str) else None
        if arity is None:
            raise Refused(f"no query named {name!r}; there are: {', '.join(self.queries) or 'none'}")
        if not arity[0] <= len(args) <= arity[1]:
            raise Refused(f"query {name} takes {_range(arity)}, not {len(args)}")
        try:
            return getattr(self.machine, name)(*args)
        except Rejected as rejected:
            raise QueryFailed(rejection_text(rejected), rejected=True) from None
        except BaseException as error:  # CancelledError is none of Exception's; who raises it here means this query
            if isinstance(error, KeyboardInterrupt) and not on_purpose(error):
                raise
            raise QueryFailed(type(error).__name__) from error

    @property
    def is_mid_command(self) -> bool:
        """Whether a frame is half applied, or left a fragmented command incomplete: no snapshot or digest then."""
        return self._assembly.partial or self._paused is not None

    @property
    def reached(self) -> tuple[int, int]:
        """The last event that is in the state, and its epoch: beyond `applied_seq` inside a half applied frame."""
        if self._paused is None:
            return self.applied_seq, self.applied_epoch
        return self._executor.reached, self._paused.frame.epoch

    @property
    def result_chain(self) -> bytes:
        """See `resultchain`."""
        return self._results.value

    def marks(self) -> list[ChainMark]:
        """The result chain at some frames' ends, so chosen that any two replicas know some of the same."""
        if self._marked[0] != self.applied_seq:
            heads = [_FRAME.unpack_from(proof) for proof in self._results.recent]
            recent = chosen([first + count - 1 for _, first, count in heads])
            values = self._results.values_at(recent)
            marks = [
                ChainMark(heads[at][1] + heads[at][2] - 1, None, value)
                for at, value in zip(recent, values, strict=True)
            ]
            whole = self._marks.in_order()
            known = {mark.seq for mark in whole}
            self._marked = self.applied_seq, sorted([*whole, *[mark for mark in marks if mark.seq not in known]])
        return self._marked[1]

    def digest(self) -> bytes:
        """The state digest: over the machine's snapshot and the sessions, canonically encoded.

        Raises:
            TypeError, ValueError: the machine's snapshot is not plain data.
        """
        return digest([self.machine.snapshot(), self.sessions.snapshot()])

    def snapshot(self) -> dict[str, Any]:
        """Everything needed to go on from `applied_seq`, as plain data for `encode_ordered`; not `is_mid_command`."""
        assert not self.is_mid_command, "no snapshot falls inside a fragmented command"
        return {
            "version": self.machine.version,
            "cluster_uuid": self.cluster_uuid,
            "seq": self.applied_seq,
            "epoch": self.applied_epoch,
            "chain": self.chain,
            "results": self._results.snapshot(),
            "sessions": self.sessions.snapshot(),
            "machine": self.machine.snapshot(),
        }

    def restore(self, data: dict[str, Any]) -> None:
        """Go on from what `snapshot` returned, on an engine that has applied nothing."""
        assert self.applied_seq == 0, "restore comes before any event"
        self.cluster_uuid = data["cluster_uuid"]
        if self.cluster_uuid is not None:
            self._executor.context.set_cluster_uuid(self.cluster_uuid)
        self.applied_seq, self.applied_epoch = data["seq"], data["epoch"]
        self.chain = data["chain"]
        self._results.restore(data["results"])
        self.sessions.restore(data["sessions"])
        self.machine.restore(data["machine"])

    def _apply_batch(self, frames: Sequence[Frame], at: int, applied: list[Applied], by_frame: list[Executed]) -> bool:
        """Apply as many of these frames, from index `at` on, as make up a batch; False: none were.

        If something is special about it, all of it goes frame by frame: looking anew behind each would cost the square.
        """
        batch = None if self._assembly.partial else batch_of(frames, at)
        if batch is None:
            return False
        number, firsts, counts, requests, lowests, records, payloads = batch
        epoch, first, _, _, time, _, _, _ = frames[at]
        session = self.sessions.find_expecting(number, requests[0]) if first == self.applied_seq + 1 else None
        commands = decode_small_records_untrusted(payloads, counts) if session is not None else None
        if session is None or commands is None:
            for frame in frames[at : at + len(firsts)]:
                self._apply_frame(frame, applied, by_frame)
                if self._paused is not None or self._executor.clock() >= self._executor.until:
                    break
            return True
        self.sessions.find(number, time)
        self._executor.context.enter(epoch, time)
        outcomes = self._executor.run_small_records(commands, counts, first)
        if (whole := len(outcomes)) < len(records):
            if self._executor.is_mid_record:
                begun = frames[at + whole]
                sole, proof = sole_commands_untrusted(begun.body), [_FRAME.pack(epoch, firsts[whole], counts[whole])]
                self._paused = _Paused(begun, sole, payloads[whole], firsts[whole], 0, iter(()), proof, [])
            if not whole:
                return True
            del firsts[whole:], counts[whole:], requests[whole:], lowests[whole:], records[whole:]
        kept = list(map(_kept, zip(requests, counts, firsts, repeat(epoch), records, outcomes, strict=False)))
        self.sessions.keep_all(session, kept, lowests, sum(map(len, records)))
        sizes = map(len, outcomes)
        heads = map(_SOLE.pack, repeat(epoch), firsts, counts, repeat(APPLIED), sizes, repeat(number), requests)
        for index, value in self._results.add(list(map(add, heads, outcomes))):
            self._mark(frames[at + index], value)
        by_frame += zip(zip(firsts, outcomes, strict=True), strict=True)
        if number in self._watched:
            applied += [
                _applied(("result", number, request, count, seq, epoch, APPLIED, executed, b"", request + count, mark))
                for request, count, seq, _, mark, executed in kept
            ]
        self.applied_seq = firsts[-1] + counts[-1] - 1
        self.applied_epoch = epoch
        self.chain = frames[at + len(firsts) - 1].chain
        return True

    def _apply_frame(self, frame: Frame, applied: list[Applied], by_frame: list[Executed]) -> None:
        """Apply a frame, or the rest of one; `by_frame` grows with the frame's end, and there is `_paused` before."""
        epoch, first, count, _, time, chain, body, _ = frame
        if first != self.applied_seq + 1:
            raise Halted(f"frame {first}..{frame.last} does not follow event {self.applied_seq}")
        sessions, executor, assembly = self.sessions, self._executor, self._assembly
        records: Iterator[Any]
        executions: list[tuple[int, bytes]]
        begun: Any = None
        paused, self._paused = self._paused, None
        if paused is None:
            executor.context.enter(epoch, time)
            proof, executions, seq, at = [_FRAME.pack(epoch, first, count)], [], first, 0
            sole = sole_commands_untrusted(body)
            records = iter((sole,) if sole is not None and sole[1] == count else self._records(frame, proof))
        else:
            _, begun, _, seq, at, records, proof, executions = paused
            records = chain_of((begun,), records)
        for record in records:
            kind, events, number, request, lowest, content = record
            began, at = at, at + RECORD_HEADER_BYTES + len(content)
            payload: bytes | memoryview | None = content
            if record is begun and paused is not None:
                payload = paused.payload
            else:
                if kind != _FRAGMENT and assembly.partial:
                    assembly.interrupt(kind)
                if kind != _COMMANDS:
                    payload = self._apply_other(Record._make(record), seq, frame, proof, applied)
            if payload is None:
                seq += events
                continue
            mark: ContentMark = body[began:at] if kind == _COMMANDS else mark_of(kind, events, payload)
            status, session, kept = sessions.judge(number, time, request, lowest, mark)
            executed = b""
            if session is not None and kept is None and status == APPLIED:
                if kind == _NOOP:
                    executed = NOTHING
                else:
                    outcomes = executor.run(payload, events, seq)
                    if outcomes is None:
                        self._paused = _Paused(frame, record, payload, seq, began, records, proof, executions)
                        return
                    executed = outcomes
                    executions.append((seq, executed))
                kept = _kept((request, events, seq, epoch, mark, executed))
                sessions.keep(session, kept)
            proof += (_RECORD.pack(status, len(executed), number, request), executed)
            if number in self._watched:
                about = kept or Kept(request, events, seq, epoch, mark if session is not None else 0, b"")
                applied.append(_result(session, number, status, about))
            seq += events
        self.applied_seq = first + count - 1
        self.applied_epoch = epoch
        self.chain = chain
        for _, value in self._results.add([b"".join(proof)]):
            self._mark(frame, value)
        by_frame.append(executions)

    def _mark(self, frame: Frame, results: bytes) -> None:
        self._marks.add(ChainMark(frame.last, frame.chain, results))

    def _records(self, frame: Frame, proof: list[bytes]) -> list[Record]:
        """A frame's records, whatever they are: the general case of what `sole_commands_untrusted` reads."""
        try:
            records = list_records_untrusted(frame.body)
            if sum([record.count for record in records]) != frame.count:
                raise DecodeError("bad frame", "records do not make up its count")
        except DecodeError:  # only a broken sequencer numbers such a frame; it is one and the same on every replica
            self._assembly.interrupt(0)
            proof.append(_MALFORMED)
            return []
        return records

    def _apply_other(
        self, record: Record, seq: int, frame: Frame, proof: list[bytes], applied: list[Applied]
    ) -> bytes | memoryview | None:
        """Apply a record that is not of COMMANDS. If it takes a request's place, what is to be settled there."""
        kind = record.kind
        if kind == _FRAGMENT:
            return self._assembly.add(record)
        if kind == _NOOP:
            return record.payload
        if kind == RecordKind.OPEN:
            self._open(record, seq, frame, proof, applied)
        elif kind == RecordKind.CLOSE:
            closed = self.sessions.close(record.session)
            status = APPLIED if closed else SESSION_EXPIRED
            proof.append(_RECORD.pack(status, 0, record.session, record.request))
            if record.session in self._watched:
                applied.append(
                    Applied("result", record.session, record.request, 1, seq, frame.epoch, status, b"", b"", 0)
                )
        elif kind == RecordKind.GENESIS or kind == RecordKind.RECOVERY:
            self._learn_cluster_uuid(record)
        return None

    def _open(self, record: Record, seq: int, frame: Frame, proof: list[bytes], applied: list[Applied]) -> None:
        nonce = bytes(record.payload)
        session = self.sessions.open(nonce, seq, frame.time) if len(nonce) == NONCE_BYTES else 0
        status = APPLIED if session else SESSION_EXPIRED
        proof.append(_RECORD.pack(status, 0, session, 0))
        if nonce in self._watched_nonces:
            found = self.sessions.find(session, frame.time)
            expected = found.last + 1 if found is not None else 0
            applied.append(Applied("opened", session, 0, 1, seq, frame.epoch, status, b"", nonce, expected))

    def _learn_cluster_uuid(self, record: Record) -> None:
        decode = decode_genesis_untrusted if record.kind == RecordKind.GENESIS else decode_recovery_untrusted
        try:
            self.cluster_uuid = decode(record.payload).cluster_uuid
        except DecodeError as error:
            raise Halted(f"{RecordKind(record.kind).name} does not decode: {error}") from error
        if record.kind == RecordKind.RECOVERY:
            self.sessions.restore([])  # requests that clients saw applied may be lost: no number can go on from here
        self._executor.context.set_cluster_uuid(self.cluster_uuid)


def _result(session: Session | None, number: int, status: int, kept: Kept) -> Applied:
    """The result of a request: `kept` is what is remembered of it, or of the other content under its number."""
    request, count, seq, epoch, mark, outcomes = kept
    expected = session.last + 1 if session is not None else 0
    return _applied(("result", number, request, count, seq, epoch, status, outcomes, b"", expected, mark))


def _range(arity: Arity) -> str:
    fewest, most = arity
    takes = str(fewest) if fewest == most else f"{fewest} to {most}"
    return f"{takes} argument{'' if fewest == most == 1 else 's'}"
