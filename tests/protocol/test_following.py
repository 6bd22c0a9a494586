import random
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest

from mcast.protocol.effects import (
    Append,
    Apply,
    Contradicted,
    Effect,
    GapClosed,
    HaltRequired,
    Notice,
    SteppedDown,
    Truncate,
    WriteMeta,
)
from mcast.protocol.endings import INSISTED_S, INSISTED_TIMES
from mcast.protocol.log import Log
from mcast.protocol.replica import Replica
from mcast.protocol.rules import Rules
from mcast.wire.frame import Frame, make_frame
from mcast.wire.messages import Ack, Commit, EpochEntry, Heartbeat, VoteRequest

from .bench import (
    KEY,
    UUID,
    arrival,
    command_frame,
    drain,
    epoch_log,
    epoch_start,
    extended,
    frame_arrival,
    genesis,
    of,
    recovered,
    replica,
    settings,
)


def beat(
    frames: list[Frame], epoch: int, *, high: int | None = None, commit: int = 0, newest: int = 8, **how: Any
) -> Heartbeat:
    """The heartbeat of a sequencer whose log is `frames`."""
    log = Log(recovered(frames=frames))
    fields: dict[str, Any] = {
        "epoch": epoch, "cluster_uuid": UUID, "high": high or log.last_seq, "high_chain": log.last_chain,
        "commit": commit, "commit_chain": log.chain_at(commit) or bytes(16), "round": 1, "confirmed": 0,
        "stream_base": 0, "stream_sent": 0, "history": log.epochs.newest(newest), "peers": (),
    } | how  # fmt: skip
    return Heartbeat(**fields)


def follower(frames: Sequence[Frame], promised: int = 1, rules: Rules | None = None) -> Replica:
    return replica("n2", frames, promised, rules)


def hear(
    node: Replica, frames: list[Frame], epoch: int = 1, now: float = 0.01, sender: str = "n1", **how: Any
) -> list[Effect]:
    node.receive([arrival(sender, beat(frames, epoch, **how), promised=epoch)], now)
    return drain(node, now)


LOG = epoch_log([(1, "n1", 4)])


def test_frames_in_order_are_journaled_in_one_append_and_acknowledged() -> None:
    node = follower(LOG[:2])
    hear(node, LOG)
    node.receive([frame_arrival("n1", frame, counter=i + 2) for i, frame in enumerate(LOG[2:5])], 0.02)
    effects = node.take_effects()
    (append,) = of(Append, effects)
    assert append.frames == tuple(LOG[2:5])
    assert of(Ack, effects) == []
    node.complete(append.ticket, 0.03)
    (ack,) = of(Ack, node.take_effects())
    assert (ack.epoch, ack.seq, ack.chain) == (1, 5, LOG[4].chain)


def test_a_disk_that_falls_far_behind_is_still_told_of() -> None:
    node = Replica(replace(settings("n2"), cache_bytes_max=1_000), recovered("n2", LOG[:2], 1), random.Random(1), 0.0)
    frames = extended(LOG[:2], 60)
    hear(node, LOG[:2])
    node.receive([frame_arrival("n1", frame, counter=i + 2) for i, frame in enumerate(frames[2:])], 0.02)
    node.receive([arrival("n1", beat(frames, 1, commit=60), promised=1)], 0.03)
    effects = node.take_effects()
    assert of(Apply, effects), "and what is applied leaves the memory"
    acks = [(ack.seq, ack.chain) for ack in of(Ack, effects)]
    assert acks == [(2, LOG[1].chain)]
    node.complete(of(Append, effects)[0].ticket, 0.04)
    (ack,) = of(Ack, node.take_effects())
    assert (ack.seq, ack.chain) == (frames[-1].last, frames[-1].chain)


def test_nothing_is_acknowledged_before_the_history_is_known() -> None:
    node = follower(LOG[:2])
    node.receive([frame_arrival("n1", LOG[2], counter=2)], 0.02)
    assert of(Ack, drain(node, 0.02)) == []
    assert node.last_seq == 2


def test_a_gap_waits_in_the_buffer_and_is_asked_for() -> None:
    node = follower(LOG[:2])
    hear(node, LOG[:2], stream_sent=1)
    node.receive([frame_arrival("n1", LOG[3], counter=3), frame_arrival("n1", LOG[4], counter=4)], 0.02)
    assert node.last_seq == 2
    assert node.ledger_report().open == ((3, 3),)
    assert node.ledger_report().lost == 1
    node.receive([frame_arrival("n1", LOG[2], kind=2)], 0.03)
    assert node.last_seq == 5
    assert node.ledger_report().repaired == 1


