"""The page for those who change mcast: its commands are ones, no test that needs root and no promise is left out."""

from __future__ import annotations

import re
import shlex
import shutil
import sys
from pathlib import Path

import pytest
import typer

from mcast.cli.app import app
from mcast.sim import BOUNDS, GUARDS, MEANINGS, SCENARIOS
from tests.docs.document import DOCS, fences, tables
from tests.mutants.rows import load

ROOT = Path(__file__).parents[2]
DOCUMENT = "HACKING.md"
TEXT = (DOCS / DOCUMENT).read_text()
COMMANDS = [line for info, content in fences(DOCUMENT) if info == "sh" for line in content.splitlines()]
PYTEST, MUTANTS = ".venv/bin/python -m pytest", ".venv/bin/python -m tests.mutants"
TOOLS = {".venv/bin/ruff check .", ".venv/bin/mypy", ".venv/bin/lint-imports"}


def check_mcast(words: list[str]) -> None:
    """That the command line takes them; nothing is run."""
    group = typer.main.get_command(app)
    while words and words[0] in getattr(group, "commands", ()):
        name, *words = words
        group = group.commands[name]  # type: ignore[attr-defined]
    options = group.make_context("mcast", words).params
    assert set(options.get("without") or ()) <= set(MEANINGS)
    scenes = {scene.play.__name__ for known in (SCENARIOS, BOUNDS, GUARDS) for scene in known.values()}
    assert options.get("scenario") in {None, *scenes}


def check_pytest(words: list[str]) -> None:
    """That the tests it names are there."""
    names = [word for at, word in enumerate(words) if not word.startswith("-") and words[at - 1] != "-k"]
    for name in names:
        path, _, test = name.partition("::")
        assert (ROOT / path).exists(), name
        assert not test or f"def {test}(" in (ROOT / path).read_text(), name


def check_mutants(words: list[str]) -> None:
    """That there are rows of this name, or of this area."""
    rows = load()
    known = {"--name": {row.name for row in rows}, "--area": {row.area for row in rows}}
    for option, value in zip(words[::2], words[1::2], strict=True):
        assert value in known[option], value


@pytest.mark.parametrize("command", COMMANDS)
def test_a_command_is_one(command: str) -> None:
    if command.startswith("mcast "):
        check_mcast(shlex.split(command)[1:])
    elif command.startswith(PYTEST):
        check_pytest(shlex.split(command[len(PYTEST) :]))
    elif command.startswith(MUTANTS):
        check_mutants(shlex.split(command[len(MUTANTS) :]))
    elif command in TOOLS:
        program = Path(command.split()[0]).name
        assert shutil.which(program, path=str(Path(sys.executable).parent)), program
    else:
        assert command in (ROOT / "README.md").read_text() or command.startswith("python3 -m venv .venv && "), command


def test_there_are_commands_of_every_kind() -> None:
    begun = {command.split()[0] for command in COMMANDS}
    assert {"mcast", ".venv/bin/python", ".venv/bin/ruff", ".venv/bin/mypy"} <= begun
    assert any(command.startswith("mcast sim --seed") and "--trace" in command for command in COMMANDS)


def test_tests_that_need_root_are_told() -> None:
    [listed] = [rows[1:] for rows in tables(DOCUMENT) if rows[0][0] == "tests"]
    needy = {
        f"`{path.relative_to(ROOT)}`"
        for path in (ROOT / "tests").rglob("test_*.py")
        if path != Path(__file__) and re.search(r'\["unshare"|\blan_problem\(\)', path.read_text())
    }
    assert {row[0] for row in listed} == needy


def test_every_promise_of_the_readme_has_its_tests() -> None:
    [rows] = [rows[1:] for rows in tables(DOCUMENT) if rows[0][0] == "promise"]
    readme = (ROOT / "README.md").read_text()
    [promised] = re.findall(r"^## What it guarantees[^\n]*\n(.*?)^## ", readme, re.DOTALL | re.MULTILINE)
    promises = [" ".join(name.split()).rstrip(".") for name in re.findall(r"^\* \*\*(.+?)\*\*", promised, re.M | re.S)]
    assert [row[0] for row in rows] == promises
    for row in rows:
        assert sum(bool(cell) for cell in row[1:]) >= 2, row[0]
