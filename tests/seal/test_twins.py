"""Two processes under one id find each other, and agree on which of them must stop."""

from mcast.limits import TWIN_ANSWER_S, TWIN_ASK_S
from mcast.seal.twins import Twins
from mcast.wire.envelope import CONTROL, Envelope
from mcast.wire.messages import Kind, Twin

OLD, NEW = b"o" * 16, b"n" * 16


class Process:
    """One of the twins; `votes` may change."""

    def __init__(self, incarnation: bytes, votes: bool = False) -> None:
        self.votes = votes
        self.incarnation = incarnation
        self.draws = 0
        self.twins = Twins(incarnation, self._random, lambda: self.votes)

    def _random(self, size: int) -> bytes:
        self.draws += 1
        return (self.incarnation[:8] + self.draws.to_bytes(8, "big"))[:size]

    def hear(self, other: "Process", messages: list[Twin], now: float) -> None:
        for message in messages:
            self.twins.heard(Envelope(Kind.TWIN, CONTROL, 0, 1, 2, other.incarnation, 1, 0), message, now)


def exchange(asking: Process, answering: Process, now: float) -> None:
    asking.twins.ask(now)
    answering.hear(asking, asking.twins.outgoing(), now)
    asking.hear(answering, answering.twins.outgoing(), now)


def test_the_younger_finds_the_older_and_is_the_lesser() -> None:
    old, new = Process(OLD), Process(NEW)
    old.twins.ask(0.0)
    old.twins.outgoing()
    exchange(new, old, 5.0)
    assert (new.twins.heard_of, new.twins.lesser) == (OLD, True)
    assert (old.twins.heard_of, old.twins.asked_by) == (None, NEW)
    exchange(old, new, 6.0)
    assert (old.twins.heard_of, old.twins.lesser) == (NEW, False)


def test_a_vote_counts_more_than_age() -> None:
    old, new = Process(OLD), Process(NEW, votes=True)
    old.twins.ask(0.0)
    old.twins.outgoing()
    exchange(new, old, 5.0)
    exchange(old, new, 5.0)
    assert (old.twins.lesser, new.twins.lesser) == (True, False)


def test_equals_agree_by_incarnation() -> None:
    one, two = Process(OLD), Process(NEW)
    exchange(one, two, 1.0)
    exchange(two, one, 1.0)
    assert one.twins.lesser != two.twins.lesser


def test_ones_own_question_looped_back_is_no_twin() -> None:
    one = Process(OLD)
    one.twins.ask(0.0)
    one.hear(one, one.twins.outgoing(), 0.0)
    assert (one.twins.outgoing(), one.twins.heard_of, one.twins.asked_by) == ([], None, None)


def test_a_recorded_answer_proves_nothing() -> None:
    one, gone = Process(OLD), Process(NEW)
    one.twins.ask(0.0)
    gone.hear(one, one.twins.outgoing(), 0.0)
    recorded = gone.twins.outgoing()
    one.twins.ask(TWIN_ASK_S)
    one.hear(gone, recorded, TWIN_ASK_S)
    assert one.twins.heard_of is None


def test_questions_are_asked_now_and_then_and_answered_not_too_often() -> None:
    one, two = Process(OLD), Process(NEW)
    one.twins.tick(0.0)
    assert one.twins.next_deadline() == TWIN_ASK_S
    one.twins.tick(TWIN_ASK_S / 2)
    (question,) = one.twins.outgoing()
    two.hear(one, [question] * 3, 0.0)
    two.hear(one, [question], TWIN_ANSWER_S)
    assert [message.answer for message in two.twins.outgoing()] == [True, True]
