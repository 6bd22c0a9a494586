from typing import Any

import pytest

from mcast.protocol.effects import Effect, WriteMeta
from mcast.protocol.replica import Replica
from mcast.protocol.rules import Rules
from mcast.protocol.states import Input
from mcast.wire.messages import Handover, PeerState, PreVote, PreVoteRequest, Stale, Vote, VoteRequest

from .bench import KEY, SETTLED, STORAGE, arrival, drain, epoch_log, epoch_start, genesis, of, replica
from .test_following import beat

LOG = epoch_log([(1, "n3", 2)])


def silent(node: str = "n1", rules: Rules | None = None, promised: int = 1) -> Replica:
    return replica(node, LOG, promised, rules)


def pre_vote_request(node: Replica, now: float = 2.0) -> PreVoteRequest:
    node.tick(now)
    (request,) = of(PreVoteRequest, drain(node, now))
    return request


def test_silence_leads_to_a_pre_vote_that_promises_nothing() -> None:
    node = silent(rules=SETTLED)
    assert 0.5 <= node.next_deadline() <= 1.0
    request = pre_vote_request(node)
    assert (request.epoch, request.last_epoch, request.last_seq) == (2, 1, 4)
    assert node.promised == 1


def test_who_holds_genesis_alone_stands_only_once_it_has_voted_whatever_it_has_promised() -> None:
    node = replica("n2", [genesis()], 3, SETTLED)
    node.tick(5.0)
    assert of(PreVoteRequest, drain(node, 5.0)) == []
    node.receive([arrival("n1", VoteRequest(4, 0, 1), promised=4)], 5.1)
    assert [vote.granted for vote in of(Vote, drain(node, 5.1))] == [True]
    node.tick(9.0)
    assert len(of(PreVoteRequest, drain(node, 9.0))) == 1


def test_the_own_vote_is_durable_before_anybody_is_asked() -> None:
    node = silent()
    request = pre_vote_request(node)
    node.receive([arrival("n2", PreVote(2, STORAGE["n2"], True, request.nonce, KEY["n1"]), promised=1)], 2.0)
    effects = node.take_effects()
    (write,) = of(WriteMeta, effects)
    assert (write.meta.promised, write.meta.voted_epoch, write.meta.voted_for) == (2, 2, KEY["n1"])
    assert of(VoteRequest, effects) == []
    assert node.promised == 1
    node.complete(write.ticket, 2.01)
    assert node.promised == 2
    assert of(VoteRequest, node.take_effects())


@pytest.mark.parametrize("wrong", [{"nonce": 1}, {"granted": False}, {"storage_id": b"x" * 16}, {"candidate": 9}])
def test_a_pre_vote_must_answer_this_pre_vote_under_a_members_storage_id(wrong: dict[str, Any]) -> None:
    node = silent()
    request = pre_vote_request(node)
    right = {"epoch": 2, "storage_id": STORAGE["n2"], "granted": True, "nonce": request.nonce, "candidate": KEY["n1"]}
    fields: dict[str, Any] = right | wrong
    node.receive([arrival("n2", PreVote(**fields), promised=1)], 2.0)
    assert of(WriteMeta, node.take_effects()) == []


def test_a_voter_that_hears_its_sequencer_refuses_the_pre_vote() -> None:
    node = silent("n2")
    node.receive([arrival("n3", beat(LOG, 1), promised=1)], 2.0)
    drain(node, 2.0)
    node.receive([arrival("n1", PreVoteRequest(2, 1, 4, 5), promised=1)], 2.1)
    (answer,) = of(PreVote, node.take_effects())
    assert not answer.granted
    node.receive([arrival("n1", PreVoteRequest(2, 1, 4, 5), promised=1)], 2.6)
    (answer,) = of(PreVote, node.take_effects())
    assert answer.granted


def test_heartbeats_whose_confirmed_round_stands_still_are_silence() -> None:
    node = silent("n2")
    now = 1.0
    while now < 3.0:
        node.receive([arrival("n3", beat(LOG, 1, round=int(now * 100), confirmed=3), promised=1)], now)
        node.tick(now)
        if of(PreVoteRequest, drain(node, now)):
            break
        now += 0.05
    assert 1.5 <= now <= 2.1


def ask_vote(
    node: Replica, sender: str = "n1", epoch: int = 2, last: tuple[int, int] = (1, 4), now: float = 2.0
) -> list[Vote]:
    node.receive([arrival(sender, VoteRequest(epoch, *last), promised=epoch)], now)
    return of(Vote, drain(node, now))


def test_one_vote_an_epoch_and_again_to_the_same_candidate() -> None:
    node = silent("n2")
    assert [vote.granted for vote in ask_vote(node, "n1")] == [True]
    assert [vote.granted for vote in ask_vote(node, "n3")] == [False]
    assert [vote.granted for vote in ask_vote(node, "n1")] == [True]


