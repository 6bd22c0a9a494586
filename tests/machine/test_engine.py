"""The engine: each request once, every record accounted for, one result chain for one log."""

from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mcast.errors import Halted, QueryFailed, Refused
from mcast.machine import engine
from mcast.machine.canonical import decode_plain, encode_ordered
from mcast.machine.commands import encode_command
from mcast.machine.engine import Engine
from mcast.machine.executor import UNKNOWN_COMMAND
from mcast.machine.kv import KeyValue
from mcast.machine.outcomes import decode_outcomes_untrusted
from mcast.machine.sessions import APPLIED, OUT_OF_ORDER, OUTCOME_GONE, REUSED, SESSION_EXPIRED, mark_number
from mcast.wire.messages import Configuration, EpochStart, Genesis, Recovery, encode_message
from mcast.wire.records import RecordKind, encode_record, split_fragments
from tests.machine.conftest import Log, Notebook, record

LogOf = Callable[..., Log]
EPOCH_START = encode_record(RecordKind.EPOCH_START, 1, 0, 0, 0, encode_message(EpochStart("n1", Configuration(1, ()))))
GENESIS = encode_record(RecordKind.GENESIS, 1, 0, 0, 0, encode_message(Genesis(b"u" * 16, Configuration(1, ()))))


def noop(session: int, request: int) -> bytes:
    return encode_record(RecordKind.NOOP, 1, session, request, 1, b"")


def big_note(session: int, request: int, size: int = 500) -> list[bytes]:
    return split_fragments(session, request, 1, record(session, request, ("note", "x" * size))[36:], 100)


def test_a_session_opens_submits_and_closes(log: Log, notebook: Notebook) -> None:
    session = log.open()
    assert session == 1
    applied = log.send(session, 1, ("note", "a"), ("note", "b"))
    assert (applied.kind, applied.session, applied.request, applied.count) == ("result", 1, 1, 2)
    assert (applied.seq, applied.epoch, applied.status, applied.expected) == (2, 1, APPLIED, 3)
    assert [outcome.value for outcome in decode_outcomes_untrusted(applied.outcomes)] == [1, 2]
    [closed] = log.add(encode_record(RecordKind.CLOSE, 1, session, 3, 3, b""))
    assert closed.status == APPLIED
    assert log.send(session, 3, ("note", "c")).status == SESSION_EXPIRED
    assert notebook.notes == ["a", "b"]


def test_a_resent_record_gives_the_kept_outcome_and_no_second_effect(log: Log, notebook: Notebook) -> None:
    session = log.open()
    first = log.send(session, 1, ("note", "a"))
    log.send(session, 2, ("note", "b"))
    numbered = log.engine.applied_seq
    again = log.send(session, 1, ("note", "a"))
    assert again == first._replace(expected=3), "and the number of its first time"
    assert log.engine.applied_seq == numbered + 1
    assert notebook.notes == ["a", "b"]


def test_a_number_used_for_something_else_is_reused_and_tells_what_won(log: Log, notebook: Notebook) -> None:
    session = log.open()
    first = log.send(session, 1, ("note", "a"))
    assert log.send(session, 1, ("note", "z")) == first._replace(status=REUSED)
    [lost] = log.add(noop(session, 1))
    assert lost == first._replace(status=REUSED)
    assert notebook.notes == ["a"]


def test_a_noop_that_wins_takes_the_number(log: Log, notebook: Notebook) -> None:
    session = log.open()
    [won] = log.add(noop(session, 1))
    assert won.status == APPLIED and won.expected == 2
    assert log.send(session, 1, ("note", "late")).status == REUSED
    assert notebook.notes == []


def test_a_released_outcome_is_gone_but_not_applied_again(log: Log, notebook: Notebook) -> None:
    session = log.open()
    log.send(session, 1, ("note", "a"))
    log.send(session, 2, ("note", "b"), lowest=2)
    gone = log.send(session, 1, ("note", "a"))
    assert (gone.status, gone.outcomes) == (OUTCOME_GONE, b"")
    assert notebook.notes == ["a", "b"]


