"""A voter that has just started, and those whose logs reach further than its own."""

from collections.abc import Mapping

import pytest

from mcast.limits import CAUTION_ASK_S, CAUTION_S
from mcast.protocol.replica import Replica
from mcast.protocol.rules import Rules
from mcast.wire.messages import PreVote, PreVoteRequest, Standing, Survey

from .bench import KEY, STORAGE, arrival, of, replica, settle
from .test_following import LOG, hear

END = (1, LOG[-1].last)
FURTHER = (1, LOG[-1].last + 5)


def asked(
    node: Replica, ends: Mapping[str, tuple[int, int]], now: float, *, storage_id: bytes = b"", suspect: bool = False
) -> int:
    """Let it ask, and these voters answer; returns how often it did."""
    node.tick(now)
    surveys = of(Survey, settle(node, now))
    for survey in surveys:
        for name, end in ends.items():
            named = storage_id or STORAGE[name]
            answer = Standing(survey.nonce, named, *end, 1, suspect, 0, bytes(16), KEY["n2"])
            node.receive([arrival(name, answer, promised=1)], now)
    return len(surveys)


def favours(node: Replica, end: tuple[int, int], now: float) -> bool:
    """Whether it would vote for n3 with a log that ends there."""
    node.receive([arrival("n3", PreVoteRequest(9, *end, nonce=5), promised=1)], now)
    (answer,) = of(PreVote, settle(node, now))
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
        effects = settle(node, now)
        for survey in of(Survey, effects):
            answer = Standing(survey.nonce, STORAGE["n1"], *FURTHER, 1, False, 0, bytes(16), KEY["n2"])
            node.receive([arrival("n1", answer, promised=1)], now)
        if of(PreVoteRequest, effects):
            stood = now
            break
    assert CAUTION_S <= stood < CAUTION_S + 2, "who answers may be unable to rule: it ends some time"


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


def test_it_is_over_once_the_log_has_all_that_a_reign_is_known_to_hold() -> None:
    node = started()
    assert asked(node, {"n1": FURTHER, "n3": END}, 0.001) == 1
    hear(node, LOG, now=0.05)
    assert asked(node, {}, 0.2) == asked(node, {}, 0.4) == 0
    assert favours(node, END, 3.0)


def test_the_ablation_asks_nobody() -> None:
    node = started(Rules(best_log_preferred=False))
    assert asked(node, {"n1": FURTHER}, 0.001) == 0
    assert favours(node, END, 0.01)
