import pytest

from mcast.protocol.quorum import majority, reached


@pytest.mark.parametrize(("members", "expected"), [(1, 1), (2, 2), (3, 2), (4, 3), (5, 3), (7, 4)])
def test_any_two_majorities_meet(members: int, expected: int) -> None:
    assert majority(members) == expected
    assert 2 * majority(members) > members


@pytest.mark.parametrize(
    ("values", "members", "expected"),
    [([5], 1, 5), ([5, 3], 3, 3), ([5], 3, 0), ([9, 7, 3], 3, 7), ([9, 1, 1, 1], 5, 1), ([4, 4, 9, 2, 8], 5, 4)],
)
def test_the_value_a_majority_has_reached(values: list[int], members: int, expected: int) -> None:
    assert reached(values, members) == expected
