"""What the parts of a replica share."""

import random
from collections.abc import Callable
from dataclasses import replace

import pytest

from mcast.protocol.core import Core
from mcast.protocol.replica import Replica
from mcast.wire.frame import make_frame
from mcast.wire.messages import Configuration, encode_message
from mcast.wire.records import RecordKind, encode_record

from .bench import (
    CONFIG,
    KEY,
    UUID,
    arrival,
    command_record,
    epoch_start,
    genesis,
    own_epoch,
    recovered,
    settings,
)
from .test_following import LOG, beat, follower, hear
from .test_own_epochs import commit_all, deposed, elected_again
from .test_sequencing import sequencing


def test_a_configuration_goes_with_the_tail_that_brought_it() -> None:
    base = LOG[:3]
    record = encode_record(RecordKind.CONFIG, 1, 0, 0, 0, encode_message(Configuration(2, CONFIG.members[:2])))
    tail = make_frame(1, 4, 1, 0, base[-1].time + 1, base[-1].chain, record)
    node = follower([*base, tail], promised=2)
    assert node.statistics().config_number == 2
    hear(node, [*base, epoch_start(2, "n3", base[-1])], epoch=2)
    assert node.last_seq == 3
    assert node.statistics().config_number == 1
    assert set(node._core.voters()) == set(KEY.values())


def test_a_configuration_below_the_frames_in_memory_is_known() -> None:
    first = genesis()
    record = encode_record(RecordKind.CONFIG, 1, 0, 0, 0, encode_message(Configuration(7, CONFIG.members[:2])))
    config = make_frame(1, 9, 1, 8, 5, bytes(16), record)
    kept = replace(recovered("n1"), base_seq=20, base_chain=bytes(16), genesis=first, config=config)
    shared = Core(settings(), kept, random.Random(1))
    assert shared.config == Configuration(7, CONFIG.members[:2])
    assert shared.cluster_uuid == UUID


def overruled(node: Replica) -> None:
    node.receive([arrival("n3", beat(LOG, 2), promised=2)], 2.1)


ENDS: dict[str, Callable[[Replica], object]] = {
    "deposed": deposed,
    "unanswered": lambda node: node.tick(9.0),
    "overruled": overruled,
    "halted": lambda node: node._core.halt("on purpose"),
}


@pytest.mark.parametrize("end", ENDS)
def test_what_only_a_sequencer_has_is_gone_with_the_role(end: str) -> None:
    node = sequencing()
    assert node.submit([(command_record(1, 940),)] * 1200, 2.05)
    assert node.backlog_bytes
    ENDS[end](node)
    assert node._core.sequencing is None and not node.leads_epoch
    assert node.backlog_bytes == 0 and not node.submit([(command_record(),)], 9.0)


def test_the_next_epoch_begins_with_nothing_of_the_last() -> None:
    node = sequencing()
    last = own_epoch(node)
    assert last.progress
    deposed(node)
    elected_again(node)
    assert own_epoch(node) is not last and not own_epoch(node).progress
    commit_all(node, 4.01)
    assert node.is_sequencer and KEY["n2"] in own_epoch(node).progress