def test_the_vote_is_durable_before_it_is_given() -> None:
    node = silent("n2")
    node.receive([arrival("n1", VoteRequest(2, 1, 4), promised=2)], 2.0)
    effects = node.take_effects()
    (both,) = of(WriteMeta, effects)
    assert (both.meta.promised, both.meta.voted_epoch, both.meta.voted_for) == (2, 2, KEY["n1"])
    assert of(Vote, effects) == []
    node.complete(both.ticket, 2.0)
    effects = node.take_effects()
    assert (of(WriteMeta, effects), of(Vote, effects)[0].granted) == ([], True)


def test_a_vote_for_an_epoch_that_was_promised_before_is_durable_before_it_is_given() -> None:
    node = silent("n2")
    node.receive([arrival("n1", Stale(1), promised=2)], 2.0)
    drain(node, 2.0)
    node.receive([arrival("n1", VoteRequest(2, 1, 4), promised=2)], 2.0)
    effects = node.take_effects()
    (vote,) = of(WriteMeta, effects)
    assert of(Vote, effects) == []
    node.complete(vote.ticket, 2.0)
    assert of(Vote, node.take_effects())[0].granted


def test_a_log_that_gets_no_vote_gets_the_promise_alone() -> None:
    node = silent("n2")
    node.receive([arrival("n1", VoteRequest(2, 1, 3), promised=2)], 2.0)
    (promise,) = of(WriteMeta, node.take_effects())
    assert (promise.meta.promised, promise.meta.voted_epoch) == (2, 0)
    node.complete(promise.ticket, 2.0)
    assert not of(Vote, node.take_effects())[0].granted


@pytest.mark.parametrize("last", [(1, 3), (0, 900)])
def test_a_log_that_lacks_something_gets_no_vote(last: tuple[int, int]) -> None:
    assert [vote.granted for vote in ask_vote(silent("n2"), last=last)] == [False]
    ablated = silent("n2", rules=Rules(vote_log_rule=False))
    assert [vote.granted for vote in ask_vote(ablated, last=last)] == [True]


def test_votes_under_an_unknown_storage_id_do_not_elect() -> None:
    for rules, elected in ((Rules(), False), (Rules(storage_id_checked=False), True)):
        node = silent(rules=rules)
        request = pre_vote_request(node)
        node.receive([arrival("n2", PreVote(2, STORAGE["n2"], True, request.nonce, KEY["n1"]), promised=1)], 2.0)
        drain(node, 2.0)
        node.receive([arrival("n2", Vote(2, b"wiped".ljust(16), True, KEY["n1"]), promised=2)], 2.0)
        assert (node.statistics().role == "sequencer-elect") is elected
        assert node.statistics().counts.get("vote of no voter", 0) == (not elected)


def candidate(rules: Rules | None = None) -> Replica:
    """n1, as a candidate of epoch 2."""
    node = silent(rules=rules)
    request = pre_vote_request(node)
    node.receive([arrival("n2", PreVote(2, STORAGE["n2"], True, request.nonce, KEY["n1"]), promised=1)], 2.0)
    drain(node, 2.0)
    return node


def test_a_vote_names_whom_it_is_for_and_counts_for_nobody_else() -> None:
    (given,) = ask_vote(silent("n2"))
    assert (given.granted, given.candidate) == (True, KEY["n1"])
    for rules, elected in ((Rules(), False), (Rules(answers_named=False), True)):
        node = candidate(rules)
        node.receive([arrival("n2", Vote(2, STORAGE["n2"], True, KEY["n3"]), promised=2)], 2.0)
        assert (node.statistics().role == "sequencer-elect") is elected
        assert node.statistics().counts.get("vote for another", 0) == (not elected)


def test_a_vote_of_another_epoch_counts_for_nothing() -> None:
    for rules, elected in ((Rules(), False), (Rules(vote_of_own_epoch=False), True)):
        node = candidate(rules)
        node.receive([arrival("n2", Vote(1, STORAGE["n2"], True, KEY["n1"]), promised=2)], 2.0)
        assert (node.statistics().role == "sequencer-elect") is elected


def test_a_node_outside_the_configuration_never_stands() -> None:
    node = replica("n1", LOG, 1)
    node._core.meta = node._core._planned_meta = node._core.meta.__class__(b"fresh".ljust(16), promised=1)
    node._core.promised = 1
    for step in range(40):
        node.tick(2.0 + step / 10)
        assert of(PreVoteRequest, drain(node, 2.0)) == []


