import os
from pathlib import Path

import pytest

from tests.bench.overload import PATIENCE
from tools.other_systems import turn
from tools.other_systems.kinds import KINDS, OURS, OURS_SYNCED
from tools.other_systems.peer import Flood

# The programs of others are no part of what a build installs, nor is it to fail because of them.
PLAYED = [name for name, kind in KINDS.items() if kind.missing() is None]
if "CI" in os.environ:
    PLAYED = [OURS, OURS_SYNCED, "pipes"]


@PATIENCE
@pytest.mark.parametrize("name", PLAYED)
def test_a_small_turn(name: str, tmp_path: Path) -> None:
    reported: list[float] = []
    results = turn.play(reported.append, name=name, folder=str(tmp_path), events={"12": 200, "100": 200}, seconds=0.05)
    assert list(results) == ["12", "100"]
    for result in results.values():
        assert result["events"] == 200
        assert 0 < result["applied_per_s"] <= result["acknowledged_per_s"]
        assert result["ack_p50_us"] > 0
    assert reported == [0.0, 0.5]


class Steady:
    """Takes as many events a second."""

    def __init__(self, per_s: float = 10_000) -> None:
        self.per_s = per_s
        self.floods: list[int] = []

    def flood(self, events: int, size: int) -> Flood:
        self.floods.append(events)
        return Flood(events / self.per_s / 2, events / self.per_s)

    def submit_alone(self, calls: int, size: int) -> list[float]:
        return [0.001] * calls


def test_a_run_lasts_about_as_long_as_wanted() -> None:
    peer = Steady()
    result = turn._measure(peer, 12, None, 2.0)
    assert peer.floods == [1_000, 8_000, 20_000, 20_000]
    assert result == {"events": 20_000, "acknowledged_per_s": 20_000, "applied_per_s": 10_000, "ack_p50_us": 1_000.0}


def test_a_known_number_is_kept_after_a_warm_up() -> None:
    peer = Steady()
    assert turn._measure(peer, 12, 5_000, 2.0)["events"] == 5_000
    assert peer.floods == [500, 5_000]


def test_a_peer_that_needs_no_time_is_given_no_more_than_the_most() -> None:
    peer = Steady(per_s=1e9)
    assert turn._measure(peer, 12, None, 1.0)["events"] == turn.EVENTS_MAX
    assert max(peer.floods) == turn.EVENTS_MAX
