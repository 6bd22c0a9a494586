"""The judge accepts what an honest service did, whatever overlapped, and rejects it with any one thing corrupted."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from itertools import groupby
from typing import Any

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from mcast.history.calls import RecordedCall
from mcast.history.verdict import Judgement, judge
from mcast.wire.frame import CHAIN_ZERO, Frame, make_frame
from mcast.wire.levels import Consistency
from tests.history.honest import MS, STEP_NS, Entry, Service, changed

History = tuple[list[RecordedCall], list[Frame]]


def checked(history: History) -> Judgement:
    calls, frames = history
    return judge(calls, {"n1": frames, "n2": frames})


def reported(history: History) -> set[str]:
    return {finding.check for finding in checked(history).findings}


def ordinary() -> Service:
    """A bit of everything, all in order."""
    service = Service()
    service.submit("a", "set", "x", 1)
    service.submit("b", "append", "list", "b1")
    service.submit("a", "incr", "x", 5)
    service.query("a", "get", "x", level="linearizable")
    service.submit("b", "incr", "list", 1)  # rejected
    service.begin_epoch()
    service.submit("a", "append", "list", "a1", fragments=3)
    service.query("b", "get", "list", level="session")
    service.submit("c", "cas", "reg", None, 1, fate="unknown")
    service.query("c", "get", "x", level="bounded", back=2, max_ms=10.0)
    service.submit("b", "delete", "x", fate="lost")
    service.submit("c", "set", "reg", 2)
    service.resend("c", "set", "reg", 2)
    service.query("c", "scan", "", 10, level="any", back=1)
    service.submit("a", "set", "y", "never", fate="not_sent")
    service.query("b", "get", "reg", level="linearizable")
    return service


def test_an_honest_history_is_accepted() -> None:
    judgement = checked(ordinary().history())
    assert judgement.findings == ()
    assert (judgement.executed, judgement.epochs, judgement.undecided) == (7, 2, ())
    assert judgement.counts["submit ok"] == 5
    assert judgement.counts["submit unknown"] == 2


def in_large_frames(frames: list[Frame]) -> list[Frame]:
    """The same events, those of one epoch in one frame."""
    large: list[Frame] = []
    for epoch, members in groupby(frames, key=lambda frame: frame.epoch):
        first, *others = parts = list(members)
        last = (others or [first])[-1]
        body, chain = b"".join(bytes(part.body) for part in parts), large[-1].chain if large else CHAIN_ZERO
        count = sum(part.count for part in parts)
        large.append(make_frame(epoch, first.first, count, last.commit, last.time, chain, body))
    return large


def test_an_answer_may_hold_at_any_event_of_a_frame_and_is_judged_there() -> None:
    calls, frames = ordinary().history()
    large = in_large_frames(frames)
    assert len(large) == 2
    assert checked((calls, large)).findings == ()
    at = next(at for at, call in enumerate(calls) if call.kind == "query" and call.is_acknowledged)
    for wrong in ({"value": "another"}, {"epoch": (calls[at].epoch or 0) + 1}):
        assert reported(([*calls[:at], changed(calls[at], **wrong), *calls[at + 1 :]], large)) == {"model"}


def changing(which: Callable[[RecordedCall], bool], **fields: Any) -> Callable[[Service], History]:
    """A history whose first such call says something else."""

    def corrupt(service: Service) -> History:
        calls, frames = service.history()
        at = next(at for at, call in enumerate(calls) if which(call))
        calls[at] = changed(calls[at], **fields)
        return calls, frames

    return corrupt


def relogged(change: Callable[[list[Entry]], list[Entry]]) -> Callable[[Service], History]:
    """A history whose log says something else."""
    return lambda service: service.history(change(list(service.entries)))


def is_query(level: str) -> Callable[[RecordedCall], bool]:
    return lambda call: call.level == level


CORRUPTIONS: dict[str, tuple[Callable[[Service], History], str]] = {
    "an acknowledged command lost": (relogged(lambda log: log[:2] + log[3:]), "exactly once"),
    "the log's end lost": (relogged(lambda log: log[:5]), "exactly once"),
    "a command applied twice": (relogged(lambda log: [*log, log[0]]), "exactly once"),
    "an unknown command applied twice": (relogged(lambda log: [*log, log[6]]), "exactly once"),
    "a command that nobody submitted": (relogged(lambda log: [*log, Entry("a", ["set", "z", 9])]), "exactly once"),
    "a command that was not sent applied": (
        relogged(lambda log: [*log, Entry("a", ["set", "y", "never"])]), "definite errors",
    ),
    "another command at the number": (
        relogged(lambda log: [replace(log[0], command=["set", "x", 2]), *log[1:]]), "exactly once",
    ),
    "two calls told one number": (changing(lambda call: call.name == "append", seq=3), "exactly once"),
    "the wrong epoch": (changing(lambda call: call.name == "append", epoch=7), "exactly once"),
    "a fabricated outcome": (changing(lambda call: call.name == "incr", value=7), "model"),
    "a rejection called success": (changing(lambda call: call.outcome == "rejected", outcome="ok", value=1), "model"),
    "a fabricated value": (changing(is_query("linearizable"), value=7), "model"),
    "an answer from the future": (changing(is_query("any"), seq=99), "model"),
    "an answer of the wrong epoch": (changing(is_query("any"), epoch=9), "model"),
    "a stale linearizable read": (changing(is_query("linearizable"), seq=3, value=1), "levels"),
    "a session read that goes back": (changing(is_query("session"), seq=3, value=None), "levels"),
    "a bound not kept": (changing(is_query("bounded"), max_ms=0.5, lag_ms=None), "levels"),
    "a bound of events not kept": (
        changing(is_query("bounded"), max_ms=0.0, max_lag=1, seq=1, epoch=1, value=None, lag_ms=None), "levels",
    ),
    "a lag told too small": (changing(is_query("any"), lag_ms=0.1, seq=5, epoch=1), "levels"),
    "a level weakened": (changing(is_query("linearizable"), served="session"), "levels"),
    "an event number below min_seq": (changing(is_query("session"), min_seq=50), "levels"),
    "a call numbered before what was known": (
        changing(lambda call: call.name == "set", invoked_ns=1_009 * MS, returned_ns=1_010 * MS), "real-time order",
    ),
    "an unknown call numbered before what was known": (
        changing(lambda call: call.outcome == "unknown", invoked_ns=2_000 * MS), "real-time order",
    ),
    "a stale read on a register": (changing(lambda call: call.args == ("reg",), value=1), "linearizability"),
}  # fmt: skip


@pytest.mark.parametrize("what", CORRUPTIONS)
def test_a_corrupted_history_is_rejected(what: str) -> None:
    corrupt, check = CORRUPTIONS[what]
    assert check in reported(corrupt(ordinary()))


def test_a_batch_out_of_its_order_is_rejected() -> None:
    service = Service()
    for key in "xyz":
        service.submit("a", "set", key, 1, early=5 * STEP_NS, late=5 * STEP_NS)
    calls, frames = service.history()
    in_order = [changed(call, batch=1, place=at) for at, call in enumerate(calls)]
    assert reported((in_order, frames)) == set()
    turned = [changed(call, batch=1, place=-at) for at, call in enumerate(calls)]
    assert reported((turned, frames)) == {"real-time order"}


def test_logs_that_differ_or_are_damaged_are_rejected() -> None:
    calls, frames = ordinary().history()
    other = Service()
    other.submit("a", "set", "x", 2)
    assert "one log" in {each.check for each in judge(calls, {"n1": frames, "n2": other.history()[1]}).findings}
    damaged = [*frames[:3], frames[3]._replace(body=frames[3].body[:-1] + b"?"), *frames[4:]]
    for bad in (damaged, frames[:3] + frames[4:]):
        assert "one log" in {each.check for each in judge(calls, {"n1": frames, "n2": bad}).findings}


def test_findings_are_few() -> None:
    service = Service()
    for number in range(50):
        service.submit("a", "incr", "x", number)
    calls, frames = service.history()
    found = judge([changed(call, value=-1) for call in calls], {"n1": frames}).findings
    assert [each.text for each in found][10:] == ["... and 40 more"]


COMMANDS = st.one_of(
    st.tuples(st.just("set"), st.sampled_from(["x", "y", "reg1", "reg2"]), st.integers(0, 3)),
    st.tuples(st.just("cas"), st.sampled_from(["reg1", "reg2"]), st.sampled_from([None, 0, 1, 2]), st.integers(0, 3)),
    st.tuples(st.just("append"), st.sampled_from(["list", "x"]), st.integers(0, 99)),
    st.tuples(st.just("incr"), st.sampled_from(["x", "y"]), st.integers(0, 99)),
    st.tuples(st.just("delete"), st.sampled_from(["x", "y", "list"])),
)
QUERIES = st.one_of(
    st.tuples(st.just("get"), st.sampled_from(["x", "y", "list", "reg1", "reg2"])),
    st.tuples(st.just("scan"), st.sampled_from(["", "reg"]), st.integers(0, 9)),
    st.tuples(st.just("size")),
)
WINDOW = st.integers(1, 6 * STEP_NS)
CLIENT = st.sampled_from("abc")


@st.composite
def services(draw: st.DrawFn) -> Service:
    service = Service()
    for _ in range(draw(st.integers(1, 25))):
        what = draw(st.sampled_from(["submit"] * 5 + ["query"] * 4 + ["epoch"]))
        window = {"early": draw(WINDOW), "late": draw(WINDOW)}
        if what == "submit":
            fate = draw(st.sampled_from(["ok"] * 6 + ["unknown", "lost"]))
            service.submit(
                draw(CLIENT), *draw(COMMANDS), fate=fate, fragments=draw(st.sampled_from([1, 1, 2])), **window
            )
        elif what == "epoch":
            service.begin_epoch()
        else:
            level: Consistency = draw(st.sampled_from(["any", "session", "bounded", "linearizable"]))
            back = draw(st.integers(0, 3)) if level in ("any", "bounded") else 0
            service.query(draw(CLIENT), *draw(QUERIES), level=level, back=back, max_ms=1_000.0, **window)
    return service


@settings(max_examples=60, deadline=None)
@given(services())
def test_whatever_overlaps_an_honest_history_is_accepted(service: Service) -> None:
    judgement = checked(service.history())
    assert judgement.findings == ()
    assert judgement.undecided == ()


def answered(service: Service, kind: str) -> list[int]:
    return [at for at, call in enumerate(service.calls) if call.kind == kind and call.seq]


@settings(max_examples=60, deadline=None)
@given(services(), st.data())
def test_one_fabricated_answer_is_found(service: Service, data: st.DataObject) -> None:
    calls, frames = service.history()
    candidates = [at for at, call in enumerate(calls) if call.is_acknowledged and call.outcome == "ok"]
    assume(candidates)
    at = data.draw(st.sampled_from(candidates))
    calls[at] = changed(calls[at], value="forged")
    assert "model" in reported((calls, frames))


@settings(max_examples=60, deadline=None)
@given(services(), st.data())
def test_one_acknowledged_command_lost_is_found(service: Service, data: st.DataObject) -> None:
    contents = [(call.name, call.args) for call in service.calls if call.kind == "submit"]
    submits = [service.calls[at] for at in answered(service, "submit")]
    # Else another call's, of the same content and outcome, could take its place, and no harm done.
    candidates = [call.seq or 0 for call in submits if contents.count((call.name, call.args)) == 1]
    assume(candidates)
    lost = data.draw(st.sampled_from(candidates))
    assert "exactly once" in reported(service.history(service.entries[: lost - 1] + service.entries[lost:]))


@settings(max_examples=60, deadline=None)
@given(services(), st.data())
def test_one_command_applied_once_more_is_found(service: Service, data: st.DataObject) -> None:
    candidates = [entry for entry in service.entries if entry.command is not None]
    assume(candidates)
    entry = data.draw(st.sampled_from(candidates))
    submitted = sum(call.kind == "submit" and [call.name, *call.args] == entry.command for call in service.calls)
    executed = service.entries.count(entry) + service.entries.count(replace(entry, fragments=3 - entry.fragments))
    more = [entry] * (submitted - executed + 1)
    assume(len({other.client for other in candidates if other.command == entry.command}) == 1)
    assert "exactly once" in reported(service.history(service.entries + more))


@settings(max_examples=60, deadline=None)
@given(services(), st.data())
def test_one_late_call_under_an_early_number_is_found(service: Service, data: st.DataObject) -> None:
    calls, frames = service.history()
    candidates = [at for at in answered(service, "submit") if calls[at].seq < max(c.seq or 0 for c in calls)]  # type: ignore[operator]
    assume(candidates)
    at = data.draw(st.sampled_from(candidates))
    late = max(call.returned_ns or 0 for call in calls) + 1
    calls[at] = changed(calls[at], invoked_ns=late, returned_ns=late + 1)
    assert "real-time order" in reported((calls, frames))
