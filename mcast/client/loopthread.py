"""A client on an event loop of its own, in a thread of its own, for programs without one."""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import Callable, Coroutine
from concurrent.futures import CancelledError, Future
from contextlib import suppress
from typing import Any, Final, TypeVar

from mcast.client.client import Client
from mcast.errors import Error, Refused

JOIN_S: Final = 5.0  # for the thread to end; closing a client is bounded by less
NOT_ITS_OWN: Final = (
    "this client is the parent process's, which forked: call mcast.connect_sync in the child for one of its own"
)
CLOSED: Final = "this client is closed; connect another one"
ON_ITS_THREAD: Final = "this is the client's own thread, which a call would wait for: call it from another thread"

_T = TypeVar("_T")


class LoopThread:
    """Opens the client, runs its calls for any thread, closes it. A forked child has no part in it: calls are Refused.

    Raises on making: what opening the client raises.
    """

    def __init__(self, client: Client, loop_factory: Callable[[], asyncio.AbstractEventLoop] | None) -> None:
        self.client = client
        self._loop_factory = loop_factory
        self._loop: asyncio.AbstractEventLoop
        self._main_task: asyncio.Task[None] | None = None
        self._calls: set[asyncio.Task[Any]] = set()
        self._pid = os.getpid()
        self._lock = threading.Lock()
        """Held by a thread that adds a call, and by the loop when it takes no more calls."""
        self._closed = False
        self._started = threading.Event()
        self._opened: Future[None] = Future()
        self._thread = threading.Thread(target=self._run, name="mcast-client", daemon=True)
        self._thread.start()
        try:
            self._opened.result()
        except BaseException:
            self.end()
            raise

    def check(self) -> None:
        """Raise Refused where a call would never end: in a forked child, and on this very thread."""
        if os.getpid() != self._pid:
            raise Refused(NOT_ITS_OWN)
        if threading.current_thread() is self._thread:
            raise Refused(ON_ITS_THREAD)

    def start(self, make: Callable[[], Coroutine[Any, Any, _T]]) -> Future[_T]:
        """Have the coroutine that `make` gives run on the loop; what it comes to.

        Raises:
            Refused: the client is closed, the parent process's, or this is its own thread.
        """
        self.check()  # before the lock, which may be held for ever in a child
        with self._lock:
            if self._closed:
                raise Refused(CLOSED)
            return asyncio.run_coroutine_threadsafe(self._call(make), self._loop)

    def wait(self, future: Future[_T], closed: Callable[[], Error]) -> _T:
        """What the call comes to; `closed` makes the error if the client is closed meanwhile.

        An exception that comes while this waits, as KeyboardInterrupt does, ends the call.
        """
        try:
            return future.result()
        except CancelledError:
            raise closed() from None
        except BaseException:
            future.cancel()
            raise

    def end(self) -> None:
        """Close the client and end the thread; idempotent. Calls that still wait end."""
        if os.getpid() != self._pid:
            return
        self._started.wait()
        if self._main_task is not None:
            with suppress(RuntimeError):  # the loop has ended
                self._loop.call_soon_threadsafe(self._main_task.cancel)
        if threading.current_thread() is not self._thread:
            self._thread.join(JOIN_S)

    def _run(self) -> None:
        try:
            with asyncio.Runner(loop_factory=self._loop_factory) as runner:
                runner.run(self._main())
        except BaseException as error:
            if self._opened.done():
                raise
            self._opened.set_exception(error)
        finally:
            self._started.set()

    async def _main(self) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._loop, self._main_task = asyncio.get_running_loop(), task
        self._started.set()
        try:
            await self.client
        except BaseException as error:
            self._closed = True
            self._opened.set_exception(error)
            return
        self._opened.set_result(None)
        with suppress(asyncio.CancelledError):
            await self._loop.create_future()  # until `end`
        with self._lock:
            self._closed = True
        for _ in range(2):  # what was added before begins
            await asyncio.sleep(0)
        for call in self._calls:
            call.cancel()
        await asyncio.gather(*self._calls, return_exceptions=True)
        await self.client.close()

    async def _call(self, make: Callable[[], Coroutine[Any, Any, _T]]) -> _T:
        task = asyncio.current_task()
        assert task is not None
        self._calls.add(task)
        try:
            return await make()
        finally:
            self._calls.discard(task)
