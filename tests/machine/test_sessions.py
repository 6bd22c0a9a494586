"""The session table: at most once, in order, bounded, and equal wherever the same events were applied."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mcast.limits import (
    SESSION_IDLE_S,
    SESSION_KEPT_BYTES_MAX,
    SESSION_KEPT_RECORDS_MAX,
    SESSION_UNUSED_S,
    SESSIONS_KEPT_BYTES_MAX,
)
from mcast.machine import sessions
from mcast.machine.canonical import decode_plain, encode_ordered
from mcast.machine.sessions import (
    APPLIED,
    OUT_OF_ORDER,
    OUTCOME_GONE,
    REUSED,
    ContentMark,
    Kept,
    Session,
    SessionTable,
    mark_of,
)
from mcast.wire.records import RecordKind, encode_record

IDLE_NS = int(SESSION_IDLE_S * 1e9)
UNUSED_NS = int(SESSION_UNUSED_S * 1e9)


def nonce(number: int) -> bytes:
    return number.to_bytes(16, "big")


def opened(table: SessionTable, number: int = 1, time: int = 0) -> Session:
    session = table.find(table.open(nonce(number), number, time), time)
    assert session is not None
    return session


def kept(request: int, count: int = 1, size: int = 1, mark: int = 0) -> Kept:
    return Kept(request, count, 10 + request, 1, mark, bytes(size))


def judged(
    table: SessionTable, session: Session, request: int, lowest: int, mark: ContentMark
) -> tuple[int, Kept | None]:
    status, found, kept = table.judge(session.id, session.time, request, lowest, mark)
    assert found is session
    return status, kept


def requests_kept(session: Session) -> list[int]:
    return [one.request for one in session.kept]


def test_a_session_is_named_by_the_event_that_opened_it_and_opening_again_gives_the_same() -> None:
    table = SessionTable()
    assert table.open(nonce(1), 5, 0) == 5
    assert table.open(nonce(1), 9, 0) == 5
    assert table.open(nonce(2), 9, 0) == 9
    assert table.close(5) and not table.close(5)
    assert table.open(nonce(1), 12, 0) == 12


def test_requests_are_judged_by_the_last_one() -> None:
    table = SessionTable()
    session = opened(table)
    assert judged(table, session, 1, 1, 7) == (APPLIED, None)
    first = kept(1, count=3, mark=7)
    table.keep(session, first)
    assert session.last == 3
    assert judged(table, session, 1, 1, 7) == (APPLIED, first)
    assert judged(table, session, 1, 1, 8) == (REUSED, first)
    assert judged(table, session, 2, 1, 7) == (OUTCOME_GONE, None)
    assert judged(table, session, 5, 1, 7) == (OUT_OF_ORDER, None)
    assert judged(table, session, 4, 1, 7) == (APPLIED, None)


def test_without_the_rule_of_contiguity_a_hole_is_passed_over() -> None:
    table = SessionTable(contiguous=False)
    assert judged(table, opened(table), 5, 1, 7) == (APPLIED, None)


def test_outcomes_below_the_lowest_unanswered_are_released_whole_records_at_a_time() -> None:
    table = SessionTable()
    session = opened(table)
    for request in (1, 4, 7):
        table.keep(session, kept(request, count=3))
    judged(table, session, 10, 6, 0)
    assert requests_kept(session) == [4, 7]
    assert judged(table, session, 1, 7, 0) == (OUTCOME_GONE, None)
    assert requests_kept(session) == [7]
    judged(table, session, 10, 1 << 62, 0)
    assert not session.kept and session.kept_bytes == 0 and session.last == 9


def test_kept_outcomes_are_bounded_in_count() -> None:
    table = SessionTable()
    session = opened(table)
    for request in range(1, SESSION_KEPT_RECORDS_MAX + 3):
        table.keep(session, kept(request))
    assert len(session.kept) == SESSION_KEPT_RECORDS_MAX and requests_kept(session)[0] == 3


def test_kept_outcomes_are_bounded_in_bytes() -> None:
    table = SessionTable()
    session = opened(table)
    table.keep(session, kept(1, size=SESSION_KEPT_BYTES_MAX // 2))
    table.keep(session, kept(2, size=SESSION_KEPT_BYTES_MAX // 2))
    assert requests_kept(session) == [2]
    table.keep(session, kept(3, size=SESSION_KEPT_BYTES_MAX))
    assert not session.kept and session.last == 3


def test_all_sessions_together_are_bounded_too() -> None:
    table = SessionTable()
    share = SESSION_KEPT_BYTES_MAX - 1024
    outcomes = bytes(share)  # one object: the bound counts what each session is charged with
    number = 0
    while number * share <= SESSIONS_KEPT_BYTES_MAX:
        number += 1
        table.keep(opened(table, number), Kept(1, 1, 1, 1, 0, outcomes))
    late = opened(table, number + 1)
    table.keep(late, kept(1, size=share))
    assert not late.kept, "beyond the total a session keeps its equal share only"
    table.keep(late, kept(2))
    assert requests_kept(late) == [2]
    table._check()


def test_a_full_table_evicts_only_who_was_idle_long_enough() -> None:
    table = SessionTable(sessions_max=2)
    for number in (1, 2):
        table.keep(opened(table, number, time=number - 1), kept(1))
    assert table.open(nonce(3), 3, IDLE_NS - 1) == 0
    assert table.find(1, IDLE_NS - 1) is not None
    assert table.open(nonce(3), 3, IDLE_NS) == 0, "session 2 is the longest idle now, and not for long enough"
    assert table.open(nonce(3), 3, IDLE_NS + 1) == 3
    assert table.find(2, IDLE_NS + 1) is None
    assert table.open(nonce(2), 9, IDLE_NS + 1) == 0, "an evicted session's nonce is forgotten with it"
    assert len(table) == 2
    table._check()


def test_a_full_table_evicts_who_opened_a_session_and_sent_no_command() -> None:
    """In the order of their activity, and soon; who sent one keeps its place."""
    table = SessionTable(sessions_max=3)
    used, first, second = (opened(table, number, time=number) for number in (1, 2, 3))
    table.keep(used, kept(1))
    assert table.open(nonce(4), 4, UNUSED_NS + 1) == 0
    assert table.open(nonce(2), 9, UNUSED_NS + 2) == first.id, "asked for again: it is in use"
    assert table.open(nonce(4), 4, UNUSED_NS + 3) == 4 and second.id not in table
    again = SessionTable(sessions_max=3)
    again.restore(decode_plain(encode_ordered(table.snapshot())))
    for one in (table, again):
        assert one.open(nonce(5), 5, 2 * UNUSED_NS + 1) == 0
        assert one.open(nonce(5), 5, 2 * UNUSED_NS + 2) == 5 and first.id not in one and used.id in one
        one._check()


def test_room_is_what_is_free_and_what_can_be_forgotten() -> None:
    table = SessionTable(sessions_max=9)
    assert table.room() == 9
    for number in range(1, 5):
        session = opened(table, number, time=number)
        if number % 2:
            table.keep(session, kept(1))
    assert table.room() == 9 - 4
    opened(table, 5, time=UNUSED_NS + 2)
    assert table.room() == 9 - 5 + 1, "session 2 has sent nothing for long enough, 4 not yet"
    table.close(5)
    opened(table, 6, time=IDLE_NS + 3)
    assert table.room() == 9 - 5 + 4, "1, 2 and 3 are idle, 4 has sent nothing: each counts once"
    assert table.open(nonce(7), 7, IDLE_NS + 3) and len(table) == 6


def test_nobody_is_evicted_while_there_is_room() -> None:
    table = SessionTable(sessions_max=3)
    for number in (1, 2, 3):
        opened(table, number, time=number * 10 * IDLE_NS)
    assert len(table) == 3


STEPS = st.lists(
    st.tuples(st.sampled_from(["open", "close", "submit"]), st.integers(0, 3), st.integers(1, 6), st.integers(1, 3)),
    max_size=40,
)


@given(STEPS)
def test_requests_take_effect_once_and_a_restored_table_goes_on(steps: list[tuple[str, int, int, int]]) -> None:
    table = SessionTable(sessions_max=3)
    effects: dict[int, list[int]] = {}
    for seq, (what, who, request, count) in enumerate(steps, 1):
        time = seq * IDLE_NS // 4
        if what == "open":
            table.open(nonce(who), seq, time)
        elif what == "close":
            table.close(table._nonces.get(nonce(who), 0))
        else:
            status, session, known = table.judge(table._nonces.get(nonce(who), 0), time, request, 1, count)
            if session is not None and status == APPLIED and known is None:
                effects.setdefault(session.id, []).extend(range(request, request + count))
                table.keep(session, Kept(request, count, seq, 1, count, b"x"))
        table._check()
        restored = SessionTable(sessions_max=3)
        restored.restore(decode_plain(encode_ordered(table.snapshot())))
        assert restored.snapshot() == table.snapshot()
        table = restored
    for requests in effects.values():
        assert requests == list(range(1, len(requests) + 1))


def test_a_record_stands_for_its_mark_until_it_is_compared_or_there_are_too_many(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(sessions, "SESSIONS_CONTENT_BYTES_MAX", 1_000)
    lazy, eager = SessionTable(), SessionTable()
    one, other = opened(lazy), opened(eager)
    for request in range(1, 30):
        record = encode_record(RecordKind.COMMANDS, 1, 1, request, 1, bytes([request]) * 100)
        lazy.keep_all(one, [kept(request)._replace(mark=record)], [1], len(record))
        eager.keep(other, kept(request, mark=mark_of(1, 1, bytes([request]) * 100)))
        assert sum(len(each.mark) for each in one.kept if isinstance(each.mark, bytes)) <= 1_000
    for request in (29, 1):
        assert judged(lazy, one, request, 1, mark_of(1, 1, bytes([request]) * 100))[0] == APPLIED
        assert judged(lazy, one, request, 1, mark_of(1, 1, bytes(100)))[0] == REUSED
        assert (
            judged(lazy, one, request, 1, encode_record(RecordKind.COMMANDS, 1, 1, 9, 9, bytes([request]) * 100))[0]
            == APPLIED
        )
        assert judged(lazy, one, request, 1, encode_record(RecordKind.COMMANDS, 1, 1, 9, 9, bytes(100)))[0] == REUSED
    assert lazy.snapshot() == eager.snapshot()
    lazy._check()


def test_records_that_are_no_longer_kept_do_not_count_among_those_referred_to() -> None:
    table = SessionTable()
    session = opened(table)
    for request in range(1, 100):
        lowest = max(1, request - 10)
        record = encode_record(RecordKind.COMMANDS, 1, 1, request, lowest, bytes(100))
        if request % 2:
            table.keep_all(session, [kept(request)._replace(mark=record)], [lowest], len(record))
        else:
            assert judged(table, session, request, lowest, record) == (APPLIED, None)
            table.keep(session, kept(request)._replace(mark=record))
        table._check()
    assert table._content_bytes <= 11 * len(record)
    table.close(session.id)
    assert table._content_bytes == 0