def test_a_frame_of_another_chain_is_refused() -> None:
    node = follower(LOG[:2])
    hear(node, LOG)
    stranger = command_frame(LOG[1], size=33)
    broken = stranger._replace(body=stranger.body[:-1] + b"?")
    node.receive([frame_arrival("n1", broken, counter=2)], 0.02)
    assert node.last_seq == 2
    assert node.statistics().counts["chain"] == 1


def test_without_log_matching_a_damaged_frame_enters_the_log() -> None:
    node = follower(LOG[:2], rules=Rules(log_matching=False))
    hear(node, LOG)
    broken = LOG[2]._replace(body=b"?" * len(LOG[2].body))
    node.receive([frame_arrival("n1", broken, counter=2)], 0.02)
    assert node.last_seq == 3


def test_a_buffered_frame_whose_chain_fails_reopens_its_gap() -> None:
    node = follower(LOG[:2])
    hear(node, LOG)
    broken = LOG[3]._replace(body=b"?" * len(LOG[3].body))
    node.receive([frame_arrival("n1", broken, counter=4), frame_arrival("n1", LOG[4], counter=5)], 0.02)
    node.receive([frame_arrival("n1", LOG[2], kind=2)], 0.03)
    assert node.last_seq == 3
    assert (4, 4) in node.ledger_report().open
    node.receive([frame_arrival("n1", LOG[3], kind=2)], 0.04)
    assert node.last_seq == 5


def test_a_stale_frame_that_the_history_gives_to_another_epoch_is_refused() -> None:
    base = LOG[:3]
    winner = [*base, epoch_start(2, "n3", base[-1])]
    node = follower(base, promised=2)
    hear(node, winner, epoch=2)
    node.receive([frame_arrival("n1", LOG[3], kind=2, promised=2), frame_arrival("n1", LOG[3], promised=2)], 0.02)
    assert node.last_seq == 3
    counts = node.statistics().counts
    assert (counts["unassigned frame"], counts["data of another epoch"]) == (1, 1)


def test_a_dead_epochs_tail_is_truncated_before_anything_is_acknowledged() -> None:
    winner = [*LOG[:3], epoch_start(2, "n3", LOG[2])]
    node = follower(LOG, promised=2)
    effects = hear(node, winner, epoch=2)
    (cut,) = of(Truncate, effects)
    assert cut.last == 3
    acks = of(Ack, effects)
    assert [ack.seq for ack in acks] == [3]
    assert effects.index(cut) == 0
    assert node.last_seq == 3


@pytest.mark.parametrize("kept", [3, 4])
def test_a_cut_below_commit_halts(kept: int) -> None:
    committed = extended(LOG, 1, commit=5)
    winner = [*LOG[:kept], epoch_start(2, "n3", LOG[kept - 1])]
    node = follower(committed, promised=2)
    assert node.commit_seq == 5
    notices: list[Notice] = []
    for beats in range(1, 30):
        assert of(Ack, hear(node, winner, epoch=2, now=0.05 * beats, round=beats)) == []
        notices += node.take_notices()
        if halts := [notice for notice in notices if isinstance(notice, HaltRequired)]:
            break
    assert "committed" in halts[0].reason
    assert 0.05 * beats == pytest.approx(INSISTED_S + 0.05), "one word alone is no reason: it may be forged"
    (reported,) = [notice for notice in notices if isinstance(notice, Contradicted)]
    assert "committed" in reported.words
    assert node.last_seq == 7


def test_a_cut_below_commit_that_nobody_insists_on_leaves_the_node_as_it_is() -> None:
    committed = extended(LOG, 1, commit=5)
    node = follower(committed, promised=2)
    forged = [*LOG[:3], epoch_start(2, "n3", LOG[2])]
    for _ in range(INSISTED_TIMES - 1):
        hear(node, forged, epoch=2, sender="n3")
    longer = [*committed, epoch_start(2, "n3", committed[-1])]
    acks = of(Ack, hear(node, longer, epoch=2, now=5.0, sender="n3"))
    assert [one.seq for one in acks] == [7]
    hear(node, longer, epoch=2, now=5.1, round=2, confirmed=1, sender="n3")
    assert not any(isinstance(notice, HaltRequired) for notice in node.take_notices())


