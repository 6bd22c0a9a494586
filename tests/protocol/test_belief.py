from __future__ import annotations

from dataclasses import replace

import pytest

from mcast.protocol.belief import CONTRADICTIONS, Claim
from mcast.protocol.effects import HaltRequired, ReadReady
from mcast.protocol.endings import INSISTED_TIMES
from mcast.protocol.replica import Replica
from mcast.protocol.rules import Rules
from mcast.wire.messages import Ack, Commit, Read, ReadIndex

from .bench import KEY, arrival, command_frame, drain, epoch_log, epoch_start, extended, frame_arrival, of
from .test_following import beat, follower, hear

LOG = epoch_log([(1, "n1", 4)])
MAX = 2**63 - 1
MAX_ROUND = 2**64 - 1


def test_a_claim_is_disproved_by_words_in_a_row_and_not_by_late_ones() -> None:
    claim = Claim()
    assert not claim.yields_to(9, 9, 0.0)
    for _ in range(5):
        assert [claim.yields_to(9, 3, 0.0) for _ in range(2)] == [False, False]
        assert not claim.yields_to(9, 9, 0.0)
    assert [claim.yields_to(9, 3, 0.0) for _ in range(CONTRADICTIONS)][-1]


def test_what_is_told_may_lag_behind_what_is_heard_otherwise() -> None:
    claim = Claim()
    assert not any(claim.yields_to(10 * at + 10, 10 * at + 5, at / 20) for at in range(50)), (
        "frames overtake each heartbeat"
    )


def hearing(forged: dict[str, int], rules: Rules | None = None) -> Replica:
    """A follower that heard one forged heartbeat, and then six true ones."""
    node = follower(LOG, rules=rules)
    hear(node, LOG, round=1)
    said = beat(LOG, 1, **({"round": 2, "confirmed": 1} | forged))
    node.receive([arrival("n1", said, promised=1)], 0.02)
    drain(node, 0.02)
    for at in range(6):
        node.receive([arrival("n1", beat(LOG, 1, round=3 + at, confirmed=2 + at), promised=1)], 0.05 * (at + 1))
    return node


def test_a_high_water_that_nobody_repeats_is_taken_back() -> None:
    node = hearing({"high": MAX})
    drain(node, 0.4)
    statistics = node.statistics()
    assert (node.high_seq, statistics.gaps_open, statistics.catching_up) == (LOG[-1].last, 0, False)
    assert statistics.counts["high water taken back"] == 1
    node.tick(1.5)
    assert not node.statistics().catching_up
    believing = hearing({"high": MAX}, Rules(lone_word_doubted=False))
    assert believing.high_seq == MAX and believing.statistics().catching_up


def test_a_follower_answers_the_true_rounds_after_one_that_never_began() -> None:
    node = hearing({"round": MAX_ROUND})
    assert [ack.round for ack in of(Ack, drain(node, 0.4))] == [3, 4, 5, 6, 7, 8]


def test_a_confirmed_round_that_cannot_be_does_not_hide_those_that_are() -> None:
    node = hearing({"round": MAX_ROUND, "confirmed": MAX_ROUND - 1})
    assert node.in_touch_s(0.3) == pytest.approx(0.0)


@pytest.mark.parametrize("forged", [{"confirmed": 7, "round": 7}, {"commit": 9, "high": 8}, {"round": 0}])
def test_a_heartbeat_that_contradicts_itself_is_nobodys(forged: dict[str, int]) -> None:
    node = hearing(forged)
    assert node.statistics().counts["impossible heartbeat"] == 1


def test_a_deposed_sequencer_takes_back_nothing_that_others_know() -> None:
    node = follower(LOG)
    hear(node, LOG, round=9, confirmed=8)
    node._core.note_commit(12, 0.02)
    for at in range(9):
        hear(node, LOG, now=0.05 * (at + 1), round=10 + at, confirmed=8)
    assert node.high_seq == 12, "no round of its is confirmed any more"
    for at in range(9):
        hear(node, LOG, now=0.6 + 0.05 * at, round=20 + at, confirmed=10 + at)
    assert node.high_seq == LOG[-1].last


