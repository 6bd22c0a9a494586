import random
from collections.abc import Sequence

import pytest

from mcast.protocol.log import Log
from mcast.wire.frame import CHAIN_ZERO, Frame
from mcast.wire.messages import EpochEntry

from .bench import command_frame, epoch_log, extended, genesis, recovered


def log_of(frames: Sequence[Frame], **how: int) -> Log:
    return Log(recovered(frames=frames), **how)


def test_an_empty_log_ends_at_zero_on_the_zero_chain() -> None:
    log = log_of([])
    assert (log.last_seq, log.last_chain, log.last_epoch, log.low_water) == (0, CHAIN_ZERO, 0, 1)
    assert log.frame_at(1) is None
    assert log.chain_at(0) == CHAIN_ZERO


def test_epochs_are_read_off_the_frames() -> None:
    frames = epoch_log([(1, "n1", 3), (4, "n2", 2)])
    log = log_of(frames)
    assert list(log.epochs) == [
        EpochEntry(0, 1, CHAIN_ZERO),
        EpochEntry(1, 2, frames[0].chain),
        EpochEntry(4, 6, frames[4].chain),
    ]
    log._check()


def test_chain_is_known_at_frame_ends_only() -> None:
    frames = extended([genesis()], 2, count=5)
    log = log_of(frames)
    assert log.chain_at(6) == frames[1].chain
    assert log.chain_at(4) is None
    assert log.chain_at(99) is None


def test_truncation_takes_frames_and_epochs_with_it() -> None:
    frames = epoch_log([(1, "n1", 3), (2, "n2", 2)])
    log = log_of(frames)
    log.truncate(4)
    log._check()
    assert (log.last_seq, log.last_epoch) == (4, 1)
    log.append(command_frame(frames[3]))
    log._check()


def test_truncation_just_before_an_epoch_takes_it_away() -> None:
    log = log_of(epoch_log([(1, "n1", 3), (2, "n2", 2)]))
    log.truncate(5)
    assert (log.last_seq, log.last_epoch) == (5, 1)


def test_truncation_inside_a_frame_is_refused() -> None:
    log = log_of(extended([genesis()], 2, count=5))
    with pytest.raises(AssertionError):
        log.truncate(4)


def test_between_returns_every_frame_that_holds_an_event_of_the_range() -> None:
    frames = extended([genesis()], 4, count=5)
    log = log_of(frames)
    assert list(log.frames_between(4, 8, 99)) == frames[1:3]
    assert list(log.frames_between(1, 99, 2)) == frames[:2]
    assert list(log.frames_between(30, 99, 9)) == []


def test_trimming_keeps_what_is_not_yet_applied() -> None:
    frames = extended([genesis()], 40, size=200)
    log = log_of(frames, cache_bytes_max=3_000)
    log.trim(keep_from=31)
    log._check()
    assert log.low_water > 10
    assert log.frame_at(31) is not None
    assert log.chain_at(log.low_water - 1) is not None
    log.trim(keep_from=1)
    assert log.frame_at(31) is not None


def test_random_appends_and_truncations_keep_the_invariants() -> None:
    rng = random.Random(5)
    frames = [genesis()]
    log = log_of(frames, cache_bytes_max=100_000)
    for _ in range(400):
        if rng.random() < 0.8 or len(frames) < 3:
            frames.append(command_frame(frames[-1], count=rng.randint(1, 4)))
            log.append(frames[-1])
        else:
            del frames[rng.randint(1, len(frames) - 1) :]
            log.truncate(frames[-1].last)
        log._check()
        assert log.last_chain == frames[-1].chain


def test_frames_added_together_leave_their_time() -> None:
    frames = epoch_log([(1, "n1", 5)])
    one, other = log_of(frames[:2]), log_of(frames[:2])
    other.extend(frames[2:])
    for frame in frames[2:]:
        one.append(frame)
    assert one.last_time == other.last_time == frames[-1].time
    other._check()
