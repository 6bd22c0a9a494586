"""The sequencer's process killed in the middle of a stream: who took over, and how long the stream's client waited."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Final

from mcast.analysis import longest_wait
from mcast.errors import NotSent, NotYet
from mcast.lab.processes import Processes

STRIKE_SHARE: Final = 0.4  # of the stream, after which the sequencer is killed
HOLD_SHARE: Final = 0.6  # of the stream, which waits here for the kill: a short one must not be over by then
TAKEOVER_S: Final = 30.0  # for another node to lead and to acknowledge
LOOK_S: Final = 0.05

Command = Sequence[Any]


@dataclass(slots=True)
class Takeover:
    """What is known of it so far: None for what has not happened yet."""

    killed: str
    events: int
    """Acknowledged when it was killed."""
    outage_ms: float | None = None
    """The client's longest wait for an acknowledgement because of it."""
    successor: str | None = None
    restarted: bool = False

    @property
    def has_happened(self) -> bool:
        """Whether another node leads and has acknowledged."""
        return self.outage_ms is not None and self.successor not in (None, self.killed)


class Killing:
    """Kills and restarts; `tell` hears each change of what is known. For one stream; `wait_until_ended` follows it."""

    def __init__(self, cluster: Processes, tell: Callable[[Takeover], None], takeover_s: float = TAKEOVER_S) -> None:
        self._cluster = cluster
        self._tell = tell
        self._takeover_s = takeover_s
        self._known = 0
        self._epoch = 0
        self._struck_s: float | None = None
        self._beats: list[tuple[float, int]] = []
        """(when, epoch) of the last acknowledgement before the kill, and of those after it until the takeover."""
        self._taken_over = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        self._struck = asyncio.Event()

    async def with_kill(self, commands: Iterable[Command], total: int) -> AsyncIterator[Command]:
        """The commands, `total` of them, with the kill in their midst."""
        strike, hold = int(total * STRIKE_SHARE), int(total * HOLD_SHARE)
        for index, command in enumerate(commands):
            if index == strike:
                self._task = asyncio.create_task(self._run())
            if index == hold and self._task is not None:
                struck = asyncio.create_task(self._struck.wait())
                await asyncio.wait({struck, self._task}, return_when=asyncio.FIRST_COMPLETED)
                struck.cancel()
            yield command

    def on_acknowledged(self, known: int, epoch: Callable[[], int | None]) -> None:
        """So many commands are acknowledged by now, the last one in `epoch()`, which is asked only while it matters."""
        self._known = known
        if self._taken_over.is_set():
            return
        now_s = asyncio.get_running_loop().time()
        if self._struck_s is None:
            self._beats = [(now_s, 0)]
            return
        self._beats.append((now_s, epoch() or 0))
        if self._beats[-1][1] > self._epoch:
            self._taken_over.set()

    async def wait_until_ended(self) -> None:
        """Until the killed node was started again, if one was killed. Raises NotYet when nobody took over in time."""
        if self._task is not None:
            await self._task

    async def cancel(self) -> None:
        """Do no more."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    async def _run(self) -> None:
        try:
            async with asyncio.timeout(self._takeover_s):
                killed, self._epoch = await self._sequencer(None)
                takeover = Takeover(killed, self._known)
                self._struck_s = asyncio.get_running_loop().time()
                await self._cluster.kill(killed)
                self._struck.set()
                self._tell(takeover)
                await self._taken_over.wait()
                takeover.outage_ms = round(longest_wait(self._beats, self._struck_s, self._epoch) * 1e3, 1)
                takeover.successor, _ = await self._sequencer(killed)
        except TimeoutError:
            raise NotYet(f"nobody took over within {self._takeover_s:g} s") from None
        self._tell(takeover)
        await self._cluster.start(killed)
        takeover.restarted = True
        self._tell(takeover)

    async def _sequencer(self, other_than: str | None) -> tuple[str, int]:
        """The sequencer and its epoch; waits until a node other than `other_than` leads."""
        while True:
            with contextlib.suppress(NotSent):
                status = await self._cluster.status()
                if status["sequencer"] not in (None, other_than):
                    return status["sequencer"], status["epoch"]
            await asyncio.sleep(LOOK_S)