def test_an_append_from_before_a_truncation_proves_nothing() -> None:
    node = follower(LOG[:2])
    hear(node, LOG)
    node.receive([frame_arrival("n1", frame, counter=i + 2) for i, frame in enumerate(LOG[2:5])], 0.02)
    (append,) = of(Append, node.take_effects())
    winner = extended([*LOG[:2], epoch_start(2, "n3", LOG[1])], 3)
    node.receive([arrival("n3", beat(winner, 2), promised=2)], 0.03)
    drain(node, 0.03)
    node.receive([frame_arrival("n3", frame, counter=i + 1) for i, frame in enumerate(winner[2:])], 0.04)
    (rewritten,) = of(Append, node.take_effects())
    node.complete(append.ticket, 0.05)
    assert of(Ack, node.take_effects()) == []
    node.complete(rewritten.ticket, 0.06)
    assert [ack.seq for ack in of(Ack, node.take_effects())] == [winner[-1].last]


@pytest.mark.parametrize("by", ["repair", "transfer"])
def test_what_one_epoch_cut_and_the_next_brings_again_was_not_lost(by: str) -> None:
    first = epoch_log([(1, "n1", 8)])
    shorter = [*first[:6], epoch_start(2, "n3", first[5])]
    longer = [*first, epoch_start(3, "n1", first[-1])]
    node = follower(first[:2])
    hear(node, first[:2])
    node.receive([frame_arrival("n1", frame, counter=index) for index, frame in enumerate(first[2:], 1)], 0.02)
    drain(node, 0.02)
    hear(node, shorter, 2, 0.1, sender="n3")
    node.receive([frame_arrival("n3", shorter[-1])], 0.11)
    drain(node, 0.11)
    assert node.last_seq == shorter[-1].last
    for now in (0.2, 0.21):
        hear(node, longer, 3, now, stream_base=8, stream_sent=9)
    node.receive([frame_arrival("n1", longer[-1], counter=9)], 0.22)
    if by == "transfer":
        node.on_transfer(longer[6:-1], KEY["n1"], 0.23)
    else:
        node.receive([frame_arrival("n1", frame, 2, index, 3) for index, frame in enumerate(longer[6:-1], 50)], 0.23)
    drain(node, 0.23)
    report = node.ledger_report()
    assert (node.last_seq, report.lost, report.superseded) == (longer[-1].last, 0, 0)


def test_a_fault_counts_only_while_the_epoch_it_befalls_is_followed() -> None:
    node = follower(LOG[:2])
    hear(node, LOG[:2])
    arrived = frame_arrival("n1", LOG[2], counter=2)
    sequencer = arrived[0].incarnation
    node.receive([arrived], 0.02)
    drain(node, 0.02)
    node.note_injected("lost", sequencer, 3)
    assert node.ledger_report().injected_lost == 1
    node.receive([frame_arrival("n1", LOG[4], counter=4)], 0.02)
    drain(node, 0.02)
    node.note_injected("lost", sequencer, 5)
    assert node.ledger_report().injected_lost == 2
    node.receive([arrival("n3", beat([*LOG[:3], epoch_start(2, "n3", LOG[2])], 2), promised=2)], 0.03)
    drain(node, 0.03)
    assert node.ledger_report().injected_lost == 1, "nothing was heard of 5"
    node.note_injected("lost", sequencer, 6)  # it was stopped, and goes on in an epoch that is over
    assert node.ledger_report().injected_lost == 1


def test_commit_is_adopted_only_with_its_chain() -> None:
    node = follower(LOG)
    hear(node, LOG, commit=0)
    node.receive([arrival("n1", Commit(1, 4, b"?" * 16, 0), promised=1)], 0.02)
    assert node.commit_seq == 0
    node.receive([arrival("n1", Commit(1, 4, LOG[3].chain, 0), promised=1)], 0.03)
    assert node.commit_seq == 4
    (apply,) = of(Apply, node.take_effects())
    assert apply.frames == tuple(LOG[:4])


def test_a_commit_ahead_of_the_log_is_adopted_when_the_log_gets_there() -> None:
    node = follower(LOG[:3])
    hear(node, LOG, commit=5)
    assert node.commit_seq == 0
    node.receive([frame_arrival("n1", frame, kind=2) for frame in LOG[3:5]], 0.02)
    assert node.commit_seq == 5


