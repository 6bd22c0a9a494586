"""A voter that has just started, and those whose logs reach further than its own."""

from collections.abc import Mapping

import pytest

from mcast.limits import CAUTION_ASK_S, CAUTION_S
from mcast.protocol.effects import Effect, LogDoubted, NoteDoubt
from mcast.protocol.replica import Replica
from mcast.protocol.rules import Rules
from mcast.wire.messages import Ack, PeerState, PreVote, PreVoteRequest, Read, ReadIndex, Standing, Survey

from .bench import KEY, STORAGE, arrival, drain, extended, frame_arrival, of, replica
from .test_following import LOG, hear
from .test_sequencing import elected

END = (1, LOG[-1].last)
FURTHER = (1, LOG[-1].last + 5)


def asked(
    node: Replica, ends: Mapping[str, tuple[int, int]], now: float, *, storage_id: bytes = b"", suspect: bool = False
) -> int:
    """Let it ask, and these voters answer; returns how often it did."""
    node.tick(now)
    questions = of(Survey, drain(node, now))
    for question in questions:
        for name, end in ends.items():
            named = storage_id or STORAGE[name]
            answer = Standing(question.nonce, named, *end, 1, suspect, 0, bytes(16), KEY["n2"])
            node.receive([arrival(name, answer, promised=1)], now)
    return len(questions)


def favours(node: Replica, end: tuple[int, int], now: float) -> bool:
    """Whether it would vote for n3 with a log that ends there."""
    node.receive([arrival("n3", PreVoteRequest(9, *end, nonce=5), promised=1)], now)
    (answer,) = of(PreVote, drain(node, now))
    return answer.granted


def started(rules: Rules | None = None) -> Replica:
    return replica("n2", LOG, 1, rules)


def test_it_prefers_the_best_log_while_that_one_answers() -> None:
    node = started()
    for step in range(2):
        asked(node, {"n1": FURTHER, "n3": END}, step * CAUTION_ASK_S + 0.001)
        assert not favours(node, END, step * CAUTION_ASK_S + 0.05)
        assert favours(node, FURTHER, step * CAUTION_ASK_S + 0.05)
    asked(node, {"n3": END}, 0.202)
    assert not favours(node, END, 0.25), "one answer may be lost"
    asked(node, {"n3": END}, 0.303)
    assert favours(node, END, 0.35)


def test_it_does_not_stand_itself_meanwhile() -> None:
    node, stood = started(), 0.0
    for step in range(200):
        now = step * 0.1 + 0.01
        node.tick(now)
        effects = drain(node, now)
        for question in of(Survey, effects):
            answer = Standing(question.nonce, STORAGE["n1"], *FURTHER, 1, False, 0, bytes(16), KEY["n2"])
            node.receive([arrival("n1", answer, promised=1)], now)
        if of(PreVoteRequest, effects):
            stood = now
            break
    assert CAUTION_S <= stood < CAUTION_S + 2, "who answers may be unable to lead: it ends some time"


def test_it_waits_a_moment_for_all_to_answer() -> None:
    node = started()
    asked(node, {"n3": END}, 0.001)
    assert not favours(node, END, 0.01)
    asked(node, {"n1": END, "n3": END}, 0.101)
    assert favours(node, END, 0.11)
    node = started()
    for step in range(3):
        assert asked(node, {}, step * CAUTION_ASK_S + 0.001) == 1
    assert favours(node, END, 0.25), "nobody is there"


@pytest.mark.parametrize(("storage_id", "suspect"), [(b"another one.....", False), (b"", True)])
def test_who_cannot_be_elected_does_not_count(storage_id: bytes, suspect: bool) -> None:
    node = started()
    for step in range(3):
        asked(node, {"n1": FURTHER}, step * CAUTION_ASK_S + 0.001, storage_id=storage_id, suspect=suspect)
    assert favours(node, END, 0.25)


def test_it_is_over_once_the_log_has_all_that_an_epoch_is_known_to_hold() -> None:
    node = started()
    assert asked(node, {"n1": FURTHER, "n3": END}, 0.001) == 1
    hear(node, LOG, now=0.05)
    assert asked(node, {}, 0.2) == asked(node, {}, 0.4) == 0
    assert favours(node, END, 3.0)


def test_the_ablation_asks_nobody() -> None:
    node = started(Rules(best_log_preferred=False))
    assert asked(node, {"n1": FURTHER}, 0.001) == 0
    assert favours(node, END, 0.01)


def reported(node: Replica, heard: tuple[int, int], now: float = 0.001, *, as_of: str = "n2") -> list[Effect]:
    """Let it ask, and n3 answer that it heard this node acknowledge so much; returns what it wants done."""
    node.tick(now)
    (question,) = of(Survey, drain(node, now))
    answer = Standing(question.nonce, STORAGE["n3"], *END, 1, False, 0, bytes(16), KEY[as_of], *heard, STORAGE["n2"])
    node.receive([arrival("n3", answer, promised=1)], now)
    return node.take_effects()


