"""Nodes that multicast does not reach are sought by unicast, then over TCP, and left alone when they hear again."""

from __future__ import annotations

from mcast.protocol.effects import Effect, Multicast, Relay, Send
from mcast.protocol.replica import Replica
from mcast.protocol.rules import Rules
from mcast.wire.envelope import CONTROL, Envelope
from mcast.wire.messages import Ack, Commit, Heard, Heartbeat, Read, ReadIndex

from .bench import KEY, arrival, command_record, drain, envelope, of
from .test_following import LOG, beat, follower, hear
from .test_sequencing import ack, elected

BEAT_S = 0.05


def ways(effects: list[Effect], kind: type) -> set[tuple[str, str]]:
    """By which way whom a message of this kind is sent: ("Send", "n2"), ("Multicast", "all") ..."""
    names = {key: node for node, key in KEY.items()}
    return {
        (type(effect).__name__, "all" if isinstance(effect, Multicast) else names[effect.to])
        for effect in effects
        if isinstance(effect, Multicast | Send | Relay) and isinstance(effect.message, kind)
    }


def beats(node: Replica, since: float, until: float, answering: str = "n3") -> set[tuple[str, str]]:
    """The ways of all heartbeats in this time, of which one replica answers each at once."""
    found: set[tuple[str, str]] = set()
    now = since
    while now < until:
        node.tick(now)
        effects = drain(node, now)
        found |= ways(effects, Heartbeat)
        for heard in of(Heartbeat, effects):
            node.receive([ack(answering, node.last_seq, node.last_chain, round_number=heard.round)], now)
        drain(node, now)
        now += BEAT_S / 5
    return found


MULTICAST = ("Multicast", "all")


def test_whoever_answers_no_round_is_sought_by_unicast_then_over_tcp() -> None:
    node = elected()
    drain(node, 2.0)
    assert beats(node, 2.0, 2.0 + 3 * BEAT_S) == {MULTICAST}
    assert beats(node, 2.0 + 3 * BEAT_S, 2.0 + 5.5 * BEAT_S) == {MULTICAST, ("Send", "n2")}
    assert beats(node, 2.0 + 5.5 * BEAT_S, 2.5) == {MULTICAST, ("Send", "n2"), ("Relay", "n2")}
    assert node.statistics().sought == (KEY["n2"],)
    assert beats(node, 2.5, 2.6) >= {("Relay", "n2")}, "and so on"


def test_without_the_rule_nobody_is_sought() -> None:
    node = elected(Rules(deaf_are_sought=False))
    drain(node, 2.0)
    assert beats(node, 2.0, 2.5) == {MULTICAST}


def test_a_commit_goes_the_same_ways() -> None:
    node = elected()
    drain(node, 2.0)
    beats(node, 2.0, 2.5)
    node.submit([(command_record(),)], 2.5)
    drain(node, 2.5)
    node.hasten_commits(2.5)
    node.receive([ack("n3", node.last_seq, node.last_chain)], 2.501)
    node.tick(2.51)
    assert ways(drain(node, 2.51), Commit) == {MULTICAST, ("Send", "n2"), ("Relay", "n2")}


def test_one_that_is_likely_dead_is_sought_seldom() -> None:
    node = elected()
    drain(node, 2.0)
    beats(node, 2.0, 8.0)
    times = 0
    for step in range(100):
        now = 8.0 + step * 0.01
        node.tick(now)
        effects = drain(node, now)
        times += ("Relay", "n2") in ways(effects, Heartbeat)
        for heard in of(Heartbeat, effects):
            node.receive([ack("n3", node.last_seq, node.last_chain, round_number=heard.round)], now)
    assert 4 <= times <= 6


