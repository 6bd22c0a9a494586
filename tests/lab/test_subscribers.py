"""Subscribers whose cluster is a list: they read it in stretches, here and there, up to the end they are told."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import AsyncGenerator, Callable
from typing import Any, Self, cast

import pytest

from mcast.client.client import Client
from mcast.errors import Gone, NotSent
from mcast.history.streams import Stretch
from mcast.lab import subscribers
from mcast.lab.subscribers import Subscribers
from mcast.machine.events import Event

LAST = 60


class Feed:
    """A client whose events are 1 to LAST; `trouble` may raise before one, and `entering` when it is connected."""

    def __init__(self, trouble: Callable[[int], None], entering: Callable[[], None]) -> None:
        self._trouble, self._entering = trouble, entering

    async def __aenter__(self) -> Self:
        self._entering()
        return self

    async def __aexit__(self, *error: object) -> None:
        await asyncio.sleep(0)

    async def subscribe(self, from_seq: int) -> AsyncGenerator[Event, None]:
        for seq in range(from_seq, LAST + 1):
            self._trouble(seq)
            yield Event(seq, 1, 0, "set", ["k", seq], "ok", None, None)
        await asyncio.Event().wait()


@pytest.fixture(autouse=True)
def in_haste(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in (("STRETCH_S", (0.001, 0.01)), ("SLOW_S", 0.0002), ("STUCK_S", 0.002)):
        monkeypatch.setattr(subscribers, name, value)


async def run(
    trouble: Callable[[int], None] = lambda seq: None, entering: Callable[[], None] = lambda: None, **finish: Any
) -> tuple[list[Stretch], Subscribers, list[str]]:
    stretches: list[Stretch] = []
    nodes: list[str] = []

    def make(node: str) -> Client:
        nodes.append(node)
        return cast(Client, Feed(trouble, entering))

    crowd = Subscribers(stretches.append, make, ("n1", "n2", "n3"))
    async with asyncio.TaskGroup() as group:
        group.create_task(crowd.run("s0", 1))
        await asyncio.sleep(finish.pop("after", 0.1))
        crowd.finish(**{"last": LAST, "within_s": 5.0} | finish)
    return stretches, crowd, nodes


async def test_every_event_is_taken_in_stretches_at_changing_nodes() -> None:
    stretches, crowd, nodes = await run()
    assert crowd.behind == []
    assert set(nodes) == {"n1", "n2", "n3"}
    following = 1
    for stretch in stretches:
        assert stretch.first <= following
        assert [given.seq for given in stretch.events] == list(range(stretch.first, stretch.next))
        following = max(following, stretch.next)
    assert following == LAST + 1
    again = [later for earlier, later in itertools.pairwise(stretches) if later.first < earlier.next]
    assert again, "some are read again"


async def test_who_does_not_get_to_the_end_is_told() -> None:
    _, crowd, _ = await run(last=LAST + 5, within_s=0.05)
    assert crowd.behind == [f"s0 has the events before {LAST + 1}; {LAST + 5} was acknowledged"]


async def test_how_a_stretch_ended_is_noted() -> None:
    errors: list[Exception] = [NotSent("nobody"), Gone("event 1 is no longer kept", 7)]

    def trouble(seq: int) -> None:
        if errors:
            raise errors.pop()

    stretches, crowd, _ = await run(trouble)
    assert [(stretch.ended, stretch.low_water) for stretch in stretches[:2]] == [("gone", 7), ("not_sent", None)]
    assert crowd.behind == []


async def test_without_a_node_there_is_no_stretch() -> None:
    refusals = [NotSent("nobody")] * 3

    def entering() -> None:
        if refusals:
            raise refusals.pop()

    stretches, crowd, nodes = await run(entering=entering)
    assert len(nodes) >= len(stretches) + 3
    assert crowd.behind == []
