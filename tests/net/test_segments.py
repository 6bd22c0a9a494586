from hypothesis import given
from hypothesis import strategies as st

from mcast.limits import GSO_BYTES_MAX, GSO_SEGMENTS_MAX
from mcast.net.segments import PADDING_SHARE_MAX, gso_runs


def shape(sizes: list[int]) -> list[tuple[int, list[int]]]:
    return [(segment, [len(datagram) for datagram in run]) for segment, run in gso_runs([bytes(n) for n in sizes])]


def test_equal_datagrams_with_a_shorter_last_one_are_one_run_without_padding() -> None:
    assert shape([1400, 1400, 1400, 90]) == [(1400, [1400, 1400, 1400, 90])]


def test_slightly_shorter_datagrams_in_the_middle_are_padded() -> None:
    assert shape([1390, 1400, 1380, 1300]) == [(1400, [1400, 1400, 1400, 1300])]


def test_a_much_shorter_datagram_ends_its_run() -> None:
    assert shape([1400, 100, 1400]) == [(1400, [1400, 100]), (1400, [1400])]


def test_a_run_stops_at_the_kernels_bounds() -> None:
    assert [len(run) for _, run in gso_runs([bytes(100)] * 150)] == [GSO_SEGMENTS_MAX, GSO_SEGMENTS_MAX, 30]
    assert all(segment * len(run) <= GSO_BYTES_MAX for segment, run in gso_runs([bytes(9000)] * 20))


@given(st.lists(st.binary(min_size=1, max_size=3000), max_size=200))
def test_runs_keep_order_and_content_and_add_only_bounded_zeros(datagrams: list[bytes]) -> None:
    out: list[bytes] = []
    for segment, run in gso_runs(datagrams):
        assert 0 < len(run) <= GSO_SEGMENTS_MAX
        assert len(run) == 1 or segment * len(run) <= GSO_BYTES_MAX
        assert all(len(datagram) == segment for datagram in run[:-1]) and len(run[-1]) <= segment
        out += run
    assert len(out) == len(datagrams)
    for sent, given_ in zip(out, datagrams, strict=True):
        assert sent[: len(given_)] == given_ and not any(sent[len(given_) :])
        assert len(sent) - len(given_) <= len(sent) // PADDING_SHARE_MAX
