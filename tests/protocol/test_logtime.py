"""The log's time: never back, always on, and with the clock of who leads, wherever somebody sets that."""

from __future__ import annotations

import itertools
import random

import pytest

from mcast.limits import SESSION_IDLE_S
from mcast.machine.sessions import Kept, SessionTable
from mcast.protocol.core import Core
from mcast.protocol.logtime import LogTime
from mcast.wire.frame import TIME_MAX_NS, make_frame

from .bench import command_record, core, genesis

S = 10**9
YEAR = 365 * 86_400 * S
NOON = 1_700_000_000 * S


def sequencer(log_time: int = 1, offset_ns: int = NOON, now: float = 10.0) -> tuple[Core, LogTime]:
    """A sequencer that begins at `now`, a second after its log's newest event, which is of `log_time`."""
    its = core(frames=[genesis()])
    its.log.append(make_frame(1, 2, 1, 1, log_time, its.log.last_chain, command_record()))
    its.wall_offset_ns, its.dated_at = offset_ns, now - 1.0
    time = LogTime(its)
    time.begin(now)
    return its, time


def test_it_is_the_clocks_where_nothing_is_wrong() -> None:
    _, time = sequencer(log_time=NOON + 3 * S)
    assert [time.read(at) for at in (10.0, 10.5, 500.0)] == [NOON + 10 * S, NOON + 10 * S + S // 2, NOON + 500 * S]
    assert time.read(499.0) == NOON + 500 * S, "whatever time a caller says it is"


def test_a_log_that_slept_for_years_wakes_up_at_once() -> None:
    _, time = sequencer(log_time=NOON - 3 * YEAR)
    assert time.read(10.0) == NOON + 10 * S


def test_under_a_log_that_is_a_year_ahead_it_moves_at_half_the_pace() -> None:
    _, time = sequencer(log_time=NOON + YEAR)
    begun = time.read(10.0)
    assert begun == NOON + YEAR + S // 2, "the second before the epoch counts"
    assert time.read(11.0) == begun + S // 2 and time.read(111.0) == begun + 101 * S // 2


@pytest.mark.parametrize("offset_ns", [2**63, 2**70, -(2**70)])
def test_no_clock_dates_events_where_the_log_has_no_room(offset_ns: int) -> None:
    _, time = sequencer(offset_ns=offset_ns)
    first, second = time.read(11.0), time.read(12.0)
    assert 0 <= first < second < TIME_MAX_NS // 2 + YEAR


def test_it_meets_the_clock_again() -> None:
    _, time = sequencer(log_time=NOON + 40 * S)  # half a minute ahead of what the clock shows
    read = [time.read(float(at)) for at in range(10, 100)]
    assert all(0 < b - a <= S for a, b in itertools.pairwise(read))
    assert read[-1] == NOON + 99 * S and read[20] > NOON + 30 * S


def test_a_clock_that_is_set_back_is_waited_for_without_standing_still() -> None:
    its, time = sequencer()
    before = time.read(20.0)
    its.wall_offset_ns -= 5 * S
    read = [before] + [time.read(20.0 + at / 10) for at in range(1, 201)]
    assert all(0 < b - a <= S // 10 + 1 for a, b in itertools.pairwise(read))
    assert read[-1] == NOON + 35 * S


def test_one_that_is_set_forward_a_little_is_followed_at_twice_the_pace() -> None:
    its, time = sequencer()
    before = time.read(20.0)
    its.wall_offset_ns += 5 * S
    assert [time.read(at) - before for at in (21.0, 22.0, 24.0, 26.0)] == [2 * S, 4 * S, 8 * S, 11 * S]


def test_one_that_learns_what_day_it_is_is_believed_at_once() -> None:
    its, time = sequencer(offset_ns=0)
    assert time.read(11.0) == 11 * S
    its.wall_offset_ns = NOON
    assert time.read(12.0) == NOON + 12 * S


@pytest.mark.parametrize("seed", range(20))
def test_whatever_clocks_do_it_moves_on_through_epochs(seed: int) -> None:
    rng, last, now = random.Random(seed), NOON, 10.0
    for _ in range(20):
        its, time = sequencer(last, NOON + int(rng.uniform(-1, 1) * rng.choice([S, 100 * S, YEAR])), now)
        for _ in range(10):
            read = time.read(now)
            assert read > last, "a second has passed since the last one"
            last, now = read, now + rng.uniform(1, 3)
            its.wall_offset_ns += int(rng.choice([0, 0, 1, -1]) * 10 ** rng.uniform(6, 17))
        now += 1.0


def test_sessions_age_though_a_clock_that_was_a_year_ahead_once_ruled() -> None:
    _, time = sequencer(log_time=NOON + YEAR)
    table = SessionTable(sessions_max=1)
    assert table.open(b"a" * 16, 5, time.read(20.0)) == 5
    used = table.find(5, time.read(20.0))
    assert used is not None
    table.keep(used, Kept(1, 1, 6, 1, 0, b""))
    assert table.open(b"b" * 16, 6, time.read(20.0 + SESSION_IDLE_S)) == 0, "half the pace"
    assert table.open(b"b" * 16, 7, time.read(21.0 + 2 * SESSION_IDLE_S)) == 7
