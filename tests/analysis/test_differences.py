"""What must be alike at all nodes: found in rows at one number, and by marks where the numbers differ."""

from typing import Any

from mcast.analysis import document_findings
from mcast.analysis.differences import find_fork, fork_findings, mixture_findings, unlike


def row(node: str, seq: int, results: str, *marks: tuple[int, str], chain: str = "c", **more: Any) -> dict[str, Any]:
    listed = [[mark, f"c{mark}", value] for mark, value in marks]
    return {"id": node, "reachable": True, "state": "live", "gaps_open": 0, "role": "member", "votes": True,
            "applied_seq": seq, "chain": f"{chain}{seq}", "result_chain": results, "marks": listed} | more  # fmt: skip


def test_equal_rows_are_no_finding() -> None:
    rows = [row("n1", 9, "a"), row("n2", 9, "a"), row("n3", 0, "0"), {"id": "n4", "reachable": False}]
    assert find_fork(rows) is None
    assert fork_findings(rows) == []


def test_rows_at_one_number_that_differ_name_the_odd_one() -> None:
    rows = [row("n1", 9, "a"), row("n2", 9, "b"), row("n3", 9, "a")]
    fork = find_fork(rows)
    assert fork is not None
    assert (fork.seq, fork.of, fork.sides) == (9, "results", (("n1", "n3"), ("n2",)))
    [reported] = fork_findings(rows)
    assert "n2 from n1, n3" in reported
    assert "restart n2" in reported
    document = {"sequencer": "n1", "nodes": rows}
    assert document_findings(document) == [reported]


def test_marks_compare_nodes_that_are_not_at_the_same_number() -> None:
    rows = [row("n1", 40, "x", (8, "a"), (16, "a"), (32, "b")), row("n2", 37, "y", (8, "a"), (16, "z"), (32, "y"))]
    fork = find_fork(rows)
    assert fork is not None
    assert (fork.equal, fork.seq) == (8, 16)
    assert "equal up to event 8, different at event 16" in fork_findings(rows)[0]
    assert "restart all of them" in fork_findings(rows)[0]


def test_a_log_that_differs_is_told_as_one() -> None:
    rows = [row("n1", 9, "a"), row("n2", 9, "b", chain="other"), row("n3", 9, "a")]
    assert "the log of n2 from n1, n3" in fork_findings(rows)[0]


def test_what_a_mark_does_not_say_is_no_difference() -> None:
    one, other = row("n1", 9, "a", (4, "m")), row("n2", 8, "b")
    other["marks"] = [[4, None, "m"], ["x", 1, 2], 7]
    assert find_fork([one, other]) is None


RUNS = {
    "machine": "m:M",
    "machine_version": 1,
    "commands": "ab",
    "python": "3.11",
    "mcast": "1",
    "formats": {"wire": 2},
}


def test_different_machines_pythons_and_formats_are_findings_and_mcast_versions_are_not() -> None:
    rows = [row("n1", 1, "a", runs=RUNS), row("n2", 1, "a", runs=RUNS | {"mcast": "2"})]
    assert mixture_findings(rows) == []
    rows.append(row("n3", 1, "a", runs=RUNS | {"machine_version": 2, "formats": {"wire": 3}}, allow_mixed=True))
    versions, formats = mixture_findings(rows)
    assert versions.startswith("nodes run different versions of the state machine: n1, n2: 1; n3: 2 (allow_mixed is")
    assert "n1, n2: wire 2; n3: wire 3" in formats


def test_only_what_both_tell_is_compared() -> None:
    assert unlike(RUNS, {"mcast": "9"}) == []
    assert unlike(RUNS, RUNS | {"python": "3.12"}) == ["Pythons: 3.12 instead of 3.11"]
