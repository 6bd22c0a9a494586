"""python -m tests.mutants: makes every mutant of the table in turn, and says which ones no test noticed."""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections import Counter
from collections.abc import Sequence

from .rows import Mutant, chosen, load
from .workshop import FAILURES, KILLED, LIMIT_S, SpoiledError, Verdict, judge_all

_WIDTH = 160


class Progress:
    """One line on a terminal that is written over; nothing where nobody looks."""

    def __init__(self, of: int) -> None:
        self._of = of
        self._fates: Counter[str] = Counter()
        self._looks = sys.stderr.isatty()
        self.say("the named tests, on the true code")

    def judged(self, verdict: Verdict) -> None:
        self._fates[verdict.fate] += 1
        fates = ", ".join(f"{count} {fate}" for fate, count in sorted(self._fates.items()))
        self.say(f"{self._fates.total()} of {self._of}: {fates}; {verdict.mutant.name}")

    def say(self, text: str) -> None:
        if self._looks:
            print(f"\r\x1b[2K{text[:_WIDTH]}", end="", file=sys.stderr, flush=True)

    def done(self) -> None:
        self.say("")


def main(arguments: Sequence[str] | None = None) -> int:
    """0: every mutant was killed, or is explained; 1: not so; 2: nothing of that name."""
    parser = argparse.ArgumentParser(prog="python -m tests.mutants", description=__doc__)
    parser.add_argument("--area", action="append", default=[], help="only this area's (again: these areas')")
    parser.add_argument("--name", action="append", default=[], help="only this mutant (again: these)")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1, help="mutants judged at a time")
    parser.add_argument("--limit", type=float, default=LIMIT_S, help="seconds that one mutant's tests may take")
    parser.add_argument("--json", action="store_true", help="a list of objects instead of the table")
    options = parser.parse_args(arguments)
    rows = load()
    mutants = chosen(rows, options.area, options.name)
    unknown = set(options.area) - {row.area for row in rows} | set(options.name) - {row.name for row in rows}
    if unknown or not mutants:
        parser.error(f"no such mutant or area: {', '.join(sorted(unknown)) or 'nothing is left of the table'}")
    progress = Progress(len(mutants))
    try:
        verdicts = judge_all(mutants, jobs=max(options.jobs, 1), limit_s=options.limit, reported=progress.judged)
    except SpoiledError as spoiled:
        progress.done()
        print(f"{spoiled}\nThe named tests do not pass on the true code; mend them first.", file=sys.stderr)
        return 1
    progress.done()
    if options.json:
        print(json.dumps([_plain(verdict) for verdict in verdicts], indent=1))
    else:
        _show(verdicts)
    return int(any(verdict.fate in FAILURES for verdict in verdicts))


def _plain(verdict: Verdict) -> dict[str, object]:
    mutant: Mutant = verdict.mutant
    return {
        "area": mutant.area, "name": mutant.name, "file": mutant.file, "fate": verdict.fate,
        "detail": verdict.detail, "seconds": round(verdict.seconds, 2),
    }  # fmt: skip


def _show(verdicts: Sequence[Verdict]) -> None:
    names = max(len(verdict.mutant.name) for verdict in verdicts)
    area = ""
    for verdict in verdicts:
        mutant = verdict.mutant
        if mutant.area != area:
            area = mutant.area
            print(f"{area}")
        detail = verdict.detail.strip().splitlines()[-1] if verdict.detail else ""
        took = f"{verdict.seconds:6.1f} s" if verdict.seconds else " " * 8
        print(f"  {mutant.name:{names}}  {verdict.fate:9} {took}  {detail}")
    fates = Counter(verdict.fate for verdict in verdicts)
    print(f"{len(verdicts)} mutants: " + ", ".join(f"{count} {fate}" for fate, count in fates.most_common()))
    if missed := [verdict.mutant for verdict in verdicts if verdict.fate in FAILURES]:
        print("not " + KILLED + ": " + ", ".join(f"{mutant.name} ({mutant.file})" for mutant in missed))


if __name__ == "__main__":
    sys.exit(main())
