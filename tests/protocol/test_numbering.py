"""What is submitted, numbered: packing, the window, time."""

from mcast.protocol.effects import SequencerReady, Stream
from mcast.wire.records import RecordKind, split_fragments

from .bench import (
    command_record,
    drain,
    of,
)
from .test_sequencing import LOG, ack, elected, sequencing


def test_nothing_is_numbered_before_epoch_start_has_committed() -> None:
    node = elected()
    assert not node.submit([(command_record(),)], 2.0)
    drain(node, 2.0)
    node.receive([ack("n2", 5, node.last_chain)], 2.01)
    assert SequencerReady(2) in node.take_notices()
    assert node.submit([(command_record(),)], 2.02)


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


def test_time_never_decreases_not_even_across_epochs() -> None:
    node = sequencing()
    node.submit([(command_record(),)], 2.5)
    (stream,) = of(Stream, node.take_effects())
    assert stream.frames[0].time >= LOG[-1].time


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
