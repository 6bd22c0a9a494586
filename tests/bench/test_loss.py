from typing import Any

import pytest

from mcast.bench.job import BrokenRun
from mcast.bench.loss import LossWorkload, figures, measure, parse_shares
from mcast.errors import ConfigError
from tests.bench.overload import PATIENCE, unless_overloaded

pytestmark = PATIENCE


@pytest.mark.parametrize(
    ("text", "shares"), [("10%", (0.1,)), ("1%,5%,10%", (0.01, 0.05, 0.1)), ("0.5, 50", (0.005, 0.5))]
)
def test_shares_are_read(text: str, shares: tuple[float, ...]) -> None:
    assert parse_shares(text) == pytest.approx(shares)


@pytest.mark.parametrize("text", ["", "ten", "1%,", "0%", "51%", "-1%", "1e1%", "nan", "1%;2%", "9" * 50])
def test_bad_shares_are_refused_in_one_line(text: str) -> None:
    with pytest.raises(ConfigError) as refused:
        parse_shares(text)
    assert str(refused.value).startswith("--loss = ")
    assert "\n" not in str(refused.value)


def documents(repaired: int = 9, *, gaps_open: int = 0) -> tuple[dict[str, Any], dict[str, Any]]:
    status = {"nodes": [{"naks_sent": naks, "repairs_sent": repairs} for naks, repairs in ((0, 12), (7, 0), (2, 0))]}
    nodes = [
        {
            "id": f"n{index}", "open": [[1, 1]] * gaps_open, "lost": lost, "repaired": fixed, "superseded": 0,
            "transferred": 1, "duplicates": 0, "injected": {"lost": lost - 1, "corrupted": 1, "duplicates": 0},
            "closed": [{"latency_ms": took} for took in latencies],
        }
        for index, lost, fixed, latencies in ((1, 1, 0, []), (2, 10, repaired, [2.0, 4.0]), (3, 4, 3, [6.0, 12.0]))
    ]  # fmt: skip
    return status, {"nodes": nodes}


def test_figures_are_per_datagram_lost_over_all_nodes() -> None:
    reported = figures(*documents())
    assert reported["lost"] == reported["injected"] == 15
    assert (reported["repaired"], reported["transferred"], reported["superseded"]) == (12, 3, 0)
    assert (reported["repairs_sent"], reported["repairs_per_loss"]) == (12, 0.8)
    assert (reported["naks_sent"], reported["naks_per_loss"]) == (9, 0.6)
    assert reported["repair_ms"] == {"gaps": 4, "mean": 6.0, "p50": 4.0, "p99": 12.0, "max": 12.0}


@pytest.mark.parametrize("broken", [documents(repaired=8), documents(gaps_open=1)])
def test_there_is_no_number_for_what_does_not_reconcile(broken: tuple[dict[str, Any], dict[str, Any]]) -> None:
    with pytest.raises(BrokenRun):
        figures(*broken)


def test_there_is_no_number_where_nothing_was_lost() -> None:
    status, gaps = documents()
    for node in gaps["nodes"]:
        node.update(lost=0, repaired=0, transferred=0, injected={"lost": 0, "corrupted": 0}, closed=[])
    with pytest.raises(BrokenRun, match="nothing was lost"):
        figures(status, gaps)


async def test_a_small_run_repairs_what_it_loses() -> None:
    """Of events that fill a datagram each: 20% of 600 are lost, however few moments a busy machine sends them in."""
    reported: list[tuple[str, float]] = []
    workload = LossWorkload(rate=500, seconds=0.6, size=1_000)
    document = await unless_overloaded(
        lambda: measure(workload, [0.2], lambda what, share: reported.append((what, share)))
    )
    (run,) = document["runs"]
    assert set(document) == {"bench", "machine", "gso", "workload", "runs"}
    assert set(run) == {
        "loss", "lost", "injected", "repaired", "superseded", "transferred", "repair_ms", "repairs_sent",
        "repairs_per_loss", "naks_sent", "naks_per_loss", "rate", "held_back_by", "gso", "per_event", "busy",
        "machine_busy", "kernel_busy", "others_busy", "rss_mib",
    }  # fmt: skip
    assert run["lost"] == run["repaired"] + run["superseded"] + run["transferred"] > 0
    assert run["injected"] <= run["lost"]
    assert run["naks_sent"] > 0
    assert run["repairs_sent"] >= run["repaired"]
    assert 0 < run["repair_ms"]["mean"] <= run["repair_ms"]["max"]
    assert run["rate"] > 0
    assert all(0 <= share <= 1 for _, share in reported)
