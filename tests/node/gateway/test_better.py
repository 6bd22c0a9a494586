"""Whom a refusal names as the better node: none that is known to be dead, and of the others those that live."""

from __future__ import annotations

from pathlib import Path

import pytest

from mcast.node.gateway import queries as queries_module
from mcast.node.gateway.queries import Queries
from tests.node.gateway.test_queries import Asked

Names = set[str]


@pytest.mark.parametrize(
    ("sequencer", "alive", "dead", "named"),
    [
        ("n2", {"n2"}, None, {"n2"}), ("n2", set[str](), None, {"n2"}), ("n2", set[str](), "n2", {"n3"}),
        ("n1", {"n3"}, None, {"n3"}), ("n1", set[str](), None, {"n2", "n3"}), (None, {"n2", "n3"}, "n1", {"n2", "n3"}),
    ],
)  # fmt: skip
async def test_no_dead_node_is_named(
    tmp_path: Path, sequencer: str | None, alive: Names, dead: str | None, named: Names
) -> None:
    asked = Asked(tmp_path, nodes=3)
    asked.cluster.elect(sequencer)
    asked.queries = Queries(asked.shell, lambda: alive, lambda: dead)  # type: ignore[arg-type]
    asked.shell.halt("the disk failed")
    for _ in range(4):
        asked.ask()
    assert {refused.try_node for refused in asked.replies} == named


async def test_an_event_that_nobody_has_heard_of_is_told_as_such(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(queries_module, "SESSION_READ_WAIT_S", 0.01)
    asked = Asked(tmp_path, nodes=3)
    asked.cluster.elect("n1")
    asked.ask(min_seq=900)
    asked.queries._end_late(float("inf"))
    (refused,) = asked.replies
    assert refused.kind == "not yet" and refused.try_node is None
    assert "not yet 900: no such event is known here, the newest that it has heard of is event 0" in refused.reason
