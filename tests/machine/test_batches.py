"""Frames applied together come to just what they come to one by one, however a replica cuts its log into bursts."""

from collections.abc import Sequence
from itertools import cycle
from typing import Any

import msgpack
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mcast.limits import SESSION_KEPT_RECORDS_MAX
from mcast.machine import engine as engine_module
from mcast.machine.batches import SessionBatch, batch_of
from mcast.machine.engine import Engine
from mcast.machine.executor import RUN_MIN
from mcast.machine.kv import KeyValue
from mcast.machine.sessions import Kept, _settled
from mcast.wire.frame import CHAIN_ZERO, Frame, make_frame
from mcast.wire.records import RecordKind, encode_record
from tests.machine.conftest import Notebook, record


def framed(records: Sequence[bytes], times: Sequence[int], epochs: Sequence[int] | None = None) -> list[Frame]:
    """A frame for each record."""
    frames: list[Frame] = []
    seq, chain = 1, CHAIN_ZERO
    for index, (body, time) in enumerate(zip(records, times, strict=True)):
        count = int.from_bytes(body[4:8], "big")
        frames.append(make_frame(epochs[index] if epochs else 1, seq, count, seq - 1, time, chain, body))
        seq, chain = seq + count, frames[-1].chain
    return frames


def opening(number: int) -> bytes:
    return encode_record(RecordKind.OPEN, 1, 0, 0, 0, bytes([number]) * 16)


OPENINGS = [opening(1), opening(2)]
COMMANDS: list[Any] = [
    ["note", 1], ["note", [1, {"a": 2}]], ["stamp"], ["draw"], ["refuse", "no"], ["fail", "zero"], ["all"],
    ["give", "object"], ["note"], ["nothing"], 7, {}, [], ["note", {1: 2}], ["note", b"x" * 300],
    ["note", msgpack.ExtType(5, b"x")], ["note", msgpack.Timestamp(1)],
]  # fmt: skip
PAYLOADS = st.sampled_from([*map(msgpack.packb, COMMANDS), b"\xc1", b"\x92\xa4note", msgpack.packb(["note", 1]) * 2])


@st.composite
def logs(draw: st.DrawFn) -> tuple[list[bytes], list[int], list[int]]:
    """Records of two sessions, most of them in order, with their frames' times and epochs."""
    records, times, epochs = list(OPENINGS), [0, 0], [1, 1]
    expected = {1: 1, 2: 1}
    session = time = 1
    for _ in range(draw(st.integers(1, 24))):
        odd = draw(st.integers(0, 19))
        session = 3 - session if odd == 0 else session
        time += odd == 1
        count = draw(st.sampled_from([1, 1, 1, 2, 3, RUN_MIN]))
        request = max(1, expected[session] + {2: 1, 3: -1, 4: -3}.get(odd, 0))
        lowest = max(0, request - draw(st.integers(0, 5)))
        kind = {5: RecordKind.NOOP, 6: RecordKind.FRAGMENT}.get(odd, RecordKind.COMMANDS)
        payload = b"".join(draw(PAYLOADS) for _ in range(count))
        count = count if kind == RecordKind.COMMANDS else 1
        if kind == RecordKind.FRAGMENT:
            payload = bytes([0, 0, 0, draw(st.integers(0, 1)), 0, 0, 0, 2]) + payload
        records.append(encode_record(kind, count, session, request, lowest, payload))
        times.append(time)
        epochs.append(epochs[-1] + (odd == 7))
        expected[session] = max(expected[session], request + count)
    return records, times, epochs


def applied(frames: Sequence[Frame], bursts: Sequence[int], *, together: bool, late: Sequence[bool] = ()) -> list[Any]:
    """All that an engine makes of the frames, handed over in bursts of these sizes.

    `late` says at each look at the clock, over and over, whether time is over.
    """
    looks = cycle(late or [False])
    engine = Engine(Notebook(), clock=lambda: float(next(looks)))
    heard: list[Any] = []
    engine.on_frames = lambda frames, executed: heard.extend(zip(frames, map(list, executed), strict=True))
    engine.watch(1)
    reported: list[Any] = []
    at = 0
    with pytest.MonkeyPatch.context() as patch:
        if not together:
            patch.setattr(engine_module, "batch_of", lambda frames, at: None)
        for size in (*bursts, len(frames)):
            end = min(at + size, len(frames))
            while at < end:
                done, more = engine.apply_until(frames[at:end], 0.5)
                assert engine.reached[0] >= engine.applied_seq
                at += done
                reported += more
    reported = [one._replace(mark=_settled(Kept(0, one.count, 0, 0, one.mark, b"")).mark) for one in reported]
    return [
        reported,
        heard,
        engine.result_chain,
        engine.chain,
        engine.applied_seq,
        engine.digest(),
        engine.applied_epoch,
    ]


