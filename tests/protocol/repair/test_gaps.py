import itertools
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mcast.limits import GAP_DECLARED_S, NAK_DELAY_MAX_S, NAK_DELAY_S, NAK_RETRY_MAX_S, NAK_RETRY_MIN_S
from mcast.protocol.repair.gaps import Gaps, Loss


def no_jitter(low: float, high: float) -> float:
    return low


def gaps(frontier: int = 0) -> Gaps:
    return Gaps(frontier, no_jitter)


def ranges(gaps: Gaps) -> list[tuple[int, int]]:
    return [(gap.first, gap.last) for gap in gaps]


def test_in_order_frames_leave_no_gap() -> None:
    missing = gaps()
    assert missing.on_early_frame(1, 5, 0.0) is None
    assert missing.on_early_frame(6, 6, 0.0) is None
    assert len(missing) == 0
    assert missing.frontier == 6


def test_a_jump_opens_a_gap() -> None:
    missing = gaps()
    loss = missing.on_early_frame(4, 6, 0.0)
    assert loss is not None
    assert (loss.first, loss.last, loss.missing) == (1, 3, 3)
    assert ranges(missing) == [(1, 3)]


def test_a_heartbeat_shows_a_lost_tail() -> None:
    missing = gaps(10)
    assert missing.expect(10, 0.0) is None
    assert missing.expect(12, 0.0) is not None
    assert ranges(missing) == [(11, 12)]
    assert missing.expect(12, 0.0) is None


def test_filling_the_middle_splits_but_stays_one_loss() -> None:
    missing = gaps()
    loss = missing.on_early_frame(10, 10, 0.0)
    assert loss is not None
    assert missing.fill(4, 6) == [loss]
    assert ranges(missing) == [(1, 3), (7, 9)]
    missing.fill(1, 3)
    assert loss.missing == 3
    missing.fill(7, 9)
    assert loss.missing == 0
    assert len(missing) == 0


def test_two_later_frames_declare_a_gap() -> None:
    missing = gaps()
    missing.on_early_frame(2, 2, 0.0)
    missing.declare(0.0)
    assert missing.take_due(NAK_DELAY_S) == []
    missing.on_early_frame(3, 3, 0.0001)
    missing.declare(0.0001)
    assert [gap.first for gap in missing.take_due(0.0001 + NAK_DELAY_S)] == [1]


def test_time_declares_a_gap_when_traffic_stops() -> None:
    missing = gaps()
    missing.on_early_frame(2, 2, 0.0)
    assert missing.deadline() == GAP_DECLARED_S
    missing.declare(GAP_DECLARED_S)
    assert missing.take_due(GAP_DECLARED_S + NAK_DELAY_S)


def test_later_losses_join_the_episodes_timer() -> None:
    missing = gaps()
    for first in (2, 4, 6, 8):
        missing.on_early_frame(first, first, 0.0)
    missing.declare(0.0)
    assert [gap.first for gap in missing.take_due(NAK_DELAY_S)] == [1, 3, 5]


def test_a_nak_that_goes_anyway_takes_others_along() -> None:
    missing = gaps()
    missing.on_early_frame(2, 3, 0.0)
    missing.declare(0.002)
    missing.on_early_frame(5, 6, 0.0025)
    missing.on_early_frame(8, 9, 0.0026)
    missing.declare(0.0026)
    assert [gap.first for gap in missing.take_due(0.003)] == [1, 4]
    missing.declare(0.0046)
    assert [gap.first for gap in missing.take_due(0.0075)] == [1, 4, 7]


def test_a_nak_that_has_to_wait_holds_up_no_declaration() -> None:
    missing = gaps()
    missing.expect(1, 0.0020)
    missing.declare(0.0040)
    assert missing.take_due(0.0050)
    for seq, opened in ((2, 0.0075), (3, 0.0082), (4, 0.0087)):
        missing.expect(seq, opened)
    missing.declare(0.0095)
    assert [gap.first for gap in missing.take_due(0.0100)] == [1, 2], "none goes out until 0.0110"
    missing.declare(0.0102)
    assert missing.deadline() == pytest.approx(0.0087 + GAP_DECLARED_S)


