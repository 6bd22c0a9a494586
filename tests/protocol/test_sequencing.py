import random
from collections.abc import Sequence
from typing import Any

import pytest

from mcast.limits import READ_RETRY_S
from mcast.protocol.arrivals import Arrival
from mcast.protocol.effects import Append, Apply, Effect, MembersChanged, Multicast, SequencerReady, SteppedDown, Stream
from mcast.protocol.replica import Replica
from mcast.protocol.rules import Rules
from mcast.wire.envelope import Envelope, name_hash
from mcast.wire.frame import make_frame
from mcast.wire.messages import (
    Ack,
    Commit,
    Configuration,
    EpochStart,
    Handover,
    Heartbeat,
    Kind,
    Member,
    PreVote,
    PreVoteRequest,
    Vote,
    encode_message,
)
from mcast.wire.records import RecordKind, encode_record, split_fragments

from .bench import (
    KEY,
    STORAGE,
    arrival,
    command_record,
    drain,
    epoch_log,
    frame_arrival,
    genesis,
    of,
    recovered,
    replica,
    settings,
)

LOG = epoch_log([(1, "n3", 2)])


def elected(rules: Rules | None = None, now: float = 2.0, heard: Heartbeat | None = None) -> Replica:
    """n1, elected in epoch 2 by n2's vote; its EPOCH_START (seq 5) is persisted but not committed.

    It `heard` n3, the sequencer of epoch 1, before.
    """
    node = replica("n1", LOG, 1, rules)
    if heard is not None:
        node.receive([arrival("n3", heard, promised=1)], 0.01)
        drain(node, 0.01)
    node.tick(now)
    (asked,) = of(PreVoteRequest, drain(node, now))
    node.receive([arrival("n2", PreVote(asked.epoch, STORAGE["n2"], True, asked.nonce, KEY["n1"]), promised=1)], now)
    drain(node, now)
    node.receive([arrival("n2", Vote(2, STORAGE["n2"], True, KEY["n1"]), promised=2)], now)
    return node


def ack(
    sender: str, seq: int, chain: bytes, *, epoch: int = 2, storage: bytes | None = None, round_number: int = 1
) -> Arrival:
    message = Ack(epoch, storage or STORAGE[sender], seq, chain, round_number, 77, 1 << 20)
    return arrival(sender, message, promised=epoch)


def newest(effects: Sequence[Effect], before: int) -> int:
    """The newest round that heartbeats among the effects have begun; the one `before` where there are none."""
    return max([before, *(beat.round for beat in of(Heartbeat, effects))])


def sequencing(rules: Rules | None = None) -> Replica:
    node = elected(rules)
    drain(node, 2.0)
    node.receive([ack("n2", 5, node.last_chain)], 2.01)
    assert node.is_sequencer
    drain(node, 2.01)
    return node


def test_an_epoch_begins_with_a_heartbeat_and_then_epoch_start() -> None:
    node = elected()
    effects = node.take_effects()
    first = next(effect for effect in effects if isinstance(effect, Multicast))
    assert isinstance(first.message, Heartbeat)
    assert [entry.epoch for entry in first.message.history] == [0, 1, 2]
    (stream,) = of(Stream, effects)
    assert effects.index(first) < effects.index(stream)
    (start,) = stream.frames
    assert start.body[0] == RecordKind.EPOCH_START
    assert (start.epoch, start.first, start.count) == (2, 5, 1)


def test_nothing_is_numbered_before_epoch_start_has_committed() -> None:
    node = elected()
    assert not node.submit([(command_record(),)], 2.0)
    drain(node, 2.0)
    node.receive([ack("n2", 5, node.last_chain)], 2.01)
    assert SequencerReady(2) in node.take_notices()
    assert node.submit([(command_record(),)], 2.02)


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


def test_an_acknowledgement_of_a_round_never_begun_counts_for_nothing() -> None:
    node = sequencing()
    node.submit([(command_record(),)], 2.02)
    drain(node, 2.02)
    for never in (2, 2**64 - 1):
        node.receive([ack("n2", node.last_seq, node.last_chain, round_number=never)], 2.03)
    assert node.commit_seq == 5
    assert node.statistics().counts["ack of a round never begun"] == 2
    node.receive([ack("n2", node.last_seq, node.last_chain)], 2.04)
    assert node.commit_seq == 6, "it counts again as soon as it says what can be"


@pytest.mark.parametrize(
    "wrong",
    [
        {"epoch": 1},
        {"storage": b"lost".ljust(16)},
        {"chain": b"?" * 16},
    ],
)
def test_a_wrong_acknowledgement_does_not_count(wrong: dict[str, Any]) -> None:
    node = elected()
    drain(node, 2.0)
    fields: dict[str, Any] = {"seq": 5, "chain": node.last_chain} | wrong
    node.receive([ack("n2", fields.pop("seq"), fields.pop("chain"), **fields)], 2.01)
    assert node.commit_seq == 0