def test_one_that_hears_again_is_left_alone() -> None:
    node = elected()
    drain(node, 2.0)
    beats(node, 2.0, 2.5)
    node.receive([arrival("n2", Heard(2, multicast=False), promised=2)], 2.5)
    assert ("Relay", "n2") not in beats(node, 2.5, 2.5 + BEAT_S)
    node.receive([arrival("n2", Heard(2, multicast=True), promised=2)], 2.6)
    assert beats(node, 2.6, 2.6 + 3 * BEAT_S) == {MULTICAST}
    assert node.statistics().sought == ()


def test_that_it_hears_again_counts_only_as_a_datagram_of_this_epoch() -> None:
    """Over TCP it would not show that datagrams arrive in both directions."""
    node = elected()
    drain(node, 2.0)
    beats(node, 2.0, 2.5)
    node.receive([arrival("n2", Heard(2, multicast=True), promised=2)], 2.5, relayed=True)
    node.receive([arrival("n2", Heard(1, multicast=True), promised=2)], 2.5)
    assert ("Relay", "n2") in beats(node, 2.5, 2.5 + 2 * BEAT_S)


def test_what_came_over_tcp_is_answered_over_tcp_for_a_while() -> None:
    node = follower(LOG[:2])
    node.receive([arrival("n1", beat(LOG[:2], 1, round=1), promised=1)], 0.0, relayed=True)
    assert ways(drain(node, 0.0), Ack) == {("Relay", "n1")}
    node.receive([(beat_envelope(2, CONTROL), beat(LOG[:2], 1, round=2))], 0.5)
    assert ways(drain(node, 0.5), Ack) == {("Relay", "n1")}, "its answers may be what does not arrive"
    node.receive([(beat_envelope(3, CONTROL), beat(LOG[:2], 1, round=3))], 1.1)
    assert ways(drain(node, 1.1), Ack) == {("Send", "n1")}


def test_a_replica_says_when_it_hears_without_help() -> None:
    node = follower(LOG[:2])
    said = []
    for round_number in range(1, 6):
        now = round_number * BEAT_S
        node.receive([arrival("n1", beat(LOG[:2], 1, round=round_number), promised=1)], now, relayed=True)
        drain(node, now)
        if round_number > 2:
            node.receive([(beat_envelope(round_number, CONTROL), beat(LOG[:2], 1, round=round_number))], now)
        said.append(ways(drain(node, now), Heard))
    assert said == [set(), set(), set(), {("Send", "n1")}, set()], "not over TCP, and not at each heartbeat"


def test_a_replica_that_needs_no_help_says_nothing() -> None:
    node = follower(LOG[:2])
    for round_number in range(1, 6):
        hear(node, LOG[:2])
        assert not ways(drain(node, 0.05 * round_number), Heard)


def test_a_read_that_is_not_answered_goes_over_tcp() -> None:
    node = follower(LOG[:2])
    hear(node, LOG[:2])
    node.ask_read(0.1)
    asked = []
    for step in range(30):
        node.tick(0.1 + step * 0.005)
        asked.append(ways(drain(node, 0.1 + step * 0.005), Read))
    assert {("Send", "n1")} in asked and {("Send", "n1"), ("Relay", "n1")} in asked
    assert asked.index({("Send", "n1"), ("Relay", "n1")}) > 8


def test_answers_over_tcp_do_not_keep_who_gets_them_on_tcp() -> None:
    node = follower(LOG[:2])
    node.receive([arrival("n1", beat(LOG[:2], 1, round=1), promised=1)], 0.0, relayed=True)
    said = []
    for step in range(1, 13):
        now = step * 0.1
        node.receive([arrival("n1", ReadIndex(1, step, step, 1, 1), promised=1)], now, relayed=True)
        node.receive([(beat_envelope(step, CONTROL), beat(LOG[:2], 1, round=step + 1))], now)
        said.append(ways(drain(node, now), Ack))
    assert said[0] == {("Relay", "n1")} and said[-1] == {("Send", "n1")}


def beat_envelope(counter: int, channel: int) -> Envelope:
    return envelope("n1", beat(LOG[:2], 1), promised=1, counter=counter)._replace(channel=channel)
