"""What single lines keep from happening, played out; the table of mutants shows what happens without them."""

from __future__ import annotations

import pytest

from mcast.protocol.rules import Rules
from mcast.sim import GUARDS, play


@pytest.mark.parametrize("name", GUARDS)
def test_a_late_or_lost_word_breaks_nothing(name: str) -> None:
    assert play(GUARDS[name], Rules()) is None
