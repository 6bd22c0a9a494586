"""The table of mutants, as it lies in `table/`, and what can be wrong with a row before anything is run."""

from __future__ import annotations

import ast
import tomllib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, Final

ROOT: Final = Path(__file__).parents[2]
TABLE: Final = Path(__file__).parent / "table"
_FIELDS: Final = {"name", "file", "before", "after", "tests", "guard"}


@dataclass(frozen=True, slots=True)
class Mutant:
    """One change of one place: `before` becomes `after` in `file`; `tests` notice it, or `guard` says why none can."""

    area: str
    name: str
    file: str
    before: str
    after: str
    tests: tuple[str, ...] = ()
    guard: str = ""

    def applied(self, source: str) -> str:
        """The file's text with the change made. Raises ValueError unless its place is found exactly once."""
        found = source.count(self.before)
        if found != 1:
            raise ValueError(f"{found} places in {self.file} read {self.before!r}")
        return source.replace(self.before, self.after)


def load(table: Path = TABLE) -> list[Mutant]:
    """Every row, in the order of the files. Raises ValueError on one that is not what a row must be."""
    rows = []
    for path in sorted(table.glob("*.toml")):
        document = tomllib.loads(path.read_text())
        if set(document) - {"mutant"}:
            raise ValueError(f"{path.name}: only [[mutant]] may stand here")
        rows += [_row(path.stem.partition("-")[0], entry) for entry in document.get("mutant", [])]
    return rows


def _row(area: str, entry: dict[str, Any]) -> Mutant:
    where = f"{area}: {entry.get('name', 'a row without a name')}"
    if unknown := set(entry) - _FIELDS:
        raise ValueError(f"{where}: unknown {', '.join(sorted(unknown))}")
    if missing := {"name", "file", "before", "after"} - set(entry):
        raise ValueError(f"{where}: lacks {', '.join(sorted(missing))}")
    if ("tests" in entry) == ("guard" in entry):
        raise ValueError(f"{where}: either tests that notice it or the guard that makes it harmless")
    return Mutant(area=area, **{**entry, "tests": tuple(entry.get("tests", ()))})


def chosen(rows: Iterable[Mutant], areas: Sequence[str], names: Sequence[str]) -> list[Mutant]:
    """Those of these areas and names; all where none are given."""
    return [row for row in rows if (not areas or row.area in areas) and (not names or row.name in names)]


def staleness(mutant: Mutant, root: Path = ROOT) -> str | None:
    """What the row names and the tree no longer has; None when all of it is there."""
    path = root / mutant.file
    if not path.is_file():
        return f"no file {mutant.file}"
    try:
        changed = mutant.applied(path.read_text())
        ast.parse(changed)
    except ValueError as error:
        return str(error)
    except SyntaxError as error:
        return f"the change is no Python: {error}"
    if mutant.before == mutant.after:
        return "it changes nothing"
    for test in mutant.tests:
        file, _, function = test.partition("::")
        if function.partition("[")[0] not in _functions(root / file):
            return f"no test {test}"
    return None


@cache
def _functions(path: Path) -> frozenset[str]:
    """The names of a file's functions; those of a class as pytest writes them."""
    if not path.is_file():
        return frozenset()
    found = set()
    for item in ast.parse(path.read_text()).body:
        if isinstance(item, ast.FunctionDef | ast.AsyncFunctionDef):
            found.add(item.name)
        elif isinstance(item, ast.ClassDef):
            found |= {f"{item.name}::{each.name}" for each in item.body if hasattr(each, "name")}
    return frozenset(found)
