from pathlib import Path

import pytest

from mcast.net.faulty import FaultSpec, parse_faults
from mcast.scenario.faults import Board, Plight, Turn, resolve, turns_of
from mcast.scenario.model import ClusterPlan, Expectations, FaultKind, FaultPlan, Scenario, Workload

IDS = ("n1", "n2", "n3")


def fault(
    kind: FaultKind = "loss", node: str = "n2", at: float = 1.0, for_s: float | None = 2.0, **how: float
) -> FaultPlan:
    return FaultPlan(at=at, for_s=for_s, nodes=(node,), kind=kind, **how)


@pytest.mark.parametrize(
    ("nodes", "sequencer", "expected"),
    [
        (("sequencer",), "n3", ("n3",)), (("sequencer",), None, ("n1",)), (("followers",), "n2", ("n1",)),
        (("followers",), None, ("n2",)), (("all",), "n3", IDS), (("n3",), "n1", ("n3",)),
        (("n2", "n3"), "n1", ("n2", "n3")),
    ],
)  # fmt: skip
def test_words_mean_who_it_is_when_the_fault_begins(
    nodes: tuple[str, ...], sequencer: str | None, expected: tuple[str, ...]
) -> None:
    assert resolve(nodes, IDS, ("n1", "n2"), sequencer) == expected


def test_what_ends_makes_room_for_what_begins() -> None:
    faults = (fault(at=1.0, for_s=2.0), fault(at=3.0, for_s=None), fault("kill", at=4.0, for_s=None))
    workload = Workload(rate=1, seconds=9)
    scenario = Scenario(
        name="a", path=Path("a"), cluster=ClusterPlan(), workload=workload, faults=faults, expect=Expectations()
    )
    assert turns_of(scenario) == [
        Turn(1.0, True, 0), Turn(3.0, False, 0), Turn(3.0, True, 1), Turn(4.0, True, 2), Turn(9.0, False, 1),
    ]  # fmt: skip


def test_faults_of_one_kind_add_up_and_end_one_by_one() -> None:
    board = Board((fault(percent=5.0), fault(percent=10.0), fault("delay", delay_ms=3.0)), IDS)
    for index in range(3):
        board.begin(index, ("n2",))
    assert board.plight("n2") == Plight(loss=15.0, delay_ms=3.0) and board.plight("n1") == Plight()
    board.end(0)
    assert board.plight("n2").loss == 10.0
    board.end(1)
    board.end(2)
    assert board.plight("n2") == Plight()


def test_a_partition_cuts_both_sides_and_leaves_each_whole() -> None:
    board = Board((fault("partition"),), IDS)
    board.begin(0, ("n2", "n3"))
    assert {node: plight.cut for node, plight in board.plights().items()} == {
        "n1": {"n2", "n3"}, "n2": {"n1"}, "n3": {"n1"},
    }  # fmt: skip


def test_the_killed_are_not_alive_until_every_kill_is_over() -> None:
    board = Board((fault("kill"), fault("kill"), fault("stop")), IDS)
    for index in range(3):
        board.begin(index, ("n2",))
    board.end(0)
    assert list(board.alive_nodes) == ["n1", "n3"] and board.plight("n2").process == (True, True)
    board.end(1)
    assert list(board.alive_nodes) == ["n1", "n2", "n3"] and board.plight("n2").process == (True, False)


def test_a_plight_is_a_fault_specification() -> None:
    plight = Plight(loss=5, dup=0.1, reorder=2, corrupt=1, delay_ms=2.5, cut=frozenset({"n3", "n1"}))
    assert parse_faults(plight.spec(7)) == FaultSpec(
        loss=0.05, dup=0.001, reorder=0.02, corrupt=0.01, delay_s=0.0025, seed=7, cut=frozenset({"n1", "n3"})
    )
    assert Plight(stopped=True).spec(7) == "clear"
