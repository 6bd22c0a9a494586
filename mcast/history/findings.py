"""What a check found against a history."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final, NamedTuple

SHOWN_MAX: Final = 10  # findings of one check that are kept


class Finding(NamedTuple):
    """A promise broken, in words that name the calls."""

    check: str
    text: str


def first_few(findings: Iterable[Finding]) -> list[Finding]:
    """The first SHOWN_MAX findings of each check; one more says how many there were beyond."""
    kept: list[Finding] = []
    counts: dict[str, int] = {}
    for finding in findings:
        counts[finding.check] = counts.get(finding.check, 0) + 1
        if counts[finding.check] <= SHOWN_MAX:
            kept.append(finding)
    kept += [Finding(what, f"... and {n - SHOWN_MAX} more") for what, n in counts.items() if n > SHOWN_MAX]
    return kept
