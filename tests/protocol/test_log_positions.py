"""Reads while there is no sequencer: which answers count, and for which read."""

from collections.abc import Callable
from dataclasses import replace

from mcast.protocol.effects import ReadReady
from mcast.protocol.replica import Replica
from mcast.wire.messages import Stale, Standing, Survey

from .bench import SETTLED, arrival, drain, of, replica
from .test_following import LOG
from .test_reading import position, ready

Answer = Callable[[Survey], list[Standing]]


def asked(node: Replica, answer: Answer, now: float, until: float) -> tuple[list[int], int, float]:
    """Let time pass until reads are answered: at which events, after how many answered questions, and when."""
    questions = 0
    while now < until:
        node.tick(now)
        for question in of(Survey, drain(node, now)):
            answers = answer(question)
            questions += bool(answers)
            node.receive([arrival("n2", one, 1) for one in answers], now)
        found = [notice.commit for notice in ready(node)]
        if found:
            return found, questions, now
        now += 0.01
    return [], questions, now


def honest(question: Survey) -> list[Standing]:
    return [position(question, 9)]


def reader() -> Replica:
    node = replica("n3", LOG, 1, SETTLED)
    node.ask_read(0.1)
    return node


def test_the_next_read_needs_two_questions_of_its_own() -> None:
    node = reader()
    found, questions, now = asked(node, honest, 0.1, 1.0)
    assert (found, questions) == ([9], 2)
    node.ask_read(now + 0.01)
    found, questions, _ = asked(node, honest, now + 0.01, now + 1.0)
    assert (found, questions) == ([9], 2)


def test_the_next_read_is_not_answered_by_what_was_said_before_it() -> None:
    node = reader()
    _, _, now = asked(node, honest, 0.1, 1.0)
    node.ask_read(now + 0.01)
    assert asked(node, lambda question: [], now + 0.01, now + 0.4)[0] == []


def test_a_question_from_before_a_promise_does_not_count_with_one_after_it() -> None:
    node = reader()
    answered: list[Survey] = []

    def once(question: Survey) -> list[Standing]:
        answered.append(question)
        return honest(question) if len(answered) == 1 else []

    _, _, now = asked(node, once, 0.1, 0.12)
    assert len(answered) == 1
    node.receive([arrival("n1", Stale(1), promised=2)], now)
    drain(node, now)

    questions = 0
    found: list[ReadReady] = []
    while not found and now < 1.0:
        node.tick(now)
        for question in of(Survey, drain(node, now)):
            questions += 1
            node.receive([arrival("n2", one, 2) for one in honest(question)], now)
        found = ready(node)
        now += 0.01
    assert questions == 2


def test_an_answer_under_no_members_storage_id_is_no_voters() -> None:
    lost = b"lost".ljust(16)
    found, questions, _ = asked(reader(), lambda question: [replace(position(question, 9), storage_id=lost)], 0.1, 0.6)
    assert questions > 2
    assert found == []


def test_an_answer_to_another_question_is_none_to_this_one() -> None:
    node = reader()
    wrong = asked(node, lambda question: [replace(position(question, 9), nonce=question.nonce + 1)], 0.1, 0.6)
    assert wrong[0] == []