def test_a_frame_from_beyond_the_high_water_is_let_go() -> None:
    node = follower(LOG)
    hear(node, LOG, round=1, stream_sent=6)
    far = command_frame(LOG[-1]._replace(first=MAX // 2))
    node.receive([frame_arrival("n1", far, counter=7)], 0.02)
    assert node.high_seq == far.last and node.statistics().gaps_open == 1
    for at in range(5):
        hear(node, LOG, now=0.05 * (at + 1), round=2 + at, confirmed=1 + at, stream_sent=6)
    assert (node.high_seq, node.statistics().gaps_open) == (LOG[-1].last, 0)
    assert not len(node._following.reorder)
    longer = extended(LOG, 3)
    node.receive([frame_arrival("n1", frame, counter=7 + at) for at, frame in enumerate(longer[6:])], 0.4)
    report = node.ledger_report()
    assert (node.last_seq, report.lost, report.repaired) == (longer[-1].last, 0, 0)


@pytest.mark.parametrize("sent", [9, 5_000, 2**64 - 1])
def test_datagrams_that_were_never_sent_are_not_lost(sent: int) -> None:
    node = hearing({"stream_sent": sent})
    longer = extended(LOG, 2)
    node.receive([frame_arrival("n1", frame, counter=1 + at) for at, frame in enumerate(longer[6:])], 0.4)
    drain(node, 0.4)
    report = node.ledger_report()
    assert (node.last_seq, report.lost, report.repaired, report.duplicates) == (longer[-1].last, 0, 0, 0)


def test_the_history_of_an_epoch_is_what_its_heartbeats_go_on_saying() -> None:
    node = follower(LOG)
    true = beat(LOG, 1).history
    forged = (*true[:-1], replace(true[-1], epoch=2))
    hear(node, LOG, history=forged)
    longer = extended(LOG, 1)
    node.receive([frame_arrival("n1", longer[-1], kind=2)], 0.02)
    assert node.last_seq < longer[-1].last, "by the forged history the event is none of this epoch's"
    for at in range(CONTRADICTIONS):
        hear(node, longer, now=0.05 * (at + 1), round=2 + at, confirmed=1 + at)
    node.receive([frame_arrival("n1", frame, kind=2) for frame in longer], 0.4)
    assert (node.last_seq, node.sequencer) == (longer[-1].last, KEY["n1"])
    hear(node, longer, now=0.5, round=9, confirmed=8, history=forged)
    assert node.statistics().counts["heartbeat of another history"] == CONTRADICTIONS + 1


def test_another_epochs_rounds_are_other_rounds() -> None:
    node = follower(LOG)
    for at in range(9):
        hear(node, LOG, now=0.05 * at, round=50 + at, confirmed=49 + at)
    next_one = [*LOG, epoch_start(2, "n3", LOG[-1])]
    for at in range(2):
        hear(node, next_one, epoch=2, now=5.0 + 0.05 * at, sender="n3", round=2 + at, confirmed=1 + at)
    assert node.in_touch_s(5.05) == pytest.approx(0.0)


def test_late_heartbeats_take_nothing_back() -> None:
    node = follower(LOG)
    longer = extended(LOG, 4)
    hear(node, longer, round=20, confirmed=19, stream_sent=9)
    for at in range(9):
        hear(node, LOG, now=0.02, round=5 + at, confirmed=4 + at, stream_sent=5)
    assert node.high_seq == longer[-1].last
    assert node._ledger.highest(1) == 9


def test_words_of_long_ago_end_nobody() -> None:
    node = follower(extended(LOG, 1, commit=5), promised=2)
    forged = [*LOG[:3], epoch_start(2, "n3", LOG[2])]
    for at in range(2 * INSISTED_TIMES):
        hear(node, forged, epoch=2, now=60.0 * at, sender="n3", round=1 + at)
    assert not any(isinstance(notice, HaltRequired) for notice in node.take_notices())


def test_only_the_sequencers_data_counts() -> None:
    node = follower(LOG)
    hear(node, LOG)
    forged = extended(LOG, 1)[-1]
    node.receive([frame_arrival("n3", forged, counter=900)], 0.02)
    assert node.last_seq == LOG[-1].last
    node.receive([(frame_arrival("n3", LOG[-1], counter=900)[0], [forged, forged])], 0.03)
    assert node.statistics().counts["data of another sequencer"] == 3
    assert node._ledger.highest(1) == 0


def test_a_forged_repair_heals_no_loss() -> None:
    node = follower(LOG)
    hear(node, LOG)
    longer = extended(LOG, 3)
    node.receive([frame_arrival("n3", command_frame(longer[-2]._replace(chain=bytes(16))), kind=2)], 0.02)
    assert node.ledger_report().repaired == 1, "so it seems"
    node.receive([frame_arrival("n1", frame, counter=1 + at) for at, frame in enumerate(longer[6:])], 0.03)
    node.receive([frame_arrival("n3", longer[-1], kind=2)], 0.04)
    report = node.ledger_report()
    assert (node.last_seq, report.lost, report.repaired) == (longer[-1].last, 0, 0)


def test_a_commit_confirms_no_round_that_was_not_heard_of() -> None:
    node = follower(LOG)
    hear(node, LOG, round=6)
    node.ask_read(0.1)
    (asked,) = of(Read, drain(node, 0.1))
    node.receive([arrival("n1", Commit(1, 4, LOG[3].chain, 2**64 - 1), promised=1)], 0.11)
    node.receive([arrival("n1", ReadIndex(1, asked.nonce, 7, 4, 6), promised=1)], 0.12)
    assert reads(node) == []


def test_a_read_is_not_confirmed_by_a_round_that_was_taken_back() -> None:
    node = follower(LOG)
    hear(node, LOG, round=MAX_ROUND, confirmed=MAX_ROUND - 1)
    hear(node, LOG, now=0.05, round=7, confirmed=6)
    node.ask_read(0.1)
    (asked,) = of(Read, drain(node, 0.1))
    node.receive([arrival("n1", ReadIndex(1, asked.nonce, 8, 4, 6), promised=1)], 0.12)
    assert reads(node) == []


def test_an_index_of_a_round_that_never_comes_gives_way() -> None:
    node = follower(LOG)
    hear(node, LOG, round=6)
    node.ask_read(0.1)
    (asked,) = of(Read, drain(node, 0.1))
    for begun in (MAX_ROUND, 8):
        node.receive([arrival("n1", ReadIndex(1, asked.nonce, begun, 4, 6), promised=1)], 0.12)
    hear(node, LOG, now=0.15, round=9, confirmed=8)
    assert [notice.commit for notice in reads(node)] == [4]


def reads(node: Replica) -> list[ReadReady]:
    return [notice for notice in node.take_notices() if isinstance(notice, ReadReady)]


def test_data_of_another_process_before_the_first_heartbeat_lose_nothing() -> None:
    node = follower(LOG, promised=2)
    longer = [*LOG, epoch_start(2, "n1", LOG[-1])]
    forged, _ = frame_arrival("n1", longer[-1], counter=3)
    node.receive([(forged._replace(incarnation=bytes(16)), longer[-1])], 0.01)
    hear(node, longer, epoch=2, now=0.02, high=LOG[-1].last, stream_base=900, stream_sent=900)
    node.receive([frame_arrival("n1", longer[-1], counter=901)], 0.03)
    hear(node, longer, epoch=2, now=0.05, round=2, confirmed=1, stream_base=900, stream_sent=901)
    report = node.ledger_report()
    assert (node.last_seq, report.lost) == (longer[-1].last, 0)
