"""Commands from a thread that may block to an event loop that must not."""

from __future__ import annotations

import asyncio
import threading
from collections import deque
from collections.abc import AsyncIterator, Callable, Iterable
from typing import Final

from mcast.client.packing import Command

WAITING_MAX: Final = 4_096  # commands that the loop has not taken yet; then the thread waits
LOOK_S: Final = 0.1  # between two looks of a waiting thread whether anybody still takes them


class HandedOver:
    """`hand_over` in the thread, `async for` on the loop: each command once, in order."""

    def __init__(self) -> None:
        self._waiting: deque[Command] = deque()
        self._ended = False
        self._error: BaseException | None = None
        self._room = threading.Event()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._more = asyncio.Event()
        self._reported = False

    def hand_over(self, commands: Iterable[Command], given_up: Callable[[], bool]) -> None:
        """All of them, or until nobody takes them any more. What `commands` raises is raised on the loop."""
        try:
            for command in commands:
                if given_up():
                    return
                self._waiting.append(command)
                self._tell()
                while len(self._waiting) >= WAITING_MAX and not given_up():
                    self._room.clear()
                    if len(self._waiting) >= WAITING_MAX:
                        self._room.wait(LOOK_S)
        except Exception as error:
            self._error = error
        finally:
            self._ended = True
            self._tell()

    def _tell(self) -> None:
        """Wake the loop, unless it has been and has not looked yet."""
        loop = self._loop
        if loop is not None and not self._reported:
            self._reported = True
            loop.call_soon_threadsafe(self._more.set)

    async def __aiter__(self) -> AsyncIterator[Command]:
        self._loop = asyncio.get_running_loop()
        while True:
            self._more.clear()
            self._reported = False  # before the look: whoever adds one after it wakes this again
            ended = self._ended
            while self._waiting:
                yield self._waiting.popleft()
                if not self._room.is_set() and len(self._waiting) < WAITING_MAX // 2:
                    self._room.set()
            if ended:
                break
            await self._more.wait()
        if self._error is not None:
            raise self._error
