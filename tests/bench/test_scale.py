from typing import Any

import pytest

from mcast.bench import scale, throughput
from mcast.bench.job import BrokenRun
from mcast.bench.scale import FIGURES, ROLES, SWEEPS, by_role, workload_at
from mcast.bench.throughput import ThroughputWorkload
from tests.bench.overload import PATIENCE, unless_overloaded

pytestmark = PATIENCE

TINY = ThroughputWorkload(events=1_000, nodes=2, sealed=False)
DOCUMENT = {"bench", "sweep", "unit", "machine", "gso", "workload", "growth", "points"}


def nothing(what: str, share: float) -> None:
    pass


def test_the_usual_values_of_each_sweep_ascend_within_its_bounds() -> None:
    for kind in SWEEPS.values():
        assert list(kind.values) == sorted(set(kind.values))
        assert kind.least <= kind.values[0] and kind.values[-1] <= kind.most


def test_each_sweep_changes_one_thing() -> None:
    base = ThroughputWorkload(events=100_000)
    assert workload_at("observers", 4, base) == ThroughputWorkload(events=100_000, observers=4)
    assert workload_at("members", 5, base) == ThroughputWorkload(events=100_000, nodes=5)
    assert workload_at("loss", 5, base) == ThroughputWorkload(events=100_000, loss=0.05)
    assert workload_at("clients", 10, base) == ThroughputWorkload(events=100_000, clients=10)
    assert workload_at("log", 200_000, base) == base
    assert workload_at("size", 255, base) == ThroughputWorkload(events=100_000, size=255)
    assert workload_at("size", 1 << 20, base) == ThroughputWorkload(events=64, size=1 << 20)
    assert workload_at("state", 5_000, base) == ThroughputWorkload(events=100_000, keys=5_000, fill=True)


def test_roles_share_what_their_processes_used() -> None:
    names = {"n1": 1.0, "n2": 9.0, "n3": 3.0, "n4": 5.0, "n5": 7.0, "client": 11.0}
    one = {
        "sequencer": "n2", "rss_mib": dict.fromkeys(names, 50.0),
        "per_event": {name: dict.fromkeys(FIGURES, cost) for name, cost in names.items()},
    }  # fmt: skip
    reported = by_role(one, members=3)
    assert {role: reported[role]["cpu_us"] for role in ROLES} == {
        "sequencer": 9.0, "followers": 2.0, "observers": 6.0, "clients": 11.0,
    }  # fmt: skip
    assert reported["followers"]["rss_mib"] == 50.0
    assert by_role(one, members=5)["observers"]["cpu_us"] is None


async def test_observers_are_measured_beside_the_members() -> None:
    document = await unless_overloaded(lambda: scale.measure("observers", [0, 1], TINY, 1, nothing))
    assert set(document) == DOCUMENT
    alone, beside = document["points"]
    assert alone["observers"]["cpu_us"] is None
    assert beside["observers"]["cpu_us"]["median"] > 0
    for point in document["points"]:
        assert set(point) == {"value", "broken", "events", "events_per_s", "pace", "others_busy", "lost", *ROLES}
        assert set(point["sequencer"]) == set(FIGURES)
        assert point["sequencer"]["datagrams_sent"]["median"] > 0
    assert alone["pace"] == {"median": 1.0, "min": 1.0, "max": 1.0}
    assert beside["pace"]["median"] == pytest.approx(
        beside["events_per_s"]["median"] / alone["events_per_s"]["median"], rel=0.01
    )
    growth = document["growth"]["sequencer"]["cpu_us"]
    costs = [point["sequencer"]["cpu_us"]["median"] for point in document["points"]]
    assert growth == pytest.approx(costs[1] / costs[0], rel=0.01)


async def test_a_log_grows_on_one_cluster() -> None:
    document = await unless_overloaded(lambda: scale.measure("log", [1_000, 3_000], TINY, 1, nothing))
    assert [point["events"] for point in document["points"]] == [1_000, 2_000]
    assert all(point["events_per_s"]["min"] > 0 for point in document["points"])


async def test_a_state_is_filled_before_it_is_measured() -> None:
    base = ThroughputWorkload(events=1_000, nodes=1, size=64, sealed=False)
    document = await unless_overloaded(lambda: scale.measure("state", [2_000], base, 1, nothing))
    (point,) = document["points"]
    assert point["sequencer"]["cpu_us"]["median"] > 0
    assert document["growth"] is None


async def test_a_value_at_which_a_run_broke_has_no_number(monkeypatch: pytest.MonkeyPatch) -> None:
    measured: list[int] = []

    async def measure_once(workload: ThroughputWorkload, tell: Any) -> Any:
        measured.append(workload.clients)
        if workload.clients == 2:
            raise BrokenRun("n2 died")
        return await throughput.measure_once(workload, tell)

    monkeypatch.setattr("mcast.bench.scale.measure_once", measure_once)
    document = await unless_overloaded(lambda: scale.measure("clients", [1, 2], TINY, 2, nothing))
    assert measured == [1, 2, 1]
    fine, broken = document["points"]
    assert fine["broken"] is None
    assert broken == {"value": 2, "broken": "n2 died"}


def test_growth_over_sizes_is_that_of_one_byte() -> None:
    points = [
        {"value": value, **{role: {name: {"median": cost} for name in ("cpu_us", "user_us")} for role in ROLES}}
        for value, cost in ((10, 2.0), (1_000, 40.0))
    ]
    assert scale._growth(points, per_value=True) == {
        role: {"cpu_us": 0.2, "user_us": 0.2} for role in ("sequencer", "followers", "clients")
    }
    assert scale._growth(points, per_value=False) == {
        role: {"cpu_us": 20.0, "user_us": 20.0} for role in ("sequencer", "followers", "clients")
    }
    assert scale._growth(points[:1], per_value=False) is None
