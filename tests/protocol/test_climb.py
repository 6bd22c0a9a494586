import pytest

from mcast.limits import EPOCH_JUMP_MAX, EPOCH_JUMP_S, EPOCH_MAX
from mcast.protocol.climb import EPOCH_SPENT, Climb, spent
from mcast.protocol.effects import HaltRequired, WriteMeta
from mcast.protocol.replica import Replica
from mcast.protocol.rules import Rules
from mcast.wire.messages import Stale, VoteRequest

from .bench import arrival, drain, of, replica
from .test_election import pre_vote_request, silent
from .test_following import LOG, follower, hear


def heard(node: Replica, promised: int, now: float) -> int:
    """What a node promises once it has heard another one speak under this promise."""
    node.receive([arrival("n2", Stale(1), promised=promised)], now)
    drain(node, now)
    return node.promised


def test_what_elections_can_have_raised_is_promised_at_once() -> None:
    climb = Climb(0.0)
    assert climb.next_promise(6, 5, 0.0) == 6
    assert climb.next_promise(900, 6, 0.0) == 900


def test_a_far_promise_is_approached_by_whole_steps_some_time_apart() -> None:
    climb, promised = Climb(0.0), 5
    for step in range(1, 4):
        now = step * EPOCH_JUMP_S
        promised = climb.next_promise(EPOCH_MAX, promised, now)
        assert promised == 5 + step * EPOCH_JUMP_MAX
        for soon in (0.1, 0.5, 0.9):
            assert climb.next_promise(EPOCH_MAX, promised, now + soon * EPOCH_JUMP_S) == promised, (
                "each is a durable write"
            )


def test_many_near_jumps_get_no_further_than_one_far_one() -> None:
    climb, promised = Climb(0.0), 5
    for number in range(10_000):
        promised = climb.next_promise(promised + EPOCH_JUMP_MAX // 3, promised, number / 10_000)
    assert promised <= 5 + EPOCH_JUMP_MAX * (1 + 1 / EPOCH_JUMP_S)
    assert climb.next_promise(promised + 1, promised, 1.1) == promised + 1, "and an election is believed a moment later"


def test_nobodys_words_raise_a_promise_to_where_none_can_follow() -> None:
    climb = Climb(0.0)
    assert climb.next_promise(EPOCH_MAX, EPOCH_SPENT - 3, 0.0) == EPOCH_SPENT - 1
    assert climb.next_promise(EPOCH_MAX, EPOCH_SPENT - 1, 9.0) == EPOCH_SPENT - 1


def test_unbounded_is_the_ablation() -> None:
    assert Climb(0.0, bounded=False).next_promise(EPOCH_MAX, 5, 0.0) == EPOCH_MAX
    node = follower(LOG, rules=Rules(epoch_jump_bounded=False))
    assert heard(node, EPOCH_MAX, 0.1) == EPOCH_MAX


def test_a_node_climbs_and_counts_what_is_too_far() -> None:
    node = follower(LOG)
    hear(node, LOG)
    assert heard(node, EPOCH_MAX, 0.1) == 1 + EPOCH_JUMP_MAX
    assert heard(node, EPOCH_MAX, 0.1 + EPOCH_JUMP_S / 2) == 1 + EPOCH_JUMP_MAX
    assert heard(node, EPOCH_MAX, 0.1 + EPOCH_JUMP_S) == 1 + 2 * EPOCH_JUMP_MAX
    assert node.statistics().counts["far epoch"] == 3
    assert heard(node, 2 + 2 * EPOCH_JUMP_MAX, 0.1 + EPOCH_JUMP_S * 1.5) == 2 + 2 * EPOCH_JUMP_MAX


def test_a_vote_is_not_given_in_an_epoch_that_is_only_approached() -> None:
    node = silent("n2")
    node.receive([arrival("n1", VoteRequest(EPOCH_MAX, 1, 4), promised=EPOCH_MAX)], 2.0)
    (write,) = of(WriteMeta, node.take_effects())
    assert (write.meta.promised, write.meta.voted_epoch) == (1 + EPOCH_JUMP_MAX, 0)


@pytest.mark.parametrize("promised", [EPOCH_SPENT, EPOCH_MAX])
def test_who_has_promised_the_last_epochs_takes_no_part_and_says_what_to_do(promised: int) -> None:
    node = replica("n1", LOG, promised)
    (halt,) = [notice for notice in node.take_notices() if isinstance(notice, HaltRequired)]
    assert str(promised) in halt.reason and "mcast recover --accept-loss" in halt.reason
    node.tick(10.0)
    assert node.take_effects() == []
    assert spent(promised) == halt.reason
    assert not spent(EPOCH_SPENT - 1)


def test_who_would_stand_for_an_epoch_behind_the_last_halts() -> None:
    node = silent(promised=EPOCH_SPENT - 1)
    request = pre_vote_request(node)
    assert request.epoch == EPOCH_SPENT
    node._election.call(2.0)
    assert [notice for notice in node.take_notices() if isinstance(notice, HaltRequired)]
    assert of(WriteMeta, node.take_effects()) == []
