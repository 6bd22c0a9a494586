import asyncio
from pathlib import Path
from typing import Any, cast

import pytest

from mcast.bench.job import BrokenRun
from mcast.bench.measure import check_one_epoch, spread, while_alive
from mcast.errors import NotSent
from mcast.lab.processes import Processes


class Lab:
    """Nodes n1 and n2 that die when told."""

    ids = ("n1", "n2")

    def __init__(self, folder: Path) -> None:
        self.running: tuple[str, ...] = self.ids
        self._folder = folder

    def log(self, node_id: str) -> Path:
        path = self._folder / node_id
        path.write_text("12:00:00 starts\n12:00:01 the disk failed\n")
        return path


async def test_work_goes_through_while_all_nodes_live(tmp_path: Path) -> None:
    async def work() -> int:
        return 7

    assert await while_alive(cast(Processes, Lab(tmp_path)), work()) == 7


async def test_a_death_breaks_the_run_and_cancels_the_work(tmp_path: Path) -> None:
    lab = Lab(tmp_path)
    ended: list[str] = []

    async def work() -> None:
        lab.running = ("n1",)
        try:
            await asyncio.sleep(30)
        finally:
            ended.append("cancelled")

    with pytest.raises(BrokenRun, match="n2 died in the middle of the run; its last words: 12:00:01 the disk failed"):
        await while_alive(cast(Processes, lab), work())
    assert ended == ["cancelled"]


async def test_a_silent_cluster_is_a_broken_run(tmp_path: Path) -> None:
    async def work() -> None:
        raise NotSent("no node answered")

    with pytest.raises(BrokenRun, match="no node answered"):
        await while_alive(cast(Processes, Lab(tmp_path)), work())


async def test_a_death_explains_an_error_better_than_the_error_does(tmp_path: Path) -> None:
    lab = Lab(tmp_path)

    async def work() -> None:
        lab.running = ("n2",)
        raise NotSent("no node answered")

    with pytest.raises(BrokenRun, match="n1 died"):
        await while_alive(cast(Processes, lab), work())


def test_a_run_with_two_epochs_is_broken() -> None:
    check_one_epoch({"epoch": 3}, {"epoch": 3})
    with pytest.raises(BrokenRun, match="epoch 3 to 4"):
        check_one_epoch({"epoch": 3}, {"epoch": 4})


@pytest.mark.parametrize(
    ("values", "digits", "expected"),
    [
        ([3.0, 1.0, 2.0], 0, {"median": 2, "min": 1, "max": 3}),
        ([0.31, 0.35], 4, {"median": 0.33, "min": 0.31, "max": 0.35}),
    ],
)
def test_rounds_are_summed_up(values: list[float], digits: int, expected: dict[str, Any]) -> None:
    assert spread(values, digits) == expected
