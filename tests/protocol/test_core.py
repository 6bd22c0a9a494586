"""What the parts of a replica share."""

import random
from dataclasses import replace

from mcast.protocol.core import Core
from mcast.wire.frame import make_frame
from mcast.wire.messages import Configuration, encode_message
from mcast.wire.records import RecordKind, encode_record

from .bench import CONFIG, KEY, UUID, epoch_start, genesis, recovered, settings
from .test_following import LOG, follower, hear


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