def test_a_higher_promise_is_durable_before_its_bearer_is_heard() -> None:
    node = replica("n2", LOG, 1)
    node.receive([arrival("n3", beat(LOG, 7), promised=7)], 0.1)
    (write,) = of(WriteMeta, node.take_effects())
    assert node.sequencer is None
    node.complete(write.ticket, 0.2)
    assert node.promised == 7
    assert node.sequencer == KEY["n3"]


def test_failed_pre_votes_back_off() -> None:
    node = silent(rules=SETTLED)
    now, waits = 2.0, []
    for _ in range(8):
        node.tick(now)
        drain(node, now)
        waits.append(node.next_deadline() - now)
        now = node.next_deadline()
    assert waits[0] < 0.05
    assert max(waits) > 0.3
    assert max(waits) < 1.0


def test_who_saw_it_die_stands_at_once_and_lets_others_stand() -> None:
    node = silent("n2")
    node.receive([arrival("n3", beat(LOG, 1), promised=1)], 2.0)
    node.tick(2.0)
    drain(node, 2.0)
    node.on_peer_died(KEY["n1"], 2.1)
    assert node.next_deadline() > 2.2
    node.on_peer_died(KEY["n3"], 2.1)
    assert node.next_deadline() <= 2.11
    node.receive([arrival("n1", PreVoteRequest(2, 1, 4, 5), promised=1)], 2.1)
    (answer,) = of(PreVote, node.take_effects())
    assert answer.granted
    now = node.next_deadline()
    node.tick(now)
    assert of(PreVoteRequest, drain(node, now))


def test_a_shorter_log_stands_after_the_longer_one() -> None:
    node = silent("n2")
    peers = (PeerState(KEY["n1"], 9, 0),)
    node.receive([arrival("n3", beat(LOG, 1, peers=peers), promised=1)], 2.0)
    drain(node, 2.0)
    node.on_peer_died(KEY["n3"], 2.1)
    node.tick(2.104)
    assert of(PreVoteRequest, drain(node, 2.104)) == []
    node.tick(2.1051)
    assert of(PreVoteRequest, drain(node, 2.1051))


def test_who_is_appointed_calls_the_vote_without_asking_for_silence() -> None:
    node = silent("n2")
    node.receive([arrival("n3", beat(LOG, 1), promised=1)], 2.0)
    drain(node, 2.0)
    node.receive([arrival("n1", Handover(1), promised=1)], 2.1)
    assert of(VoteRequest, drain(node, 2.1)) == []
    node.receive([arrival("n3", Handover(1), promised=1)], 2.1)
    assert of(VoteRequest, drain(node, 2.1))


def test_a_candidate_asks_again_before_it_tries_a_higher_epoch() -> None:
    node = silent()
    request = pre_vote_request(node)
    node.receive([arrival("n2", PreVote(2, STORAGE["n2"], True, request.nonce, KEY["n1"]), promised=1)], 2.0)
    calls = of(VoteRequest, drain(node, 2.0))
    while not of(PreVoteRequest, effects := tick_next(node)):
        calls += of(VoteRequest, effects)
    assert [call.epoch for call in calls] == [2, 2, 2]


def tick_next(node: Replica) -> list[Effect]:
    now = node.next_deadline()
    node.tick(now)
    return drain(node, now)


def pre_vote_granted(node: Replica, sender: str, last: tuple[int, int] = (1, 4), now: float = 2.001) -> bool:
    """Whether a node that has not heard anybody for long grants this pre-vote."""
    node.receive([arrival(sender, PreVoteRequest(2, *last, 5), promised=1)], now)
    (answer,) = of(PreVote, drain(node, now))
    return answer.granted


def test_of_two_that_pre_vote_at_once_only_one_is_favoured() -> None:
    first, second = silent("n1"), silent("n2")
    pre_vote_request(first)
    pre_vote_request(second)
    assert not pre_vote_granted(first, "n2")
    assert pre_vote_granted(second, "n1")


def test_a_longer_log_is_favoured_whatever_the_order() -> None:
    node = silent("n1")
    pre_vote_request(node)
    assert pre_vote_granted(node, "n2", (1, 5))


def test_a_better_rank_does_not_stand_in_the_way_for_long() -> None:
    node = silent("n1")
    pre_vote_request(node)
    assert not pre_vote_granted(node, "n2")
    assert of(PreVoteRequest, tick_next(node))
    assert pre_vote_granted(node, "n2")


def test_who_stands_favours_nobody_for_the_same_epoch() -> None:
    node = silent("n2")
    request = pre_vote_request(node)
    node.receive([arrival("n1", PreVote(2, STORAGE["n1"], True, request.nonce, KEY["n2"]), promised=1)], 2.0)
    node.receive([arrival("n1", PreVoteRequest(2, 1, 4, 5), promised=1)], 2.0)  # before its own vote is durable
    assert [answer.granted for answer in of(PreVote, node.take_effects())] == [False]


