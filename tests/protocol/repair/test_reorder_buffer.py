from mcast.protocol.repair.reorder_buffer import Reorder

from ..bench import extended, genesis


def test_frames_come_out_by_their_first_event() -> None:
    frames = extended([genesis()], 4, count=3)
    buffer = Reorder()
    assert buffer.offer(frames[3:4])
    assert buffer.offer(frames[2:3])
    assert buffer.ends() == [(5, 7), (8, 10)]
    assert buffer.pop(5) is frames[2]
    assert buffer.pop(5) is None
    assert len(buffer) == 1


def test_it_is_bounded_in_bytes_and_frames() -> None:
    frames = extended([genesis()], 10, size=100)
    buffer = Reorder(frames_max=3)
    assert sum(buffer.offer([frame]) for frame in frames) == 3
    assert not Reorder(frames_max=3).offer(frames[:4]), "all of them or none"
    small = Reorder(bytes_max=500)
    kept = sum(small.offer([frame]) for frame in frames)
    assert 0 < kept < 4


def test_what_is_taken_out_frees_its_room() -> None:
    frames = extended([genesis()], 10, size=100)
    buffer = Reorder(frames_max=4)
    assert buffer.offer(frames[2:6])
    dropped = buffer.drop_unless(lambda frame: frame.first > frames[4].last)
    assert [frame.first for frame in dropped] == [frame.first for frame in frames[2:5]]
    assert buffer.ends() == [(frames[5].first, frames[5].last)]
    assert buffer.offer(frames[6:9])
    assert not buffer.offer(frames[9:])
