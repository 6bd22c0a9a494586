from hashlib import blake2b
from typing import Any

import pytest

from mcast.limits import READ_RETRY_S
from mcast.protocol.arrivals import Arrival
from mcast.protocol.effects import ReadReady
from mcast.protocol.replica import Replica
from mcast.protocol.rules import Rules
from mcast.wire.messages import (
    Commit,
    Heartbeat,
    PreVote,
    PreVoteRequest,
    Read,
    ReadIndex,
    Standing,
    Survey,
    Vote,
    encode_message,
)

from .bench import CONFIG, KEY, SETTLED, STORAGE, arrival, drain, of, replica
from .test_following import LOG, beat, follower, hear
from .test_sequencing import LOG as EARLIER
from .test_sequencing import ack, elected, sequencing


def ready(node: Replica) -> list[ReadReady]:
    return [notice for notice in node.take_notices() if isinstance(notice, ReadReady)]


def index(asked: Read, round_number: int, commit: int = 4) -> ReadIndex:
    return ReadIndex(1, asked.nonce, round_number, commit, 6)


def confirming(round_number: int) -> Arrival:
    return arrival("n1", Commit(1, 4, LOG[3].chain, round_number), promised=1)


def test_a_read_waits_for_its_round_to_be_confirmed() -> None:
    node = follower(LOG)
    hear(node, LOG, round=10)
    token = node.ask_read(0.1)
    (asked,) = of(Read, drain(node, 0.1))
    node.receive([arrival("n1", index(asked, 7), promised=1)], 0.11)
    assert ready(node) == []
    node.receive([arrival("n1", Commit(1, 4, LOG[3].chain, 6), promised=1)], 0.12)
    assert ready(node) == []
    node.receive([arrival("n1", Commit(1, 4, LOG[3].chain, 7), promised=1)], 0.13)
    assert ready(node) == [ReadReady((token or 0,), 4)]


def test_without_the_confirmation_a_deposed_sequencer_would_answer() -> None:
    node = follower(LOG, rules=Rules(read_index_confirmed=False))
    hear(node, LOG, round=10)
    node.ask_read(0.1)
    (asked,) = of(Read, drain(node, 0.1))
    node.receive([arrival("n1", index(asked, 7), promised=1)], 0.11)
    assert ready(node)


def test_reads_that_come_later_share_the_next_request_and_never_the_one_that_is_out() -> None:
    node = follower(LOG)
    hear(node, LOG, round=10)
    first = node.ask_read(0.1)
    (asked,) = of(Read, drain(node, 0.1))
    later = [node.ask_read(0.101) for _ in range(5)]
    assert of(Read, drain(node, 0.101)) == []
    node.receive(
        [arrival("n1", index(asked, 7), promised=1), arrival("n1", Commit(1, 4, LOG[3].chain, 7), promised=1)], 0.11
    )
    assert [notice.tokens for notice in ready(node)] == [(first,)]
    (again,) = of(Read, drain(node, 0.11))
    node.receive(
        [arrival("n1", index(again, 8), promised=1), arrival("n1", Commit(1, 4, LOG[3].chain, 8), promised=1)], 0.12
    )
    assert [notice.tokens for notice in ready(node)] == [tuple(later)]


def test_a_lost_answer_is_asked_for_again() -> None:
    node = follower(LOG)
    hear(node, LOG, round=10)
    node.ask_read(0.1)
    (asked,) = of(Read, drain(node, 0.1))
    node.tick(0.2)
    (again,) = of(Read, drain(node, 0.2))
    assert again == asked, "another request would make an answer that is on its way useless"
    node.receive(
        [arrival("n1", index(asked, 7), promised=1), arrival("n1", Commit(1, 4, LOG[3].chain, 9), promised=1)], 0.21
    )
    assert [notice.commit for notice in ready(node)] == [4]


