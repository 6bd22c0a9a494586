"""Consecutive datagrams taken together come to the same as one by one."""

import random
from typing import Any

import pytest

from mcast.protocol.effects import Append
from mcast.protocol.following import RUN_FRAMES_MAX
from mcast.wire.frame import Frame, make_frame
from mcast.wire.messages import Configuration, encode_message
from mcast.wire.records import RecordKind, encode_record

from .bench import CONFIG, command_frame, drain, epoch_log, extended, frame_arrival, of
from .test_following import LOG, follower, hear


def in_runs(arrivals: list[Any], cut: random.Random) -> list[Any]:
    """The same arrivals, those with consecutive counters joined here and there."""
    joined: list[Any] = []
    for envelope, frame in arrivals:
        if joined and cut.random() < 0.9:
            first, run = joined[-1]
            if envelope == first._replace(counter=first.counter + len(run)):
                run.append(frame)
                continue
        joined.append((envelope, [frame]))
    return [(envelope, run if len(run) > 1 else run[0]) for envelope, run in joined]


@pytest.mark.parametrize("seed", range(80))
def test_runs_have_the_effects_of_their_datagrams_one_by_one(seed: int) -> None:
    draw = random.Random(seed)
    log = epoch_log([(1, "n1", 3), (2, "n1", 60)])
    if seed % 4 == 3:
        log = [*log[:40], command_frame(log[39], size=30), *log[41:]]  # its chain fits, and the next one's doesn't
    arrivals = [frame_arrival("n1", frame, counter=n) for n, frame in enumerate(log[5:], 1)]
    for _ in range(draw.randrange(4)):
        at = draw.randrange(len(arrivals))
        match draw.randrange(3):
            case 0:
                del arrivals[at]
            case 1:
                arrivals.insert(at, draw.choice(arrivals))
            case _:
                arrivals.insert(draw.randrange(len(arrivals)), arrivals.pop(at))
    one, other = follower(log[:4], 2), follower(log[:4], 2)
    now = 0.01
    for node in (one, other):
        hear(node, log, epoch=2, high=4)
    while arrivals:
        now += 0.001
        size = draw.randrange(1, 20)
        burst, arrivals = arrivals[:size], arrivals[size:]
        if draw.random() < 0.2:  # a heartbeat overtakes the stream: what it tells of is missing until it comes
            ahead = draw.randrange(len(log) - 5)
            for node in (one, other):
                hear(node, log, 2, now, high=log[5 + ahead].last, stream_sent=ahead + 1)
        one.receive(burst, now)
        other.receive(in_runs(burst, draw), now)
        assert drain(one, now) == drain(other, now)
        assert one.take_notices() == other.take_notices()
        assert one.statistics() == other.statistics()
        assert one.ledger_report() == other.ledger_report()
        assert one.next_deadline() == other.next_deadline()
        if draw.random() < 0.3:
            now += 0.004  # long enough to ask for what is missing
            for node in (one, other):
                node.tick(now)
            assert drain(one, now) == drain(other, now)


def test_a_long_run_goes_in_parts_and_one_that_finds_no_room_costs_no_more_than_its_frames() -> None:
    log = epoch_log([(1, "n1", 3 * RUN_FRAMES_MAX)])
    node = follower(log[:2])
    hear(node, log, high=2)
    run = [frame_arrival("n1", frame, counter=n) for n, frame in enumerate(log[2:], 2)]
    node.receive(in_runs(run, random.Random(3)), 0.02)
    assert node.last_seq == log[-1].last


def test_a_run_of_a_higher_promise_is_held_datagram_by_datagram() -> None:
    node = follower(LOG[:2])
    hear(node, LOG)
    run = [frame_arrival("n1", frame, counter=n, promised=2) for n, frame in enumerate(LOG[2:6], 2)]
    node.receive(in_runs(run, random.Random(1)), 0.02)
    assert not of(Append, node.take_effects())
    assert [envelope.counter for envelope, _ in node._fencing.held] == [2, 3, 4, 5]


