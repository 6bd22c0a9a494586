import pytest

from mcast.analysis import longest_wait


@pytest.mark.parametrize(
    ("beats", "waited"),
    [
        ([(1.0, 1), (2.0, 1), (5.0, 2), (9.0, 2)], 3.0),  # from the last before until the first after, no further
        ([(1.0, 1), (2.0, 1), (2.6, 1), (4.6, 2)], 2.0),  # what was under way still came
        ([(1.0, 1), (2.0, 1), (7.0, 1), (7.1, 2)], 5.0),  # the successor's first commit is of the older epoch
        ([(1.0, 1), (2.0, 1), (3.0, 3)], 1.0),  # two elections
    ],
)
def test_the_wait_around_a_strike(beats: list[tuple[float, int]], waited: float) -> None:
    assert longest_wait(beats, 2.5, 1) == pytest.approx(waited)
