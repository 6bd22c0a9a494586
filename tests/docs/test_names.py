"""What the documents name of the code is there."""

import re
from pathlib import Path

import pytest

from tests.docs.document import DOCS
from tests.docs.names import ROOT, classes, functions, members, paths, quoted, steps

OF_CODE = ("ARCHITECTURE.md", "DECISIONS.md", "HACKING.md")
"""Those that speak of classes and their members."""


@pytest.mark.parametrize("path", sorted(DOCS.glob("*.md")), ids=lambda path: path.stem)
def test_every_path_that_a_document_names_is_there(path: Path) -> None:
    assert [name for name in paths(path.read_text()) if not (ROOT / name).exists()] == []


@pytest.mark.parametrize("name", OF_CODE)
def test_every_member_of_a_class_that_a_document_names_is_there(name: str) -> None:
    known = classes()
    named = members((DOCS / name).read_text())
    assert [f"{owner}.{member}" for owner, member in named if member not in known.get(owner, ())] == []


def test_every_step_of_a_walk_is_a_function_of_its_file() -> None:
    for name in OF_CODE:
        for file, function in steps((DOCS / name).read_text()):
            assert (ROOT / file).is_file(), f"{name}: {file}"
            assert function in functions(file), f"{name}: {file}:{function}"


def test_a_command_a_datagram_and_a_nak_are_followed_from_end_to_end() -> None:
    text = (DOCS / "ARCHITECTURE.md").read_text()
    walks = dict(re.findall(r"^## The walk of a (\w+)\n(.*?)(?=^## )", text, re.DOTALL | re.MULTILINE))
    assert list(walks) == ["command", "datagram", "NAK"]
    for walk in walks.values():
        assert len(steps(walk)) > 8 and {file.split("/")[1] for file, _ in steps(walk)} >= {"node", "protocol"}


def test_names_are_told_from_other_words() -> None:
    text = "`mcast/node` `Log.append(frames)` `core.meta` `a.b` `GENESIS` `mcast/a.py:B.c`\n```\n`Log.x`\n```\n"
    assert quoted(text)[-1] == "mcast/a.py:B.c" and paths(text) == ["mcast/node"]
    assert members(text) == [("Log", "append"), ("Core", "meta")] and steps(text) == [("mcast/a.py", "B.c")]
    assert "append" in classes()["Log"] and "no_such_member" not in classes()["Log"]