def test_a_hole_has_no_effect_and_names_what_is_expected(log: Log, notebook: Notebook) -> None:
    session = log.open()
    ahead = log.send(session, 2, ("note", "b"))
    assert (ahead.status, ahead.expected) == (OUT_OF_ORDER, 1)
    assert log.send(session, 1, ("note", "a")).status == APPLIED
    assert log.send(session, 2, ("note", "b")).status == APPLIED
    assert notebook.notes == ["a", "b"]


def test_without_contiguity_a_hole_is_applied(log_of: LogOf) -> None:
    log = log_of(contiguous=False)
    assert log.send(log.open(), 2, ("note", "b")).status == APPLIED


def test_an_unknown_session_never_has_an_effect(log: Log, notebook: Notebook) -> None:
    log.engine.watch(99)
    assert log.send(99, 1, ("note", "a")).status == SESSION_EXPIRED
    assert notebook.notes == []


def test_opening_again_gives_the_same_session_and_what_it_expects(log: Log) -> None:
    session = log.open()
    log.send(session, 1, ("note", "a"))
    [opened] = log.add(encode_record(RecordKind.OPEN, 1, 0, 0, 0, bytes(16)))
    assert (opened.kind, opened.session, opened.status, opened.expected) == ("opened", session, APPLIED, 2)
    assert opened.nonce == bytes(16)


def test_an_open_without_a_proper_nonce_is_refused(log: Log) -> None:
    log.engine.watch_nonce(b"short")
    [opened] = log.add(encode_record(RecordKind.OPEN, 1, 0, 0, 0, b"short"))
    assert (opened.session, opened.status) == (0, SESSION_EXPIRED)


def test_only_what_is_watched_is_reported(log: Log) -> None:
    session = log.open()
    log.engine.unwatch(session)
    assert log.add(record(session, 1, ("note", "a"))) == []
    log.engine.unwatch_nonce(bytes(16))
    assert log.add(encode_record(RecordKind.OPEN, 1, 0, 0, 0, bytes(16))) == []


def test_several_records_of_one_frame_keep_their_numbers(log: Log) -> None:
    session = log.open()
    one, two = log.add(record(session, 1, ("stamp",), ("stamp",)), record(session, 3, ("stamp",)))
    assert (one.seq, two.seq) == (2, 4)
    assert decode_outcomes_untrusted(two.outcomes)[0].value == [4, 0]


def test_a_fragmented_command_runs_at_its_last_fragment(log: Log, notebook: Notebook) -> None:
    session = log.open()
    *early, last = big_note(session, 1)
    assert [log.add(fragment) for fragment in early] == [[]] * len(early)
    halfway = log.engine.is_mid_command
    [applied] = log.add(last)
    assert (halfway, log.engine.is_mid_command) == (True, False)
    assert (applied.seq, applied.count, applied.status) == (1 + len(early) + 1, 1, APPLIED)
    assert notebook.notes == ["x" * 500]
    for fragment in big_note(session, 1):
        resent = log.add(fragment)
    assert resent == [applied]
    assert notebook.notes == ["x" * 500]


def test_a_new_epoch_voids_a_partial_command(log: Log, notebook: Notebook) -> None:
    session = log.open()
    first, *rest = big_note(session, 1)
    log.add(first)
    log.epoch = 2
    log.add(EPOCH_START)
    assert [log.add(fragment) for fragment in rest] == [[]] * len(rest)
    assert notebook.notes == []


@pytest.mark.parametrize("between", [record(1, 1, ("note", "y")), noop(1, 1), EPOCH_START, GENESIS + EPOCH_START])
def test_anything_between_fragments_voids_the_command(log: Log, notebook: Notebook, between: bytes) -> None:
    first, *rest = big_note(log.open(), 2)
    log.add(first)
    log.add(between, count=2 if between.startswith(GENESIS) else 1)
    assert [log.add(fragment) for fragment in rest] == [[]] * len(rest)
    assert "x" * 500 not in notebook.notes


def test_without_the_cut_a_partial_command_survives_an_epoch(log_of: LogOf) -> None:
    log = log_of(cut=False)
    session = log.open()
    first, *rest = big_note(session, 1)
    log.add(first)
    log.add(EPOCH_START)
    assert [log.add(fragment) for fragment in rest][-1][0].status == APPLIED


