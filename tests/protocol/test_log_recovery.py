import random
from dataclasses import replace

import pytest

from mcast.limits import SUSPECT_ASK_S, SUSPECT_ASKS
from mcast.protocol.arrivals import Arrival
from mcast.protocol.effects import Effect, LogRecovered, WriteMeta
from mcast.protocol.replica import Replica
from mcast.protocol.rules import Rules
from mcast.wire.envelope import name_hash
from mcast.wire.messages import Ack, Commit, Handover, PreVoteRequest, Read, ReadIndex, Standing, Survey, VoteRequest

from .bench import (
    KEY,
    STORAGE,
    arrival,
    drain,
    epoch_log,
    epoch_start,
    extended,
    frame_arrival,
    of,
    recovered,
    settings,
)
from .test_election import ask_vote
from .test_following import LOG, beat, hear


def suspect(node: str = "n2", rules: Rules | None = None) -> Replica:
    return Replica(
        settings(node, rules), replace(recovered(node, LOG, 1), suspect=True), random.Random(1), 0.0
    )  # fmt: skip


SUSPECT_QUESTION_S = SUSPECT_ASK_S * SUSPECT_ASKS + 0.001


def cleared(node: Replica) -> bool:
    return any(isinstance(notice, LogRecovered) for notice in node.take_notices())


def test_a_suspect_neither_votes_nor_acknowledges_nor_stands() -> None:
    node = suspect()
    assert [vote.granted for vote in ask_vote(node, last=(1, 6))] == [False]
    node = suspect()
    assert of(Ack, hear(node, LOG)) == []
    for step in range(1, 40):
        node.tick(2 + step / 10)
        assert of(PreVoteRequest, drain(node, 2 + step / 10)) == []


def test_the_ablation_votes() -> None:
    assert [vote.granted for vote in ask_vote(suspect(rules=Rules(suspect_abstains=False)), last=(1, 6))] == [True]


def test_a_round_begun_after_the_restart_clears_it_at_that_rounds_high_water() -> None:
    node = suspect()
    hear(node, LOG, round=5)
    (asked,) = of(Read, drain(node, 0.02)) or of(Read, tick(node, 0.03))
    end = LOG[-1].last
    node.receive([arrival("n1", ReadIndex(1, asked.nonce, 4, 2, end), promised=1)], 0.04)
    drain(node, 0.04)
    assert not cleared(node)
    node.receive([arrival("n1", Commit(1, 2, LOG[1].chain, 4), promised=1)], 0.05)
    drain(node, 0.05)
    assert cleared(node)
    assert of(Ack, hear(node, LOG, now=0.06, round=9))


def tick(node: Replica, now: float) -> list[Effect]:
    node.tick(now)
    return drain(node, now)


def report(question: Survey, sender: str, last_seq: int) -> Standing:
    return Standing(question.nonce, STORAGE[sender], 1, last_seq, 1, True, 1, bytes(16), KEY["n2"])


def ask(node: Replica, now: float) -> Survey:
    """A whole question from `now` on: the same question several times."""
    asked = [
        question
        for index in range(SUSPECT_ASKS)
        for question in of(Survey, tick(node, now + index * (SUSPECT_ASK_S + 1e-6)))
    ]
    assert asked == [asked[0]] * SUSPECT_ASKS
    return asked[0]


def asking_positions(rules: Rules | None = None) -> tuple[Replica, Survey]:
    """A suspect at 0.2 s, and its question: the others, whose answers come from now on, have answered one before."""
    node = suspect(rules=rules)
    before = Survey(ask(node, 0.1).nonce + 1)
    node.receive([arrival(sender, report(before, sender, 1), promised=1) for sender in ("n1", "n3")], 0.11)
    return node, ask(node, 0.1 + SUSPECT_QUESTION_S)


def test_when_all_are_suspect_the_best_log_is_trusted() -> None:
    node, question = asking_positions()
    end = LOG[-1].last
    node.receive([arrival("n1", report(question, "n1", end - 1), promised=1)], 0.21)
    assert not cleared(node)
    node.receive([arrival("n3", report(question, "n3", end), promised=1)], 0.22)
    assert cleared(node)


