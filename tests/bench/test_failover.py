import pytest

from mcast.bench.failover import OUTAGE_S_MAX, FailoverWorkload, measure, summary
from tests.bench.overload import PATIENCE, unless_overloaded

pytestmark = PATIENCE


def test_outages_are_summed_up_in_order_and_told_as_they_came() -> None:
    reported = summary([30.0, 10.0, 20.0])
    assert reported == {"p50": 20.0, "p90": 30.0, "min": 10.0, "max": 30.0, "mean": 20.0, "all": [30.0, 10.0, 20.0]}


@pytest.mark.parametrize("kind", ["kill", "cut"])
async def test_a_sequencer_that_is_gone_is_replaced_and_nothing_is_lost(kind: str) -> None:
    reported: list[tuple[str, float]] = []
    workload = FailoverWorkload(kind=kind, times=1, sealed=False, pause_s=0.0)
    document = await unless_overloaded(lambda: measure(workload, lambda what, share: reported.append((what, share))))
    (run,) = document["runs"]
    assert set(document) == {
        "bench", "machine", "gso", "workload", "acknowledged", "outage_ms", "gateway_outage_ms", "runs",
    }  # fmt: skip
    assert set(run) == {"struck", "successor", "reigns", "outage_ms", "gateway_outage_ms"}
    assert run["struck"] != run["successor"]
    assert run["reigns"] >= 1
    assert 0 < run["outage_ms"] < OUTAGE_S_MAX * 1_000
    assert document["outage_ms"]["all"] == [run["outage_ms"]]
    assert document["gateway_outage_ms"]["max"] == run["gateway_outage_ms"] > 0
    assert document["acknowledged"] > 0
    assert set(reported) == {(f"{kind} 1 of 1", 0.0)}
