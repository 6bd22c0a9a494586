"""Whom a refusal names as the better node (none that is known to be dead, else those that live), and failed queries."""

from __future__ import annotations

from pathlib import Path

import pytest

from mcast.machine.api import query
from mcast.machine.kv import KeyValue
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


class Erring(KeyValue):
    """Its one query raises."""

    @query
    def fail(self) -> None:
        raise ValueError("at 0x7f")


async def test_what_a_query_raises_is_in_the_log(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    asked = Asked(tmp_path, machine=Erring)
    asked.ask("fail", level="any")
    assert asked.replies[0].reason == "ValueError"
    [line] = caplog.messages
    assert "node n1: query fail failed (behind event 0)" in line
    assert line.endswith("ValueError: at 0x7f") and 'raise ValueError("at 0x7f")' in line
