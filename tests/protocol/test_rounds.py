"""Heartbeats answered, events held by a majority: what is confirmed and committed, and when that is told."""

import random
from typing import Any

import pytest

from mcast.protocol.arrivals import Arrival
from mcast.protocol.effects import Append, Apply, Multicast, Stream
from mcast.protocol.replica import Replica
from mcast.protocol.rules import Rules
from mcast.wire.envelope import Envelope, name_hash
from mcast.wire.frame import make_frame
from mcast.wire.messages import (
    Ack,
    Commit,
    Configuration,
    EpochStart,
    Heartbeat,
    Kind,
    Member,
    encode_message,
)
from mcast.wire.records import RecordKind, encode_record

from .bench import (
    command_record,
    drain,
    genesis,
    of,
    own_epoch,
    recovered,
    settings,
)
from .test_sequencing import LOG, ack, elected, newest, sequencing


def test_older_events_commit_only_with_one_of_the_own_epoch() -> None:
    node = elected()
    drain(node, 2.0)
    node.receive([ack("n2", 4, LOG[-1].chain)], 2.01)
    assert node.commit_seq == 0
    node.receive([ack("n2", 5, node.last_chain)], 2.02)
    assert node.commit_seq == 5
    ablated = elected(Rules(commit_own_epoch_only=False))
    drain(ablated, 2.0)
    ablated.receive([ack("n2", 4, LOG[-1].chain)], 2.01)
    assert ablated.commit_seq == 4


def test_the_own_acknowledgement_needs_the_own_disk() -> None:
    node = elected()
    effects = node.take_effects()
    node.receive([ack("n2", 5, node.last_chain)], 2.01)
    assert node.commit_seq == 0
    node.complete(of(Append, effects)[-1].ticket, 2.02)
    assert node.commit_seq == 5


def test_commit_that_clients_of_other_nodes_wait_for_goes_out_at_once() -> None:
    node = sequencing()
    node.hasten_commits(2.1)
    node.submit([(command_record(),)], 2.1)
    drain(node, 2.1)
    node.receive([ack("n2", 6, node.last_chain)], 2.11)
    effects = node.take_effects()
    (commit,) = of(Commit, effects)
    assert (commit.commit, commit.commit_chain) == (6, node.last_chain)
    assert [frame.first for frame in of(Apply, effects)[0].frames] == [6]


def test_commit_that_only_the_own_clients_wait_for_is_told_within_a_millisecond_if_no_frame_tells_it() -> None:
    node = sequencing()
    node.submit([(command_record(),)], 2.02)
    drain(node, 2.02)
    node.receive([ack("n2", 6, node.last_chain)], 2.0203)
    effects = drain(node, 2.0203)
    assert of(Apply, effects) and not of(Commit, effects)
    node.submit([(command_record(),)], 2.0206)
    (stream,) = of(Stream, drain(node, 2.0206))
    assert stream.frames[0].commit == 6
    node.receive([ack("n2", 7, node.last_chain)], 2.0209)
    assert not of(Commit, drain(node, 2.0209))
    reported: list[Any] = []
    while (due := node.next_deadline()) <= 2.0219001:
        node.tick(due)
        effects = drain(node, due)
        reported += of(Commit, effects)
        assert not of(Heartbeat, effects), "who is known to hold the log's end need not be told where it is"
    assert [(commit.commit, commit.commit_chain) for commit in reported] == [(7, node.last_chain)]


def test_rounds_alone_keep_an_epoch_alive() -> None:
    node = sequencing()
    now, answered = 2.01, 1
    while now < 5.0:
        now = node.next_deadline()
        node.tick(now)
        answered = newest(drain(node, now), answered)
        node.receive([ack("n3", 4, LOG[-1].chain, round_number=answered)], now)
    assert node.is_sequencer


def test_a_sequencer_proves_its_own_staleness_only_by_rounds_begun_after_a_commit_of_its_own() -> None:
    node = elected()
    drain(node, 2.0)
    node.receive([ack("n2", 2, node.last_chain)], 2.005)
    assert node.proof(2.01) is None, "its predecessor may have committed more than it knows"
    node.receive([ack("n2", 5, node.last_chain)], 2.01)
    assert node.is_sequencer and node.proof(2.02) is None
    node.tick(2.06)
    beats = [effect.message for effect in of(Multicast, drain(node, 2.06)) if isinstance(effect.message, Heartbeat)]
    node.receive([ack("n2", 5, node.last_chain, round_number=beats[-1].round)], 2.07)
    commit, age_s = node.proof(2.1) or (0, 0.0)
    assert commit == 5 and age_s == pytest.approx(0.04)
    assert node.staleness(2.1, 5) == pytest.approx(0.04)
    assert node.staleness(2.1, 4) is None, "what is committed and not applied here is not seen"


def five_ruled_by_n1() -> Replica:
    """n1 of five members goes on with its epoch: without a vote, which is the rule switched off for it."""
    nodes = tuple(f"n{number}" for number in range(1, 6))
    config = Configuration(1, tuple(Member(node, node.encode().ljust(16, b"."), f"{node}:7711") for node in nodes))
    first = genesis(config)
    record = encode_record(RecordKind.EPOCH_START, 1, 0, 0, 0, encode_message(EpochStart("n1", config)))
    start = make_frame(1, 2, 1, 0, 2, first.chain, record)
    rules = Rules(epoch_begins_with_vote=False)
    kept = recovered("n1", [first, start], 1)
    return Replica(settings("n1", rules, nodes), kept, random.Random(1), 0.0)


def from_member(node: str, seq: int, chain: bytes, round_number: int, storage: bytes | None = None) -> Arrival:
    message = Ack(1, storage or node.encode().ljust(16, b"."), seq, chain, round_number, 77, 1 << 20)
    envelope = Envelope(Kind.ACK, 2, 0, 1, name_hash(node), node.encode().ljust(16), 1, 1)
    return envelope, message


def test_a_round_that_a_removed_member_has_answered_needs_as_many_answers_as_any() -> None:
    node = five_ruled_by_n1()
    chain = node.last_chain
    node.receive([from_member(member, 2, chain, 0) for member in ("n2", "n3")], 0.01)
    drain(node, 0.01)
    assert node.commit_seq == 2
    node.tick(0.1)
    (asked,) = of(Heartbeat, drain(node, 0.1))
    lost = from_member("n5", 2, chain, asked.round)
    node.receive([from_member("n5", 2, chain, 0, b"fresh".ljust(16)), lost], 0.11)
    drain(node, 0.11)
    assert node.statistics().config_number == 2
    node.receive([from_member("n2", 2, chain, asked.round)], 0.12)
    assert own_epoch(node).rounds.confirmed < asked.round, "two of four"
    node.receive([from_member("n3", 2, chain, asked.round)], 0.13)
    assert own_epoch(node).rounds.confirmed == asked.round
