"""Many groups or results in one message: bounded before they are parsed, and never cut apart."""

from __future__ import annotations

import contextlib
import struct
from itertools import pairwise
from typing import Any

import msgpack
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mcast.errors import DecodeError
from mcast.limits import ALIKE_EVENTS_MAX, EPOCH_MAX, RUN_BYTES_MAX, SEQ_MAX, TCP_MESSAGE_BYTES_MAX
from mcast.wire import groups
from mcast.wire.groups import (
    RESULT_HEAD_BYTES,
    Result,
    Submitted,
    decode_groups_untrusted,
    decode_results_untrusted,
    encode_result,
    encode_results,
    pack_run,
)
from mcast.wire.records import RecordKind, encode_record, split_fragments
from mcast.wire.splitter import Splitter
from mcast.wire.stream import Status, StreamKind

NONCE = bytes(range(16))
FRAGMENTS = split_fragments(5, 9, 3, bytes(300), 100)
RESULT = Result(5, 1, 3, 10, 2, 0, b"\x92\x90\x80")


def commands(request: int = 1, session: int = 5, lowest: int = 1, size: int = 3) -> bytes:
    return encode_record(RecordKind.COMMANDS, 1, session, request, lowest, b"\x91\xa1x".ljust(size))


def noop(request: int = 2) -> bytes:
    return encode_record(RecordKind.NOOP, 1, 5, request, 1, b"")


def opening(nonce: bytes = NONCE) -> bytes:
    return encode_record(RecordKind.OPEN, 1, 0, 0, 0, nonce)


def messages(kind: StreamKind, items: list[bytes]) -> list[bytes]:
    found = Splitter().feed(b"".join(pack_run(kind, items)))
    assert {of for of, _ in found} <= {kind}
    return [payload for _, payload in found]


def test_a_group_is_one_record_or_one_whole_command() -> None:
    close = encode_record(RecordKind.CLOSE, 1, 5, 12, 12, b"")
    run = [opening(), commands(), noop(), *FRAGMENTS, commands(10), close]
    assert decode_groups_untrusted(b"".join(run), 100) == [
        Submitted(RecordKind.OPEN, 0, 0, (opening(),)),
        Submitted(RecordKind.COMMANDS, 5, 1, (commands(),)),
        Submitted(RecordKind.NOOP, 5, 2, (noop(),)),
        Submitted(RecordKind.FRAGMENT, 5, 9, tuple(FRAGMENTS)),
        Submitted(RecordKind.COMMANDS, 5, 10, (commands(10),)),
        Submitted(RecordKind.CLOSE, 5, 12, (close,)),
    ]


@pytest.mark.parametrize("name", [b"set", b"\xdd\xde"])
def test_no_command_of_a_record_holds_too_many_values(name: bytes) -> None:
    """A record may hold more than one command may."""

    def decoded(*held: int, cut: int = 0) -> list[Submitted]:
        payload = b"".join(msgpack.packb([name, [[]] * many]) for many in held)
        payload = payload[: len(payload) - cut]
        return decode_groups_untrusted(encode_record(RecordKind.COMMANDS, len(held), 5, 1, 1, payload), 60_000, 1_024)

    assert len(decoded(1_000, 1_000, 3, 1_022)) == 1
    for held in ((1_030,), (1_000, 1_030), (1_030, 3, 3), (3, 3, 1_030, 3)):
        with pytest.raises(DecodeError, match="too many values"):
            decoded(*held)
    assert len(decoded(1_000, 1_000, cut=5)) == 1, "whether it can be unpacked is judged by replicas"
    with pytest.raises(DecodeError, match="too many values"):
        decoded(1_000, 5_000, cut=5)


@given(st.lists(st.tuples(st.integers(1, 9), st.integers(1, 9), st.integers(3, 60)), min_size=1, max_size=20))
def test_commands_alone_and_among_others_decode_alike(numbers: list[tuple[int, int, int]]) -> None:
    run = b"".join(commands(request, session, 1, size) for session, request, size in numbers)
    alone = decode_groups_untrusted(run, 100)
    assert decode_groups_untrusted(run + noop(), 100)[:-1] == alone
    assert [(one.kind, one.session, one.request) for one in alone] == [(1, *number[:2]) for number in numbers]
    assert b"".join(part for one in alone for part in one.group) == run


