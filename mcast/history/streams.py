"""What subscribers were given, and whether it was the log: in order, once, none missing, with the outcomes it had.

A subscription's history is made of stretches, each a call of `subscribe` at some node. A stretch may end anywhere, but
from its first number to the last event given it must be the log's own client events, none skipped.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, Literal

import msgpack
import msgspec

from mcast.history.calls import RecordedCall
from mcast.history.findings import Finding
from mcast.history.log import LoggedEvent, ReplicaLog
from mcast.history.model import Model, ModelOutcome

StreamEnd = Literal["left", "gone", "not_sent"]
"""The subscriber left; the events are no longer kept; no node took the subscription in time."""


class Given(msgspec.Struct, frozen=True, array_like=True):
    """One event as its subscriber got it, at `at_ns` of the clock that the calls go by."""

    seq: int
    epoch: int
    name: str
    args: list[Any]
    outcome: str
    value: Any
    at_ns: int


class Stretch(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One `subscribe` from event `first` on. `low_water` is what a Gone told; None for any other end."""

    subscriber: str
    first: int
    events: list[Given]
    ended: StreamEnd = "left"
    low_water: int | None = None

    @property
    def next(self) -> int:
        """From where the subscription would go on."""
        return self.events[-1].seq + 1 if self.events else self.first

    def __str__(self) -> str:
        return f"{self.subscriber} from {self.first}"


def encode_stretch(stretch: Stretch) -> str:
    """The stretch's line, without its end."""
    return msgspec.json.encode(stretch).decode()


def check_streams(
    stretches: Sequence[Stretch], calls: Iterable[RecordedCall], log: ReplicaLog, model: Model
) -> Iterator[Finding]:
    """Every stretch against the log that survived, and the outcomes against the model's."""
    numbers = sorted(log.events)
    outcomes = {seq: model.apply(log.events[seq].command[0], log.events[seq].command[1:]) for seq in numbers}
    invoked = {call.seq: call.invoked_ns for call in calls if call.kind == "submit" and call.seq is not None}
    for stretch in stretches:
        last = stretch.first - 1
        for given in stretch.events:
            if given.seq <= last:
                yield Finding("streams", f"{stretch}: event {given.seq} after {last}: twice, or out of order")
                continue
            due = next(iter(numbers[bisect_right(numbers, last) :][:1]), given.seq)
            if due < given.seq:
                yield Finding("streams", f"{stretch}: event {due} is missing between {last} and {given.seq}")
            last = given.seq
            if given.seq not in log.events:
                yield Finding("streams", f"{stretch}: event {given.seq} was given, and nothing took effect there")
            else:
                yield from _check_event(stretch, given, log.events[given.seq], outcomes[given.seq])
            if given.at_ns < invoked.get(given.seq, 0):
                yield Finding("streams", f"{stretch}: event {given.seq} was given before it was submitted")
        yield from _check_gone(stretch, log)


def _check_event(stretch: Stretch, given: Given, event: LoggedEvent, expected: ModelOutcome) -> Iterator[Finding]:
    if given.epoch != event.epoch:
        yield Finding("streams", f"{stretch}: event {given.seq} is of epoch {event.epoch}, not {given.epoch}")
    if _packed([given.name, *given.args]) != _packed(event.command):
        yield Finding("streams", f"{stretch}: event {given.seq} is {_short(event.command)}, not {_short(given)}")
    if given.outcome != expected[0] or (expected[0] == "ok" and _packed(given.value) != _packed(expected[1])):
        yield Finding("streams", f"{stretch}: the model says {expected[0]} {_short(expected[1])}: {_short(given)}")


def _check_gone(stretch: Stretch, log: ReplicaLog) -> Iterator[Finding]:
    """Gone is for what is older than the oldest kept, and these logs begin with event 1."""
    if stretch.ended != "gone":
        return
    if stretch.low_water is None or stretch.low_water <= stretch.next:
        yield Finding("streams", f"{stretch}: event {stretch.next} is gone, and {stretch.low_water} the oldest kept")
    if stretch.next <= log.last:
        yield Finding("streams", f"{stretch}: event {stretch.next} is gone, it was told; the logs hold it")


def _packed(value: Any) -> bytes:
    packed: bytes = msgpack.packb(value)
    return packed


def _short(value: Any) -> str:
    return str(value)[:80]
