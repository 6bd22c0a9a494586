"""The README: short, its two commands first, its programs programs, its links links."""

import ast
import re
from pathlib import Path
from typing import Any

import mcast

ROOT = Path(mcast.__file__).parents[1]
TEXT = (ROOT / "README.md").read_text()
FENCES = re.findall(r"^```(\w*)\n(.*?)^```$", TEXT, re.DOTALL | re.MULTILINE)
SCREEN_LINES = 40
ROWS_MAX = 5


def section(title: str) -> str:
    [text] = re.findall(rf"^## {title}[^\n]*\n(.*?)(?=^## )", TEXT, re.DOTALL | re.MULTILINE)
    assert isinstance(text, str)
    return text


def test_the_demonstration_and_the_tests_come_first() -> None:
    (first, demo), (second, tests), *_ = FENCES
    assert first == second == "sh"
    assert demo.strip().endswith(".venv/bin/mcast demo") and tests.strip().endswith("-m pytest")


def test_what_it_guarantees_fits_on_a_screen_with_its_limits() -> None:
    guarantees = section("What it guarantees")
    assert len(guarantees.splitlines()) <= SCREEN_LINES
    assert "**Limits of this version:**" in guarantees


def test_few_measurements_each_with_its_command() -> None:
    _, _, *rows = re.findall(r"^\|(.+)\|$", section("Measured"), re.MULTILINE)
    assert 0 < len(rows) <= ROWS_MAX
    assert all("`mcast bench " in row.split("|")[-1] for row in rows)


def test_its_state_machine_does_what_it_shows() -> None:
    machine, client = (content for info, content in FENCES if info == "python")
    names: dict[str, Any] = {}
    exec(machine, names)
    accounts = names["Accounts"]()
    accounts.balance["ann"] = 10
    assert accounts.transfer(None, "ann", "bob", 10) == 10 == accounts.balance_of("bob")
    compile(client, "README", "exec", ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)


def test_every_link_leads_somewhere() -> None:
    for target, anchor in re.findall(r"\]\(([^)#]+)(?:#([^)]+))?\)", TEXT):
        path = ROOT / target
        assert path.exists(), target
        headings = [line.lstrip("# ").lower() for line in path.read_text().splitlines() if line.startswith("#")]
        assert not anchor or anchor in {re.sub(r"[^\w -]", "", heading).replace(" ", "-") for heading in headings}