BAD = [
    b"",
    b"\x01",
    commands()[:-1],
    commands() + b"\x01",
    commands(session=0),
    commands(session=SEQ_MAX + 1),
    commands(request=0, lowest=0),
    commands(request=SEQ_MAX),
    commands(lowest=2),
    commands(size=101),
    b"\x01\x01" + commands()[2:],
    encode_record(RecordKind.COMMANDS, 0, 5, 1, 1, b"\x91\xa1x"),
    encode_record(RecordKind.COMMANDS, 4, 5, 1, 1, b"\x91\xa1x"),
    encode_record(RecordKind.EPOCH_START, 1, 0, 0, 0, b"x"),
    encode_record(RecordKind.GENESIS, 1, 0, 0, 0, b"x"),
    opening(b"short"),
    encode_record(RecordKind.OPEN, 1, 5, 0, 0, NONCE),
    encode_record(RecordKind.NOOP, 2, 5, 1, 1, b""),
    *[b"".join(part) for part in (
        FRAGMENTS[1:], FRAGMENTS[:-1], FRAGMENTS[::-1], [*FRAGMENTS, FRAGMENTS[0]], [FRAGMENTS[0], commands(9)],
        [FRAGMENTS[0], *split_fragments(5, 10, 3, bytes(300), 100)[1:]],
        [*FRAGMENTS[:-1], commands(9, lowest=3)],
    )],
]  # fmt: skip


@pytest.mark.parametrize("bad", BAD)
def test_a_bad_group_is_refused_alone_and_after_others(bad: bytes) -> None:
    for before in (b"", commands() + commands(2), noop()):
        if before and not bad:
            continue
        with pytest.raises(DecodeError):
            decode_groups_untrusted(before + bad, 100)


@given(st.binary(max_size=300), st.integers(0, 10**6), st.integers(1, 255))
def test_garbage_and_flipped_bytes_decode_or_raise_decode_error(noise: bytes, at: int, flip: int) -> None:
    results = encode_result(*RESULT) * 2
    for whole, decode in ((commands() * 2 + noop(), lambda data: decode_groups_untrusted(data, 100)),
                          (results, decode_results_untrusted)):  # fmt: skip
        flipped = bytearray(whole)
        flipped[at % len(whole)] ^= flip
        for data in (noise, bytes(flipped), whole + noise):
            with contextlib.suppress(DecodeError):
                decode(data)


def test_several_share_a_message_as_far_as_its_bound_goes_and_larger_ones_are_alone() -> None:
    sizes = [100, RUN_BYTES_MAX, 200, RUN_BYTES_MAX - 200, 1, RUN_BYTES_MAX + 1, 5, 5]
    items = [bytes([index]) * size for index, size in enumerate(sizes)]
    packed = messages(StreamKind.SUBMIT, items)
    assert b"".join(packed) == b"".join(items)
    assert list(map(len, packed)) == [100, RUN_BYTES_MAX, RUN_BYTES_MAX, 1, RUN_BYTES_MAX + 1, 10]
    assert messages(StreamKind.RESULT, []) == [] and messages(StreamKind.SUBMIT, items[5:6]) == items[5:6]
    with pytest.raises(ValueError, match="at most"):
        pack_run(StreamKind.SUBMIT, [bytes(TCP_MESSAGE_BYTES_MAX)])


def test_several_groups_beyond_the_bound_are_refused_and_one_is_not() -> None:
    with pytest.raises(DecodeError, match="groups in"):
        decode_groups_untrusted(commands(size=40_000) * 2, 50_000)
    large = split_fragments(5, 9, 3, bytes(RUN_BYTES_MAX), 1_000)
    (one,) = decode_groups_untrusted(b"".join(large), 1_000)
    assert one.group == tuple(large)
    with pytest.raises(DecodeError, match="groups in"):
        decode_groups_untrusted(b"".join(large) + noop(10), 1_000)


