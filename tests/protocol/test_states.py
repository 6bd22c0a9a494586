import pytest

from mcast.protocol.states import LEADS_EPOCH, TRANSITIONS, Input, Role, move


def test_a_halted_replica_never_moves_again() -> None:
    assert {role for (role, event) in TRANSITIONS if role is Role.HALTED and event is not Input.BREAK} == set()


def test_only_a_won_vote_begins_an_epoch() -> None:
    entries = {
        (role, event)
        for (role, event), after in TRANSITIONS.items()
        if after in LEADS_EPOCH and role not in LEADS_EPOCH
    }
    assert entries == {(Role.CANDIDATE, Input.VOTED)}


def test_being_the_sequencer_needs_the_own_epoch_start_committed() -> None:
    entries = {event for (_, event), after in TRANSITIONS.items() if after is Role.SEQUENCER}
    assert entries == {Input.STARTED}


def test_every_role_is_reachable_from_empty() -> None:
    reached, frontier = {Role.EMPTY}, [Role.EMPTY]
    while frontier:
        role = frontier.pop()
        for (source, _), after in TRANSITIONS.items():
            if source is role and after not in reached:
                reached.add(after)
                frontier.append(after)
    assert reached == set(Role)


def test_a_move_outside_the_table_is_a_bug() -> None:
    with pytest.raises(KeyError):
        move(Role.EMPTY, Input.VOTED)
