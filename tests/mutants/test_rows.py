"""No row of the table goes stale unnoticed, and a row is judged as its tests judge it."""

from pathlib import Path

import pytest

from .rows import Mutant, chosen, load, staleness
from .workshop import BROKEN, EXPLAINED, KILLED, STALE, SURVIVED, Copy, SpoiledError, Verdict, judge_all

ROWS = load()
CODE = "def larger(a: int, b: int) -> int:\n    return a if a > b else b\n"
TESTS = """from mcast.larger import larger

def test_first():
    assert larger(2, 1) == 2

def test_second():
    assert larger(1, 2) == 2

def test_equal():
    assert larger(2, 2) == 2
"""


@pytest.mark.parametrize("row", ROWS, ids=lambda row: f"{row.area}-{row.name}")
def test_a_row_names_text_that_stands_once_in_its_file_and_tests_that_exist(row: Mutant) -> None:
    assert staleness(row) is None


def test_a_name_stands_for_one_mutant() -> None:
    names = [row.name for row in ROWS]
    assert sorted(set(names)) == sorted(names)


def tree(folder: Path) -> Path:
    (folder / "mcast").mkdir()
    (folder / "tests").mkdir()
    (folder / "mcast" / "__init__.py").write_text("")
    (folder / "mcast" / "larger.py").write_text(CODE)
    (folder / "tests" / "test_larger.py").write_text(TESTS)
    return folder


def row(name: str, before: str, after: str, test: str = "", **how: str) -> Mutant:
    tests = (f"tests/test_larger.py::{test}",) if test else ()
    return Mutant("here", name, "mcast/larger.py", before, after, tests, **how)


def test_the_fates_of_mutants(tmp_path: Path) -> None:
    rows = [
        row("smaller", "a > b", "a < b", "test_first"),
        row("unnoticed", "a > b", "a < b", "test_equal"),
        row("no_such_text", "a >> b", "a < b", "test_first"),
        row("several_places", "a", "b", "test_first"),
        row("no_such_test", "a > b", "a < b", "test_third"),
        row("no_python", "a > b", "a >", "test_first"),
        row("not_less", "a > b", "a >= b", guard="of two equal ones either is the larger"),
        row("not_importable", "def larger", "import nowhere\ndef larger", "test_first"),
    ]
    root = tree(tmp_path)
    reported: list[Verdict] = []
    verdicts = judge_all(rows, jobs=2, root=root, reported=reported.append)
    fates = [KILLED, SURVIVED, STALE, STALE, STALE, STALE, EXPLAINED, BROKEN]
    assert [(verdict.mutant.name, verdict.fate) for verdict in verdicts] == [
        (row.name, fate) for row, fate in zip(rows, fates, strict=True)
    ]
    assert sorted(verdict.mutant.name for verdict in reported) == sorted(row.name for row in rows)
    assert (root / "mcast" / "larger.py").read_text() == CODE, "only copies are changed"


def test_a_mutant_whose_tests_never_end_is_noticed(tmp_path: Path) -> None:
    copy = Copy(tmp_path / "copy", tree(tmp_path))
    endless = row("endless", "return a", "while True: pass\n    return a", "test_first")
    assert copy.judge(endless, 0.5).fate == KILLED


def test_a_test_that_fails_on_the_true_code_judges_nothing(tmp_path: Path) -> None:
    root = tree(tmp_path)
    (root / "tests" / "test_larger.py").write_text(TESTS.replace("== 2", "== 3"))
    with pytest.raises(SpoiledError, match="test_first"):
        judge_all([row("smaller", "a > b", "a < b", "test_first")], jobs=1, root=root)


@pytest.mark.parametrize(
    ("text", "wrong"),
    [
        ("[[mutant]]\nname = 'a'\nfile = 'b'\nbefore = 'c'\nafter = 'd'\n", "either tests"),
        ("[[mutant]]\nname = 'a'\nfile = 'b'\nbefore = 'c'\nafter = 'd'\ntests = ['e']\nguard = 'f'\n", "either tests"),
        ("[[mutant]]\nname = 'a'\nfile = 'b'\nbefore = 'c'\ntests = ['e']\n", "lacks after"),
        ("[[mutant]]\nname = 'a'\nwhy = 'b'\n", "unknown why"),
        ("[[row]]\nname = 'a'\n", "only"),
    ],
)
def test_a_row_is_whole_or_refused(tmp_path: Path, text: str, wrong: str) -> None:
    (tmp_path / "area.toml").write_text(text)
    with pytest.raises(ValueError, match=wrong):
        load(tmp_path)


def test_rows_are_chosen_by_area_and_name() -> None:
    some = [row("one", "", ""), row("two", "", "")]
    assert chosen(some, [], []) == some
    assert chosen(some, ["here"], ["two"]) == some[1:]
    assert chosen(some, ["elsewhere"], []) == []
