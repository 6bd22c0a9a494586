import os
from pathlib import Path

import pytest

from mcast.bench import memory
from mcast.bench.memory import take_memory


def test_it_takes_what_is_asked_in_whole_mebibytes_and_lets_go() -> None:
    assert take_memory(0) == take_memory((1 << 20) - 1) == 0
    assert take_memory(3 << 20) == 3 << 20


@pytest.mark.parametrize(("limit", "taken"), [("max", 3), (str(9 << 20), 2), (str(6 << 20), 0), (str(1 << 20), 0)])
def test_it_leaves_half_of_what_the_machine_and_its_container_have_free(
    limit: str, taken: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sizes = {"SC_AVPHYS_PAGES": 1_536, "SC_PAGE_SIZE": 4_096}
    monkeypatch.setattr(os, "sysconf", sizes.__getitem__)
    (tmp_path / "memory.max").write_text(limit + "\n")
    (tmp_path / "memory.current").write_text(str(5 << 20))
    monkeypatch.setattr(memory, "_CONTAINER", tmp_path)
    assert take_memory(1 << 40) == taken << 20
