"""The role handed over to another member."""

from mcast.limits import READ_RETRY_S
from mcast.wire.messages import (
    Handover,
)

from .bench import (
    KEY,
    command_record,
    drain,
    of,
    replica,
)
from .test_sequencing import LOG, ack, newest, sequencing


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