def test_a_lesser_suspect_votes_for_the_best_log_only() -> None:
    longer = epoch_log([(1, "n1", 6)])[-1].last
    for offered, granted in ((longer, True), (longer - 1, False)):
        node, question = asking_positions()
        reports = [arrival(sender, report(question, sender, longer), promised=1) for sender in ("n1", "n3")]
        node.receive(reports, 0.21)
        assert not cleared(node)
        assert [vote.granted for vote in ask_vote(node, "n1", 2, (1, offered))] == [granted]


def reborn(sender: str, position: Standing) -> Arrival:
    """Such a report by a process that has just begun."""
    envelope, message = arrival(sender, position, promised=1)
    return envelope._replace(incarnation=b"another process."), message


def test_a_process_that_began_since_the_question_did_reports_in_vain() -> None:
    end = LOG[-1].last
    for rules, trusts in ((None, False), (Rules(positions_of_same_processes=False), True)):
        node, question = asking_positions(rules)
        reports = [arrival("n1", report(question, "n1", end), promised=1), reborn("n3", report(question, "n3", 2))]
        node.receive(reports, 0.21)
        assert cleared(node) is trusts


def test_it_counts_from_the_next_question_on() -> None:
    node, question = asking_positions()
    node.receive([reborn("n3", report(question, "n3", 2))], 0.21)
    end, question = LOG[-1].last, ask(node, 0.21 + SUSPECT_QUESTION_S)
    assert node.statistics().log_recovery_waits_for == (name_hash("n1"),), "in vain or not, n3 has answered"
    arrivals = [arrival("n1", report(question, "n1", end), promised=1), reborn("n3", report(question, "n3", 2))]
    node.receive(arrivals, 0.31)
    assert cleared(node)


def test_an_answer_that_comes_after_the_next_question_began_is_not_from_before() -> None:
    node = suspect()
    first, second, end = ask(node, 0.1), ask(node, 0.1 + SUSPECT_QUESTION_S), LOG[-1].last
    for question in (first, second):
        node.receive([arrival(sender, report(question, sender, end), promised=1) for sender in ("n1", "n3")], 0.21)
    assert not cleared(node)


def test_a_report_of_a_newer_configuration_leaves_the_judgement_to_those_who_know_it() -> None:
    node, question = asking_positions()
    end = LOG[-1].last
    newer = Standing(question.nonce, b"fresh".ljust(16), 1, end, 3, False, 1, bytes(16), KEY["n2"])
    node.receive([arrival("n3", newer, promised=1), arrival("n1", report(question, "n1", end), promised=1)], 0.21)
    assert not cleared(node)


def test_a_report_counts_under_whatever_storage_id() -> None:
    node, question = asking_positions()
    end = LOG[-1].last
    unknown = Standing(question.nonce, b"fresh".ljust(16), 1, end + 9, 1, False, 1, bytes(16), KEY["n2"])
    node.receive([arrival("n3", unknown, promised=1), arrival("n1", report(question, "n1", end), promised=1)], 0.21)
    assert not cleared(node)
    assert [vote.granted for vote in ask_vote(node, "n1", 2, (1, end))] == [False]


def test_a_best_log_that_was_lost_since_holds_nobody_up() -> None:
    """It was reported, and then its member lost power too: the newest question is a proof as good as the first."""
    node, question = asking_positions()
    end = LOG[-1].last
    reports = [
        arrival("n1", report(question, "n1", end), promised=1),
        arrival("n3", report(question, "n3", end + 3), promised=1),
    ]
    node.receive(reports, 0.21)
    assert not cleared(node)
    again = ask(node, 0.21 + SUSPECT_QUESTION_S)
    node.receive([reborn("n3", report(again, "n3", end))], 0.32)
    again = ask(node, 0.33 + SUSPECT_QUESTION_S)
    node.receive([arrival("n1", report(again, "n1", end), promised=1), reborn("n3", report(again, "n3", end))], 0.44)
    assert cleared(node)


def test_whom_the_question_waits_for_is_told() -> None:
    node = suspect()
    question = ask(node, 0.1)
    assert node.statistics().log_recovery_waits_for == (), "nobody has had the time to answer"
    node.receive([arrival("n1", report(question, "n1", 3), promised=1)], 0.11)
    for now in (0.5, 0.7):
        question = ask(node, now)
        assert node.statistics().log_recovery_waits_for == (name_hash("n3"),)
        node.receive([arrival("n1", report(question, "n1", 3), promised=1)], now + 0.01)
    for now in (0.9, 1.1):
        question = ask(node, now)
        node.receive([arrival(sender, report(question, sender, 9), promised=1) for sender in ("n1", "n3")], now + 0.01)
    assert node.statistics().log_recovery_waits_for == (), "the best log is known: it need only be reached"


