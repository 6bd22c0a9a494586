"""When a sequencer sends heartbeats, and when none is needed."""

import itertools

import pytest

from mcast.wire.messages import Heartbeat

from .bench import command_record, drain, of
from .test_sequencing import LOG, ack, newest, sequencing


@pytest.mark.parametrize(("now", "acked"), [(2.1, 6), (2.02, 5)], ids=["a beat is due", "a tail may be lost"])
def test_the_first_heartbeat_after_data_is_skipped_only_where_nobody_needs_it(now: float, acked: int) -> None:
    node = sequencing()
    node.tick(2.05 if now > 2.05 else now)
    drain(node, now)
    node.submit([(command_record(),)], now)
    drain(node, now)
    node.receive([ack("n2", acked, node.last_chain if acked == 6 else LOG[-1].chain)], now)
    drain(node, now)
    due = node.next_deadline()
    node.tick(due)
    assert due <= now + 0.001 and of(Heartbeat, drain(node, due))


def test_no_timer_is_set_for_a_heartbeat_that_the_acknowledgements_made_needless() -> None:
    node = sequencing()
    node.submit([(command_record(),)], 2.02)
    drain(node, 2.02)
    assert node.next_deadline() == pytest.approx(2.021)
    node.receive([ack("n2", 6, node.last_chain)], 2.0203)
    drain(node, 2.0203)
    assert node.next_deadline() == pytest.approx(2.0213), "the others are told of the commit then"


def test_heartbeats_decay_after_data_to_the_longest_interval() -> None:
    node = sequencing()
    node.submit([(command_record(),)], 3.0)
    drain(node, 3.0)
    beats, now, answered = [], 3.0, 1
    while now < 3.4:
        now = node.next_deadline()
        node.tick(now)
        effects = drain(node, now)
        answered = newest(effects, answered)
        node.receive([ack("n2", 5, LOG[-1].chain, round_number=answered)], now)
        if of(Heartbeat, effects):
            beats.append(now)
    gaps = [round(b - a, 4) for a, b in itertools.pairwise(beats)]
    assert gaps[:3] == pytest.approx([0.001, 0.002, 0.004])
    assert max(gaps) == pytest.approx(0.05)
    assert gaps == sorted(gaps)


def test_heartbeats_go_on_while_data_flows() -> None:
    node = sequencing()
    beats, now, answered = 0, 3.0, 1
    while now < 3.5:
        now += 0.0005
        node.submit([(command_record(),)], now)
        node.tick(now)
        effects = drain(node, now)
        beats += len(of(Heartbeat, effects))
        answered = newest(effects, answered)
        node.receive([ack("n2", node.last_seq, node.last_chain, round_number=answered)], now)
    assert 8 <= beats <= 20
