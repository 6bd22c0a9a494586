"""A client that submits at a steady beat and notes when each command was acknowledged, whatever happens to its gateway.

It appends 0, 1, 2 ... to a list of its own, so that one look at a replica tells whether anything that was acknowledged
is lost, doubled or out of its place.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from types import TracebackType
from typing import Any, Final, Self

from mcast.analysis import longest_wait
from mcast.bench.job import BrokenRun
from mcast.client.client import Client
from mcast.errors import Error

CALL_S: Final = 30.0  # without an answer, after which a run is broken
OUTSTANDING_MAX: Final = 4_096  # commands unanswered; beyond, the beat waits
LOOK_S: Final = 0.002  # between two looks for an acknowledgement


class Pulse:
    """A context manager around `client`, which it enters: `rate` commands a second to the list `key`, until left.

    Leaving waits until every command was answered. Raises BrokenRun if one was not, or with another outcome than due.
    """

    def __init__(self, client: Client, key: str, rate: float) -> None:
        self.key = key
        self.sent = 0
        self.acknowledged = 0
        self._client = client
        self._rate = rate
        self._beats: list[tuple[float, int]] = []
        """(when, epoch) of each acknowledgement, in the order they came."""
        self._calls: set[asyncio.Task[None]] = set()
        self._failure: BrokenRun | None = None
        self._beating: asyncio.Task[None]

    @property
    def gateway(self) -> str | None:
        """The node it is connected to; None between two."""
        return self._client.node

    @property
    def epoch(self) -> int:
        """The newest epoch that it was acknowledged in; 0 before the first."""
        return max((epoch for _, epoch in self._beats[-1:]), default=0)

    async def wait_for(self, epoch: int, timeout_s: float) -> None:
        """Until something was acknowledged in `epoch` or a later one.

        Raises:
            BrokenRun: not within `timeout_s`; or a call failed.
        """
        loop = asyncio.get_running_loop()
        deadline_s = loop.time() + timeout_s
        while self.epoch < epoch:
            if self._failure is not None:
                raise self._failure
            if loop.time() > deadline_s:
                raise BrokenRun(f"nothing was acknowledged for {timeout_s:g} s")
            await asyncio.sleep(LOOK_S)

    def outage_s(self, struck_s: float, epoch: int) -> float:
        """How long it waited because of what happened at `struck_s` in `epoch`; it was acknowledged in a later one."""
        return longest_wait(self._beats, struck_s, epoch)

    def check(self, node_id: str, found: Sequence[Any] | None) -> None:
        """One replica's list, once every call was answered.

        Raises:
            BrokenRun: something acknowledged is lost, doubled or in another's place there.
        """
        wanted = list(range(self.sent))
        if (found or []) != wanted:
            lost = len(set(wanted) - set(found or []))
            twice = len(found or []) - len(set(found or []))
            what = f"of {self.sent} acknowledged commands {lost} lost, {twice} twice"
            raise BrokenRun(f"{node_id} holds {self.key} wrongly: {what}")

    async def __aenter__(self) -> Self:
        await self._client.__aenter__()
        self._beating = asyncio.create_task(self._beat())
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            self._beating.cancel()
            if error is not None:
                for call in self._calls:
                    call.cancel()
            await asyncio.gather(self._beating, *self._calls, return_exceptions=True)
        finally:
            await self._client.__aexit__(None, None, None)
        if error is None and self._failure is not None:
            raise self._failure

    async def _beat(self) -> None:
        loop = asyncio.get_running_loop()
        due_s = loop.time()
        while self._failure is None:
            call = loop.create_task(self._call(self.sent))
            self._calls.add(call)
            call.add_done_callback(self._calls.discard)
            self.sent += 1
            due_s = max(due_s + 1 / self._rate, loop.time() - 1 / self._rate)
            await asyncio.sleep(due_s - loop.time())
            while len(self._calls) >= OUTSTANDING_MAX:
                await asyncio.wait(self._calls, return_when=asyncio.FIRST_COMPLETED)

    async def _call(self, number: int) -> None:
        try:
            receipt = await self._client.submit("append", self.key, number, timeout=CALL_S)
        except Error as error:
            self._failure = self._failure or BrokenRun(f"a client's call failed: {error}")
            return
        if (receipt.outcome, receipt.value) != ("ok", number + 1):
            self._failure = self._failure or BrokenRun(f"{number} of {self.key} came to {receipt}")
            return
        self.acknowledged += 1
        self._beats.append((asyncio.get_running_loop().time(), receipt.epoch))
