"""The rules of exit 1 for status and gaps."""

from typing import Any

import pytest

from mcast.analysis import gap_findings, status_findings


def status_node(**changes: Any) -> dict[str, Any]:
    return {"id": "n1", "reachable": True, "state": "live", "gaps_open": 0} | changes


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({}, []),
        ({"state": "starting"}, []),
        ({"state": "catching-up"}, []),
        ({"reachable": False, "state": None, "gaps_open": None}, ["n1 is unreachable"]),
        ({"state": "quarantined"}, ["n1 is quarantined"]),
        ({"state": "halted"}, ["n1 is halted"]),
        ({"state": "halted", "reason": "a bug"}, ["n1 is halted: a bug"]),
        ({"state": "catching-up", "reason": "its log is suspect"}, ["n1: its log is suspect"]),
        ({"reason": "the disk is full"}, ["n1: the disk is full"]),
        ({"gaps_open": 1}, ["n1 has 1 open gap"]),
        ({"gaps_open": 3}, ["n1 has 3 open gaps"]),
    ],
)
def test_status_findings(changes: dict[str, Any], expected: list[str]) -> None:
    assert status_findings({"nodes": [status_node(**changes)]}) == expected


@pytest.mark.parametrize(
    ("counts", "open_", "expected"),
    [
        ((4, 2, 1, 1), [], []),
        ((4, 2, 1, 0), [], ["n1: 1 of 4 lost datagrams not recovered"]),
        ((4, 4, 0, 0), [[7, 9]], ["n1 has 1 open gap"]),
    ],
)
def test_gap_findings(counts: tuple[int, int, int, int], open_: list[list[int]], expected: list[str]) -> None:
    lost, repaired, superseded, transferred = counts
    node = {"id": "n1", "open": open_, "closed": [], "lost": lost, "repaired": repaired, "superseded": superseded,
            "transferred": transferred, "duplicates": 0,
            "injected": {"lost": 0, "duplicates": 0, "reordered": 0, "corrupted": 0}}  # fmt: skip
    assert gap_findings({"nodes": [node]}) == expected
