"""What handlers raise is theirs: whatever it is, their node goes on, and so does the program around it."""

from __future__ import annotations

import asyncio
import signal
from typing import Any, Final

import pytest

import mcast
from mcast.errors import QueryFailed
from mcast.node.guard import Guard
from mcast.testing import cluster

RAISED: Final[dict[str, type[BaseException]]] = {
    kind.__name__: kind
    for kind in (
        KeyboardInterrupt, SystemExit, GeneratorExit, asyncio.CancelledError, BaseException, StopIteration,
        StopAsyncIteration, TimeoutError, BrokenPipeError, OSError,
    )
}  # fmt: skip


class Raising(mcast.StateMachine):
    def __init__(self) -> None:
        self.called = 0

    @mcast.command
    def command(self, ctx: Any, name: str) -> None:
        self.called += 1
        raise RAISED[name]

    @mcast.query
    def question(self, name: str) -> None:
        raise RAISED[name]

    @mcast.query
    def count(self) -> int:
        return self.called


async def test_nothing_that_a_handler_raises_is_more_than_its_outcome() -> None:
    async with cluster(Raising) as lab:
        for name in RAISED:
            receipt = await lab.submit("command", name)
            assert (receipt.outcome, receipt.error) == ("failed", name)
        receipts = await lab.submit_many([("command", name) for name in RAISED] * 10)
        assert receipts.failed == 10 * len(RAISED)
        for name in RAISED:
            for node in lab.nodes:
                with pytest.raises(QueryFailed, match=f"^{name}$"):
                    await lab.ask(node, "question", name)
        await lab.converged()
        assert [await lab.ask(node, "count") for node in lab.nodes] == [11 * len(RAISED)] * 3
        assert [lab.node(node).status()["state"] for node in lab.nodes] == ["live"] * 3


def test_what_interrupts_a_node_halts_it_and_goes_on_to_the_host() -> None:
    halted: list[str] = []
    with pytest.raises(KeyboardInterrupt), Guard(lambda reason, bug: halted.append(reason)):
        signal.raise_signal(signal.SIGINT)
    assert halted == ["interrupted by KeyboardInterrupt"]
    with pytest.raises(asyncio.CancelledError), Guard(lambda reason, bug: halted.append(reason)):
        raise asyncio.CancelledError
    assert len(halted) == 1
