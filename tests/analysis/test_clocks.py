"""Clocks that are seconds off the others' are told, with allowance for the way to who asks and back."""

from __future__ import annotations

from typing import Any

import pytest

from mcast.analysis.clocks import clock_findings

REMEDY = ": have it set by NTP (see timedatectl, chronyc tracking): handlers see the time of whoever leads"


def rows(*offs: float | None, unsure: float = 0.01) -> list[dict[str, Any]]:
    return [
        {"id": f"n{at}", "reachable": True, "clock_off_s": off, "clock_unsure_s": unsure}
        for at, off in enumerate(offs, start=1)
    ]


@pytest.mark.parametrize(
    "offs",
    [
        (), (5.0,), (0.0, 0.1, -0.3), (1e7, 1e7, 1e7 + 1), (0.0, 1.9), (None, 0.0), (None, None),
    ],
)  # fmt: skip
def test_clocks_that_agree_are_no_finding_however_wrong_that_of_who_asks(offs: tuple[float | None, ...]) -> None:
    assert clock_findings(rows(*offs)) == []


def test_one_that_is_off_is_named() -> None:
    assert clock_findings(rows(0.0, 0.1, 31_536_000.0)) == [
        f"n3's clock is 31,535,999.9 s ahead of the others'{REMEDY}"
    ]
    assert clock_findings(rows(-4.0, 0.1, 0.0)) == [f"n1's clock is 4.1 s behind the others'{REMEDY}"]
    assert [one.partition("'")[0] for one in clock_findings(rows(-9.0, 0.1, 0.0, 0.0, 50.0))] == ["n1", "n5"]


def test_where_no_half_is_right_all_are_named() -> None:
    (reported,) = clock_findings(rows(0.0, 5.0))
    assert reported.startswith("the clocks of n1, n2 are up to 5.0 s apart: have them set by NTP")
    (reported,) = clock_findings(rows(0.0, 10.0, 20.0))
    assert reported.startswith("the clocks of n1, n2, n3 are up to 20.0 s apart")


def test_a_slow_answer_is_no_wrong_clock() -> None:
    assert clock_findings(rows(0.0, 4.0, unsure=1.5)) == []


def test_who_did_not_answer_has_no_clock() -> None:
    nodes = rows(0.0, 0.0, 99.0)
    nodes[2]["reachable"] = False
    assert clock_findings(nodes) == []
