from mcast.protocol.reorder import Reorder

from .bench import command_frame, extended, genesis


def test_frames_come_out_by_their_first_event() -> None:
    frames = extended([genesis()], 4, count=3)
    buffer = Reorder()
    assert buffer.offer(frames[3])
    assert buffer.offer(frames[2])
    assert 6 in buffer
    assert 2 not in buffer
    assert buffer.ends() == [(5, 7), (8, 10)]
    assert buffer.pop(5) is frames[2]
    assert buffer.pop(5) is None


def test_an_overlapping_frame_is_refused() -> None:
    frames = extended([genesis()], 2, count=3)
    buffer = Reorder()
    buffer.offer(frames[2])
    assert not buffer.offer(command_frame(frames[1], count=5))
    assert not buffer.offer(command_frame(frames[0], count=4))


def test_it_is_bounded_in_bytes_and_frames() -> None:
    frames = extended([genesis()], 10, size=100)
    assert sum(Reorder(frames_max=3).offer(frame) for frame in frames[:1]) == 1
    buffer = Reorder(frames_max=3)
    assert sum(buffer.offer(frame) for frame in frames) == 3
    small = Reorder(bytes_max=500)
    kept = sum(small.offer(frame) for frame in frames)
    assert 0 < kept < 4


def test_dropping_what_the_log_has_frees_its_room() -> None:
    frames = extended([genesis()], 10, size=100)
    buffer = Reorder(frames_max=4)
    for frame in frames[2:6]:
        assert buffer.offer(frame)
    buffer.drop_below(frames[4].last)
    assert buffer.ends() == [(frames[5].first, frames[5].last)]
    assert buffer.offer(frames[8])
    assert [frame.first for frame in buffer.drop_unless(lambda frame: frame.first < 8)] == [frames[8].first]
