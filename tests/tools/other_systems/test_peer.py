import pytest

from tools.other_systems.peer import KEYS, MARK, SIZE_MIN, PeerReplica, make_events


@pytest.mark.parametrize("count", [1, 2, KEYS, 2 * KEYS + 3])
def test_events_have_their_size_and_only_the_last_is_marked(count: int) -> None:
    events = make_events(count, SIZE_MIN)
    assert len(events) == count
    assert {len(event) for event in events} == {SIZE_MIN}
    assert [number for number, event in enumerate(events, 1) if event[0] == MARK] == [count]
    assert len({event[1:5] for event in events}) == min(count, KEYS)


def test_a_replica_tells_at_a_mark_how_many_it_applied_and_what_it_holds() -> None:
    reported: list[tuple[int, int]] = []
    one, other = (PeerReplica(lambda *what: reported.append(what)) for _ in range(2))
    for event in make_events(5, 12):
        one.apply(event)
    assert [count for count, _ in reported] == [5]
    for event in reversed(make_events(5, 12)):
        other.apply(event)
    assert [count for count, _ in reported] == [5, 1]
    assert reported[0][1] != reported[1][1]