def test_a_frame_proves_the_commit_it_carries() -> None:
    node = follower(LOG)
    hear(node, LOG)
    carrier = command_frame(LOG[-1], commit=5)
    node.receive([frame_arrival("n1", carrier)], 0.02)
    assert node.commit_seq == 5


def test_a_second_sequencer_of_one_epoch_makes_the_first_stand_for_the_next() -> None:
    node = replica("n1", LOG, 1, Rules(epoch_begins_with_vote=False, best_log_preferred=False))
    assert node.is_sequencer
    node.receive([arrival("n2", beat(LOG, 1), promised=1)], 0.1)
    statistics = node.statistics()
    assert (statistics.role, statistics.counts["heartbeat of a rival"]) == ("candidate", 1)
    notices = node.take_notices()
    assert SteppedDown(1) in notices and not any(isinstance(notice, HaltRequired) for notice in notices)
    assert [notice.words for notice in notices if isinstance(notice, Contradicted)]
    (call,) = of(VoteRequest, drain(node, 0.1))
    assert (call.epoch, call.last_seq) == (2, LOG[-1].last)
    node.receive([arrival("n2", beat(LOG, 1, round=2), promised=1)], 0.2)
    assert node.sequencer is None, "the epoch is over for who led it"


def test_a_heartbeat_of_a_foreign_cluster_is_ignored() -> None:
    node = follower(LOG)
    hear(node, LOG, cluster_uuid=b"f" * 16)
    assert node.sequencer is None
    assert node.statistics().counts["foreign cluster"] == 1


def test_transferred_frames_are_judged_like_any_other() -> None:
    node = follower(LOG[:2])
    hear(node, LOG)
    strange = make_frame(1, 3, 1, 0, 9, b"?" * 16, LOG[2].body)
    node.on_transfer([strange], KEY["n3"], 0.02)
    assert node.last_seq == 2
    node.on_transfer(LOG[2:], KEY["n3"], 0.03)
    assert node.last_seq == 6
    (closed,) = [notice for notice in node.take_notices() if isinstance(notice, GapClosed)]
    assert (closed.first, closed.last) == (3, 6), "told of, though nobody was asked for a repair"


def test_an_early_frame_keeps_its_place_when_the_rest_comes_over_tcp() -> None:
    node = follower(LOG[:2])
    hear(node, LOG)
    node.receive([frame_arrival("n1", LOG[5], counter=6)], 0.02)
    node.on_transfer(LOG[2:5], KEY["n3"], 0.03)
    assert node.last_seq == 6
    assert node.ledger_report().open == ()


@pytest.mark.parametrize("rule", ["reconcile_before_ack", "assigned_frames_only", "commit_proven"])
def test_each_rule_can_be_ablated(rule: str) -> None:
    node = follower(LOG, promised=2, rules=Rules(**{rule: False}))
    winner = [*LOG[:3], epoch_start(2, "n3", LOG[2])]
    hear(node, winner, epoch=2, commit=4)
    assert node.commit_seq == (3 if rule == "commit_proven" else 0)


def test_genesis_alone_has_its_own_epoch() -> None:
    assert list(Log(recovered(frames=[genesis()])).epochs) == [EpochEntry(0, 1, bytes(16))]


def test_a_transfer_may_bring_more_than_was_known_to_exist() -> None:
    node = follower(LOG[:2])
    hear(node, LOG[:2], high=3)
    node.on_transfer(LOG[2:5], KEY["n3"], 0.02)
    hear(node, LOG, high=5, now=0.03, round=2)
    assert node.ledger_report().open == ()


def test_an_original_that_arrives_after_its_transfer_was_not_lost() -> None:
    node = follower(LOG[:2])
    hear(node, LOG[:2], stream_sent=1)
    node.on_transfer(LOG[2:4], KEY["n3"], 0.02)
    assert node.ledger_report().transferred == 2
    node.receive([frame_arrival("n1", LOG[2], counter=2), frame_arrival("n1", LOG[3], counter=3)], 0.03)
    report = node.ledger_report()
    assert (report.lost, report.transferred) == (0, 0)


def test_a_catch_up_ends_with_the_epoch_that_had_what_was_to_be_fetched() -> None:
    far = LOG[-1].last + 5_000
    node = follower(LOG)
    hear(node, LOG, high=far)
    assert node.statistics().catching_up
    winner = [*LOG, epoch_start(2, "n3", LOG[-1])]
    node.receive([arrival("n3", beat(winner, 2), promised=2)], 0.2)
    drain(node, 0.2)
    node.receive([frame_arrival("n3", winner[-1])], 0.21)
    drain(node, 0.21)
    assert not node.statistics().catching_up
    assert node.last_seq == winner[-1].last


