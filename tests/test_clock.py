import time

from mcast.clock import monotonic_s, wall_offset_ns


def test_the_clock_does_not_go_back() -> None:
    readings = [monotonic_s() for _ in range(1_000)]
    assert readings == sorted(readings)


def test_with_its_offset_it_gives_the_time_of_day() -> None:
    assert abs(monotonic_s() * 1e9 + wall_offset_ns() - time.time_ns()) < 1e9
