"""The promises that number the events, each checked against every call: what was executed, in which order, seen when.

Sound before complete: a finding is a broken promise, for everything is compared in the direction that clocks and
queues cannot excuse. "Known at a moment" are the calls whose answers had come back by then.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from itertools import groupby
from typing import Any, Final

import msgpack

from mcast.history.calls import DEFINITE, RecordedCall
from mcast.history.findings import Finding
from mcast.history.log import LoggedEvent, ReplicaLog
from mcast.history.model import Model
from mcast.history.streams import Stretch

BOUNDED_MS: Final = 150.0  # a bounded query's `max_ms` when it names none: 3 heartbeats of the default profile
_ROUNDING_NS: Final = 1_000  # lag_ms is told in whole microseconds
_MS: Final = 1_000_000  # ns


class Known:
    """The highest event number that answers had told by any moment, or that had been given to a subscriber by then."""

    def __init__(self, calls: Iterable[RecordedCall], stretches: Iterable[Stretch] = ()) -> None:
        observed: list[tuple[int, int, RecordedCall | Stretch]] = [
            (call.returned_ns or 0, call.seq or 0, call) for call in calls if call.is_acknowledged
        ]
        observed += [(given.at_ns, given.seq, stretch) for stretch in stretches for given in stretch.events]
        observed.sort(key=lambda each: each[:2])
        self._times = [time for time, *_ in observed]
        self._highest: list[tuple[int, RecordedCall | Stretch | None]] = [(0, None)]
        for _, seq, by in observed:
            self._highest.append(max(self._highest[-1], (seq, by), key=lambda each: each[0]))

    def highest_before(self, time_ns: float) -> tuple[int, RecordedCall | Stretch | None]:
        """The highest number known before `time_ns`, and who told it; 0 and None if none was."""
        return self._highest[bisect_left(self._times, time_ns)]


def check_executed(calls: Sequence[RecordedCall], log: ReplicaLog) -> Iterator[Finding]:
    """Acknowledged commands exactly once, at their (epoch, seq); unknown ones at most once; definite errors never."""
    acknowledged: dict[int, RecordedCall] = {}
    allowed: Counter[bytes] = Counter()
    refused: set[bytes] = set()
    for call in calls:
        if call.kind != "submit":
            continue
        if call.outcome in DEFINITE:
            refused.add(_content(call))
            continue
        allowed[_content(call)] += 1
        if call.seq is None:
            continue
        if call.seq in acknowledged:
            yield Finding("exactly once", f"two calls were told event {call.seq}: {acknowledged[call.seq]} | {call}")
        acknowledged[call.seq] = call
        event = log.events.get(call.seq)
        if event is None:
            yield Finding("exactly once", f"acknowledged, but nothing took effect there: {call}")
        elif msgpack.packb(event.command) != _content(call):
            yield Finding("exactly once", f"acknowledged, but event {call.seq} is {str(event.command)[:80]}: {call}")
        elif event.epoch != call.epoch:
            yield Finding("exactly once", f"event {call.seq} is of epoch {event.epoch}, not {call.epoch}: {call}")
    executed = Counter(msgpack.packb(event.command) for event in log.events.values())
    for content, times in (executed - allowed).items():
        text = str(msgpack.unpackb(content, strict_map_key=False))[:80]
        if content in refused:
            yield Finding("definite errors", f"refused or not sent, yet took effect: {text}")
        else:
            yield Finding("exactly once", f"took effect {times} times too often: {text}")


def check_real_time(calls: Sequence[RecordedCall], log: ReplicaLog, known: Known) -> Iterator[Finding]:
    """A command gets a higher number than all that was known before it was invoked; unknown ones too, where found."""
    places = _places(log.events.values())
    submitted = Counter(_content(call) for call in calls if call.kind == "submit")
    for call in calls:
        if call.kind != "submit" or call.outcome in DEFINITE:
            continue
        seq = call.seq
        if seq is None and submitted[_content(call)] == 1:  # else the event may be another call's
            seq = next(iter(places.get(_content(call), ())), None)
        floor, by = known.highest_before(call.invoked_ns)
        if seq is not None and seq <= floor:
            yield Finding("real-time order", f"event {seq} for a call invoked after {floor} was known: {call} | {by}")
    batches = [call for call in calls if call.batch is not None and call.seq is not None]
    batches.sort(key=lambda call: (call.client, call.batch or 0, call.place))
    for _, members in groupby(batches, key=lambda call: (call.client, call.batch)):
        seqs = [call.seq or 0 for call in members]
        if seqs != sorted(set(seqs)):
            yield Finding("real-time order", f"a batch was not executed in its order: events {seqs[:10]}")


def check_model(calls: Sequence[RecordedCall], log: ReplicaLog, model: Model) -> Iterator[Finding]:
    """The log, executed by the model, gives every outcome, and every answer at the number it claims."""
    answers = [call for call in calls if call.kind == "query" and call.is_acknowledged]
    answers.sort(key=lambda call: call.seq or 0)
    receipts = {call.seq: call for call in calls if call.kind == "submit" and call.is_acknowledged}
    at = 0

    def due(until: float) -> Iterator[Finding]:
        nonlocal at
        while at < len(answers) and (answers[at].seq or 0) < until:
            yield from _check_answer(answers[at], log, model)
            at += 1

    for seq in sorted(log.events):
        yield from due(seq)
        name, *args = log.events[seq].command
        observed = model.apply(name, args)
        call = receipts.get(seq)
        if call is not None and not _same((call.outcome, call.value), observed):
            yield Finding("model", f"the model says {observed[0]} {str(observed[1])[:60]}: {call}")
    yield from due(float("inf"))


def check_levels(calls: Sequence[RecordedCall], known: Known) -> Iterator[Finding]:
    """Every query saw what its level promises, and no older state than its `lag_ms` admits."""
    own: dict[str, Known] = {}
    for client, theirs in groupby(sorted(calls, key=lambda call: call.client), key=lambda call: call.client):
        own[client] = Known(theirs)
    for call in calls:
        if call.kind != "query" or not call.is_acknowledged:
            continue
        if call.served != call.level:
            yield Finding("levels", f"{call.level} was asked for, {call.served} served: {call}")
        for promise, floor in _floors(call, known, own[call.client]):
            if (call.seq or 0) < floor:
                yield Finding("levels", f"{promise}: event {floor} was due: {call}")


def _floors(call: RecordedCall, known: Known, own: Known) -> Iterator[tuple[str, int]]:
    """(promise, event number that the answer must hold at least)."""

    def ago(ms: float) -> int:
        return known.highest_before(call.invoked_ns - ms * _MS - _ROUNDING_NS)[0]

    yield "min_seq", call.min_seq
    if call.level == "session":
        yield "session", own.highest_before(call.invoked_ns)[0]
    if call.level == "linearizable":
        yield "linearizable", known.highest_before(call.invoked_ns)[0]
    if call.level == "bounded":
        max_ms = BOUNDED_MS if call.max_ms is None else call.max_ms
        if call.max_ms is not None or call.max_lag is None:
            yield f"bounded by {max_ms:g} ms", ago(max_ms)
        if call.max_lag is not None:
            yield f"bounded by {call.max_lag} events", ago(max_ms) - call.max_lag
    if call.lag_ms is not None:
        yield f"lag_ms {call.lag_ms:g}", ago(call.lag_ms)


def _check_answer(call: RecordedCall, log: ReplicaLog, model: Model) -> Iterator[Finding]:
    if (call.seq or 0) > log.last:
        yield Finding("model", f"answered at an event that no log holds: {call}")
        return
    if call.seq and log.epochs[call.seq] != call.epoch:
        yield Finding("model", f"event {call.seq} is of epoch {log.epochs[call.seq]}, not {call.epoch}: {call}")
    observed = model.answer(call.name, list(call.args))
    if not _same((call.outcome, call.value), observed):
        yield Finding("model", f"the model says {observed[0]} {str(observed[1])[:60]}: {call}")


def _same(one: tuple[str, Any], other: tuple[str, Any]) -> bool:
    return one[0] == other[0] and (one[0] != "ok" or bool(msgpack.packb(one[1]) == msgpack.packb(other[1])))


def _places(events: Iterable[LoggedEvent]) -> dict[bytes, list[int]]:
    places: dict[bytes, list[int]] = {}
    for event in events:
        places.setdefault(msgpack.packb(event.command), []).append(event.seq)
    return places


def _content(call: RecordedCall) -> bytes:
    packed: bytes = msgpack.packb([call.name, *call.args])
    return packed
