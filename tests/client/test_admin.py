"""The documents made of all nodes' answers."""

from typing import Any

import pytest

from mcast.client.admin import status_document
from mcast.config import NodeConfig

NODES = [NodeConfig(id=f"n{n}", address=f"127.0.0.1:{7710 + n}") for n in (1, 2, 3)]


def report(epoch: int, sequencer: str | None) -> dict[str, Any]:
    return {"node": {"state": "live"}, "epoch": epoch, "sequencer": sequencer}


@pytest.mark.parametrize(
    ("reports", "expected"),
    [
        ([report(6, "n1"), report(6, "n1"), report(6, None)], (6, "n1")),
        ([report(6, None), report(6, "n1"), None], (6, None)),  # n1 stepped down: who follows it may not know yet
        ([None, report(6, "n1"), report(5, "n2")], (6, "n1")),
        ([report(5, "n1"), report(6, None), report(5, "n1")], (6, None)),
        ([report(5, "n1"), report(6, "n3"), report(6, "n3")], (6, "n3")),
        ([None, None, None], (None, None)),
    ],
)
def test_the_newest_report_names_the_sequencer_unless_that_one_denies_it(
    reports: list[dict[str, Any] | None], expected: tuple[int | None, str | None]
) -> None:
    document = status_document("lab", NODES, reports)
    assert (document["epoch"], document["sequencer"]) == expected


def test_lag_is_counted_against_the_newest_commit_that_any_row_knows() -> None:
    def row(applied: int, commit: int, lag: int) -> dict[str, Any]:
        node = {"state": "live", "applied_seq": applied, "commit_seq": commit, "lag_events": lag}
        return {"node": node, "epoch": 1, "sequencer": "n1"}

    document = status_document("lab", NODES, [row(90, 100, 12), row(40, 40, 0), None])
    assert [node["lag_events"] for node in document["nodes"]] == [12, 60, None]
