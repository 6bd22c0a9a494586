"""Out of touch: when a node is isolated, what it asks for then, and what it does with what it learns."""

from __future__ import annotations

from mcast.limits import GAP_STUCK_AGAIN_S, GAP_STUCK_S, LEARNED_S
from mcast.protocol.effects import CatchUp, Relay
from mcast.protocol.replica import Replica
from mcast.wire.messages import Knock, Nak, News, Read, ReadIndex

from .bench import KEY, UUID, arrival, drain, epoch_log, extended, frame_arrival, of
from .repair.test_nak_sender import run
from .test_following import beat, follower, hear

LOG = epoch_log([(1, "n1", 4)])
LIMIT_S = 2.0  # two election timeouts of the tests' settings


def test_a_confirmed_round_keeps_a_follower_in_touch() -> None:
    node = follower(LOG[:2])
    hear(node, LOG[:2], round=5, confirmed=4, now=1.0)
    assert (node.in_touch_s(1.5), node.is_isolated(2.9), node.is_isolated(3.0)) == (0.5, False, True)
    hear(node, LOG[:2], round=6, confirmed=4, now=2.0)
    assert node.is_isolated(3.0), "a sequencer that nobody answers proves nothing"
    hear(node, LOG[:2], round=7, confirmed=6, now=3.0)
    assert not node.is_isolated(3.1)


def test_a_node_that_starts_is_given_time() -> None:
    node = follower(LOG[:2])
    assert not node.is_isolated(LIMIT_S - 0.1) and node.is_isolated(LIMIT_S)


def knocks(node: Replica, since: float, until: float) -> list[tuple[float, int]]:
    found, now = [], since
    while now < until:
        node.tick(now)
        for effect in drain(node, now):
            if isinstance(effect, Relay) and isinstance(effect.message, Knock):
                found.append((round(now, 2), effect.to))
        now += 0.01
    return found


def test_an_isolated_node_knocks_at_all_others_once_a_second() -> None:
    node = follower(LOG[:2])
    assert node.next_deadline() <= LIMIT_S
    found = knocks(node, 0.0, LIMIT_S + 2.5)
    assert [to for _, to in found] == [KEY["n1"], KEY["n3"]] * 3
    assert sorted({round(when) for when, _ in found}) == [2, 3, 4]


def test_a_node_that_knows_no_cluster_knocks_nowhere() -> None:
    assert knocks(follower([], promised=0), 0.0, 5.0) == []


def test_whoever_is_knocked_at_says_what_it_knows() -> None:
    node = follower(LOG[:4])
    hear(node, LOG[:4], commit=3)
    node.receive([arrival("n3", Knock(9), promised=1)], 0.1, relayed=True)
    (reported,) = [effect for effect in drain(node, 0.1) if isinstance(effect, Relay)]
    assert reported == Relay(KEY["n3"], News(9, UUID, KEY["n1"], 3, LOG[2].chain))


def knocking(node: Replica) -> int:
    node.tick(LIMIT_S)
    return next(
        effect.message.nonce
        for effect in drain(node, LIMIT_S)
        if isinstance(effect, Relay) and isinstance(effect.message, Knock)
    )


def test_news_of_a_commit_are_fetched_and_believed_where_the_chain_is_the_own() -> None:
    node = follower(LOG[:4])
    hear(node, LOG[:4])
    news = News(knocking(node), UUID, 0, 6, LOG[5].chain)
    node.receive([arrival("n3", news, promised=1)], 2.1, relayed=True)
    assert node.high_seq == 6, "it knows how far behind it is"
    node.tick(2.1 + LEARNED_S)
    (fetch,) = of(CatchUp, drain(node, 2.2))
    assert (fetch.first, fetch.until) == (5, 6)
    node.on_transfer(LOG[4:6], KEY["n3"], 2.3)
    drain(node, 2.3)
    assert (node.last_seq, node.commit_seq) == (6, 6)


