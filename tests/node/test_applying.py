from collections.abc import Sequence
from contextlib import nullcontext

import pytest

from mcast.errors import Halted
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
    engine = Engine(KeyValue())

    def applied(applied: list[Applied]) -> None:
        assert applied == []

    return engine, ApplyQueue(engine, applied, nullcontext())


def test_slow_handlers_make_short_slices(monkeypatch: pytest.MonkeyPatch) -> None:
    """A node that applies for long sends no heartbeats and is deposed, with nothing wrong but its load."""
    engine, queue = make_queue()
    now_s, apply = 0.0, engine.apply

    def slowly(frames: Sequence[Frame]) -> list[Applied]:
        nonlocal now_s
        now_s += 0.001 * len(frames)
        return apply(frames)

    monkeypatch.setattr(engine, "apply", slowly)
    monkeypatch.setattr(applying, "monotonic_s", lambda: now_s)
    queue.add(log(200))
    slices = []
    while queue.bytes:
        began_s = now_s
        queue.run_slice()
        slices.append(now_s - began_s)
    assert max(slices[1:]) <= 2 * applying.SLICE_S + 0.002, "the first tells how slow they are"
    assert engine.applied_seq == 200


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
    monkeypatch.setattr(applying, "REPLAY_TOLD_S", float("inf"))
    await replay(Engine(KeyValue()), iter([log(30)]), 30)
    assert not caplog.messages
    monkeypatch.setattr(applying, "REPLAY_TOLD_EVENTS", 30)
    await replay(Engine(KeyValue()), iter([log(30)]), 30)
    first, second = caplog.messages
    assert first == "replays 30 events" and second.startswith("replayed 30 events in ")
    monkeypatch.setattr(applying, "REPLAY_TOLD_EVENTS", 31)
    monkeypatch.setattr(applying, "REPLAY_TOLD_S", 0.0)
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
    assert not queue.full
    queue.add(log(2))
    assert queue.full


async def test_a_stopped_queue_books_no_more_turns(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(applying, "SLICE_S", 0.0)
    engine, queue = make_queue()
    queue.add(log(100))
    queue.run()
    reached = engine.applied_seq
    queue.stop()
    queue.run()
    assert engine.applied_seq == reached < 100
