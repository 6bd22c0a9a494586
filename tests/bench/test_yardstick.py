"""The yardstick measures with real processes on loopback; here only that each measurement is whole, on a tiny scale."""

import threading
import time
from collections.abc import Callable
from pathlib import Path
from queue import SimpleQueue
from typing import Any

import pytest

from mcast.bench import yardstick
from mcast.bench.group import MeetingPlace
from tests.bench.overload import PATIENCE


@PATIENCE
@pytest.mark.parametrize(
    ("measure", "keys"),
    [
        (lambda folder: yardstick.applied(2, 1_500, 16, 2_000), {"events_per_s", "same_chain", "bytes_per_event"}),
        (lambda folder: yardstick.applied(2, 1_500, 5_000, 50), {"events_per_s", "same_chain", "bytes_per_event"}),
        (lambda folder: yardstick.round_trip(2, rounds=20), {"took_us"}),
        (lambda folder: yardstick.one_at_a_time(rounds=20), {"took_us"}),
        (lambda folder: yardstick.sync_cost(folder, 2, rounds=3), {"took_us", "writers"}),
    ],
    ids=["applied", "large", "round-trip", "pipe", "sync"],
)
def test_a_measurement_is_whole(measure: Callable[[Path], dict[str, Any]], keys: set[str], tmp_path: Path) -> None:
    result = measure(tmp_path)
    assert keys <= set(result)
    assert result.get("same_chain", True) is True
    assert all(value > 0 for key, value in result.items() if key.endswith("_per_s"))
    assert all(value > 0 for value in result.get("took_us", {}).values())
    assert not list(tmp_path.iterdir())


def test_nobody_syncs_before_all_can(tmp_path: Path) -> None:
    gate, said = threading.Barrier(2), SimpleQueue[Any]()
    arguments = (0, MeetingPlace(0, 0, str(tmp_path)), said, str(tmp_path), 3, gate)
    writer = threading.Thread(target=yardstick._sync_writer, args=arguments)
    writer.start()
    assert said.get(timeout=10) == "ready"
    until = time.monotonic() + 10
    while gate.n_waiting == 0 and time.monotonic() < until:
        time.sleep(0.001)
    assert (gate.n_waiting, said.empty()) == (1, True)
    gate.wait(10)
    assert len(said.get(timeout=10)) == 3
    writer.join(10)


def test_every_measurement_of_the_yardstick_has_a_name(tmp_path: Path) -> None:
    names = ["small", "small-jumbo", "256", "1024", "round-trip", "pipe", "sync", "sync-all"]
    assert list(yardstick.measurements(3, 100, tmp_path)) == names
