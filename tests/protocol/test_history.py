import random
from collections.abc import Sequence

from mcast.protocol.history import History
from mcast.protocol.log import Log
from mcast.wire.epochs import Epochs
from mcast.wire.frame import CHAIN_ZERO, Frame, make_frame
from mcast.wire.messages import EpochEntry

from .bench import command_frame, command_record, epoch_log, epoch_start, extended, recovered


def history_of(frames: Sequence[Frame], newest: int | None = None) -> History:
    epochs = Log(recovered(frames=frames)).epochs
    return History(epochs[-1].epoch, Epochs(epochs.newest(newest)) if newest else epochs)


def common(own: Sequence[Frame], theirs: Sequence[Frame], newest: int | None = None) -> int | None:
    return history_of(theirs, newest).common_point(Log(recovered(frames=own)).epochs, own[-1].last if own else 0)


def test_equal_logs_share_everything() -> None:
    frames = epoch_log([(1, "n1", 3)])
    assert common(frames, frames) == 5


def test_a_shorter_log_of_the_newest_epoch_keeps_its_end() -> None:
    frames = epoch_log([(1, "n1", 3)])
    assert common(frames[:3], frames) == 3


def test_a_longer_log_of_the_newest_epoch_keeps_its_end() -> None:
    frames = epoch_log([(1, "n1", 3)])
    assert common(extended(frames, 2), frames) == 7


def test_a_dead_epochs_tail_is_cut_where_the_next_one_began() -> None:
    old = epoch_log([(1, "n1", 5)])
    winner = [*old[:4], epoch_start(2, "n2", old[3])]
    assert common(old, winner) == 4


def test_an_epoch_the_winner_never_saw_is_cut_whole() -> None:
    base = epoch_log([(1, "n1", 2)])
    loser = extended([*base, epoch_start(2, "n2", base[-1])], 3)
    winner = [*base, epoch_start(3, "n3", base[-1])]
    assert common(loser, winner) == 4


def test_unknown_older_epochs_must_be_fetched() -> None:
    frames = epoch_log([(epoch, "n1", 1) for epoch in range(1, 12)])
    own = frames[:4]
    assert common(own, frames, newest=3) is None
    assert common(own, frames) == own[-1].last
    assert not history_of(frames, newest=3).covers(5)


def test_an_empty_log_shares_nothing_and_needs_nothing() -> None:
    frames = epoch_log([(1, "n1", 2)])
    assert common([], frames, newest=1) == 0


def test_only_frames_within_their_epoch_are_assigned() -> None:
    frames = epoch_log([(1, "n1", 3), (2, "n2", 3)])
    history = history_of(frames)
    assert all(history.assigns(frame) for frame in frames)
    stale = command_frame(frames[4])  # epoch 1 at the place where epoch 2 began
    assert not history.assigns(stale)
    straddling = command_frame(frames[3], count=3)
    assert not history.assigns(straddling)


def test_frames_before_the_oldest_known_epoch_are_not_judged() -> None:
    frames = epoch_log([(1, "n1", 3), (2, "n2", 3)])
    assert not history_of(frames, newest=1).assigns(frames[2])


def test_the_common_point_is_the_longest_equal_prefix() -> None:
    """Two logs grown by random epochs: the history's answer equals a frame-by-frame comparison."""
    rng = random.Random(3)
    for _ in range(200):
        trunk = epoch_log([(1, "n1", rng.randint(1, 4))])
        own, theirs = list(trunk), list(trunk)
        for epoch in range(2, 7):
            grown = rng.choice([own, theirs])
            if grown is theirs and rng.random() < 0.3:
                del theirs[rng.randint(len(trunk), len(theirs)) :]
            grown.append(epoch_start(epoch, rng.choice(["n1", "n2"]), grown[-1]))
            grown[:] = extended(grown, rng.randint(0, 3))
        equal = 0
        for mine, yours in zip(own, theirs, strict=False):
            if mine.chain != yours.chain:
                break
            equal = mine.last
        if own[-1].epoch < theirs[-1].epoch:
            assert common(own, theirs) == equal


def test_an_epoch_that_began_elsewhere_is_another_epoch() -> None:
    frames = epoch_log([(1, "n1", 2)])
    forged = History(1, Epochs([EpochEntry(0, 1, bytes(16)), EpochEntry(1, 2, b"?" * 16)]))
    assert forged.common_point(Log(recovered(frames=frames)).epochs, 4) == 1


def test_a_frame_that_reaches_into_the_next_epoch_is_nobodys() -> None:
    first, second = EpochEntry(1, 1, CHAIN_ZERO), EpochEntry(2, 5, b"c" * 16)
    history = History(2, Epochs([first, second]))
    body = command_record(3)
    for begin, assigned in ((2, True), (3, False)):
        assert history.assigns(make_frame(1, begin, 3, 0, 1, CHAIN_ZERO, body)) is assigned
