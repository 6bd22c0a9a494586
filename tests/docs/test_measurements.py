"""The commands that repeat a measurement, in all documents: that the command line takes them as they stand there."""

import re
import shlex
from pathlib import Path

import pytest
import typer

import mcast
from mcast.cli.app import app
from tests.docs.document import DOCS

README = Path(mcast.__file__).parents[1] / "README.md"
COMMANDS = sorted({
    (path.name, command)
    for path in (README, *DOCS.glob("*.md"))
    for command in re.findall(r"`mcast bench ([a-z]+ [^`]+)`", path.read_text())
})  # fmt: skip


def test_both_documents_that_tell_numbers_tell_how_to_repeat_them() -> None:
    assert {"README.md", "PERFORMANCE.md"} <= {document for document, _ in COMMANDS}


@pytest.mark.parametrize(("document", "command"), COMMANDS)
def test_a_command_that_repeats_a_measurement_is_one(document: str, command: str) -> None:
    name, *words = shlex.split(command)
    group = typer.main.get_command(app).commands["bench"]  # type: ignore[attr-defined]
    group.commands[name].make_context(name, words)
