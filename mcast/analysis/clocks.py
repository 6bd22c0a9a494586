"""Whether the nodes' clocks agree, by what each said when it was asked."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

from mcast.limits import CLOCK_OFF_S

_REMEDY: Final = "set by NTP (see timedatectl, chronyc tracking): handlers see the time of whoever leads"


def clock_findings(nodes: Sequence[Mapping[str, Any]]) -> list[str]:
    """The nodes whose clocks are seconds off those of most; all of them where no two halves agree.

    Each row's `clock_off_s` is what it is ahead of who asked, give or take `clock_unsure_s`: the way there and back.
    """
    known = [
        (str(node["id"]), float(node["clock_off_s"]), float(node.get("clock_unsure_s") or 0.0))
        for node in nodes
        if node.get("reachable") and isinstance(node.get("clock_off_s"), int | float)
    ]
    agreeing = {
        name: [other for other, at, unsure_too in known if abs(at - off) <= CLOCK_OFF_S + unsure + unsure_too]
        for name, off, unsure in known
    }
    right = [off for name, off, _ in known if 2 * len(agreeing[name]) > len(known)]
    if len(right) == len(known):
        return []
    if not right:
        offs = [off for _, off, _ in known]
        names = ", ".join(name for name, _, _ in known)
        return [f"the clocks of {names} are up to {max(offs) - min(offs):,.1f} s apart: have them {_REMEDY}"]
    middle = sorted(right)[len(right) // 2]
    findings = []
    for name, off, _ in known:
        if 2 * len(agreeing[name]) <= len(known):
            way = "ahead of" if off > middle else "behind"
            findings.append(f"{name}'s clock is {abs(off - middle):,.1f} s {way} the others': have it {_REMEDY}")
    return findings