def test_an_acknowledgement_too_old_to_be_checked_counts_for_nothing_and_is_nobodys_fault() -> None:
    node = sequencing()
    core = node._core
    held = core.log.last_seq, core.log.last_chain
    core.log._cache_bytes_max = 2_000
    for _ in range(40):
        node.submit([(command_record(size=200),)], 2.02)
        drain(node, 2.02)
        node.receive([ack("n2", core.log.last_seq, core.log.last_chain)], 2.02)
    drain(node, 2.02)
    assert core.log.low_water > held[0] + 1
    node.receive([ack("n3", *held)], 2.03)
    assert core.counts["ack of another chain"] == 0
    for wrong, seq in enumerate((core.log.low_water - 1, core.log.last_seq - 1), 1):
        node.receive([ack("n3", seq, bytes(16))], 2.03)
        assert core.counts["ack of another chain"] == wrong


def test_small_records_share_a_frame_and_large_ones_do_not() -> None:
    node = sequencing()
    node.submit([(command_record(2, 100),) for _ in range(10)], 2.1)
    (stream,) = of(Stream, node.take_effects())
    assert [frame.count for frame in stream.frames] == [14, 6]
    node.submit([(command_record(3, 900),), (command_record(1, 900),)], 2.2)
    (stream,) = of(Stream, node.take_effects())
    assert [frame.count for frame in stream.frames] == [3, 1]
    assert node.last_seq == 29


def test_the_window_stops_numbering_and_an_acknowledgement_opens_it() -> None:
    node = sequencing()
    for _ in range(1200):
        node.submit([(command_record(1, 940),)], 2.1)
    drain(node, 2.1)
    assert node.backlog_bytes > 0
    stopped = node.last_seq
    node.receive([ack("n2", stopped, node.last_chain)], 2.2)
    assert node.last_seq > stopped
    assert node.commit_seq == stopped


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


def test_a_sequencer_that_no_majority_answers_steps_down_and_falls_silent() -> None:
    node = sequencing()
    node.take_notices()
    now = 2.01
    while now < 3.2:
        now = min(node.next_deadline(), 3.2)
        node.tick(now)
        drain(node, now)
        if not node.is_sequencer:
            break
    assert any(isinstance(notice, SteppedDown) for notice in node.take_notices())
    assert not node.submit([(command_record(),)], now)
    node.tick(now + 0.06)
    assert of(Heartbeat, drain(node, now + 0.06)) == []


def test_rounds_alone_keep_an_epoch_alive() -> None:
    node = sequencing()
    now, answered = 2.01, 1
    while now < 5.0:
        now = node.next_deadline()
        node.tick(now)
        answered = newest(drain(node, now), answered)
        node.receive([ack("n3", 4, LOG[-1].chain, round_number=answered)], now)
    assert node.is_sequencer


def test_a_higher_promise_ends_the_epoch() -> None:
    node = sequencing()
    node.submit([(command_record(),)], 2.1)
    node.receive([frame_arrival("n2", LOG[-1], promised=3)], 2.2)
    drain(node, 2.2)
    assert not node.is_sequencer
    assert node.promised == 3
    assert node.backlog_bytes == 0


def test_time_never_decreases_not_even_across_epochs() -> None:
    node = sequencing()
    node.submit([(command_record(),)], 2.5)
    (stream,) = of(Stream, node.take_effects())
    assert stream.frames[0].time >= LOG[-1].time


def test_the_successor_is_appointed_once_it_holds_the_whole_log() -> None:
    node = sequencing()
    node.receive([ack("n3", 5, node.last_chain)], 2.05)
    node.submit([(command_record(),)], 2.1)
    assert node.hand_over(KEY["n3"], 2.1) is None
    assert of(Handover, drain(node, 2.1)) == []
    node.submit([(command_record(),)], 2.11)
    assert node.last_seq == 6
    node.receive([ack("n3", 6, node.last_chain)], 2.12)
    assert [handover.epoch for handover in of(Handover, drain(node, 2.12))] == [2]


def test_a_successor_that_does_not_take_over_is_given_up() -> None:
    node = sequencing()
    node.receive([ack("n3", 5, node.last_chain)], 2.05)
    node.hand_over(KEY["n3"], 2.1)
    node.submit([(command_record(),)], 2.11)
    assert node.last_seq == 5
    answered = 1
    for step in range(30):
        node.receive([ack("n2", 5, node.last_chain, round_number=answered)], 2.1 + step / 20)
        node.tick(2.1 + step / 20)
        answered = newest(drain(node, 2.1 + step / 20), answered)
    assert node.last_seq == 6


def test_only_a_voter_that_acknowledges_can_succeed() -> None:
    node = sequencing()
    for target in (KEY["n1"], KEY["n3"], 12345):
        assert node.hand_over(target, 2.1)
    assert replica("n2", LOG, 1).hand_over(KEY["n1"], 2.1)