def test_a_read_that_comes_while_another_is_asked_again_waits_for_a_request_of_its_own() -> None:
    node = follower(LOG)
    hear(node, LOG, round=10)
    first = node.ask_read(0.1)
    (asked,) = of(Read, drain(node, 0.1))
    late = node.ask_read(0.15)
    node.tick(0.2)
    drain(node, 0.2)
    node.receive(
        [arrival("n1", index(asked, 7), promised=1), arrival("n1", Commit(1, 4, LOG[3].chain, 9), promised=1)], 0.21
    )
    assert [notice.tokens for notice in ready(node)] == [(first,)]
    (own,) = of(Read, drain(node, 0.21))
    assert late is not None
    assert own.nonce != asked.nonce


def test_the_sequencer_begins_one_round_for_all_that_wait() -> None:
    node = sequencing()
    node.receive([arrival("n2", Read(2, 5), promised=2), arrival("n3", Read(2, 6), promised=2)], 2.1)
    effects = drain(node, 2.1)
    answers = of(ReadIndex, effects)
    beats = of(Heartbeat, effects)
    assert [(answer.nonce, answer.round) for answer in answers] == [(5, beats[-1].round), (6, beats[-1].round)]
    assert all(answer.commit == node.commit_seq for answer in answers)
    node.receive([ack("n2", 5, node.last_chain, round_number=beats[-1].round)], 2.11)
    assert of(Commit, drain(node, 2.11))[0].confirmed == answers[0].round


def test_rounds_of_an_epoch_that_it_followed_confirm_nothing_where_it_leads() -> None:
    node = elected(heard=beat(EARLIER, 1, round=9, confirmed=8))
    drain(node, 2.0)
    node.receive([ack("n2", 5, node.last_chain)], 2.01)
    drain(node, 2.01)
    ready(node)
    node.ask_read(2.1)
    beats = of(Heartbeat, drain(node, 2.1))
    assert not ready(node)
    node.receive([ack("n2", 5, node.last_chain, round_number=beats[-1].round)], 2.11)
    drain(node, 2.11)
    assert ready(node)


def test_no_read_index_before_an_own_epoch_commit() -> None:
    for rules, answered in ((Rules(), False), (Rules(read_index_own_epoch=False), True)):
        node = elected(rules)
        drain(node, 2.0)
        node.receive([arrival("n3", Read(2, 6), promised=2)], 2.01)
        assert bool(of(ReadIndex, drain(node, 2.01))) is answered


def test_the_sequencer_reads_by_the_same_rule() -> None:
    node = sequencing()
    token = node.ask_read(2.1)
    beats = of(Heartbeat, drain(node, 2.1))
    node.receive([], 2.105)
    assert ready(node) == [], "nobody can have answered a round that had not begun"
    node.receive([ack("n2", 5, node.last_chain, round_number=beats[-1].round)], 2.11)
    assert ready(node) == [ReadReady((token or 0,), 5)]


def position(question: Survey, seq: int, config: int = 1, **how: Any) -> Standing:
    name = how.get("epoch", 1), how.get("digest", b"?" * 16)
    return Standing(
        question.nonce, STORAGE["n2"], 1, seq, config, how.get("suspect", False), *name, how.get("asker", KEY["n3"])
    )


def read_without_sequencer(rules: Rules | None = None, **how: Any) -> list[ReadReady]:
    """A read at n3, whose log ends in epoch 1 under configuration 1, with n2's answers to its questions."""
    node = replica("n3", LOG, 1, rules)
    node.ask_read(0.1)
    found = []
    for now in (0.1, 0.2, 0.35, 0.5):
        node.tick(now)
        for question in of(Survey, drain(node, now)):
            node.receive([arrival("n2", position(question, 9, **how), 1)], now)
        found += ready(node)
    return found


def test_without_a_sequencer_a_stable_majority_answers() -> None:
    assert [notice.commit for notice in read_without_sequencer()] == [9]


def test_a_question_under_an_old_configuration_proves_nothing() -> None:
    assert read_without_sequencer(config=2) == []
    assert read_without_sequencer(Rules(positions_of_newest_config=False), config=2)


