"""Two processes under one id find each other, and agree on which of them must stop."""

from mcast.limits import DUPLICATE_ID_ANSWER_S, DUPLICATE_ID_ASK_S
from mcast.seal.duplicate_ids import DuplicateIds
from mcast.wire.envelope import CONTROL, Envelope
from mcast.wire.messages import Kind, Twin

OLD, NEW = b"o" * 16, b"n" * 16


class Process:
    """One of the duplicates; `votes` may change."""

    def __init__(self, incarnation: bytes, votes: bool = False) -> None:
        self.votes = votes
        self.incarnation = incarnation
        self.draws = 0
        self.duplicate_ids = DuplicateIds(incarnation, self._random, lambda: self.votes)

    def _random(self, size: int) -> bytes:
        self.draws += 1
        return (self.incarnation[:8] + self.draws.to_bytes(8, "big"))[:size]

    def hear(self, other: "Process", messages: list[Twin], now: float) -> None:
        for message in messages:
            self.duplicate_ids.on_twin(Envelope(Kind.TWIN, CONTROL, 0, 1, 2, other.incarnation, 1, 0), message, now)


def exchange(asking: Process, answering: Process, now: float) -> None:
    asking.duplicate_ids.ask(now)
    answering.hear(asking, asking.duplicate_ids.take_outgoing(), now)
    asking.hear(answering, answering.duplicate_ids.take_outgoing(), now)


def test_the_younger_finds_the_older_and_is_the_lesser() -> None:
    old, new = Process(OLD), Process(NEW)
    old.duplicate_ids.ask(0.0)
    old.duplicate_ids.take_outgoing()
    exchange(new, old, 5.0)
    assert (new.duplicate_ids.heard_of, new.duplicate_ids.lesser) == (OLD, True)
    assert (old.duplicate_ids.heard_of, old.duplicate_ids.asked_by) == (None, NEW)
    exchange(old, new, 6.0)
    assert (old.duplicate_ids.heard_of, old.duplicate_ids.lesser) == (NEW, False)


def test_a_vote_counts_more_than_age() -> None:
    old, new = Process(OLD), Process(NEW, votes=True)
    old.duplicate_ids.ask(0.0)
    old.duplicate_ids.take_outgoing()
    exchange(new, old, 5.0)
    exchange(old, new, 5.0)
    assert (old.duplicate_ids.lesser, new.duplicate_ids.lesser) == (True, False)


def test_equals_agree_by_incarnation() -> None:
    one, two = Process(OLD), Process(NEW)
    exchange(one, two, 1.0)
    exchange(two, one, 1.0)
    assert one.duplicate_ids.lesser != two.duplicate_ids.lesser


def test_ones_own_question_looped_back_is_no_duplicate() -> None:
    one = Process(OLD)
    one.duplicate_ids.ask(0.0)
    one.hear(one, one.duplicate_ids.take_outgoing(), 0.0)
    assert (one.duplicate_ids.take_outgoing(), one.duplicate_ids.heard_of, one.duplicate_ids.asked_by) == (
        [],
        None,
        None,
    )


def test_a_recorded_answer_proves_nothing() -> None:
    one, gone = Process(OLD), Process(NEW)
    one.duplicate_ids.ask(0.0)
    gone.hear(one, one.duplicate_ids.take_outgoing(), 0.0)
    recorded = gone.duplicate_ids.take_outgoing()
    one.duplicate_ids.ask(DUPLICATE_ID_ASK_S)
    one.hear(gone, recorded, DUPLICATE_ID_ASK_S)
    assert one.duplicate_ids.heard_of is None


def test_questions_are_asked_now_and_then_and_answered_not_too_often() -> None:
    one, two = Process(OLD), Process(NEW)
    one.duplicate_ids.tick(0.0)
    assert one.duplicate_ids.next_deadline() == DUPLICATE_ID_ASK_S
    one.duplicate_ids.tick(DUPLICATE_ID_ASK_S / 2)
    (question,) = one.duplicate_ids.take_outgoing()
    two.hear(one, [question] * 3, 0.0)
    two.hear(one, [question], DUPLICATE_ID_ANSWER_S)
    assert [message.answer for message in two.duplicate_ids.take_outgoing()] == [True, True]
