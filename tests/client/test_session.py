"""A session's numbers: contiguous, used only when written, identical when sent again, filled when given up."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from itertools import count

import msgpack
import pytest

from mcast.client.calls import BatchCall, SingleCall
from mcast.client.packing import PackedCommands
from mcast.client.receipts import Receipts
from mcast.client.session import BEHIND_MAX, OUTSTANDING_BYTES_MAX, ClientSession
from mcast.errors import DecodeError, NotSent, Refused, Unknown
from mcast.limits import SESSION_PENDING_RECORDS_MAX
from mcast.machine.outcomes import NOTHING
from mcast.wire.groups import Result, decode_groups_untrusted
from mcast.wire.records import Record, RecordKind, decode_records_untrusted
from mcast.wire.stream import Opened, Status

RECORD_MAX = 100


def nonces() -> Iterator[bytes]:
    return (bytes([number]) * 16 for number in count(1))


def new_session(*, opened: bool = True) -> ClientSession:
    source = nonces()
    session = ClientSession(lambda: next(source), RECORD_MAX)
    if opened:
        call = SingleCall(PackedCommands(b"\x91\xa1x", 1))
        session.enqueue(call.entry)
        session.take()
        call.entry.given_up = True
        session.on_opened(Opened(bytes([1]) * 16, 5, 1))
    return session


def single(session: ClientSession, size: int = 10) -> SingleCall:
    call = SingleCall(PackedCommands(bytes(size), 1))
    session.enqueue(call.entry)
    return call


def batch(session: ClientSession, *counts: int) -> BatchCall:
    call = BatchCall(Receipts())
    session.enqueue(*call.expect([PackedCommands(bytes(40), number) for number in counts]))
    return call


def groups(submitted: list[bytes]) -> list[list[Record]]:
    assert all(len(decode_groups_untrusted(group, len(group))) == 1 for group in submitted)
    return [list(decode_records_untrusted(group)) for group in submitted]


def result(request: int, events: int, status: Status = Status.APPLIED, session: int = 5) -> Result:
    values = msgpack.packb([[request + index for index in range(events)], {}])
    return Result(session, request, events, 100 + request, 3, status, values)


async def test_the_session_is_opened_before_any_number_is_used() -> None:
    session = new_session(opened=False)
    call = single(session)
    (first,) = groups(session.take())
    assert [record.kind for record in first] == [RecordKind.OPEN] and bytes(first[0].payload) == bytes([1]) * 16
    assert session.take() == [] and not call.entry.is_numbered
    assert groups(session.resend())[0][0].kind == RecordKind.OPEN
    session.on_opened(Opened(bytes(16), 9, 1))
    assert session.id is None
    session.on_opened(Opened(bytes([1]) * 16, 5, 1))
    assert groups(session.take())[0][0][:4] == (RecordKind.COMMANDS, 1, 5, 1)
    assert call.entry.is_numbered


async def test_a_full_session_table_refuses_what_waits() -> None:
    session = new_session(opened=False)
    call = single(session)
    session.take()
    session.on_opened(Opened(bytes([1]) * 16, 0, 1))
    with pytest.raises(Refused, match="sessions"):
        await call.future
    assert not session.take()
    single(session)
    assert bytes(groups(session.take())[0][0].payload) == bytes([2]) * 16


async def test_single_commands_that_wait_together_share_a_record_as_far_as_it_goes() -> None:
    session = new_session()
    calls = [single(session, 20) for _ in range(5)]
    records = [group[0] for group in groups(session.take())]
    assert [(record.request, record.count) for record in records] == [(1, 3), (4, 2)]
    session.on_result(result(4, 2))
    session.on_result(result(1, 3))
    receipts = [await call.future for call in calls]
    assert [receipt.seq for receipt in receipts] == [101, 102, 103, 104, 105]
    assert [receipt.value for receipt in receipts] == [1, 2, 3, 4, 5]
    assert not session.is_busy and session.queued_bytes == session.pending_bytes == 0


async def test_a_batch_shares_no_record_with_others_and_lowest_is_the_oldest_unanswered() -> None:
    session = new_session()
    single(session)
    batch(session, 7, 2)
    single(session)
    records = [group[0] for group in groups(session.take())]
    assert [(record.request, record.count, record.lowest) for record in records] == [
        (1, 1, 1), (2, 7, 1), (9, 2, 1), (11, 1, 1),
    ]  # fmt: skip
    session.on_result(result(1, 1))
    single(session)
    assert groups(session.take())[0][0].lowest == 2


async def test_resend_repeats_the_same_bytes_in_order() -> None:
    session = new_session()
    batch(session, 3, 3, 3)
    sent = session.take()
    session.on_result(result(4, 3))
    assert session.resend() == [sent[0], sent[2]]


async def test_the_window_bounds_records_and_bytes() -> None:
    session = new_session()
    batch(session, *[1] * (SESSION_PENDING_RECORDS_MAX + 1))
    assert len(session.take()) == SESSION_PENDING_RECORDS_MAX
    assert session.take() == []
    session.on_result(result(1, 1))
    assert len(session.take()) == 1
    session = new_session()
    session.record_max = OUTSTANDING_BYTES_MAX
    for _ in range(9):
        single(session, OUTSTANDING_BYTES_MAX // 4)
    records = [group[0] for group in groups(session.take())]
    assert [record.count for record in records] == [3, 3], "one record may exceed the bound, a third must wait"


async def test_a_large_command_goes_out_as_one_group_of_fragments_under_one_number() -> None:
    session = new_session()
    call = single(session, 1_000)
    (fragments,) = groups(session.take())
    assert {(record.kind, record.request) for record in fragments} == {(RecordKind.FRAGMENT, 1)}
    session.on_result(result(1, 1))
    assert (await call.future).seq == 101
    single(session)
    assert groups(session.take())[0][0].request == 2


async def test_a_command_given_up_in_the_queue_uses_no_number() -> None:
    session = new_session()
    first, second = single(session), single(session)
    first.expire(lambda: "n1 is down")
    assert session.give_up(first.entry) == []
    with pytest.raises(NotSent, match="n1 is down"):
        await first.future
    (record,) = groups(session.take())[0]
    assert (record.request, record.count) == (1, 1)
    assert second.entry.is_numbered


async def test_a_written_command_given_up_is_filled_by_a_noop_under_its_number() -> None:
    session = new_session()
    call = single(session)
    session.take()
    call.expire(lambda: "n1 is silent")
    (noop,) = groups(session.give_up(call.entry))[0]
    assert (noop.kind, noop.session, noop.request) == (RecordKind.NOOP, 5, 1)
    with pytest.raises(Unknown, match="n1 is silent"):
        await call.future
    assert groups(session.resend())[0][0].kind == RecordKind.NOOP
    session.on_result(result(1, 1, Status.REUSED))
    assert not session.is_busy


async def test_a_shared_record_is_kept_for_those_who_still_wait() -> None:
    session = new_session()
    first, second = single(session), single(session)
    sent = session.take()
    first.expire(lambda: "")
    assert session.give_up(first.entry) == [] and session.resend() == sent
    session.on_result(result(1, 2))
    assert (await second.future).value == 2
    with pytest.raises(Unknown):
        await first.future


async def test_out_of_order_asks_for_a_resend_and_settles_nothing() -> None:
    session = new_session()
    batch(session, 2)
    session.take()
    assert session.on_result(result(1, 2, Status.OUT_OF_ORDER))
    assert session.resend()


async def test_an_expired_session_fails_what_was_unanswered_and_begins_again() -> None:
    session = new_session()
    call = single(session)
    session.take()
    waiting = single(session)
    assert not session.on_result(result(1, 1, Status.EXPIRED))
    with pytest.raises(NotSent, match="session"):
        await call.future
    assert groups(session.take())[0][0].kind == RecordKind.OPEN
    session.on_opened(Opened(bytes([2]) * 16, 77, 2))
    assert groups(session.take())[0][0][2:4] == (77, 1)
    session.on_result(result(1, 1, session=77))
    assert (await waiting.future).seq == 101


async def test_what_several_gateways_had_may_have_happened_before_its_session_was_forgotten() -> None:
    session = new_session()
    call = single(session)
    session.take()
    session.resend()
    session.on_result(result(1, 1, Status.EXPIRED))
    with pytest.raises(Unknown, match="before") as caught:
        await call.future
    assert caught.value.handle is None, "nobody can tell any more"


async def test_an_outcome_that_is_no_longer_kept_is_unknown() -> None:
    session = new_session()
    call = single(session)
    session.take()
    session.on_result(result(1, 1, Status.OUTCOME_GONE))
    with pytest.raises(Unknown, match="it happened") as caught:
        await call.future
    assert caught.value.handle is None


async def test_a_number_that_another_command_took_is_refused_for_certain() -> None:
    session = new_session()
    call, other = batch(session, 2), single(session)
    session.take()
    session.on_result(result(1, 2, Status.REUSED))
    with pytest.raises(Refused, match="another one"):
        await call.wait(lambda: True, 1, str)
    session.on_result(result(3, 1))
    assert (await other.future).value == 3, "whoever shares the session is not harmed"


async def expired(session: ClientSession, call: SingleCall) -> Unknown:
    session.take()
    call.expire(lambda: "n1 is silent")
    assert groups(session.give_up(call.entry))[0][0].kind == RecordKind.NOOP
    with pytest.raises(Unknown) as caught:
        await call.future
    assert caught.value.handle is call
    return caught.value


@pytest.mark.parametrize("status", [Status.APPLIED, Status.REUSED])
async def test_whichever_of_command_and_noop_won_is_told_whatever_the_status(status: Status) -> None:
    """Its gateway may have heard of the other one first: only what is kept under the number tells."""
    session = new_session()
    call = single(session)
    await expired(session, call)
    session.on_result(Result(5, 1, 1, 101, 3, status, NOTHING))
    with pytest.raises(NotSent, match="never will"):
        await call.resolve(1, str)
    call = single(session)
    await expired(session, call)
    session.on_result(result(2, 1, status))
    assert (await call.resolve(1, str)).value == 2
    assert not session.is_busy


async def test_what_is_unknown_may_be_asked_for_again_and_again() -> None:
    session = new_session()
    call = single(session)
    await expired(session, call)
    with pytest.raises(Unknown, match="n2 is silent") as caught:
        await call.resolve(0, lambda: "n2 is silent")
    assert caught.value.handle is call
    asked = [asyncio.ensure_future(call.resolve(1, str)) for _ in range(2)]
    await asyncio.sleep(0)
    session.on_result(result(1, 1))
    assert [receipt.seq for receipt in await asyncio.gather(*asked)] == [101, 101]


async def test_a_batch_is_resolved_in_place_and_what_was_not_numbered_never_happens() -> None:
    session = new_session()
    call = batch(session, *[1] * (SESSION_PENDING_RECORDS_MAX + 2))
    session.take()
    session.on_result(result(1, 1))
    with pytest.raises(Unknown) as caught:
        await call.wait(lambda: bool(call.entries), 0, str)
    assert caught.value.receipts is call.receipts and call.receipts.known == 1
    assert session.take() == [] and not session.queue, "what nobody waits for is not numbered any more"
    for request in range(2, SESSION_PENDING_RECORDS_MAX + 1):
        session.on_result(result(request, 1))
    assert call.receipts.known == 1, "an error's receipts change only when it is resolved"
    receipts = await call.resolve(1, str)
    assert receipts is caught.value.receipts
    assert [receipt is None for receipt in receipts] == [False] * SESSION_PENDING_RECORDS_MAX + [True] * 2


async def test_a_batch_whose_session_ended_with_some_of_it_applied_stays_unknown() -> None:
    session = new_session()
    call = batch(session, 1, 1)
    session.take()
    session.on_result(result(1, 1))
    session.resend()
    session.on_result(result(2, 1, Status.EXPIRED))
    with pytest.raises(Unknown, match="1 of 2") as caught:
        await call.wait(lambda: bool(call.entries), 1, str)
    assert caught.value.handle is None and list(caught.value.receipts)[1] is None


async def test_a_cluster_that_lost_what_it_acknowledged_is_left_with_a_new_session() -> None:
    session = new_session()
    first, second = single(session, 90), single(session, 90)
    session.take()
    session.on_result(result(1, 1))
    await first.future
    missing = result(2, 1, Status.OUT_OF_ORDER)._replace(seq=1)
    assert [session.on_result(missing) for _ in range(BEHIND_MAX - 1)] == [True] * (BEHIND_MAX - 1)
    assert session.resend() and not session.on_result(missing)
    with pytest.raises(Unknown, match="lost what it had acknowledged"):
        await second.future
    single(session)
    assert groups(session.take())[0][0].kind == RecordKind.OPEN


async def test_another_cluster_under_the_same_name_ends_the_session() -> None:
    session = new_session()
    call = single(session)
    session.take()
    session.on_forgotten()
    assert session.last_seq == 0, "another log's numbers mean nothing here"
    with pytest.raises(Unknown, match="founded anew; the command may have happened"):  # a recovered log may hold it
        await call.future
    single(session)
    assert groups(session.take())[0][0].kind == RecordKind.OPEN


async def test_answers_that_fit_nothing_are_ignored_or_refused() -> None:
    session = new_session()
    call = batch(session, 3)
    session.take()
    assert not session.on_result(result(99, 1))
    assert not session.on_result(result(1, 3, session=6))
    with pytest.raises(DecodeError):
        session.on_result(result(1, 2))
    assert call.entries


def alike(request: int, events: int) -> Result:
    return Result(5, request, events, 100 + request, 1, Status.ALIKE, b"")


async def test_one_answer_for_records_that_are_alike_is_the_answer_of_each() -> None:
    session = new_session()
    first, alone, second = batch(session, 3, 1), single(session), batch(session, 2)
    session.take()
    assert not session.on_results([alike(1, 7)])
    assert [one and one.seq for call in (first, second) for one in call.receipts] == [101, 102, 103, 104, 106, 107]
    assert first.receipts.ok == 4 and alone.future.result().seq == 105 and alone.future.result().value is None
    assert not session.pending and session.last_seq == 107
    assert not session.on_results([alike(1, 7)])  # told again, by another gateway


@pytest.mark.parametrize("wrong", [alike(1, 2), alike(4, 3), alike(3, 65_536), result(1, 2), result(1, 0)])
async def test_what_was_answered_before_an_answer_that_fits_nothing_stays_answered(wrong: Result) -> None:
    session = new_session()
    call = batch(session, 3, 2)
    session.take()
    good = alike(4, 2)
    with pytest.raises(DecodeError):
        session.on_results([good, wrong])
    assert list(session.pending) == [1] and call.receipts.known == 2
    assert call.receipts[3] is not None and not call.entries[0].given_up and list(call.entries) == [0]


@pytest.mark.parametrize("status", [Status.OUTCOME_GONE, Status.REUSED, Status.EXPIRED])
async def test_what_was_answered_before_a_failure_in_one_message_is_known(status: Status) -> None:
    session = new_session()
    call = batch(session, 1, 1, 1)
    session.take()
    session.resend()
    session.on_results([alike(1, 1), Result(5, 2, 1, 0, 1, status, b""), alike(3, 1)])
    assert call.receipts.known == 1 and call.receipts[0] == (101, 1, "ok", None, None)
    with pytest.raises(Unknown) as caught:
        await call.wait(lambda: True, 1, lambda: "nowhere")
    assert caught.value.receipts is not None and caught.value.receipts[0] is not None


async def test_close_is_sent_only_when_nothing_is_unanswered() -> None:
    session = new_session()
    assert groups(session.close_group())[0][0][:4] == (RecordKind.CLOSE, 1, 5, 1)
    single(session)
    session.take()
    assert session.close_group() == []
    assert new_session(opened=False).close_group() == []