def test_news_that_nobody_asked_for_or_of_another_cluster_are_none() -> None:
    node = follower(LOG[:4])
    hear(node, LOG[:4])
    nonce = knocking(node)
    node.receive([arrival("n3", News(nonce + 1, UUID, 0, 6, LOG[5].chain), promised=1)], 2.1, relayed=True)
    node.receive([arrival("n3", News(nonce, b"?" * 16, 0, 6, LOG[5].chain), promised=1)], 2.1, relayed=True)
    node.receive([arrival("n3", News(nonce, UUID, 0, 3, b"?" * 16), promised=1)], 2.1, relayed=True)
    assert (node.high_seq, node.commit_seq) == (4, 0)


def test_a_read_that_learns_of_a_commit_starts_the_fetch_it_waits_for() -> None:
    node = follower(LOG[:4])
    hear(node, LOG[:4])
    node.ask_read(0.1)
    (asked,) = of(Read, drain(node, 0.1))
    node.receive([arrival("n1", ReadIndex(1, asked.nonce, 2, 6, 6), promised=1)], 0.11)
    hear(node, LOG[:4], round=3, confirmed=2, now=0.12)
    assert not of(CatchUp, drain(node, 0.12)), "it is likely on its way"
    assert node.next_deadline() <= 0.12 + LEARNED_S
    node.tick(0.12 + LEARNED_S)
    (fetch,) = of(CatchUp, drain(node, 0.2))
    assert (fetch.first, fetch.until) == (5, 6)


def test_what_is_learned_and_arrives_by_itself_is_not_fetched() -> None:
    node = follower(LOG[:4])
    hear(node, LOG[:4])
    node.ask_read(0.1)
    (asked,) = of(Read, drain(node, 0.1))
    node.receive([arrival("n1", ReadIndex(1, asked.nonce, 2, 6, 6), promised=1)], 0.11)
    hear(node, LOG[:4], round=3, confirmed=2, now=0.12)
    node.receive([frame_arrival("n1", frame, counter=i + 1) for i, frame in enumerate(LOG[4:6])], 0.13)
    node.tick(0.3)
    assert not of(CatchUp, drain(node, 0.3))


def test_a_gap_that_naks_do_not_close_goes_to_tcp_and_the_next_one_sooner() -> None:
    frames = extended(LOG, 4)
    node = follower(LOG[:4])
    hear(node, LOG[:4])
    node.receive([frame_arrival("n1", LOG[5], counter=2)], 0.1)
    asked = run(node, 0.4, 0.1)
    hear(node, LOG[:4], round=9, confirmed=8, now=0.4)
    assert len(asked + run(node, 0.1 + GAP_STUCK_S - 0.01, 0.4)) > 5
    node.tick(0.1 + GAP_STUCK_S)
    (fetch,) = of(CatchUp, drain(node, 0.9))
    assert fetch.first == 5
    node.on_transfer(LOG[4:5], KEY["n1"], 0.9)
    hear(node, LOG, round=19, confirmed=18, now=0.9)
    assert node.last_seq == 6 and not node.statistics().catching_up
    node.receive([frame_arrival("n1", frames[7], counter=4)], 1.0)
    assert run(node, 1.0 + GAP_STUCK_AGAIN_S + 0.03, 1.0)
    assert node.statistics().catching_up, "no repair got through a moment ago"


def test_a_gap_that_repairs_shrink_is_not_stuck() -> None:
    frames = extended(LOG[:4], 40)
    node = follower(LOG[:4])
    hear(node, LOG[:4])
    node.receive([frame_arrival("n1", frames[-1], counter=50)], 0.1)
    now = 0.1
    for frame in frames[4:24]:
        run(node, now + 0.03, now)
        now += 0.03
        node.receive([frame_arrival("n1", frame, kind=2, counter=int(now * 1e3))], now)
        drain(node, now)
    assert not node.statistics().catching_up


def test_where_only_tcp_brings_heartbeats_nothing_is_asked_for_by_datagrams() -> None:
    node = follower(LOG[:4])
    node.receive([arrival("n1", beat(LOG, 1), promised=1)], 0.1, relayed=True)
    effects = drain(node, 0.1)
    assert [fetch.until for fetch in of(CatchUp, effects)] == [6]
    node.tick(0.2)
    assert not of(Nak, drain(node, 0.2))