def test_a_large_payload_is_judged_by_its_head_before_all_of_it_is_looked_at(monkeypatch: pytest.MonkeyPatch) -> None:
    def looks(payload: bytes) -> Any:
        raise AssertionError("looked at all of it")

    monkeypatch.setattr(groups, "list_records_untrusted", looks)
    tiny = [encode_record(RecordKind.FRAGMENT, 1, 5, 9, 3, struct.pack("!II", n, 9_000) + b"x") for n in range(9_000)]
    for payload in (b"".join(map(noop, range(2, 4_000))), b"".join(tiny)):
        assert len(payload) > RUN_BYTES_MAX
        with pytest.raises(DecodeError, match="bad group"):
            decode_groups_untrusted(payload, 1_000)


def test_results_round_trip_and_bad_ones_are_refused() -> None:
    found = [RESULT, RESULT._replace(request=4, status=3, outcomes=b""), RESULT._replace(session=6)]
    (payload,) = messages(StreamKind.RESULT, [encode_result(*result) for result in found])
    assert decode_results_untrusted(payload) == found
    bad: list[dict[str, Any]] = [
        {"session": SEQ_MAX + 1}, {"request": SEQ_MAX + 1}, {"seq": SEQ_MAX + 1}, {"epoch": EPOCH_MAX + 1},
        {"status": 5},
    ]  # fmt: skip
    for change in bad:
        with pytest.raises(DecodeError, match="bad result"):
            decode_results_untrusted(encode_result(*RESULT) + encode_result(*RESULT._replace(**change)))
    for cut in (1, RESULT_HEAD_BYTES - 1, RESULT_HEAD_BYTES, RESULT_HEAD_BYTES + 1):
        with pytest.raises(DecodeError, match="short"):
            decode_results_untrusted(payload + encode_result(*RESULT)[:cut])


@st.composite
def answers(draw: st.DrawFn) -> list[Result]:
    """Results of records of one command or more, most of which follow one another and are alike."""
    results: list[Result] = []
    session, request, seq, epoch = 5, 1, 10, 1
    for _ in range(draw(st.integers(0, 8))):
        odd, events = draw(st.integers(0, 12)), draw(st.sampled_from([1, 2, ALIKE_EVENTS_MAX - 2]))
        session, epoch = session + (odd == 1), epoch + (odd == 2)
        request, seq = request + (odd == 3), seq + (odd == 4)
        status, outcomes = (Status.APPLIED, b"\x92\x91\x07\x80") if odd == 5 else (Status.ALIKE, b"")
        status = Status.EXPIRED if odd == 6 else status
        results.append(Result(session, request, events, seq, epoch, int(status), outcomes))
        request, seq = request + events, seq + events
    return results


def each(results: list[Result]) -> list[tuple[int, ...] | Result]:
    """The results, those that are alike command by command."""
    return [
        (one.session, one.request + index, one.seq + index, one.epoch) if one.status == Status.ALIKE else one
        for one in results
        for index in range(one.events if one.status == Status.ALIKE else 1)
    ]


@settings(deadline=None, max_examples=50)
@given(answers())
def test_results_that_are_alike_become_one_that_says_the_same(results: list[Result]) -> None:
    merged = decode_results_untrusted(b"".join(encode_results(results)))
    assert each(merged) == each(results)
    for before, after in pairwise(merged):
        if before.status == after.status == Status.ALIKE:
            whole = before.events + after.events
            next_ = before.session, before.request + before.events, before.seq + before.events, before.epoch
            assert whole > ALIKE_EVENTS_MAX or next_ != (after.session, after.request, after.seq, after.epoch)


@pytest.mark.parametrize(("events", "outcomes"), [(ALIKE_EVENTS_MAX + 1, b""), (1, b"\x92\x91\xc0\x80")])
def test_an_answer_for_many_has_a_bound_and_no_outcomes(events: int, outcomes: bytes) -> None:
    with pytest.raises(DecodeError):
        decode_results_untrusted(encode_result(5, 1, events, 10, 1, Status.ALIKE, outcomes))