def test_an_appointment_of_an_epoch_that_is_over_is_none() -> None:
    node = replica("n2", LOG, 2)
    node.receive([arrival("n3", beat([*LOG, epoch_start(2, "n3", LOG[-1])], 2), promised=2)], 2.0)
    drain(node, 2.0)
    node.receive([arrival("n3", Handover(1), promised=2)], 2.1)
    assert of(VoteRequest, drain(node, 2.1)) == []


def test_who_stands_while_a_promise_is_being_written_stands_for_an_epoch_above_it() -> None:
    node = silent()
    request = pre_vote_request(node)
    node.receive([arrival("n3", Stale(1), promised=5)], 2.0)
    node.receive([arrival("n2", PreVote(2, STORAGE["n2"], True, request.nonce, KEY["n1"]), promised=1)], 2.0)
    promise, call = of(WriteMeta, node.take_effects())
    assert (promise.meta.promised, call.meta.promised, call.meta.voted_epoch) == (5, 6, 6)


def test_a_vote_that_is_asked_for_twice_is_durable_before_it_is_given_twice() -> None:
    node = silent("n2")
    node.receive([arrival("n1", Stale(1), promised=2)], 2.0)
    drain(node, 2.0)
    node.receive([arrival("n1", VoteRequest(2, 1, 4), promised=2)] * 2, 2.0)
    effects = node.take_effects()
    assert of(Vote, effects) == []
    for write in of(WriteMeta, effects):
        node.complete(write.ticket, 2.0)
    assert [vote.granted for vote in of(Vote, node.take_effects())] == [True, True]


def test_who_stands_retreats_when_a_sequencer_speaks() -> None:
    node = silent()
    pre_vote_request(node)
    node.receive([arrival("n3", beat(LOG, 1), promised=1)], 2.001)
    drain(node, 2.001)
    assert node.statistics().role == "follower"


def test_nobody_votes_below_a_promise_that_is_being_written() -> None:
    node = silent("n2")
    node.receive([arrival("n1", Stale(1), promised=2)], 2.0)
    drain(node, 2.0)
    node.receive([arrival("n3", Stale(2), promised=3)], 2.01)
    node.receive([arrival("n1", VoteRequest(2, 1, 4), promised=2)], 2.01)
    (promise,) = of(WriteMeta, effects := node.take_effects())
    assert (promise.meta.promised, promise.meta.voted_epoch) == (3, 0)
    assert of(Vote, effects) == []


def called() -> tuple[Replica, WriteMeta]:
    """n1 with a majority's consent; its own vote is still being written."""
    node = silent()
    request = pre_vote_request(node)
    node.receive([arrival("n2", PreVote(2, STORAGE["n2"], True, request.nonce, KEY["n1"]), promised=1)], 2.0)
    (write,) = of(WriteMeta, node.take_effects())
    return node, write


def test_nobody_is_asked_however_long_the_own_vote_takes() -> None:
    node, _ = called()
    for _ in range(4):
        assert of(VoteRequest, tick_next(node)) == []


def test_a_refusal_is_no_vote() -> None:
    node, write = called()
    node.complete(write.ticket, 2.0)
    node.receive([arrival("n2", Vote(2, STORAGE["n2"], False, KEY["n1"]), promised=2)], 2.01)
    assert node.statistics().role == "candidate"
    node.receive([arrival("n2", Vote(2, STORAGE["n2"], True, KEY["n1"]), promised=2)], 2.02)
    assert node.leads_epoch


def test_who_votes_for_another_stands_no_longer() -> None:
    node = silent()
    pre_vote_request(node)
    node.receive([arrival("n3", Stale(1), promised=2)], 2.0)
    drain(node, 2.0)
    node._core.become_candidate(Input.SILENCE)
    node.receive([arrival("n3", VoteRequest(2, 1, 4), promised=2)], 2.01)
    assert [vote.granted for vote in of(Vote, drain(node, 2.01))] == [True]
    assert node.statistics().role == "follower"


def test_no_vote_of_another_epoch_is_written_with_a_promise() -> None:
    node = silent("n2")
    node.receive([arrival("n1", VoteRequest(4, 1, 4), promised=2)], 2.0)
    (promise,) = of(WriteMeta, node.take_effects())
    assert (promise.meta.promised, promise.meta.voted_epoch) == (2, 0)


def test_who_was_taken_for_dead_and_speaks_again_is_heard() -> None:
    node = silent("n2")
    node.receive([arrival("n3", beat(LOG, 1), promised=1)], 2.0)
    drain(node, 2.0)
    node.on_peer_died(KEY["n3"], 2.1)
    node.receive([arrival("n3", beat(LOG, 1, round=2, confirmed=1), promised=1)], 2.101)
    drain(node, 2.101)
    assert not pre_vote_granted(node, "n1", now=2.11)