def test_a_lost_disk_is_readmitted_in_two_configurations() -> None:
    node = sequencing()
    fresh = b"fresh".ljust(16)
    node.receive([ack("n3", 5, node.last_chain, storage=fresh)], 2.1)
    drain(node, 2.1)
    assert node.last_seq == 6
    node.receive([ack("n2", 6, node.last_chain)], 2.2)
    drain(node, 2.2)
    assert node.last_seq == 7
    node.receive([ack("n2", 7, node.last_chain)], 2.3)
    members = [notice.members for notice in node.take_notices() if isinstance(notice, MembersChanged)]
    assert members[-2:] == [("n1", "n2"), ("n1", "n2", "n3")]


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


def test_what_a_lost_disk_acknowledged_does_not_count_for_its_successor() -> None:
    node = sequencing()
    node.submit([(command_record(),)], 2.1)
    drain(node, 2.1)
    fresh, last = b"fresh".ljust(16), node.last_chain
    node.receive([ack("n3", 6, last, storage=fresh)], 2.2)
    assert node._sequencing.progress[KEY["n3"]].seq == 6
    other = b"other".ljust(16)
    node.receive([ack("n3", 5, node._core.log.chain_at(5) or b"", storage=other)], 2.3)
    assert node._sequencing.progress[KEY["n3"]].seq == 5


def test_no_configuration_comes_between_the_fragments_of_a_command_nor_waits_for_ever() -> None:
    node = sequencing()
    fragments = tuple(split_fragments(9, 1, 1, b"x" * 1_500_000, 1_000))
    node.submit([fragments] * 4, 2.1)
    drain(node, 2.1)
    assert node.backlog_bytes > 0
    node.receive([ack("n3", node.last_seq, node.last_chain, storage=b"fresh".ljust(16))], 2.2)
    while node.backlog_bytes:
        drain(node, 2.3)
        node.receive([ack("n2", node.last_seq, node.last_chain)], 2.3)
        node.receive([ack("n3", node.last_seq, node.last_chain, storage=b"fresh".ljust(16))], 2.3)
    drain(node, 2.4)
    kinds = bytes(frame.body[0] for frame in node._core.log.frames_between(6, node.last_seq, 1 << 20))
    commands = kinds.replace(bytes([RecordKind.CONFIG]), b"")
    assert kinds.count(RecordKind.CONFIG) >= 1
    assert commands == bytes([RecordKind.FRAGMENT]) * (4 * len(fragments))
    where = [index for index, kind in enumerate(kinds) if kind == RecordKind.CONFIG]
    assert all((index - earlier) % len(fragments) == 0 for earlier, index in enumerate(where))


def test_an_appointment_that_is_not_answered_is_repeated_in_time() -> None:
    node = sequencing()
    node.receive([ack("n3", 5, node.last_chain)], 2.02)
    node.hand_over(KEY["n3"], 2.02)
    assert of(Handover, drain(node, 2.02))
    now = 2.02
    while now < 2.02 + READ_RETRY_S:
        now = node.next_deadline()
        node.tick(now)
        effects = drain(node, now)
    assert now == 2.02 + READ_RETRY_S
    assert of(Handover, effects)


def test_a_higher_promise_drops_what_waited_to_be_numbered_and_silences_the_heartbeats() -> None:
    node = sequencing()
    for _ in range(1200):
        node.submit([(command_record(1, 940),)], 2.1)
    drain(node, 2.1)
    assert node.backlog_bytes > 0
    node.receive([arrival("n2", Handover(1), promised=3)], 2.2)
    effects = drain(node, 2.2)
    assert node.backlog_bytes == 0
    assert any(isinstance(notice, SteppedDown) for notice in node.take_notices())
    for step in range(10):
        node.tick(2.21 + step / 100)
        effects += drain(node, 2.21 + step / 100)
    assert of(Heartbeat, effects) == []


def test_a_lost_disks_late_acknowledgement_commits_nothing_once_its_member_is_removed() -> None:
    node = sequencing()
    node.submit([(command_record(),)], 2.1)
    writes = of(Append, node.take_effects())
    chain = node.last_chain
    node.receive([ack("n3", 6, chain, storage=b"fresh".ljust(16)), ack("n3", 6, chain)], 2.2)
    writes += of(Append, node.take_effects())
    assert node.statistics().config_number == 2
    for write in writes:
        node.complete(write.ticket, 2.3)
    assert node.commit_seq == 5, "of the two members left only one has it"
    node.receive([ack("n2", 6, chain)], 2.4)
    assert node.commit_seq == 6


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
    assert node._sequencing.confirmed_round < asked.round, "two of four"
    node.receive([from_member("n3", 2, chain, asked.round)], 0.13)
    assert node._sequencing.confirmed_round == asked.round
