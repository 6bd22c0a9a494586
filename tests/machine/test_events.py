"""Events read out of frames and outcomes: what the engine did, and nothing else."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgpack
import pytest

from mcast.errors import DecodeError
from mcast.machine.api import StateMachine, command
from mcast.machine.commands import encode_command
from mcast.machine.engine import Engine
from mcast.machine.events import Event, EventReader
from mcast.wire.events import Executed
from mcast.wire.frame import CHAIN_ZERO, Frame, make_frame
from mcast.wire.records import RecordKind, decode_records_untrusted, encode_record, split_fragments


class Divider(StateMachine):
    """Divides."""

    @command
    def divide(self, ctx: Any, a: int, b: int) -> int:
        """Fails for b = 0."""
        return a // b

    @command
    def size(self, ctx: Any, text: str) -> int:
        """The length of a large argument."""
        return len(text)

    def snapshot(self) -> None:
        """Nothing."""

    def restore(self, data: Any) -> None:
        """Nothing."""


class Log:
    """Frames of given records, applied; and what the engine told of each."""

    def __init__(self) -> None:
        self.frames: list[Frame] = []
        self.outcomes: list[tuple[int, bytes]] = []
        self._engine = Engine(Divider())
        self._engine.on_frames = self._applied
        self._session = 0

    def add(self, *records: bytes, epoch: int = 1, body: bytes | None = None) -> None:
        data = b"".join(records) if body is None else body
        count = sum(record.count for record in decode_records_untrusted(data)) if body is None else 2
        chain, last = (self.frames[-1].chain, self.frames[-1].last) if self.frames else (CHAIN_ZERO, 0)
        self.frames.append(make_frame(epoch, last + 1, count, last, 1_000 * (last + 1), chain, data))
        self._engine.apply(self.frames[-1:])

    def _applied(self, frames: Sequence[Frame], executed: Sequence[Executed]) -> None:
        self.outcomes += [one for records in executed for one in records]

    def read(self, first: int = 1, start: int = 0) -> list[Event]:
        return EventReader(first).read(self.outcomes, self.frames[start:])


OPEN = encode_record(RecordKind.OPEN, 1, 0, 0, 0, bytes(16))


def commands(request: int, *each: Sequence[Any], session: int = 1) -> bytes:
    payload = b"".join(encode_command(*one) for one in each)
    return encode_record(RecordKind.COMMANDS, len(each), session, request, request, payload)


@pytest.fixture
def log() -> Log:
    made = Log()
    made.add(OPEN)
    return made


def test_every_outcome_with_its_event(log: Log) -> None:
    log.add(commands(1, ("divide", 6, 2), ("divide", 1, 0)), commands(3, ("divide", 9, 3)))
    log.add(commands(4, ("divide", 8, 4)), epoch=2)
    assert log.read() == [
        Event(2, 1, 2_000, "divide", [6, 2], "ok", 3, None),
        Event(3, 1, 2_000, "divide", [1, 0], "failed", None, "ZeroDivisionError"),
        Event(4, 1, 2_000, "divide", [9, 3], "ok", 3, None),
        Event(5, 2, 5_000, "divide", [8, 4], "ok", 2, None),
    ]
    for first in range(1, 7):
        assert [event.seq for event in log.read(first)] == [seq for seq in (2, 3, 4, 5) if seq >= first]


def test_what_had_no_effect_is_no_event(log: Log) -> None:
    log.add(commands(1, ("divide", 6, 2)), commands(1, ("divide", 6, 2)), commands(7, ("divide", 1, 1)))
    log.add(encode_record(RecordKind.NOOP, 1, 1, 2, 2, b""), commands(3, ("divide", 1, 1), session=99))
    log.add(encode_record(RecordKind.EPOCH_START, 1, 0, 0, 0, b"x"), epoch=2)
    log.add(body=b"\xff" * 40)
    log.add(encode_record(RecordKind.CLOSE, 1, 1, 3, 3, b""), epoch=2)
    assert [event.seq for event in log.read()] == [2]


def test_a_fragmented_command_has_its_last_fragments_number_wherever_reading_begins(log: Log) -> None:
    for fragment in split_fragments(1, 1, 1, encode_command("size", "x" * 500), 200):
        log.add(fragment)
    last = log.frames[-1].last
    log.add(commands(2, ("divide", 4, 2)))
    (event, after) = log.read()
    assert (event.seq, event.name, event.value, after.seq) == (last, "size", 500, last + 1)
    for first in range(1, last + 1):
        assert log.read(first)[0] == event
    assert log.read(last + 1) == [after]
    assert log.read(last + 1, start=3) == [after], "the rest of a command that is not wanted"
    with pytest.raises(DecodeError, match="first fragments"):
        log.read(last - 1, start=3)


def test_a_fragmented_command_cut_by_an_epoch_is_read_when_it_was_sent_again(log: Log) -> None:
    fragments = split_fragments(1, 1, 1, encode_command("size", "x" * 500), 200)
    log.add(*fragments[:2])
    log.add(encode_record(RecordKind.EPOCH_START, 1, 0, 0, 0, b"x"), epoch=2)
    log.add(*fragments[2:], epoch=2)
    log.add(*fragments, epoch=2)
    assert [(event.seq, event.value) for event in log.read()] == [(log.frames[-1].last, 500)]


def test_holes_and_misfits_are_refused(log: Log) -> None:
    log.add(commands(1, ("divide", 6, 2)))
    log.add(commands(2, ("divide", 6, 2)))
    reader = EventReader(1)
    with pytest.raises(DecodeError, match="where 1 was due"):
        reader.read([], log.frames[1:])
    with pytest.raises(DecodeError, match="where 2 was due"):
        reader.read([], [log.frames[0], log.frames[2]])
    reader.restart()
    assert reader.next == 2
    with pytest.raises(DecodeError, match="2 outcomes of 1"):
        reader.read([(2, msgpack.packb([[1, 2], {}]))], log.frames)
    with pytest.raises(DecodeError):
        EventReader(1).read([(2, b"garbage")], log.frames)


def test_another_stream_goes_on_without_repeating_or_leaving_out(log: Log) -> None:
    for request in range(1, 6):
        log.add(commands(request, ("divide", request, 1)))
    reader = EventReader(1)
    events = reader.read(log.outcomes, log.frames[:3])
    reader.restart()
    events += reader.read(log.outcomes, log.frames[1:])
    assert [event.value for event in events] == [1, 2, 3, 4, 5]


def test_what_is_no_command_is_an_event_without_a_name(log: Log) -> None:
    log.add(encode_record(RecordKind.COMMANDS, 1, 1, 1, 1, msgpack.packb(7)))
    log.add(encode_record(RecordKind.COMMANDS, 2, 1, 2, 2, b"\xc1\xc1"))
    assert [(event.name, event.args, event.outcome) for event in log.read()] == [("", [], "failed")] * 3


def test_outcomes_far_ahead_of_their_frames_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mcast.machine.events.AHEAD_BYTES_MAX", 10)
    with pytest.raises(DecodeError, match="without their frames"):
        EventReader(1).read([(2, bytes(11))], [])
