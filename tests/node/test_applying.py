import asyncio
from collections.abc import Iterator, Sequence
from contextlib import nullcontext

import pytest

from mcast.clock import ticks_s
from mcast.errors import Halted
from mcast.machine.api import Context, Run, StateMachine, command
from mcast.machine.commands import encode_command
from mcast.machine.engine import Applied, Engine
from mcast.machine.kv import KeyValue
from mcast.node import applying
from mcast.node.applying import ApplyQueue, replay
from mcast.wire.frame import CHAIN_ZERO, Frame, make_frame
from mcast.wire.records import RecordKind, encode_record


def log(count: int) -> list[Frame]:
    """Frames of one event each."""
    frames, chain = [], CHAIN_ZERO
    for seq in range(1, count + 1):
        body = encode_record(RecordKind.OPEN, 1, 0, 0, 0, seq.to_bytes(16, "big"))
        frames.append(make_frame(1, seq, 1, 0, seq, chain, body))
        chain = frames[-1].chain
    return frames


def make_queue() -> tuple[Engine, ApplyQueue]:
    engine = Engine(KeyValue(), clock=ticks_s)

    def applied(applied: list[Applied]) -> None:
        assert applied == []

    return engine, ApplyQueue(engine, applied, nullcontext())


class Slow(StateMachine):
    """A clock that stands but for its commands, each of which takes a time of its own."""

    def __init__(self) -> None:
        self.now_s = 0.0

    @command
    def work(self, ctx: Context, ms: float) -> float:
        self.now_s += ms / 1e3
        return ms

    @command
    def many(self, ctx: Context, ms: float) -> float:
        return self.work(ctx, ms)

    @many.run
    def many_in_a_run(self, run: Run, ms: tuple[float, ...]) -> Iterator[float]:
        for one in ms:
            yield self.many(Context(), one)


def slow_log(machine: Slow, records: Sequence[Sequence[tuple[str, float]]]) -> tuple[list[Frame], Engine]:
    """Frames of one record each, and an engine that has a session for them open."""
    engine = Engine(machine, clock=lambda: machine.now_s)
    frames = log(1)
    engine.apply(frames)
    request = 1
    for calls in records:
        payload = b"".join(encode_command(name, ms) for name, ms in calls)
        body = encode_record(RecordKind.COMMANDS, len(calls), 1, request, 1, payload)
        frames.append(make_frame(1, frames[-1].last + 1, len(calls), 0, 5, frames[-1].chain, body))
        request += len(calls)
    return frames[1:], engine


FAST, WORK, MANY = ("work", 0.001), ("work", 9.0), ("many", 0.1)
QUICK, SLOW = ("many", 0.001), ("many", 49.0)


@pytest.mark.parametrize(
    ("records", "longest_ms"),
    [
        ([[WORK]] * 100, 9.0), ([[WORK] * 100], 9.0), ([[WORK] * 15] * 10, 9.0),
        ([[FAST] * 15] * 500 + [[WORK] * 15] * 10, 9.0), ([[FAST] * 200] * 20 + [[WORK] * 200], 9.0),
        ([[MANY] * 3_000], 0.1), ([[MANY] * 20] * 30, 0.1), ([[WORK, WORK, *[MANY] * 40] * 3], 9.0),
        ([[QUICK] * 2_000 + [SLOW] * 60], 49.0), ([[QUICK] * 200] * 10 + [[SLOW] * 60, [QUICK, SLOW] * 20], 49.0),
    ],
)  # fmt: skip
def test_a_slice_ends_with_the_handler_that_is_running(
    records: list[list[tuple[str, float]]], longest_ms: float
) -> None:
    """A node that applies for long sends no heartbeats and is deposed, with nothing wrong but its load."""
    machine = Slow()
    frames, engine = slow_log(machine, records)
    queue = ApplyQueue(engine, lambda applied: None, nullcontext(), clock=lambda: machine.now_s)
    queue.add(frames)
    slices_s, reached = [], 0
    while queue.bytes:
        began_s = machine.now_s
        queue.run_slice()
        slices_s.append(machine.now_s - began_s)
        assert engine.reached[0] >= reached, "each slice gets on"
        reached = engine.reached[0]
    assert max(slices_s) < applying.SLICE_S + longest_ms / 1e3 + 1e-9
    other = Engine(Slow())
    other.apply([*log(1), *frames])
    assert (engine.applied_seq, engine.result_chain) == (frames[-1].last, other.result_chain)


