import os

import pytest

from mcast.bench.memory import take_memory


def test_it_takes_what_is_asked_in_whole_mebibytes_and_lets_go() -> None:
    assert take_memory(0) == take_memory((1 << 20) - 1) == 0
    assert take_memory(3 << 20) == 3 << 20


def test_it_leaves_half_of_what_is_free(monkeypatch: pytest.MonkeyPatch) -> None:
    sizes = {"SC_AVPHYS_PAGES": 1_536, "SC_PAGE_SIZE": 4_096}
    monkeypatch.setattr(os, "sysconf", sizes.__getitem__)
    assert take_memory(1 << 40) == 3 << 20
