from typing import Any

import pytest

from mcast.bench.charts import chart, rows, short

SPREAD = {"median": 2, "min": 1, "max": 3}


def documents() -> dict[str, dict[str, Any]]:
    """The least of each bench's document that its chart looks at."""
    curves = {"curve_us": [[0.0, 10.0], [0.9, 90.0], [0.99, 99.0]], "pipe_curve_us": [[0.0, 1.0], [0.9, 9.0]]}
    slower = {"curve_us": [[0.0, 30.0], [0.9, 190.0]], "pipe_curve_us": [[0.0, 3.0], [0.9, 19.0]]}
    return {
        "throughput": {
            "workload": {"event_bytes": 12}, "yardstick_per_s": SPREAD,
            "rounds": [{"events_per_s": 5, "yardstick_per_s": 10}, {"events_per_s": 6, "yardstick_per_s": 11}],
        },
        "latency": {"workload": {"at": "follower"}, "rounds": [curves, slower]},
        "query": {
            "workload": {"level": "any"}, "replicas": {"n1": {}, "n2": {}},
            "rounds": [{"answers_per_s": 9, "replicas": {"n1": {"answers_per_s": 4}, "n2": {"answers_per_s": 5}}}],
        },
        "loss": {"workload": {}, "runs": [{"loss": 0.1, "repair_ms": {"mean": 2.0, "p50": 1.0, "p99": 9.0}}]},
        "failover": {
            "workload": {"kind": "kill"}, "outage_ms": {"all": [30.0, 20.0]}, "gateway_outage_ms": {"all": [5.0, 6.0]},
            "runs": [],
        },
    }  # fmt: skip


def drawn(name: str, **changed: Any) -> Any:
    return chart({"bench": name, **documents()[name], **changed})


def test_throughput_is_drawn_round_by_round() -> None:
    lines = {line.label: list(line.y) for line in drawn("throughput").lines}
    assert lines == {"applied on every replica": [5, 6], "the yardstick": [10, 11]}
    assert len(drawn("throughput", yardstick_per_s=None).lines) == 1


def test_latency_is_drawn_over_the_shares_that_all_rounds_have() -> None:
    reported = drawn("latency")
    ours, pipe = reported.lines
    assert list(ours.x) == pytest.approx([1.0, 10.0])
    assert (list(ours.y), list(ours.low), list(ours.high)) == ([20.0, 140.0], [10.0, 90.0], [30.0, 190.0])
    assert list(pipe.y) == [2.0, 14.0]
    assert [text for _, text in reported.ticks] == ["0 %", "50 %", "90 %"]


def test_a_rate_that_was_not_held_has_no_line() -> None:
    rounds = [{"curve_us": None, "pipe_curve_us": None}]
    assert drawn("latency", rounds=rounds).lines == []


def test_queries_are_drawn_replica_by_replica_and_in_sum() -> None:
    assert {line.label: list(line.y) for line in drawn("query").lines} == {"n1": [4], "n2": [5], "in sum": [9]}


def test_repairs_are_drawn_over_what_was_lost() -> None:
    assert {line.label: (list(line.x), list(line.y)) for line in drawn("loss").lines} == {
        "mean": ([10.0], [2.0]), "p50": ([10.0], [1.0]), "p99": ([10.0], [9.0]),
    }  # fmt: skip


def test_outages_are_drawn_from_the_shortest_to_the_longest() -> None:
    others, own = drawn("failover").lines
    assert (list(others.x), list(others.y)) == ([20.0, 30.0], [50.0, 100.0])
    assert list(own.x) == [5.0, 6.0]


def test_every_run_is_a_row_with_its_workload_and_without_lists() -> None:
    document = {
        "bench": "loss", "workload": {"size": 12, "deep": {"er": None}},
        "runs": [{"a": {"b": {"c": 1.5}}, "many": [1, 2]}, {"a": {"b": {"c": True}}}],
    }  # fmt: skip
    common = {"bench": "loss", "workload.size": 12, "workload.deep.er": None}
    assert rows(document) == [{**common, "run": 1, "a.b.c": 1.5}, {**common, "run": 2, "a.b.c": True}]


def test_costs_are_drawn_by_role_with_the_least_and_the_greatest() -> None:
    cost = {"cpu_us": {"median": 2.0, "min": 1.0, "max": 3.0}}
    point = {"broken": None, "sequencer": cost, "followers": cost, "observers": {"cpu_us": None}, "clients": cost}
    document = {
        "bench": "scale", "sweep": "state", "unit": "keys", "workload": {},
        "points": [{"value": 1_000, **point}, {"value": 5_000, "broken": "n1 died"}, {"value": 1 << 20, **point}],
    }  # fmt: skip
    reported = chart(document)
    assert [line.label for line in reported.lines] == ["sequencer", "a follower", "the clients"]
    assert [(list(line.x), list(line.low), list(line.high)) for line in reported.lines[:1]] == [
        ([1_000, 1 << 20], [1.0, 1.0], [3.0, 3.0])
    ]
    assert reported.ticks == [(1_000, "1 k"), (1 << 20, "1 Mi")]
    assert rows(document)[1]["broken"] == "n1 died"


def test_axes_tell_round_numbers_shortly() -> None:
    assert [short(value) for value in (0, 8, 255, 1_000, 1_024, 4_096, 300_000, 1 << 20, 20_000_000)] == [
        "0", "8", "255", "1 k", "1 Ki", "4 Ki", "300 k", "1 Mi", "20 M",
    ]  # fmt: skip