def test_a_completion_after_a_halt_is_nothing() -> None:
    node = follower(extended(LOG, 1, commit=5))
    node.receive([arrival("n3", beat(LOG, 2), promised=2)], 0.1)
    (write,) = of(WriteMeta, node.take_effects())
    node._core.halt("for the test")
    node.complete(write.ticket, 0.2)
    assert node.take_effects() == []


@pytest.mark.parametrize("covers", [1, 3])
def test_a_forged_frame_that_a_transfer_disproves_hides_nothing(covers: int) -> None:
    log = epoch_log([(1, "n1", 10)])
    node = follower(log[:2])
    hear(node, log[:2], stream_sent=1)
    forged = make_frame(1, 4, covers, 2, 99, b"?" * 16, command_frame(log[2], count=covers).body)
    node.receive([frame_arrival("n1", forged, counter=3)], 0.02)
    node.on_transfer(log[2:4], KEY["n3"], 0.03)
    drain(node, 0.03)
    assert node.last_seq == 4
    node.receive([frame_arrival("n1", frame, counter=n) for n, frame in enumerate(log[4:], 4)], 0.04)
    assert node.last_seq == log[-1].last
    assert node.ledger_report().open == ()


def test_a_forged_frame_held_behind_a_gap_gives_way_to_what_the_chain_proves() -> None:
    log = epoch_log([(1, "n1", 12)])
    node = follower(log[:2])
    hear(node, log, high=2)
    forged = make_frame(1, 6, 6, 0, log[4].time, bytes(16), command_frame(log[3], count=6).body)
    whole = command_frame(log[3], count=3, size=30)
    arrivals = [frame_arrival("n1", frame, counter=n) for n, frame in enumerate((forged, log[2], log[3], whole), 3)]
    node.receive(arrivals[:3], 0.02)
    assert node.last_seq == 4
    assert node.ledger_report().open == ((5, 5),)
    node.receive(arrivals[3:], 0.03)
    assert node.last_seq == whole.last == 7
    assert node.ledger_report().open == ((8, 11),), "what the forged frame hid is asked for"


@pytest.mark.parametrize(("sender", "epoch"), [("n3", 1), ("n1", 0), ("n1", 2)])
def test_only_the_sequencer_commits_and_only_in_its_own_epoch(sender: str, epoch: int) -> None:
    node = follower(LOG)
    hear(node, LOG)
    node.receive([arrival(sender, Commit(epoch, 4, LOG[3].chain, 0), promised=1)], 0.02)
    assert node.commit_seq == 0


def test_a_frame_whose_counter_another_datagram_has_taken_is_taken_all_the_same() -> None:
    node = follower(LOG[:2])
    hear(node, LOG[:2], stream_sent=1)
    forged = make_frame(1, LOG[2].first, 1, 0, 9, b"no chain of any ", b"forged")
    for frame in (forged, LOG[2]):
        node.receive([frame_arrival("n1", frame, counter=2)], 0.02)
    assert [append.frames for append in of(Append, node.take_effects())] == [(LOG[2],)]
    report = node.ledger_report()
    assert (report.lost, report.repaired) == (0, 0)


def test_the_late_original_of_a_hole_that_was_forgotten_takes_back_no_repair() -> None:
    frames = epoch_log([(1, "n1", 6)])
    limits = replace(settings("n2"), ledger_ranges_max=1)
    node = Replica(limits, recovered("n2", frames[:2], 1), random.Random(1), 0.0)
    hear(node, frames[:2], stream_sent=1)
    for at in (3, 5):  # two holes, of which the newer one is remembered
        node.receive([frame_arrival("n1", frames[at], counter=at)], 0.02)
    node.receive([frame_arrival("n1", frames[2], kind=2, counter=9)], 0.03)
    assert node.ledger_report().repaired == 1
    node.receive([frame_arrival("n1", frames[2], counter=2)], 0.04)
    assert node.ledger_report().repaired == 1


def test_when_the_log_last_grew_is_known() -> None:
    node = follower(LOG[:3])
    hear(node, LOG)
    node.receive([frame_arrival("n1", LOG[3])], 0.75)
    assert node._core.dated_at == 0.75
    hear(node, LOG, now=0.9, round=2)
    assert node._core.dated_at == 0.75
