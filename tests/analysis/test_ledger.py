"""The gap ledger's arithmetic, on documents small enough to check by hand."""

import random
from typing import Any

import pytest

from mcast.analysis import find_shared, percentile, reconcile, repair_latency, repair_latency_by_node
from mcast.limits import LEDGER_CLOSED_MAX


def gap(first: int, last: int, latency_ms: float | None = 1.0) -> dict[str, Any]:
    return {"first": first, "last": last, "opened_at": 0.0, "naks": 1, "repaired_by": "n1", "latency_ms": latency_ms}


def node(
    node_id: str, closed: list[dict[str, Any]], open_: list[list[int]] | None = None, **counts: Any
) -> dict[str, Any]:
    injected = {"lost": 0, "duplicates": 0, "reordered": 0, "corrupted": 0} | counts.pop("injected", {})
    base = {"lost": 0, "repaired": 0, "superseded": 0, "transferred": 0, "duplicates": 0}
    return {"id": node_id, "open": open_ or [], "closed": closed, **base, **counts, "injected": injected}


SILENT = {"id": "n9", "open": None, "closed": None, "lost": None, "injected": None}


def test_reconcile_adds_up_to_zero_when_everything_lost_came_back() -> None:
    injected = {"lost": 8, "corrupted": 2}
    (account,) = reconcile(
        {"nodes": [node("n2", [], lost=10, repaired=7, superseded=1, transferred=2, injected=injected)]}
    )
    assert (account.injected, account.detected, account.difference, account.natural_losses) == (10, 10, 0, 0)
    assert account.reconciles


@pytest.mark.parametrize(
    ("counts", "open_"),
    [
        ({"lost": 10, "repaired": 9}, []),
        ({"lost": 9, "repaired": 9, "injected": {"lost": 10}}, []),
        ({"lost": 9, "repaired": 10}, []),
        ({"lost": 9, "repaired": 9}, [[4, 5]]),
    ],
)
def test_reconcile_refuses_what_does_not_add_up(counts: dict[str, Any], open_: list[list[int]]) -> None:
    (account,) = reconcile({"nodes": [node("n2", [], open_, **counts)]})
    assert not account.reconciles


def test_losses_beyond_the_injected_are_the_kernels_and_reconcile() -> None:
    (account,) = reconcile({"nodes": [node("n2", [], lost=12, repaired=12, injected={"lost": 10})]})
    assert account.natural_losses == 2
    assert account.reconciles


def test_a_silent_node_is_left_out() -> None:
    document = {"nodes": [node("n1", []), SILENT]}
    assert [account.id for account in reconcile(document)] == ["n1"]
    assert list(repair_latency_by_node(document)) == ["n1"]
    assert list(find_shared(document).shared) == ["n1"]


def test_latency_is_by_nearest_rank() -> None:
    latency = repair_latency([gap(at, at, float(at)) for at in range(100, 0, -1)])
    assert (latency.count, latency.p50_ms, latency.p90_ms, latency.p99_ms, latency.max_ms) == (100, 50, 90, 99, 100)
    assert latency.mean_ms == 50.5
    assert repair_latency([]).mean_ms is None


def test_percentile_of_one_value_is_that_value() -> None:
    assert [percentile([7.0], share) for share in (0, 0.5, 1)] == [7.0, 7.0, 7.0]


def test_shared_losses_are_told_from_private_ones() -> None:
    document = {"nodes": [
        node("n1", []),
        node("n2", [gap(10, 19), gap(40, 44)]),
        node("n3", [gap(15, 24)], [[42, 42]]),
    ]}  # fmt: skip
    found = find_shared(document)
    assert found.ranges == [(15, 19, ("n2", "n3")), (42, 42, ("n2", "n3"))]
    assert found.shared == {"n1": 0, "n2": 6, "n3": 6}
    assert found.private == {"n1": 0, "n2": 9, "n3": 5}


def test_a_number_lost_twice_by_one_node_counts_once_and_is_not_shared() -> None:
    found = find_shared({"nodes": [node("n2", [gap(10, 12), gap(11, 13)])]})
    assert (found.private, found.ranges) == ({"n2": 4}, [])


def test_events_that_one_ledger_forgot_are_not_called_private() -> None:
    full = [gap(1000 + 2 * index, 1000 + 2 * index) for index in range(LEDGER_CLOSED_MAX)]
    found = find_shared({"nodes": [node("n2", full), node("n3", [gap(5, 9), gap(1000, 1001)])]})
    assert found.since == 1000
    assert found.private["n3"] == 1
    assert found.shared["n3"] == 1


def test_find_shared_agrees_with_counting_every_event() -> None:
    draw = random.Random(7)
    for _ in range(50):
        nodes = []
        for index in range(3):
            starts = [draw.randrange(60) for _ in range(draw.randrange(8))]
            nodes.append(node(f"n{index}", [gap(start, start + draw.randrange(6)) for start in starts]))
        lost = {
            each["id"]: {seq for one in each["closed"] for seq in range(one["first"], one["last"] + 1)}
            for each in nodes
        }
        found = find_shared({"nodes": nodes})
        for node_id, own in lost.items():
            others = set().union(*(seqs for other, seqs in lost.items() if other != node_id))
            assert (found.shared[node_id], found.private[node_id]) == (len(own & others), len(own - others))


def test_what_two_lose_independently_coincides_by_chance_and_no_switch_is_to_blame() -> None:
    draw = random.Random(5)
    nodes = []
    for node_id in ("n1", "n2", "n3"):
        missed = [seq for seq in range(1, 5_001) if draw.random() < (0.0 if node_id == "n1" else 0.2)]
        nodes.append(node(node_id, [gap(seq, seq) for seq in missed[:900]]))
    found = find_shared({"nodes": nodes})
    both = sum(last - first + 1 for first, last, _ in found.ranges)
    assert 100 < both < 260 and abs(found.by_chance - both) < 0.25 * both
    alike = find_shared({"nodes": [nodes[0], nodes[1], {**nodes[1], "id": "n3"}]})
    assert sum(last - first + 1 for first, last, _ in alike.ranges) > 3 * alike.by_chance
