"""An epoch leaves nothing behind, neither for the time after it nor for the next one of the same node."""

import pytest

from mcast.protocol.effects import Effect, Stream
from mcast.protocol.numbering import is_continued
from mcast.protocol.replica import Replica
from mcast.wire.frame import make_frame
from mcast.wire.messages import Handover, Heartbeat, PreVote, PreVoteRequest, Read, ReadIndex, Stale, Vote
from mcast.wire.records import split_fragments

from .bench import (
    KEY,
    STORAGE,
    arrival,
    command_record,
    drain,
    epoch_log,
    epoch_start,
    extended,
    frame_arrival,
    of,
    own_epoch,
    replica,
)
from .test_following import beat
from .test_sequencing import LOG, ack, sequencing


def deposed(node: Replica, now: float = 2.2) -> list[Effect]:
    node.receive([arrival("n3", Stale(2), promised=3)], now)
    return drain(node, now)


def elected_again(node: Replica, now: float = 4.0) -> list[Effect]:
    """The effects with which it begins epoch 4."""
    node.tick(now)
    (asked,) = of(PreVoteRequest, drain(node, now))
    vote = PreVote(asked.epoch, STORAGE["n2"], True, asked.nonce, KEY["n1"])
    node.receive([arrival("n2", vote, promised=3)], now)
    drain(node, now)
    node.receive([arrival("n2", Vote(4, STORAGE["n2"], True, KEY["n1"]), promised=4)], now)
    assert node.leads_epoch
    return drain(node, now)


def commit_all(node: Replica, now: float, epoch: int = 4, round_number: int = 1) -> list[Effect]:
    node.receive([ack("n2", node.last_seq, node.last_chain, epoch=epoch, round_number=round_number)], now)
    return drain(node, now)


def many_rounds(node: Replica) -> int:
    now = 2.05
    for number in range(40):
        now += 0.002
        node.receive([arrival("n3", Read(2, number), promised=2)], now)
        beats = of(Heartbeat, drain(node, now))
        node.receive([ack("n2", node.last_seq, node.last_chain, round_number=beats[-1].round)], now)
        drain(node, now)
    return beats[-1].round


def test_rounds_begin_anew_and_none_is_confirmed() -> None:
    node = sequencing()
    assert many_rounds(node) > 20
    deposed(node)
    first = of(Heartbeat, elected_again(node))[0]
    assert (first.epoch, first.round, first.confirmed) == (4, 1, 0)


def cut_back(node: Replica) -> None:
    """n3's epoch 3 goes on from what was committed: the rest of this node's log is cut."""
    committed = list(node._core.log.frames_between(1, node.commit_seq, 99))
    longer = [*committed, epoch_start(3, "n3", committed[-1])]
    deposed(node)
    node.receive([arrival("n3", beat(longer, 3), promised=3), frame_arrival("n3", longer[-1])], 2.3)
    drain(node, 2.3)
    assert node.last_chain == longer[-1].chain


def test_what_was_acknowledged_commits_nothing_in_the_next_epoch() -> None:
    node = sequencing()
    for _ in range(3):
        node.submit([(command_record(),)], 2.1)
    node.take_effects()  # the own disk is slow
    node.receive([ack("n3", 8, node.last_chain)], 2.11)
    assert node.commit_seq == 5
    cut_back(node)
    elected_again(node)
    node.receive([], 4.01)
    assert node.statistics().role == "sequencer-elect", "nobody has acknowledged its first event"
    commit_all(node, 4.02)
    assert node.statistics().role == "sequencer"


def test_what_was_on_its_way_takes_no_room() -> None:
    node = sequencing()
    node.submit([(command_record(1, 940),)] * 1100, 2.1)
    drain(node, 2.1)
    assert node.backlog_bytes > 0
    cut_back(node)
    elected_again(node)
    commit_all(node, 4.01)
    assert node.is_idle
    node.submit([(command_record(),)], 4.02)
    assert of(Stream, drain(node, 4.02))
    commit_all(node, 4.03)
    assert node.is_idle


def test_who_applied_for_a_vote_applies_again() -> None:
    node = sequencing()
    node.submit([(command_record(),)], 2.1)
    chain = node.last_chain
    fresh = ack("n3", 6, chain, storage=b"fresh".ljust(16))
    node.receive([arrival("n3", Stale(2), promised=3)], 2.2)  # still being written
    node.receive([fresh], 2.2)
    assert own_epoch(node).membership.applicants
    drain(node, 2.2)
    number = node.statistics().config_number
    elected_again(node)
    commit_all(node, 4.01)
    assert node.is_sequencer
    assert node.statistics().config_number == number


def test_its_own_age_is_proven_by_its_own_rounds() -> None:
    node = sequencing()
    many_rounds(node)
    node.tick(2.2)
    drain(node, 2.2)  # a round that nobody answers
    deposed(node)
    elected_again(node)
    commit_all(node, 4.01)
    node.tick(4.1)
    last = of(Heartbeat, drain(node, 4.1))[-1]
    commit_all(node, 4.11, round_number=last.round)
    commit, age_s = node.proof(4.2) or (0, 0.0)
    assert commit == node.commit_seq
    assert age_s == pytest.approx(0.1)