@pytest.mark.parametrize("heard", [(1, END[1] + 1), (2, 0), (2, 1)])
def test_who_was_heard_to_acknowledge_more_than_it_holds_doubts_itself(heard: tuple[int, int]) -> None:
    node = started()
    effects = reported(node, heard)
    assert [type(effect) for effect in effects] == [NoteDoubt], "noted before anything else"
    assert [notice for notice in node.take_notices() if isinstance(notice, LogDoubted)] == [
        LogDoubted(KEY["n3"], *heard, END[1])
    ]
    assert node.statistics().suspect
    assert not favours(node, FURTHER, 0.5)


@pytest.mark.parametrize("heard", [(0, 0), (0, 99), END, (1, END[1] - 1), (1, 0)])
def test_what_it_holds_it_may_have_acknowledged(heard: tuple[int, int]) -> None:
    node = started()
    assert not of(NoteDoubt, reported(node, heard))
    assert not node.statistics().suspect


def test_what_this_process_acknowledged_is_no_doubt() -> None:
    log = extended(LOG, 3, commit=1)
    node = started()
    hear(node, log, now=0.0001, high=log[-1].last + 5)
    node.receive([frame_arrival("n1", frame, counter=1 + at) for at, frame in enumerate(log[len(LOG) :])], 0.0002)
    assert of(Ack, drain(node, 0.0003))[-1].seq == log[-1].last
    assert not of(NoteDoubt, reported(node, (1, log[-1].last)))
    assert of(NoteDoubt, reported(node, (1, log[-1].last + 1), 0.2))


def test_that_this_process_led_an_epoch_since_it_began_is_no_doubt() -> None:
    node = elected()
    node.receive([arrival("n3", PreVoteRequest(3, *END, nonce=5), promised=3)], 2.01)
    drain(node, 2.01)
    assert not node.leads_epoch
    node.tick(2.12)
    (question,) = of(Survey, drain(node, 2.12))
    position = Standing(
        question.nonce, STORAGE["n2"], *END, 1, False, 0, bytes(16), KEY["n1"], 2, 0, STORAGE["n1"]
    )  # fmt: skip
    node.receive([arrival("n2", position, promised=3)], 2.13)
    assert not of(NoteDoubt, drain(node, 2.13))


def test_what_a_disk_acknowledged_that_was_lost_since_is_not_about_this_one() -> None:
    node = started()
    node.tick(0.001)
    (question,) = of(Survey, drain(node, 0.001))
    answer = Standing(question.nonce, STORAGE["n3"], *END, 1, False, 0, bytes(16), KEY["n2"], 2, 9, STORAGE["n1"])
    node.receive([arrival("n3", answer, promised=1)], 0.002)
    assert not node.take_effects()


def test_an_answer_for_another_or_to_another_question_tells_nothing() -> None:
    assert not of(NoteDoubt, reported(started(), (2, 9), as_of="n1"))
    node = started()
    node.receive(
        [arrival("n3", Standing(7, STORAGE["n3"], *END, 1, False, 0, bytes(16), KEY["n2"], 2, 9, STORAGE["n2"]), 1)],
        0.0001,
    )
    assert not of(NoteDoubt, drain(node, 0.001))


def test_the_doubt_is_not_taken_back_before_it_was_noted() -> None:
    node = started()
    (effect,) = reported(node, (1, END[1] + 1))
    core = node._core
    core.trust()
    assert node.statistics().suspect
    node.complete(effect.ticket, 0.002)  # type: ignore[union-attr]
    core.trust()
    assert (node.statistics().suspect, node.statistics().doubted) == (False, None)


def test_a_sequencer_tells_what_it_heard_and_so_does_who_heard_its_heartbeats() -> None:
    node = replica("n3", LOG, 1)
    peers = (PeerState(KEY["n1"], 3, 0), PeerState(KEY["n2"], END[1], 0), PeerState(99, 7, 0))
    hear(node, LOG, peers=peers)
    for asker, heard in (("n2", END), ("n1", (1, 3))):
        node.receive([arrival(asker, Survey(5), promised=1)], 0.02)
        (answer,) = of(Standing, drain(node, 0.02))
        assert (answer.heard_epoch, answer.heard_seq, answer.heard_id) == (*heard, STORAGE[asker])
    assert 99 not in node._core.heard


def test_a_proof_from_before_the_doubt_does_not_end_it() -> None:
    node = started()
    hear(node, LOG, now=0.0001, high=END[1] + 1)
    node.ask_read(0.0001)
    (read,) = of(Read, drain(node, 0.0001))
    index = ReadIndex(1, read.nonce, 2, END[1], END[1])
    node.receive([arrival("n1", index, promised=1)], 0.0002)
    (doubt,) = of(NoteDoubt, reported(node, (1, END[1] + 1), 0.001))
    node.complete(doubt.ticket, 0.001)
    drain(node, 0.001)
    hear(node, LOG, now=0.002, high=END[1] + 1, round=3, confirmed=2)
    node.tick(0.003)
    assert node.statistics().suspect, "this node itself may have confirmed that round"