def test_hostile_payloads_are_outcomes(log: Log) -> None:
    session = log.open()
    [applied] = log.add(encode_record(RecordKind.COMMANDS, 3, session, 1, 1, b"\xc1\xc1\xc1"))
    assert [outcome.error for outcome in decode_outcomes_untrusted(applied.outcomes)] == ["DecodeError"] * 3
    assert log.outcomes(session, 4, ("nothing", 1))[0].error == UNKNOWN_COMMAND


PAYLOADS = st.one_of(
    st.lists(st.sampled_from([("note", 1), ("all",), ("refuse", "no"), ("fail", "key"), ("nothing",)]), max_size=3)
    .map(lambda commands: b"".join(encode_command(*map(str, command)) for command in commands)),
    st.binary(max_size=8),
)  # fmt: skip
RECORDS = st.builds(
    lambda kind, count, request, back, payload: encode_record(kind, count, 2, request, max(0, request - back), payload),
    st.sampled_from([RecordKind.COMMANDS] * 4 + [RecordKind.NOOP, RecordKind.FRAGMENT, RecordKind.EPOCH_START]),
    st.integers(1, 3), st.integers(1, 8), st.integers(-1, 4), PAYLOADS,
)  # fmt: skip


@given(st.lists(st.tuples(st.lists(RECORDS, min_size=1, max_size=2), st.integers(0, 1), st.binary(max_size=1))))
def test_a_frame_of_one_record_is_applied_as_any_other(drawn: list[tuple[list[bytes], int, bytes]]) -> None:
    reported: list[list[Any]] = []
    for quick in (True, False):
        log = Log(Engine(Notebook()))
        heard: list[Any] = []
        log.engine.on_frames = lambda frames, outcomes, heard=heard: heard.extend(zip(frames, outcomes, strict=True))
        log.add(GENESIS)
        assert log.open() == 2
        with pytest.MonkeyPatch.context() as patch:
            if not quick:
                patch.setattr(engine, "sole_commands_untrusted", lambda body: None)
            for records, missing, tail in drawn:
                count = sum(int.from_bytes(one[4:8], "big") for one in records) + missing
                applied = log.add(*records, tail, count=count)
                heard.append([one._replace(mark=mark_number(one.mark)) for one in applied])
                heard.append((log.engine.result_chain, log.engine.digest(), log.engine.is_mid_command))
        reported.append(heard)
    assert reported[0] == reported[1]


@pytest.mark.parametrize("body", [b"\xff" * 50, b"\x01", EPOCH_START + b"\x01"])
def test_a_frame_that_is_not_made_of_records_has_no_effect_but_is_proven(log_of: LogOf, body: bytes) -> None:
    one, other = log_of(), log_of()
    for log in (one, other):
        assert log.add(body, count=1) == []
    assert one.engine.applied_seq == 1
    assert one.engine.result_chain == other.engine.result_chain
    empty = log_of()
    empty.add(EPOCH_START)
    assert empty.engine.result_chain != one.engine.result_chain


def test_a_frame_whose_count_is_not_its_records_has_no_effect(log: Log, notebook: Notebook) -> None:
    session = log.open()
    assert log.add(record(session, 1, ("note", "a")), count=2) == []
    assert notebook.notes == [] and log.engine.applied_seq == 3


def test_frames_must_follow_each_other(log: Log) -> None:
    log.open()
    with pytest.raises(Halted, match="does not follow"):
        log.engine.apply(log.frames)


def test_after_a_halt_nothing_is_applied_any_more(log: Log, notebook: Notebook) -> None:
    session = log.open()
    with pytest.raises(Halted):
        log.send(session, 1, ("fail", "memory"))
    with pytest.raises(Halted, match="MemoryError"):
        log.send(session, 1, ("note", "a"))
    assert notebook.notes == []


def test_genesis_names_the_cluster(log: Log) -> None:
    assert log.engine.cluster_uuid is None
    log.add(GENESIS)
    assert log.engine.cluster_uuid == b"u" * 16


