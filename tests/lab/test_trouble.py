"""The plan of faults: seeded, complete, and about the links it names."""

from __future__ import annotations

import random
from itertools import islice

import pytest

from mcast.lab.trouble import KINDS, SEQUENCER, fault_at, links_of, plan_troubles

NODES = ("n1", "n2", "n3")


def test_one_seed_makes_one_plan() -> None:
    plans = [list(islice(plan_troubles(NODES, seed), 40)) for seed in (1, 1, 2)]
    assert plans[0] == plans[1] != plans[2]


def test_every_kind_comes_and_every_gateway_dies() -> None:
    plan = list(islice(plan_troubles(NODES, 3), 60))
    assert {each.kind for each in plan} == set(KINDS)
    assert {each.target for each in plan} == {*NODES, SEQUENCER}
    killed = [each.target for each in islice(plan_troubles(NODES, 3, kinds=["kill"]), 60)]
    assert set(killed) == set(NODES)
    assert all(0 < each.for_s <= 3.0 and 0 <= each.wait_s <= 4.5 for each in plan)


@pytest.mark.parametrize(
    ("kind", "cut"),
    [
        ("isolate", {"n1>n2", "n2>n1", "n3>n2", "n2>n3"}),
        ("unplug", {"n1>n2", "n2>n1", "n3>n2", "n2>n3", "n2>clients", "clients>n2"}),
        ("deaf", {"n1>n2", "n3>n2"}),
        ("mute", {"n2>n1", "n2>n3"}),
        ("kill", set()),
    ],
)
def test_a_trouble_is_about_its_node_s_links(kind: str, cut: set[str]) -> None:
    losses = links_of(kind, "n2", NODES, "clients", random.Random(1))
    assert {f"{source}>{target}" for source, target in losses} == cut
    assert set(losses.values()) <= {1.0}


def test_among_five_up_to_two_are_cut_off_together() -> None:
    nodes = (*NODES, "n4", "n5")
    seen = set()
    for seed in range(20):
        losses = links_of("isolate", "n2", nodes, "clients", random.Random(seed))
        assert {(target, source) for source, target in losses} == set(losses), "both ways"
        assert ("n2", "clients") not in losses
        seen.add(len(losses))
    assert seen == {2 * 1 * 4, 2 * 2 * 3}


def test_losses_differ_from_link_to_link() -> None:
    losses = links_of("loss", "n1", NODES, "clients", random.Random(1))
    assert len(set(losses.values())) == len(losses) == 4
    assert all(0 <= share <= 0.4 for share in losses.values())


def test_on_loopback_a_node_s_own_faults_stand_for_the_links_to_it() -> None:
    losses = {("n1", "n2"): 1.0, ("n3", "n2"): 0.25, ("n2", "n1"): 0.1, ("clients", "n2"): 1.0}
    assert fault_at("n2", losses, "clients") == "cut=n1,loss=25.0%"
    assert fault_at("n1", losses, "clients") == "loss=10.0%"
    assert fault_at("n3", losses, "clients") == "clear"
