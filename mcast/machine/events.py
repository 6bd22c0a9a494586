"""Client events out of the log: applied frames and the outcomes of their records, read without a machine.

An event here is a command that took effect. Numbers are skipped where there is none: internal events, sessions'
records, repetitions of a request, fragments (a fragmented command has the number of its last one).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final, NamedTuple

from mcast.errors import DecodeError
from mcast.machine.commands import decode_commands_untrusted
from mcast.machine.fragments import Assembly
from mcast.machine.outcomes import decode_outcomes_untrusted
from mcast.wire.frame import Frame
from mcast.wire.records import Record, RecordKind, list_records_untrusted

AHEAD_BYTES_MAX: Final = 256 << 20  # bytes of outcomes that came before their frames


class Event(NamedTuple):
    """One command as it took effect: "ok" with `value`, "rejected" or "failed" with `error`.

    `time` is the sequencer's when it numbered the event, in ns since 1970. `name` is "" for what was no command.
    """

    seq: int
    epoch: int
    time: int
    name: str
    args: list[Any]
    outcome: str
    value: Any
    error: str | None


class EventReader:
    """Reads one stream of frames, in order, into the events from number `first` on, each once.

    `next` is the number from which to go on with another stream, after `restart`.
    """

    def __init__(self, first: int) -> None:
        self.next = first
        self._expected: int | None = None
        self._outcomes: dict[int, bytes] = {}
        self._ahead_bytes = 0
        self._assembly = Assembly()

    def restart(self) -> None:
        """Another stream begins: its first frame holds event `next`, or the beginning of the command that does."""
        self._expected = None
        self._outcomes.clear()
        self._ahead_bytes = 0
        self._assembly = Assembly()

    def read(self, outcomes: Sequence[tuple[int, bytes]], frames: Sequence[Frame]) -> list[Event]:
        """The events in what follows; of an event's outcomes and its frame, the outcomes come first.

        Raises:
            DecodeError: a hole between frames, or outcomes that do not fit. `restart` before going on.
        """
        self._outcomes.update(outcomes)
        self._ahead_bytes += sum(len(packed) for _, packed in outcomes)
        if self._ahead_bytes > AHEAD_BYTES_MAX:
            raise DecodeError("bad events", f"{self._ahead_bytes} bytes of outcomes without their frames")
        events: list[Event] = []
        for frame in frames:
            if frame.first > self.next if self._expected is None else frame.first != self._expected:
                raise DecodeError("bad events", f"frame {frame.first} where {self._expected or self.next} was due")
            self._read_frame(frame, events)
            self._expected = frame.last + 1
            self.next = max(self.next, frame.last + 1)
            if self._outcomes and min(self._outcomes) <= frame.last:  # of what came before the first frame
                self._outcomes = {seq: packed for seq, packed in self._outcomes.items() if seq > frame.last}
            self._ahead_bytes = sum(map(len, self._outcomes.values()))
        return events

    def _read_frame(self, frame: Frame, events: list[Event]) -> None:
        try:
            records = list_records_untrusted(frame.body)
        except DecodeError:
            records = []
        if sum(record.count for record in records) != frame.count:  # as the engine: such a frame has no effect
            self._assembly.interrupt(0)
            return
        seq = frame.first
        for record in records:
            if record.kind == RecordKind.FRAGMENT:
                command = self._assembly.add(record)
                outcomes = self._outcomes.pop(seq, None)
                if outcomes is not None and seq >= self.next:
                    if command is None:
                        raise DecodeError("bad events", f"the first fragments of command {seq} are missing")
                    _decode(record, command, seq, frame, outcomes, seq, events)
            else:
                self._assembly.interrupt(record.kind)
                outcomes = self._outcomes.pop(seq, None) if record.kind == RecordKind.COMMANDS else None
                if outcomes is not None and seq + record.count > self.next:
                    _decode(record, record.payload, seq, frame, outcomes, self.next, events)
            seq += record.count


def _decode(  # noqa: PLR0913 - the record, where it stands, and where its events go
    record: Record, payload: bytes | memoryview, seq: int, frame: Frame, packed: bytes, first: int, events: list[Event]
) -> None:
    """Append the events of an executed record, from number `first` on."""
    outcomes = decode_outcomes_untrusted(packed)
    if len(outcomes) != record.count:
        raise DecodeError("bad events", f"{len(outcomes)} outcomes of {record.count} commands")
    try:
        commands = decode_commands_untrusted(payload, record.count)
    except DecodeError:  # no honest client's: they failed, whatever they were meant to be
        commands = [None] * record.count
    epoch, time = frame.epoch, frame.time
    numbers = range(seq, seq + record.count)
    for number, command, (outcome, value, error) in zip(numbers, commands, outcomes, strict=True):
        if number >= first:
            named = command.__class__ is list and command and command[0].__class__ is str
            name, args = (command[0], command[1:]) if named else ("", [])
            events.append(Event(number, epoch, time, name, args, outcome, value, error))