def test_reads_that_waited_are_not_answered_by_the_next_epoch() -> None:
    node = sequencing()
    node.receive([arrival("n3", Read(2, 77), promised=2)], 2.1)
    drain(node, 2.1)
    node.receive([arrival("n3", Read(2, 78), promised=2)], 2.1)
    deposed(node)
    node.receive([arrival("n3", Read(3, 79), promised=3)], 2.3)
    drain(node, 2.3)
    answers = of(ReadIndex, elected_again(node)) + of(ReadIndex, commit_all(node, 4.01))
    assert answers == []
    node.receive([arrival("n3", Read(4, 80), promised=4)], 4.02)
    assert [answer.nonce for answer in of(ReadIndex, drain(node, 4.02))] == [80]


def test_who_steps_down_knows_no_sequencer_and_appoints_nobody() -> None:
    node = sequencing()
    node.receive([ack("n3", 5, node.last_chain)], 2.02)
    assert node.hand_over(KEY["n3"], 2.02) is None
    drain(node, 2.02)
    effects: list[Effect] = []
    for step in range(40):
        node.tick(2.5 + step / 20)
        effects += drain(node, 2.5 + step / 20)
        if not node.leads_epoch:
            break
    assert node.sequencer is None
    node.tick(4.6)
    assert of(Handover, drain(node, 4.6)) == []


def test_who_was_not_heard_lately_does_not_succeed() -> None:
    node = sequencing()
    node.receive([ack("n3", 5, node.last_chain)], 2.05)
    assert node.successor(2.05) is not None
    node.receive([ack("n2", 5, node.last_chain)], 2.6)
    assert node.successor(2.6) == KEY["n2"]
    assert node.hand_over(KEY["n3"], 2.6) == "the successor was not heard lately"


def test_who_has_no_vote_any_more_does_not_succeed() -> None:
    node = sequencing()
    node.receive([ack("n3", 5, node.last_chain), ack("n2", 5, node.last_chain)], 2.05)
    for gone in ("n2", "n3"):
        node._core.voters().pop(KEY[gone])
    assert node.successor(2.06) is None


def test_a_sequencer_that_is_no_voter_does_not_count_itself() -> None:
    node = sequencing()
    node.submit([(command_record(),)], 2.1)
    drain(node, 2.1)
    node._core.voters().pop(KEY["n1"])
    commit_all(node, 2.11, 2)
    assert node.commit_seq == 5, "one of the two voters"
    node.receive([ack("n3", 6, node.last_chain)], 2.12)
    assert node.commit_seq == 6


def test_a_stray_frame_that_its_own_log_has_passed_is_let_go() -> None:
    node = sequencing()
    stray = make_frame(2, 8, 1, 0, 99, b"?" * 16, command_record())
    node.receive([frame_arrival("n3", stray, kind=2, promised=2)], 2.05)
    for _ in range(5):
        node.submit([(command_record(),)], 2.1)
    drain(node, 2.1)
    log = extended([*LOG, *node._core.log.frames_between(5, node.last_seq, 99)], 0)
    winner = [*log, epoch_start(3, "n3", log[-1])]
    for now in (2.2, 2.21):
        node.receive([arrival("n3", beat(winner, 3), promised=3)], now)
        drain(node, now)
    assert len(node._following.reorder) == 0
    node._following.gaps._check()
    node.receive([frame_arrival("n3", winner[-1])], 2.22)
    assert node.last_seq == winner[-1].last


def test_time_goes_on_from_the_predecessors_whose_clock_was_ahead() -> None:
    ahead = make_frame(1, 5, 1, 0, 10**15, LOG[-1].chain, command_record())
    node = replica("n1", [*LOG, ahead], 1)
    node.tick(2.0)
    (asked,) = of(PreVoteRequest, drain(node, 2.0))
    vote = PreVote(asked.epoch, STORAGE["n2"], True, asked.nonce, KEY["n1"])
    node.receive([arrival("n2", vote, promised=1)], 2.0)
    drain(node, 2.0)
    node.receive([arrival("n2", Vote(2, STORAGE["n2"], True, KEY["n1"]), promised=2)], 2.0)
    (stream,) = of(Stream, drain(node, 2.0))
    assert stream.frames[0].time >= ahead.time


def test_only_what_follows_in_a_command_is_continued() -> None:
    pieces = split_fragments(9, 1, 1, b"x" * 3_000, 1_000)
    assert [is_continued(piece) for piece in pieces] == [False, *([True] * (len(pieces) - 1))]
    assert not is_continued(command_record())


def test_a_heartbeat_tells_of_the_newest_epochs() -> None:
    log = epoch_log([(epoch, "n3", 1) for epoch in range(1, 13)])
    node = replica("n1", log, 12)
    node.tick(2.0)
    (asked,) = of(PreVoteRequest, drain(node, 2.0))
    vote = PreVote(asked.epoch, STORAGE["n2"], True, asked.nonce, KEY["n1"])
    node.receive([arrival("n2", vote, promised=12)], 2.0)
    drain(node, 2.0)
    node.receive([arrival("n2", Vote(13, STORAGE["n2"], True, KEY["n1"]), promised=13)], 2.0)
    assert [entry_epoch.epoch for entry_epoch in of(Heartbeat, drain(node, 2.0))[0].history][-3:] == [11, 12, 13]


def test_who_leads_helps_nobody_to_depose_it() -> None:
    node = sequencing()
    node.receive([arrival("n3", PreVoteRequest(3, 2, 5, 7), promised=2)], 2.9)
    assert [answer.granted for answer in of(PreVote, node.take_effects())] == [False]