@settings(max_examples=300)
@given(logs(), st.lists(st.integers(1, 9), max_size=12))
def test_bursts_make_no_difference(log: tuple[list[bytes], list[int], list[int]], bursts: list[int]) -> None:
    frames = framed(*log)
    singly = applied(frames, [1] * len(frames), together=False)
    assert applied(frames, bursts, together=True) == singly
    assert applied(frames, [], together=True) == singly


@settings(max_examples=300)
@given(logs(), st.lists(st.integers(1, 9), max_size=12), st.lists(st.booleans(), min_size=1, max_size=9))
def test_where_time_ends_makes_no_difference(
    log: tuple[list[bytes], list[int], list[int]], bursts: list[int], late: list[bool]
) -> None:
    frames = framed(*log)
    assert applied(frames, bursts, together=True, late=late) == applied(frames, [1] * len(frames), together=False)


def test_the_usual_flood_is_a_batch() -> None:
    records = [record(1, request, ("note", request), lowest=request) for request in range(1, 40)]
    frames = framed(records, [5] * len(records))
    batch = batch_of(frames)
    assert batch is not None and len(batch.firsts) == len(frames)
    assert batch.requests == list(range(1, 40)) and batch.payloads[0] == msgpack.packb(["note", 1])


@pytest.mark.parametrize("at", [1, 2, 5])
@pytest.mark.parametrize(
    "stranger",
    [
        record(2, 6, ("note", 1)), record(1, 9, ("note", 1)), record(1, 1, ("note", 1)),
        record(1, 6, *[("note", 1)] * RUN_MIN), record(1, 6, ("note", 1)) * 2, record(1, 6, ("note", 1))[:-1], b"\x01",
        encode_record(RecordKind.NOOP, 1, 1, 6, 1, b""), encode_record(RecordKind.COMMANDS, 1, 1, 6, 7, b"\x90"),
    ],
)  # fmt: skip
def test_a_batch_ends_before_whatever_is_not_like_the_rest(stranger: bytes, at: int) -> None:
    records = [record(1, request, ("note", request)) for request in range(1, 8)]
    frames = framed(records, [5] * 7)
    frames[at] = frames[at]._replace(body=stranger)
    batch = batch_of(frames)
    assert (len(batch.firsts) if batch else 1) == at


def test_another_time_or_epoch_ends_a_batch() -> None:
    records = [record(1, request, ("note", request)) for request in range(1, 8)]
    for frames in (framed(records, [5, 5, 5, 6, 6, 6, 6]), framed(records, [5] * 7, [1, 1, 1, 2, 2, 2, 2])):
        batch = batch_of(frames)
        assert batch is not None and len(batch.firsts) == 3


@pytest.mark.parametrize("odd", ["not decoded", "seen before", "unknown session"])
def test_what_is_no_batch_after_all_is_looked_at_once(odd: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Otherwise each frame of a burst would have all that follow looked at, decoded even."""
    payload = b"\x07" if odd == "not decoded" else msgpack.packb(["note", 1])
    session = 9 if odd == "unknown session" else 1
    numbers = range(1, 65)
    records = [opening(1), *[encode_record(RecordKind.COMMANDS, 1, session, one, 0, payload) for one in numbers]]
    records += records[1:] if odd == "seen before" else []
    frames = framed(records, [5] * len(records))
    engine = Engine(Notebook())
    engine.apply(frames[: len(frames) - 64])
    looks: list[int] = []

    def look(frames: Sequence[Frame], at: int) -> SessionBatch | None:
        looks.append(at)
        return batch_of(frames, at)

    monkeypatch.setattr(engine_module, "batch_of", look)
    engine.apply(frames[-64:])
    assert len(looks) == 1 and engine.applied_seq == frames[-1].last


def test_outcomes_beyond_the_bound_are_dropped_as_one_by_one() -> None:
    requests = range(1, SESSION_KEPT_RECORDS_MAX + 70)
    frames = framed([opening(1), *[record(1, request, ("note", 1)) for request in requests]], [5] * (len(requests) + 1))
    for size in (1, 7, 64, len(frames)):
        engine = Engine(KeyValue())
        for start in range(0, len(frames), size):
            engine.apply(frames[start : start + size])
        [[_, _, last, _, kept]] = engine.sessions.snapshot()
        assert last == requests[-1] and [one[0] for one in kept] == list(requests)[-SESSION_KEPT_RECORDS_MAX:]
        engine.sessions._check()
