"""One name for one thing, the field's own where it has one: words that were retired stay away.

Wire names of messages that exist stay as they are (SURVEY, STANDING, TWIN), and so do keys of JSON documents.
"""

import ast
import re
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pytest

ROOT: Final = Path(__file__).parents[1]
RETIRED: Final = {
    "reign": "epoch", "ruler": "sequencer", "ruling": "is_sequencer, leads", "canvass": "pre-vote, PRE_CANDIDATE",
    "assuming": "SEQUENCER_ELECT", "standings": "progress", "survey": "log positions", "founding": "bootstrap",
    "suspicion": "log recovery", "twin": "duplicate node id", "witness": "peer_died, recorder",
    "lineage": "cluster uuid", "streak": "batch", "parcel": "packed commands", "untold": "unreported",
    "worded": "the plain word",
}  # fmt: skip
"""Retired word -> what stands in its place."""
KEYS: Final = ('"reigns"', "`reigns`", '"twin"', "`twin`")
"""Keys of JSON documents, which are a contract."""
MESSAGES: Final = ("SURVEY", "Survey", "TWIN", "Twin", "on_survey", "on_twin")
"""Names of messages, which PROTOCOL.md fixes, and of what handles them."""
HISTORY: Final = ("CHANGELOG.md", "DECISIONS.md")
"""They speak of how things once were called."""
_WORD: Final = re.compile(r"(?<![a-z])(" + "|".join(RETIRED) + r")", re.IGNORECASE)
_KEPT: Final = re.compile("|".join([*map(re.escape, KEYS), *(rf"(?<![A-Za-z]){name}(?![a-z])" for name in MESSAGES)]))


def texts() -> Iterator[tuple[str, str]]:
    for pattern in ("mcast/**/*.py", "mcast/docs/*.md", "tests/**/*.py", "tests/**/*.toml", "tools/*.py", "README.md"):
        for path in sorted(ROOT.glob(pattern)):
            if path != Path(__file__) and path.name not in HISTORY:
                yield str(path.relative_to(ROOT)), path.read_text()


def test_retired_words_stand_neither_in_names_nor_in_prose() -> None:
    found = []
    for name, text in texts():
        if _WORD.search(text) is None:
            continue
        for number, line in enumerate(text.splitlines(), 1):
            found += [f"{name}:{number}: {word}" for word in _WORD.findall(_KEPT.sub("", line))]
    assert found == [], f"say instead: {RETIRED}"


@pytest.mark.parametrize(
    "line", ["self.reigns = 1", "class _Twins:", "A ruler of n1.", "def told_untold():", "STREAK_MIN"]
)
def test_a_retired_word_is_seen(line: str) -> None:
    assert _WORD.search(_KEPT.sub("", line))


@pytest.mark.parametrize(
    "line", ["foreign", 'status["twin"]', "Kind.TWIN", "Survey(1)", "a surveyor's"[:2], "sovereign"]
)
def test_what_only_looks_like_one_is_none(line: str) -> None:
    assert _WORD.search(_KEPT.sub("", line)) is None


def test_no_name_has_told_or_standing_for_a_noun() -> None:
    """As a verb both are plain English, in sentences and in tests' names."""
    found = []
    for name, text in texts():
        if not name.endswith(".py") or not re.search(r"\b_?(un)?told(_s)?\b|\bstanding\b", text):
            continue
        for node in ast.walk(ast.parse(text)):
            called = next(
                (getattr(node, field) for field in ("id", "attr", "arg", "name") if hasattr(node, field)), None
            )
            if (
                isinstance(called, str)
                and not called.startswith("test_")
                and re.search(r"^_?(un)?told(_s)?$|^standing$", called)
            ):
                found.append(f"{name}:{getattr(node, 'lineno', 0)}: {called}")
    assert found == []


def test_no_two_classes_of_the_package_share_a_name() -> None:
    homes = defaultdict(list)
    for path in sorted((ROOT / "mcast").glob("**/*.py")):
        for node in ast.parse(path.read_text()).body:
            if isinstance(node, ast.ClassDef):
                homes[node.name].append(str(path.relative_to(ROOT)))
    assert {name: where for name, where in homes.items() if len(where) > 1} == {}
