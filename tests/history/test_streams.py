"""What subscribers were given is accepted when it is the log, and rejected with one event missing, twice or other."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from typing import Any

import pytest
from msgspec.structs import replace

from mcast.history.calls import RecordedCall
from mcast.history.findings import Finding
from mcast.history.log import read_log
from mcast.history.model import KeyValueModel
from mcast.history.streams import Given, Stretch, encode_stretch
from mcast.history.verdict import judge
from mcast.wire.frame import Frame
from tests.history.honest import MS, Service

END_NS = 10_000 * MS
"""After everything in these histories."""


def service() -> Service:
    """Seven events, a fragmented one, a repetition and a new epoch among them."""
    made = Service()
    made.submit("a", "set", "x", 1)
    made.submit("b", "append", "list", "b1")
    made.submit("a", "append", "list", "a1", fragments=3)
    made.submit("b", "incr", "list", 1)  # rejected
    made.begin_epoch()
    made.resend("a", "append", "list", "a1")
    made.submit("c", "incr", "x", 5, fate="unknown")
    made.submit("a", "incr", "x", 2)
    made.submit("b", "get", "x", fate="lost")
    made.submit("b", "set", "y", None)
    return made


def stretch_of(frames: Iterable[Frame], first: int = 1, name: str = "s0") -> Stretch:
    """All client events from `first` on, with the outcomes that they had."""
    log, _ = read_log("n1", frames)
    model, events = KeyValueModel(), []
    for seq in sorted(log.events):
        event = log.events[seq]
        outcome, value = model.apply(event.command[0], event.command[1:])
        if seq >= first:
            events.append(Given(seq, event.epoch, event.command[0], event.command[1:], outcome, value, END_NS + seq))
    return Stretch(subscriber=name, first=first, events=events)


def found(stretch: Stretch, history: tuple[list[RecordedCall], list[Frame]] | None = None) -> tuple[Finding, ...]:
    calls, frames = history or service().history()
    return judge(calls, {"n1": frames, "n2": frames}, [stretch]).findings


@pytest.mark.parametrize("first", range(1, 20))
def test_the_log_from_any_number_on_up_to_any_is_accepted(first: int) -> None:
    _, frames = service().history()
    whole = stretch_of(frames, first)
    for length in range(len(whole.events) + 1):
        assert found(replace(whole, events=whole.events[:length])) == ()


def test_given_events_are_counted() -> None:
    calls, frames = service().history()
    whole = stretch_of(frames)
    assert len(whole.events) == 7
    assert judge(calls, {"n1": frames}, [whole, replace(whole, subscriber="s1")]).given == 14


Change = Callable[[list[Given]], list[Given]]


def with_one(at: int, **fields: Any) -> Change:
    return lambda events: [*events[:at], replace(events[at], **fields), *events[at + 1 :]]


CORRUPTIONS: dict[str, tuple[Change, str]] = {
    "the first one missing": (lambda events: events[1:], "missing"),
    "one missing": (lambda events: events[:3] + events[4:], "missing"),
    "the one of an unknown call missing": (lambda events: events[:4] + events[5:], "missing"),
    "all but the last missing": (lambda events: events[-1:], "missing"),
    "one twice": (lambda events: [*events[:3], *events[2:]], "twice, or out of order"),
    "one twice, later": (lambda events: [*events, events[0]], "twice, or out of order"),
    "two in another order": (lambda events: [events[1], events[0], *events[2:]], "out of order"),
    "one of nowhere": (lambda events: [*events, replace(events[-1], seq=99)], "nothing took effect there"),
    "one under another number": (with_one(2, seq=6), "nothing took effect there"),
    "another command": (with_one(0, name="delete"), "is \\['set', 'x', 1\\]"),
    "another argument": (with_one(2, args=["list", "a2"]), "'a1'"),
    "an argument of another type": (with_one(0, args=["x", 1.0]), "is \\['set', 'x', 1\\]"),
    "another value": (with_one(2, value=3), "the model says ok 2"),
    "a rejection called success": (with_one(3, outcome="ok", value=1), "the model says rejected"),
    "a success called failure": (with_one(0, outcome="failed"), "the model says ok"),
    "another epoch": (with_one(0, epoch=2), "is of epoch 1, not 2"),
    "one given before it was submitted": (with_one(5, at_ns=1_000 * MS), "before it was submitted"),
}


@pytest.mark.parametrize("what", CORRUPTIONS)
def test_a_corrupted_stream_is_rejected(what: str) -> None:
    change, words = CORRUPTIONS[what]
    whole = stretch_of(service().history()[1])
    findings = found(replace(whole, events=change(whole.events)))
    assert findings and {finding.check for finding in findings} <= {"streams", "real-time order"}
    assert any(re.search(words, finding.text) for finding in findings), findings


def test_gone_is_legal_only_for_what_no_log_holds_any_more() -> None:
    _, frames = service().history()
    whole = stretch_of(frames)
    gone = replace(whole, ended="gone", low_water=whole.next + 5)
    assert any("the logs hold it" in each.text for each in found(replace(gone, events=whole.events[:2])))
    last = frames[-1].last
    assert found(Stretch(subscriber="s0", first=last + 1, events=[], ended="gone", low_water=last + 9)) == ()
    for low_water in (None, 1, last + 1):
        assert any("the oldest kept" in each.text for each in found(replace(gone, low_water=low_water))), low_water
    assert found(replace(whole, ended="not_sent")) == ()


def test_what_was_given_counts_as_known() -> None:
    made = service()
    made.query("a", "get", "x", level="linearizable", back=2)  # stale: an unknown call's event has passed it by
    calls, frames = made.history()
    query = calls[-1]
    calls[-1] = replace(query, lag_ms=None)
    late = stretch_of(frames)
    seen = replace(late, events=[replace(given, at_ns=query.invoked_ns - 1) for given in late.events])
    assert "levels" in {each.check for each in found(seen, (calls, frames))}


def test_a_stretch_is_one_line() -> None:
    line = encode_stretch(stretch_of(service().history()[1]))
    assert "\n" not in line and line.startswith('{"subscriber":"s0","first":1,"events":[[')
