"""Virtual time: order, ties, stopping, and the trace's hash."""

from __future__ import annotations

import pytest

from mcast.sim import loop as loop_module
from mcast.sim.loop import Loop, Runaway


def test_actions_run_in_order_of_time_and_ties_in_order_of_scheduling() -> None:
    loop = Loop()
    seen: list[object] = []
    loop.call_at(2.0, seen.append, "late")
    loop.call_at(1.0, seen.append, "first")
    loop.call_at(1.0, seen.append, "second")
    loop.run(3.0)
    assert seen == ["first", "second", "late"]
    assert loop.now == 3.0


def test_what_was_due_in_the_past_runs_now() -> None:
    loop = Loop()
    times: list[float] = []
    loop.call_at(1.0, lambda: loop.call_at(0.5, lambda: times.append(loop.now)))
    loop.run(2.0)
    assert times == [1.0]


def test_nothing_after_the_end_runs() -> None:
    loop = Loop()
    seen: list[object] = []
    loop.call_at(1.5, seen.append, "beyond")
    loop.run(1.0)
    assert seen == []
    loop.run(2.0)
    assert seen == ["beyond"]


def test_a_run_stops_once_its_condition_holds_and_goes_on_from_there() -> None:
    loop = Loop()
    seen: list[object] = []
    for at in range(1, 10):
        loop.call_at(float(at), seen.append, at)
    assert loop.run(20.0, lambda: len(seen) >= 3, every_s=0.5)
    assert seen == [1, 2, 3]
    loop.run(20.0)
    assert seen == list(range(1, 10))


def test_the_trace_tells_runs_apart_by_order_and_by_content() -> None:
    def trace(*steps: tuple[float, bytes]) -> str:
        loop = Loop()
        for when, data in steps:
            loop.call_at(when, loop.mark, data)
        loop.run(5.0)
        return loop.trace

    assert trace((1.0, b"a"), (2.0, b"b")) == trace((1.0, b"a"), (2.0, b"b"))
    assert len({trace((1.0, b"a"), (2.0, b"b")), trace((1.0, b"b"), (2.0, b"a")), trace((1.0, b"a"), (2.1, b"b"))}) == 3


def test_a_run_that_feeds_itself_is_stopped(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(loop_module, "STEPS_MAX", 100)
    loop = Loop()

    def again() -> None:
        loop.call_later(0.0, again)

    again()
    with pytest.raises(Runaway):
        loop.run(1.0)