def test_a_recovery_names_another_cluster_and_ends_every_session(log: Log, notebook: Notebook) -> None:
    log.add(GENESIS)
    session = log.open()
    log.send(session, 1, ("note", "a"))
    payload = encode_message(Recovery(b"v" * 16, Configuration(2, ()), ()))
    log.add(encode_record(RecordKind.RECOVERY, 1, 0, 0, 0, payload))
    assert log.engine.cluster_uuid == b"v" * 16
    assert log.send(session, 2, ("note", "b")).status == SESSION_EXPIRED
    assert log.engine.query("count", []) == 1
    with pytest.raises(Halted, match="RECOVERY does not decode"):
        log.add(encode_record(RecordKind.RECOVERY, 1, 0, 0, 0, b"x"))


def test_queries_are_checked_and_their_failures_told(log: Log) -> None:
    session = log.open()
    log.send(session, 1, ("note", "a"))
    engine = log.engine
    assert engine.query("count", []) == 1
    for name, args in (("nothing", []), ("note", [1]), ("count", [1]), (["count"], []), ("__init__", [])):
        with pytest.raises(Refused):
            engine.query(name, args)  # type: ignore[arg-type]
    with pytest.raises(QueryFailed, match=r"^ZeroDivisionError$"):
        engine.query("broken", [])
    with pytest.raises(QueryFailed, match=r"^words$") as failed:
        engine.query("broken", ["words"])
    assert failed.value.rejected


@pytest.mark.parametrize(
    ("name", "takes"), [("get", "1 argument"), ("size", "0 arguments"), ("scan", "0 to 2 arguments")]
)
def test_a_query_with_a_wrong_number_of_arguments_is_told_the_right_one(name: str, takes: str) -> None:
    with pytest.raises(Refused, match=f"^query {name} takes {takes}, not 3$"):
        Engine(KeyValue()).query(name, [1, 2, 3])


def play(log: Log) -> Log:
    """A bit of everything."""
    log.add(GENESIS)
    log.add(EPOCH_START)
    session = log.open()
    log.time = 5
    log.send(session, 1, ("note", {"b": 1, "a": [2.5]}), ("refuse", "no"), ("draw",), ("fail", "zero"))
    log.send(session, 9, ("note", "hole"))
    for fragment in big_note(session, 5):
        log.add(fragment)
    log.send(session, 1, ("note", "other"))
    log.send(session, 6, ("all",), lowest=5)
    return log


def test_equal_logs_give_equal_chains_and_digests(log_of: LogOf) -> None:
    one, other = play(log_of()), play(log_of())
    assert one.engine.result_chain == other.engine.result_chain
    assert one.engine.chain == other.engine.chain == one.frames[-1].chain
    assert one.engine.digest() == other.engine.digest()


def test_frames_in_one_go_or_one_by_one_are_the_same(log_of: LogOf) -> None:
    one = play(log_of())
    other = Engine(Notebook())
    other.apply(one.frames)
    assert (other.result_chain, other.digest()) == (one.engine.result_chain, one.engine.digest())


class Forgetful(Notebook):
    """Computes one thing differently."""

    def snapshot(self) -> list[object]:
        return []


def test_a_different_outcome_shows_in_the_result_chain_and_a_different_state_in_the_digest(log_of: LogOf) -> None:
    right, wrong = log_of(), log_of(Forgetful())
    for log in (right, wrong):
        log.send(log.open(), 1, ("note", "a"))
    assert right.engine.result_chain == wrong.engine.result_chain
    assert right.engine.digest() != wrong.engine.digest()
    wrong.engine.machine.notes.append("secretly")  # type: ignore[attr-defined]
    for log in (right, wrong):
        log.send(1, 2, ("note", "b"))
    assert right.engine.result_chain != wrong.engine.result_chain


def test_an_engine_restored_from_a_snapshot_goes_on_alike(log_of: LogOf) -> None:
    one = play(log_of())
    restored = log_of()
    restored.engine.restore(decode_plain(encode_ordered(one.engine.snapshot())))
    assert restored.engine.snapshot() == one.engine.snapshot()
    for log in (one, restored):
        log.engine.watch(3)
        log.time = 9
    again = [log.send(3, 5, ("note", "other")) for log in (one, restored)]
    more = [log.send(3, 7, ("draw",), ("all",)) for log in (one, restored)]
    assert again[0] == again[1] and again[0].status == REUSED
    assert more[0] == more[1] and more[0].status == APPLIED
    assert one.engine.result_chain == restored.engine.result_chain
    assert one.engine.digest() == restored.engine.digest()