def test_retries_back_off_and_are_bounded() -> None:
    missing = gaps()
    missing.expect(1, 0.0)
    missing.declare(1.0)
    now, waits = 1.0, []
    for _ in range(14):
        deadline = missing.deadline()
        waits.append(deadline - now)
        now = deadline
        assert missing.take_due(now)
    assert waits[1] == pytest.approx(NAK_RETRY_MIN_S)
    assert waits == sorted(waits)
    assert waits[-1] <= NAK_RETRY_MAX_S + 1e-9


def test_progress_resets_the_back_off_of_the_gap_at_the_logs_end() -> None:
    missing = gaps()
    missing.expect(9, 0.0)
    missing.declare(1.0)
    now = 1.0
    for _ in range(8):
        now = missing.deadline()
        missing.take_due(now)
    slow = missing.deadline() - now
    missing.fill(1, 4)
    missing.on_progress(4)
    now = missing.deadline()
    missing.take_due(now)
    assert missing.deadline() - now < slow / 2


def test_needless_naks_lengthen_the_first_delay_and_calm_shortens_it() -> None:
    missing = gaps()
    for _ in range(9):
        missing.on_late_original()
    assert missing.delay_s == NAK_DELAY_MAX_S
    for _ in range(64 * 9):
        missing.on_useful_repair()
    assert missing.delay_s == NAK_DELAY_S


def test_a_restart_forgets_every_gap() -> None:
    missing = gaps()
    missing.expect(10, 0.0)
    missing.restart(4)
    missing._check()
    assert len(missing) == 0
    assert missing.deadline() == float("inf")
    assert missing.expect(6, 0.0) is not None
    assert ranges(missing) == [(5, 6)]


@given(st.integers(0, 2**32), st.integers(20, 120))
def test_any_arrival_order_closes_every_loss_exactly_once(seed: int, length: int) -> None:
    rng = random.Random(seed)
    bounds = [0]
    while bounds[-1] < length:
        bounds.append(bounds[-1] + rng.randint(1, 4))
    frames = [(a + 1, b) for a, b in itertools.pairwise(bounds)]
    order = sorted(frames, key=lambda frame: frame[0] + rng.uniform(0, 15))
    missing, now = gaps(), 0.0
    losses: list[Loss] = []
    arrived: set[int] = set()
    for first, last in order:
        now += 0.0005
        if first > missing.frontier:
            loss = missing.on_early_frame(first, last, now)
            losses += [loss] if loss else []
        else:
            assert missing.fill(first, last)
        arrived.update(range(first, last + 1))
        missing.declare(now)
        missing.take_due(now)
        missing._check()
        expected = set(range(1, missing.frontier + 1)) - arrived
        assert {seq for gap in missing for seq in range(gap.first, gap.last + 1)} == expected
    assert len(missing) == 0
    assert all(loss.missing == 0 for loss in losses)


def test_what_is_lacking_is_missing_or_beyond_all_that_is_known() -> None:
    known = gaps()
    known.on_early_frame(5, 9, 0.0)  # 1 to 4 are missing
    known.expect(12, 0.0)  # and 10 to 12
    assert known.lacks(1, 4)
    assert known.lacks(2, 3)
    assert not known.lacks(4, 5)
    assert not known.lacks(5, 5)
    assert not known.lacks(9, 10)
    assert known.lacks(11, 12)
    assert known.lacks(11, 15), "the missing tail and what follows it"
    assert known.lacks(13, 20)


def test_room_is_what_is_missing_from_an_event_on() -> None:
    known = gaps()
    known.on_early_frame(5, 9, 0.0)  # 1 to 4 are missing
    known.expect(12, 0.0)  # and 10 to 12
    assert [known.room(first) for first in (1, 2, 4, 5, 9, 10, 12)] == [4, 3, 1, 0, 0, 3, 1]
    assert known.room(13) > 1_000_000
    assert known.room(14) == 0, "event 13 must be found missing first"
