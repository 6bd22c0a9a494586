"""The rules of exit 1 for status and gaps."""

from typing import Any

import pytest

from mcast.analysis import gap_findings, leaderless, status_findings


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
        ({"findings": ["its clock stands", "its disk"]}, ["n1: its clock stands", "n1: its disk"]),
        ({"gaps_open": 1}, ["n1 has 1 open gap"]),
        ({"gaps_open": 3}, ["n1 has 3 open gaps"]),
    ],
)
def test_status_findings(changes: dict[str, Any], expected: list[str]) -> None:
    reported = status_findings({"nodes": [status_node(**changes)]})
    assert [finding.partition("; ")[0] for finding in reported] == expected


@pytest.mark.parametrize(
    ("changes", "why", "remedy"),
    [
        ({"reachable": False, "gaps_open": None}, "connection refused", "start it on its machine: mcast node -c FILE"),
        ({"reachable": False, "gaps_open": None, "address": "n1:7"}, "no answer", "TCP n1:7 passes the firewalls"),
        ({"reachable": False, "gaps_open": None}, None, "see that it runs on its machine (mcast node -c FILE --id n1)"),
        ({"state": "halted", "reason": "a bug"}, None, "start it again: mcast node -c FILE --id n1"),
        ({"gaps_open": 2}, None, "see mcast gaps"),
    ],
)
def test_each_of_them_says_what_to_do(changes: dict[str, Any], why: str | None, remedy: str) -> None:
    silences = {} if why is None else {"n1": why}
    (reported,) = status_findings({"nodes": [status_node(**changes)]}, silences)
    assert remedy in reported


@pytest.mark.parametrize(("sequencer", "expected"), [("n2", ["n1 is isolated: for 9 s"]), (None, [])])
def test_isolation_is_told_of_each_node_but_not_where_no_majority_can_be_had(
    sequencer: str | None, expected: list[str]
) -> None:
    row = status_node(state="isolated", isolated="isolated: for 9 s")
    assert status_findings({"sequencer": sequencer, "nodes": [row]}) == expected


def test_an_unreachable_nodes_reason_is_told() -> None:
    document = {"nodes": [status_node(reachable=False, state=None, gaps_open=None)]}
    (reported,) = status_findings(document, {"n1": "connection refused"})
    assert reported.startswith("n1 is unreachable: connection refused; ")


def member(node_id: str, **changes: Any) -> dict[str, Any]:
    return status_node(id=node_id, role="member", votes=True) | changes


LOST = {"votes": False, "state": "starting"}
AWAY: dict[str, Any] = {"votes": None, "state": None, "reachable": False}


@pytest.mark.parametrize(
    ("sequencer", "changes", "says"),
    [
        ("n1", [{}, LOST, LOST], None),
        (None, [{}, {}, AWAY], "wait a moment"),
        (None, [LOST, LOST, LOST], "wait a moment"),
        (None, [{"isolated": "isolated: it hears nobody"}, {}, AWAY], "2 of 3 members answer here, but no majority"),
        (None, [{"isolated": "isolated: it hears nobody"}, {}, AWAY], "n1 is isolated: it hears nobody"),
        (None, [{"isolated": "isolated: it hears nobody"}, AWAY, AWAY], "no majority, for 1 of 3"),
        (None, [{"state": "starting", "waits_for": ["n3"]}, LOST, AWAY], "n3 must answer first"),
        (None, [{}, LOST, LOST], "no majority, for 1 of 3 members answer and vote"),
        (None, [{}, AWAY, AWAY], "if that is lost for ever, see mcast recover"),
    ],
)
def test_that_nobody_numbers_events_is_told_with_its_remedy(
    sequencer: str | None, changes: list[dict[str, Any]], says: str | None
) -> None:
    nodes = [member(f"n{number}", **change) for number, change in enumerate(changes, 1)]
    nodes.append(member("n4", role="observer", votes=False))
    reported = leaderless({"sequencer": sequencer, "nodes": nodes})
    assert reported is None if says is None else reported is not None and says in reported


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
    reported = gap_findings({"nodes": [node]})
    assert [finding.partition("; ")[0] for finding in reported] == expected
    assert all("mcast gaps" in finding or "mcast status" in finding for finding in reported)
