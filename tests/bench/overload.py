"""Tests that measure with real processes, on machines that may have other things to do."""

from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from mcast.bench.job import BrokenRun
from mcast.cli.app import main

TRIES = 4
PATIENCE = pytest.mark.timeout(300)
"""Of a test that starts processes: seconds on a quiet machine, minutes where thirty others want each processor."""
START_S = 120
"""For processes to start, or to end, on such a machine."""
SIGNS = ("overloaded", "lost before anything was done to it")
"""In a broken run's words: a node had no processor for so long that the others gave it up."""


async def unless_overloaded(measure: Callable[[], Awaitable[dict[str, Any]]]) -> dict[str, Any]:
    """The document, measured again when the machine was so busy that a node fell silent, or a rate was not held.

    No test here is about that: a run that would break or fall behind every time fails.
    """
    for _ in range(TRIES):
        try:
            document = await measure()
        except BrokenRun as broken:
            if not _overloaded(str(broken)):
                raise
        else:
            gave_up = any(_overloaded(point.get("broken") or "") for point in document.get("points", ()))
            if not gave_up and document.get("held") is not False:
                return document
    raise AssertionError(f"this machine was overloaded {TRIES} times in a row")


def command_unless_overloaded(words: str, capsys: pytest.CaptureFixture[str]) -> tuple[int, str, str]:
    """A `mcast` command's exit code and what it wrote to stdout and stderr; tried again as above."""
    for _ in range(TRIES):
        code = main(words.split())
        said = capsys.readouterr()
        if not _overloaded(said.err):
            return code, said.out, said.err
    raise AssertionError(f"this machine was overloaded {TRIES} times in a row")


def _overloaded(words: str) -> bool:
    return any(sign in words for sign in SIGNS)