async def test_two_slices_are_never_used_up_in_one_turn_of_the_loop() -> None:
    machine = Slow()
    frames, engine = slow_log(machine, [[WORK]] * 3)
    queue = ApplyQueue(engine, lambda applied: None, nullcontext(), clock=lambda: machine.now_s)
    for frame in frames:
        queue.add([frame])  # as a commit that came in the same turn
        queue.run()
        assert engine.applied_seq == frames[0].last, "the others wait, though nothing did when they came"
    for index in range(1, len(frames)):
        await asyncio.sleep(0)
        assert engine.applied_seq == frames[index].last
    assert machine.now_s == pytest.approx(0.009 * len(frames))


async def test_a_replay_leaves_the_loop_between_slow_handlers(monkeypatch: pytest.MonkeyPatch) -> None:
    machine = Slow()
    frames, engine = slow_log(machine, [[WORK] * 100])
    monkeypatch.setattr(applying, "ticks_s", lambda: machine.now_s)
    replaying = asyncio.create_task(replay(engine, iter([frames]), frames[-1].last))
    before_s, longest_s = machine.now_s, 0.0
    while not replaying.done():
        await asyncio.sleep(0)
        longest_s, before_s = max(longest_s, machine.now_s - before_s), machine.now_s
    assert 0 < longest_s < applying.SLICE_S + 0.009 + 1e-9
    assert engine.applied_seq == frames[-1].last


async def test_replay_stops_at_the_committed_event() -> None:
    engine, frames = Engine(KeyValue()), log(100)
    await replay(engine, iter([frames[:30], frames[30:60], frames[60:]]), 45)
    assert (engine.applied_seq, engine.chain) == (45, frames[44].chain)


async def test_replay_of_nothing_reads_nothing() -> None:
    bursts = iter([log(3)])
    await replay(Engine(KeyValue()), bursts, 0)
    assert next(bursts) == log(3)


async def test_a_long_replay_is_announced_and_told_and_a_short_one_is_not(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO", "mcast.node")
    monkeypatch.setattr(applying, "REPLAY_ANNOUNCED_S", float("inf"))
    await replay(Engine(KeyValue()), iter([log(30)]), 30)
    assert not caplog.messages
    monkeypatch.setattr(applying, "REPLAY_ANNOUNCED_EVENTS", 30)
    await replay(Engine(KeyValue()), iter([log(30)]), 30)
    first, second = caplog.messages
    assert first == "replays 30 events" and second.startswith("replayed 30 events in ")
    monkeypatch.setattr(applying, "REPLAY_ANNOUNCED_EVENTS", 31)
    monkeypatch.setattr(applying, "REPLAY_ANNOUNCED_S", 0.0)
    await replay(Engine(KeyValue()), iter([log(30)]), 30)
    assert len(caplog.messages) == 3, "few, but it took long"


async def test_a_journal_that_ends_before_the_committed_event_halts() -> None:
    with pytest.raises(Halted, match="replays to event 9, not to 12"):
        await replay(Engine(KeyValue()), iter([log(9)]), 12)


async def test_bytes_count_what_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(applying, "SLICE_S", 0.0)
    engine, queue = make_queue()
    frames = log(10)
    queue.add(frames)
    assert queue.bytes == sum(frame.size for frame in frames)
    queue.run_slice()
    assert engine.applied_seq == 1, "a frame at least"
    assert queue.bytes == sum(frame.size for frame in frames[1:])
    await queue.drain(5.0)
    assert (engine.applied_seq, queue.bytes) == (len(frames), 0)


def test_a_backlog_beyond_the_bound_is_full(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(applying, "BACKLOG_BYTES", 300)
    _, queue = make_queue()
    queue.add(log(2))
    assert not queue.is_full
    queue.add(log(2))
    assert queue.is_full


async def test_a_stopped_queue_books_no_more_turns(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(applying, "SLICE_S", 0.0)
    engine, queue = make_queue()
    queue.add(log(100))
    queue.run()
    reached = engine.applied_seq
    queue.stop()
    queue.run()
    assert engine.applied_seq == reached < 100