def test_a_suspect_log_answers_no_question() -> None:
    assert read_without_sequencer(suspect=True) == []


def test_a_configuration_of_the_same_number_that_a_newer_epoch_brought_is_another() -> None:
    assert read_without_sequencer(epoch=2) == []
    assert read_without_sequencer(Rules(config_named_by_epoch=False), epoch=2)
    assert read_without_sequencer(epoch=0, config=7), "what an older epoch wrote was cut"


def test_a_newer_epoch_that_repeats_the_configuration_does_not_make_another_of_it() -> None:
    same = blake2b(encode_message(CONFIG), digest_size=16).digest()
    assert [notice.commit for notice in read_without_sequencer(epoch=2, digest=same)] == [9]


def test_an_answer_to_somebody_elses_question_proves_nothing() -> None:
    assert read_without_sequencer(asker=KEY["n1"]) == []
    assert read_without_sequencer(Rules(answers_named=False), asker=KEY["n1"])


def test_a_new_epoch_asks_its_sequencer_anew() -> None:
    node = follower(LOG)
    hear(node, LOG, round=10)
    token = node.ask_read(0.1)
    drain(node, 0.1)
    node.receive([arrival("n3", beat(LOG, 2, round=10), promised=2)], 0.2)
    drain(node, 0.2)
    node.tick(0.3)
    effects = [effect for effect in drain(node, 0.3)]
    (asked,) = of(Read, effects)
    assert asked.epoch == 2
    node.receive(
        [
            arrival("n3", ReadIndex(2, asked.nonce, 3, 4, 6), promised=2),
            arrival("n3", Commit(2, 4, LOG[3].chain, 3), promised=2),
        ],
        0.31,
    )
    assert ready(node) == [ReadReady((token or 0,), 4)]
    assert KEY


def quiet(node: Replica, now: float) -> float:
    """Heartbeats have come to their longest interval, all of them answered; when the last one was."""
    for _ in range(12):
        now = node.next_deadline()
        node.tick(now)
        for one in of(Heartbeat, drain(node, now)):
            node.receive([ack("n2", node.last_seq, node.last_chain, round_number=one.round)], now)
            drain(node, now)
    return now


def indexed(node: Replica, nonce: int, now: float, sender: str = "n2", epoch: int = 2) -> list[ReadIndex]:
    """What the sequencer says to a node that asks for an index."""
    node.receive([arrival(sender, Read(epoch, nonce), promised=epoch)], now)
    return of(ReadIndex, drain(node, now))


def test_a_confirmed_round_is_told_at_once_only_to_reads_that_wait_for_it() -> None:
    node = sequencing()
    now = quiet(node, 2.01)
    (given,) = indexed(node, 5, now)
    for voter, reported in (("n2", [given.round]), ("n3", [])):
        node.receive([ack(voter, 5, node.last_chain, round_number=given.round)], now + 0.001)
        assert [commit.confirmed for commit in of(Commit, drain(node, now + 0.001))] == reported
    now = node.next_deadline()
    node.tick(now)
    (beat,) = of(Heartbeat, drain(node, now))
    node.receive([ack("n2", 5, node.last_chain, round_number=beat.round)], now + 0.001)
    assert of(Commit, drain(node, now + 0.001)) == [], "the next heartbeat tells of this one"


def test_a_round_that_reads_wait_for_is_begun_again_soon_and_a_later_read_waits_for_it() -> None:
    node = sequencing()
    now = quiet(node, 2.01)
    (first,) = indexed(node, 5, now)
    assert indexed(node, 6, now + 0.001, "n3") == []
    assert node.next_deadline() == now + READ_RETRY_S
    node.tick(now + READ_RETRY_S)
    (again,) = of(Heartbeat, drain(node, now + READ_RETRY_S))
    assert again.round == first.round + 1
    node.receive([ack("n2", 5, node.last_chain, round_number=first.round)], now + 0.006)
    (second,) = of(ReadIndex, drain(node, now + 0.006))
    assert (second.nonce, second.round) == (6, again.round + 1)


