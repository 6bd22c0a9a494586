"""A simulated node's state machine, as its driver sees it: the production queue, with handlers that take a while."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from mcast.node.applying import ApplyQueue, Booked
from mcast.wire.frame import Frame

if TYPE_CHECKING:
    from mcast.sim.node import SimNode


class ApplierPort(ApplyQueue):
    """One life's queue, for `protocol.driver`. The clock moves by the node's `handler_s` whenever it is looked at."""

    def __init__(self, node: SimNode) -> None:
        self._node = node
        self._spent_s = 0.0
        """By handlers, since the last turn of the loop."""
        super().__init__(node.engine, node.on_results, node.guard, call_soon=self._book_turn, clock=self.passing_s)

    def add(self, frames: Sequence[Frame]) -> None:
        """See ApplyQueue.add."""
        self._node.world.checker.on_apply(self._node.book, frames, self._node.replica.promised)
        super().add(frames)

    def passing_s(self) -> float:
        """The time, as handlers that run take it."""
        self._spent_s += self._node.handler_s
        return self._node.world.loop.now + self._spent_s

    def _book_turn(self, action: Callable[[], None]) -> Booked:
        spent_s, self._spent_s = self._spent_s, 0.0
        self._node.world.marks["applying paused"] += 1
        return self._node.book_turn(action, spent_s)