def test_a_run_is_refused_before_the_log_is_reconciled() -> None:
    node = follower(LOG[:3])
    node.receive([frame_arrival("n1", LOG[3], counter=3)], 0.02)
    envelope, _ = frame_arrival("n1", LOG[3], counter=4)
    node.receive([(envelope, LOG[3:6])], 0.03)
    assert node.last_seq == 3
    assert node.statistics().counts["unreconciled"] == 4


def test_a_run_ends_where_another_epoch_begins() -> None:
    node = follower(LOG[:3])
    hear(node, LOG[:3], stream_sent=2)
    envelope, mine = frame_arrival("n1", LOG[3], counter=3)
    assert isinstance(mine, Frame)
    node.receive([(envelope, [mine, command_frame(LOG[3], epoch=2)])], 0.02)
    assert node.last_seq == 4
    assert node.statistics().counts["data of another epoch"] == 1


def test_a_run_that_reaches_into_what_is_held_disproves_it() -> None:
    log = epoch_log([(1, "n1", 1)])
    node = follower(log)
    hear(node, log, stream_sent=2)
    end = log[-1].last
    early = make_frame(1, end + 3, 1, 0, 9, b"?" * 16, command_frame(log[-1]).body)
    node.receive([frame_arrival("n1", early, counter=5)], 0.02)
    first = command_frame(log[-1])
    second = command_frame(first, count=2)
    envelope, _ = frame_arrival("n1", first, counter=3)
    node.receive([(envelope, [first, second])], 0.03)
    assert node.last_seq == end + 3
    assert len(node._following.reorder) == 0, "what was held was none of this log's"
    node._following.gaps._check()


def test_a_run_that_begins_an_epoch_enters_it() -> None:
    """Whatever its first frame is: a run only ever goes on with the log's last epoch."""
    log = LOG[:4]
    first = command_frame(log[-1], epoch=2)
    run = [first, command_frame(first)]
    node = follower(log, promised=2)
    hear(node, [*log, *run], epoch=2, high=4)
    node.receive([frame_arrival("n1", run[0], counter=1)], 0.02)
    other = follower(log, promised=2)
    hear(other, [*log, *run], epoch=2, high=4, stream_sent=1)
    envelope, _ = frame_arrival("n1", run[0], counter=2)
    other.receive([(envelope, run)], 0.02)
    assert other.last_seq == 6
    assert node._core.log.epochs == other._core.log.epochs
    assert other._core.log.last_epoch == 2


def test_a_run_behind_a_gap_ends_where_another_epoch_begins() -> None:
    node = follower(LOG[:3])
    hear(node, LOG[:3], high=9, stream_sent=3)
    envelope, _ = frame_arrival("n1", LOG[4], counter=4)
    node.receive([(envelope, [LOG[4], command_frame(LOG[4], epoch=2)])], 0.02)
    assert len(node._following.reorder) == 1
    assert node.statistics().counts["data of another epoch"] == 1


@pytest.mark.parametrize("run", [True, False])
def test_what_overlaps_a_held_frame_does_not_join_it(run: bool) -> None:
    log = extended(LOG[:3], 6)
    node = follower(log[:3])
    hear(node, log[:3], high=9, stream_sent=2)
    node.receive([frame_arrival("n1", log[7], counter=9)], 0.02)
    wide = command_frame(log[5], count=2)
    envelope, _ = frame_arrival("n1", log[5], counter=10)
    arrived = [(envelope, [log[5], wide])] if run else [frame_arrival("n1", frame, 2) for frame in (log[5], wide)]
    node.receive(arrived, 0.03)
    assert node._following.reorder.ends() == [(6, 6), (8, 8)]
    assert node.statistics().counts["no room beyond a gap"] == 1
    node._following.gaps._check()


def test_a_configuration_in_a_run_is_read() -> None:
    node = follower(LOG[:3])
    hear(node, LOG[:3], stream_sent=2)
    record = encode_record(RecordKind.CONFIG, 1, 0, 0, 0, encode_message(Configuration(2, CONFIG.members[:2])))
    config = make_frame(1, 5, 1, 0, LOG[3].time + 1, LOG[3].chain, record)
    envelope, _ = frame_arrival("n1", LOG[3], counter=3)
    node.receive([(envelope, [LOG[3], config])], 0.02)
    assert node.last_seq == 5
    assert node.statistics().config_number == 2
