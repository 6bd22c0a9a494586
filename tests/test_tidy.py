"""The project holds itself to its own rules: linter, types, import directions, sizes, layout."""

import ast
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
FUNCTION_LINES_MAX = 70
MODULE_LINES_MAX = 500
TOP_LEVEL = {".ci", ".gitignore", "README.md", "mcast", "pyproject.toml", "scenarios", "tests", "tools"}
DOCS = sorted((ROOT / "mcast" / "docs").glob("*.md"))
PYTHON_FILES = sorted(path for folder in ("mcast", "tools", "tests") for path in (ROOT / folder).rglob("*.py"))
FUNCTION = ast.FunctionDef | ast.AsyncFunctionDef
UNFINISHED = re.compile(r"\b(TODO|FIXME|XXX|HACK)\b")


def run(*command: str | Path) -> None:
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=280, check=False)
    assert done.returncode == 0, done.stdout[-6_000:] + done.stderr[-2_000:]


def test_ruff_finds_nothing() -> None:
    run(sys.executable, "-m", "ruff", "check", "--quiet", ".")


@pytest.mark.timeout(300)
def test_mypy_finds_nothing() -> None:
    run(sys.executable, "-m", "mypy", "--no-error-summary")


@pytest.mark.timeout(120)
def test_imports_point_one_way() -> None:
    run(Path(sys.executable).with_name("lint-imports"), "--no-cache")


def functions(path: Path) -> Iterator[tuple[str, int]]:
    for item in ast.walk(ast.parse(path.read_text())):
        if isinstance(item, FUNCTION):
            assert item.end_lineno is not None
            yield f"{path.relative_to(ROOT)}:{item.lineno} {item.name}", item.end_lineno - item.lineno + 1


def test_functions_are_short() -> None:
    sizes = [each for path in PYTHON_FILES for each in functions(path)]
    assert len(sizes) > 100
    assert not [f"{name}: {lines} lines" for name, lines in sizes if lines > FUNCTION_LINES_MAX]


ROLE_STATE = {"role", "leads_epoch", "sequencer", "sequencing", "reconciled"}
ITS_OWNERS = {"__init__", "become_follower", "become_candidate", "become_sequencer", "halt"}


def assigned(item: ast.AST) -> Iterator[str]:
    """Names of the role's attributes that a statement assigns, deletes or sets by name, of a replica's core."""
    for part in ast.walk(item):
        if isinstance(part, ast.Attribute) and not isinstance(part.ctx, ast.Load) and part.attr in ROLE_STATE:
            yield part.attr
        elif isinstance(part, ast.Call) and isinstance(part.func, ast.Name) and part.func.id == "setattr":
            yield "by setattr"


def test_a_role_has_one_owner() -> None:
    owners, others = set(), []
    for path in sorted((ROOT / "mcast" / "protocol").rglob("*.py")):
        for scope in ast.walk(ast.parse(path.read_text())):
            if not isinstance(scope, FUNCTION) or not (names := sorted(set(assigned(scope)))):
                continue
            if path.name == "core.py" and scope.name in ITS_OWNERS:
                owners.add(scope.name)
            else:
                others.append(f"{path.relative_to(ROOT)}:{scope.lineno} {scope.name} assigns {', '.join(names)}")
    assert others == []
    assert owners == ITS_OWNERS


def test_modules_are_short() -> None:
    sizes = {path.relative_to(ROOT): len(path.read_text().splitlines()) for path in PYTHON_FILES}
    assert not {str(path): lines for path, lines in sizes.items() if lines > MODULE_LINES_MAX}


def test_nothing_is_left_for_later() -> None:
    here = Path(__file__)
    assert not [str(path) for path in PYTHON_FILES if path != here and UNFINISHED.search(path.read_text())]


def test_the_top_level_is_fixed() -> None:
    if not (ROOT / ".git").exists():
        pytest.skip("not a checkout: what else lies here is not the project's")
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, check=True, timeout=30).stdout
    names = {name.partition("/")[0] for name in listed.decode().split("\0") if name}
    assert names <= TOP_LEVEL


@pytest.mark.parametrize("path", DOCS, ids=lambda path: path.stem)
def test_the_documents_ship_with_the_package(path: Path) -> None:
    text = path.read_text()
    assert [line for line in text.splitlines() if line.startswith("# ")], "a document begins with its one title"
    assert len(text) > 500


def test_every_extra_has_its_name() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert set(project["optional-dependencies"]) >= {"demo", "lab", "metrics", "tui", "bench", "plot", "fast"}


def test_the_package_is_typed() -> None:
    assert (ROOT / "mcast" / "py.typed").exists()


def test_every_test_has_a_name_that_pytest_collects() -> None:
    for path in (ROOT / "tests").rglob("*.py"):
        names = [item.name for item in ast.parse(path.read_text()).body if isinstance(item, FUNCTION)]
        if any(name.startswith("test_") for name in names):
            assert path.name.startswith("test_"), f"{path.relative_to(ROOT)} holds tests that are never run"