def test_answers_to_different_questions_prove_nothing_together() -> None:
    node, first = asking_positions()
    node.receive([arrival("n1", report(first, "n1", 3), promised=1)], 0.21)
    second = ask(node, 0.21 + SUSPECT_QUESTION_S)
    assert second != first
    node.receive([arrival("n3", report(second, "n3", 9), promised=1)], 0.31)
    third = ask(node, 0.33 + SUSPECT_QUESTION_S)
    assert node.statistics().log_recovery_waits_for == (name_hash("n1"),), "it answered the one before"
    node.receive([arrival(sender, report(third, sender, 9), promised=1) for sender in ("n1", "n3")], 0.41)
    assert node.statistics().log_recovery_waits_for == ()
    assert [vote.granted for vote in ask_vote(node, "n3", 2, (1, 9))] == [True]


def test_an_index_that_the_next_epochs_rounds_would_confirm_clears_nothing() -> None:
    node = suspect()
    hear(node, LOG, round=5)
    (asked,) = of(Read, drain(node, 0.02)) or of(Read, tick(node, 0.03))
    node.receive([arrival("n1", ReadIndex(1, asked.nonce, 4, 2, LOG[-1].last), promised=1)], 0.04)
    longer = [*LOG, epoch_start(2, "n3", LOG[-1])]
    node.receive([arrival("n3", beat(longer, 2, confirmed=9, round=10), promised=2)], 0.05)
    drain(node, 0.05)
    assert not cleared(node)


def test_a_log_is_whole_once_it_reaches_what_was_known_not_what_was_committed() -> None:
    node = suspect()
    hear(node, LOG, round=5)
    (asked,) = of(Read, drain(node, 0.02)) or of(Read, tick(node, 0.03))
    longer = extended(LOG, 2)
    answers = ReadIndex(1, asked.nonce, 4, LOG[-1].last, longer[-1].last), Commit(1, 2, LOG[1].chain, 4)
    node.receive([arrival("n1", answer, promised=1) for answer in answers], 0.04)
    assert not cleared(node)
    node.receive([frame_arrival("n1", frame, kind=2) for frame in longer[len(LOG) :]], 0.05)
    assert cleared(node)


def test_a_log_that_is_not_reconciled_is_not_whole_however_long() -> None:
    frames = epoch_log([(epoch, "n1", 1) for epoch in range(1, 30)])
    node = Replica(settings("n2"), replace(recovered("n2", frames[:9], 29), suspect=True), random.Random(1), 0.0)
    hear(node, frames, epoch=29, round=5)
    (asked,) = of(Read, tick(node, 0.2))
    answers = ReadIndex(29, asked.nonce, 4, 5, 5), Commit(29, 5, frames[4].chain, 4)
    node.receive([arrival("n1", answer, promised=29) for answer in answers], 0.21)
    assert not node._core.reconciled
    assert not cleared(node)


def test_a_suspect_that_is_appointed_does_not_stand() -> None:
    node = suspect()
    hear(node, LOG)
    node.receive([arrival("n1", Handover(1), promised=1)], 0.03)
    effects = drain(node, 0.03)
    assert of(WriteMeta, effects) == []
    assert of(VoteRequest, effects) == []


@pytest.mark.parametrize(
    "members", [("n1", "n2", "n3", "n4"), ("n1", "n2")], ids=["a new member", "a member that left"]
)
def test_the_members_of_the_log_and_of_the_cluster_file_must_report(members: tuple[str, ...]) -> None:
    kept = replace(recovered("n2", LOG, 1), suspect=True)
    node = Replica(settings("n2", members=members), kept, random.Random(1), 0.0)
    reported = ("n1", "n3") if "n4" in members else ("n1",)
    before = Survey(ask(node, 0.1).nonce + 1)
    node.receive([arrival(sender, report(before, sender, 1), promised=1) for sender in reported], 0.11)
    question = ask(node, 0.1 + SUSPECT_QUESTION_S)
    node.receive([arrival(sender, report(question, sender, LOG[-1].last), promised=1) for sender in reported], 0.21)
    assert not cleared(node)
