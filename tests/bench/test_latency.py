import pytest

from mcast.bench import latency
from mcast.bench.latency import LatencyWorkload
from tests.bench.overload import PATIENCE, unless_overloaded

pytestmark = PATIENCE

DOCUMENT = {
    "bench", "machine", "gso", "workload", "sequencer", "held", "held_back_by", "reached", "took_us", "late_us",
    "pipe_us", "sync_us", "ratio", "rounds",
}  # fmt: skip
ROUND = {
    "held", "held_back_by", "reached", "took_us", "curve_us", "late_us", "pipe_us", "pipe_curve_us", "sync_us", "ratio",
    "per_event", "busy", "machine_busy", "kernel_busy", "others_busy", "rss_mib",
}  # fmt: skip


def nothing(what: str, share: float) -> None:
    pass


async def test_a_command_at_a_time_stands_beside_the_bare_pipe() -> None:
    workload = LatencyWorkload(count=60, nodes=2)
    document = await unless_overloaded(lambda: latency.measure(workload, 2, True, nothing))
    assert set(document) == DOCUMENT
    assert document["sync_us"] is None
    for one in document["rounds"]:
        assert set(one) == ROUND
        took = one["took_us"]
        assert 0 < took["p50"] <= took["p90"] <= took["p99"] <= took["p99.9"] <= took["max"]
        assert took["count"] == one["pipe_us"]["count"] == 60
        assert one["ratio"] == pytest.approx(took["p50"] / one["pipe_us"]["p50"], rel=0.01)
        assert one["reached"] == pytest.approx(1e6 / took["mean"], rel=0.01)
        assert one["late_us"] is None
    ratios = [one["ratio"] for one in document["rounds"]]
    assert document["ratio"]["max"] == pytest.approx(max(ratios), abs=0.01)


async def test_at_a_rate_every_command_counts_from_when_it_was_due() -> None:
    workload = LatencyWorkload(rate=5.0, seconds=1.0, nodes=1, at="follower")
    document = await unless_overloaded(lambda: latency.measure(workload, 1, False, nothing))
    (one,) = document["rounds"]
    assert document["held"] is True
    assert one["took_us"]["count"] == one["late_us"]["count"] == 5
    assert one["late_us"]["max"] <= one["took_us"]["max"]
    assert 0 < one["reached"] < 7
    assert (one["pipe_us"], one["ratio"], document["ratio"]) == (None, None, None)