def test_a_new_epoch_begins_rounds_of_its_own_for_reads() -> None:
    node = sequencing()
    for nonce in range(30):  # the old epoch's rounds are far ahead
        (given,) = indexed(node, nonce, 2.1)
        node.receive([ack("n2", 5, node.last_chain, round_number=given.round)], 2.1)
    indexed(node, 99, 2.1)
    node.tick(3.5)
    assert not node.leads_epoch
    node.tick(5.0)
    (asked,) = of(PreVoteRequest, drain(node, 5.0))
    node.receive([arrival("n2", PreVote(asked.epoch, STORAGE["n2"], True, asked.nonce, KEY["n1"]), promised=2)], 5.0)
    drain(node, 5.0)
    node.receive([arrival("n2", Vote(3, STORAGE["n2"], True, KEY["n1"]), promised=3)], 5.0)
    drain(node, 5.0)
    node.receive([ack("n2", node.last_seq, node.last_chain, epoch=3)], 5.0)
    assert node.is_sequencer
    drain(node, 5.0)
    assert [given.nonce for given in indexed(node, 7, 5.0, epoch=3)] == [7]


def test_who_has_no_vote_confirms_no_round() -> None:
    node, stranger = sequencing(), b"new".ljust(16)
    node.receive([ack("n2", 5, node.last_chain, storage=stranger)], 2.1)
    (given,) = indexed(node, 5, 2.1, "n3")
    node.receive([ack("n2", 5, node.last_chain, storage=stranger, round_number=given.round)], 2.101)
    assert all(commit.confirmed < given.round for commit in of(Commit, drain(node, 2.101)))
    node.receive([ack("n3", 5, node.last_chain, round_number=given.round)], 2.102)
    assert of(Commit, drain(node, 2.102))[-1].confirmed == given.round


def test_an_index_that_comes_again_does_not_put_the_read_off() -> None:
    node = follower(LOG)
    hear(node, LOG, round=10)
    token = node.ask_read(0.1)
    (asked,) = of(Read, drain(node, 0.1))
    node.receive([arrival("n1", index(asked, 7), promised=1)], 0.11)
    node.receive([arrival("n1", index(asked, 8, 5), promised=1), confirming(7)], 0.12)
    assert ready(node) == [ReadReady((token or 0,), 4)]


@pytest.mark.parametrize(("epoch", "sender"), [(0, "n1"), (2, "n1"), (1, "n3")])
def test_an_index_counts_only_of_this_epoch_and_its_sequencer(epoch: int, sender: str) -> None:
    node = follower(LOG)
    hear(node, LOG, round=10)
    node.ask_read(0.1)
    (asked,) = of(Read, drain(node, 0.1))
    node.receive([arrival(sender, ReadIndex(epoch, asked.nonce, 3, 4, 6), promised=1), confirming(9)], 0.11)
    assert ready(node) == []


def test_one_question_alone_answers_nothing() -> None:
    node = replica("n3", LOG, 1, SETTLED)
    node.ask_read(0.1)
    now, answered = 0.1, 0
    found: list[ReadReady] = []
    while not found and now < 1.0:
        node.tick(now)
        for question in of(Survey, drain(node, now)):
            node.receive([arrival("n2", position(question, 9), 1)] * 2, now)
            answered += 1
        found = ready(node)
        now += 0.01
    assert answered == 2, "what was heard of first may have been on its way to more"
    assert [notice.commit for notice in found] == [9]


def test_a_heartbeat_confirms_a_read_too() -> None:
    node = follower(LOG)
    hear(node, LOG, round=10)
    token = node.ask_read(0.1)
    (asked,) = of(Read, drain(node, 0.1))
    node.receive([arrival("n1", index(asked, 7), promised=1)], 0.11)
    hear(node, LOG, now=0.12, round=8, confirmed=7)
    assert ready(node) == [ReadReady((token or 0,), 4)]
