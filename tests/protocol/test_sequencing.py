from collections.abc import Sequence
from typing import Any

import pytest

from mcast.protocol.arrivals import Arrival
from mcast.protocol.effects import Append, Effect, MembersChanged, Multicast, SteppedDown, Stream
from mcast.protocol.replica import Replica
from mcast.protocol.rules import Rules
from mcast.wire.messages import (
    Ack,
    Handover,
    Heartbeat,
    PreVote,
    PreVoteRequest,
    Vote,
)
from mcast.wire.records import RecordKind

from .bench import (
    KEY,
    STORAGE,
    arrival,
    command_record,
    drain,
    epoch_log,
    frame_arrival,
    of,
    own_epoch,
    replica,
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


def test_a_higher_promise_ends_the_epoch() -> None:
    node = sequencing()
    node.submit([(command_record(),)], 2.1)
    node.receive([frame_arrival("n2", LOG[-1], promised=3)], 2.2)
    drain(node, 2.2)
    assert not node.is_sequencer
    assert node.promised == 3
    assert node.backlog_bytes == 0


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


def test_what_a_lost_disk_acknowledged_does_not_count_for_its_successor() -> None:
    node = sequencing()
    node.submit([(command_record(),)], 2.1)
    drain(node, 2.1)
    fresh, last = b"fresh".ljust(16), node.last_chain
    node.receive([ack("n3", 6, last, storage=fresh)], 2.2)
    assert own_epoch(node).progress[KEY["n3"]].seq == 6
    other = b"other".ljust(16)
    node.receive([ack("n3", 5, node._core.log.chain_at(5) or b"", storage=other)], 2.3)
    assert own_epoch(node).progress[KEY["n3"]].seq == 5


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
