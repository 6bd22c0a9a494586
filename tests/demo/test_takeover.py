import asyncio
from typing import Any

import pytest

from mcast.demo.takeover import Killing, Takeover
from mcast.errors import NotYet


class Cluster:
    """Three nodes by name only; `dead` ends whoever leads, and `heir` leads after that, one look later."""

    def __init__(self, heir: str | None) -> None:
        self.did: list[str] = []
        self._epochs = [("n1", 3), (None, 3), (heir, 5)]

    async def status(self) -> dict[str, Any]:
        sequencer, epoch = self._epochs[0]
        if self.did and len(self._epochs) > 1:
            self._epochs.pop(0)
        return {"sequencer": sequencer, "epoch": epoch}

    async def kill(self, node_id: str) -> None:
        self.did.append(f"kill {node_id}")

    async def start(self, node_id: str) -> None:
        self.did.append(f"start {node_id}")


async def stream(killing: Killing, total: int) -> list[Any]:
    """Acknowledge each command as it is taken: in epoch 3 until the kill, in epoch 5 after it."""
    taken = []
    async for command in killing.with_kill(range(total), total):  # type: ignore[arg-type] # numbers will do
        taken.append(command)
        killing.on_acknowledged(len(taken), lambda: 3)
        await asyncio.sleep(0)
    return taken


async def test_the_sequencer_is_killed_amid_the_stream_and_started_again() -> None:
    cluster, reported = Cluster("n2"), []
    killing = Killing(cluster, lambda now: reported.append((now.events, now.successor, now.restarted)))  # type: ignore[arg-type]
    assert await stream(killing, 10) == list(range(10))
    assert cluster.did == ["kill n1"]
    killing.on_acknowledged(10, lambda: 5)
    await killing.wait_until_ended()
    assert cluster.did == ["kill n1", "start n1"]
    assert [(successor, restarted) for _, successor, restarted in reported] == [
        (None, False),
        ("n2", False),
        ("n2", True),
    ]
    assert 4 <= reported[0][0] <= 6  # between the strike and the hold


async def test_a_stream_of_one_command_is_amid_too() -> None:
    cluster = Cluster("n3")
    killing = Killing(cluster, lambda now: None)  # type: ignore[arg-type]
    assert await stream(killing, 1) == [0]
    killing.on_acknowledged(1, lambda: 5)
    await killing.wait_until_ended()
    assert cluster.did == ["kill n1", "start n1"]


async def test_an_empty_stream_kills_nobody() -> None:
    cluster = Cluster("n2")
    killing = Killing(cluster, lambda now: None)  # type: ignore[arg-type]
    assert await stream(killing, 0) == []
    await killing.wait_until_ended()
    assert cluster.did == []


async def test_it_is_no_takeover_where_nobody_acknowledges() -> None:
    cluster = Cluster(None)
    killing = Killing(cluster, lambda now: None, 0.05)  # type: ignore[arg-type]
    await stream(killing, 10)
    with pytest.raises(NotYet, match="nobody took over"):
        await killing.wait_until_ended()
    assert cluster.did == ["kill n1"]


@pytest.mark.parametrize(
    ("outage_ms", "successor", "happened"),
    [(None, None, False), (None, "n2", False), (30.0, None, False), (30.0, "n1", False), (30.0, "n2", True)],
)
def test_only_another_node_that_acknowledges_is_a_takeover(
    outage_ms: float | None, successor: str | None, happened: bool
) -> None:
    assert Takeover("n1", 7, outage_ms, successor).has_happened is happened
