"""The page of decisions: each has its day, and its reason or its measurement."""

import re
from datetime import date

from tests.docs.document import DOCS

TEXT = (DOCS / "DECISIONS.md").read_text()
SECTIONS = dict(re.findall(r"^### ([^\n]+)\n\n(.*?)(?=^##|\Z)", TEXT, re.DOTALL | re.MULTILINE))


def test_every_decision_has_its_days_in_their_order() -> None:
    assert len(SECTIONS) > 20
    for title, text in SECTIONS.items():
        dated = text.partition("\n")[0]
        assert re.fullmatch(r"\*\d{4}-\d\d-\d\d(; .+ since \d{4}-\d\d-\d\d)?\*", dated), title
        days = [date.fromisoformat(day) for day in re.findall(r"\d{4}-\d\d-\d\d", dated)]
        assert days == sorted(days), title


def test_every_decision_has_its_reason_or_its_measurement() -> None:
    assert not [title for title, text in SECTIONS.items() if not re.search(r"^\*\*(Why|Measured):\*\* ", text, re.M)]
