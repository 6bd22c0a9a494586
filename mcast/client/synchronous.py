"""The client for programs without an event loop: `mcast.connect_sync`."""

from __future__ import annotations

import asyncio
import contextlib
import threading
import weakref
from collections import deque
from collections.abc import Callable, Coroutine, Iterable, Iterator, Sequence
from concurrent.futures import CancelledError, Future
from pathlib import Path
from types import TracebackType
from typing import Any, Literal, TypeVar

from mcast.client.client import connect
from mcast.client.handing import HandedOver
from mcast.client.loopthread import LoopThread
from mcast.client.packing import Command
from mcast.client.queries import QueryAnswer
from mcast.client.receipts import Receipt, Receipts
from mcast.client.subscription import Events
from mcast.config import Config
from mcast.documents import FaultDocument, GapsDocument, HandoverDocument, MachineDescription, StatusDocument
from mcast.errors import Error, Unknown
from mcast.limits import TIMEOUT_S
from mcast.machine.events import Event
from mcast.wire.levels import Consistency

_T = TypeVar("_T")


def connect_sync(
    source: Config | Path | str, at: str | None = None, timeout: float = TIMEOUT_S, *, strict: bool = False,
    loop_factory: Callable[[], asyncio.AbstractEventLoop] | None = None,
) -> SyncClient:  # fmt: skip
    """A client that is connected and needs no event loop: `with mcast.connect_sync("lab.toml") as client`.

    Or without `with`, and `client.close()` when it is not needed any more. `loop_factory` makes the event loop of the
    client's own thread, such as `uvloop.new_event_loop`. The rest as of `connect`.

    Raises:
        ConfigError, NotSent: as `connect` and opening its client do.
    """
    return SyncClient(LoopThread(connect(source, at, timeout, strict=strict), loop_factory))


class SyncClient:
    """The methods of `Client` without `await`; any number of threads may share one.

    It lives on an event loop in a thread of its own. Ctrl-C ends the call that waits; a command that was sent may have
    happened. Callbacks are called on the client's thread, where its own calls are Refused. A process that was forked
    has no part in it: its calls are Refused there; let the child connect itself. What is left open is closed when the
    program ends.
    """

    def __init__(self, thread: LoopThread) -> None:
        self.config = thread.client.config
        self._thread = thread
        self._client = thread.client
        self._finalizer = weakref.finalize(self, thread.end)

    def __enter__(self) -> SyncClient:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """As the client's; calls that other threads still wait in end with an error. Idempotent."""
        self._thread.end()
        self._finalizer.detach()

    @property
    def node(self) -> str | None:
        """The id of the node this client is connected to; None between two."""
        return self._client.node

    @property
    def timeout(self) -> float:
        """Seconds a call takes at most that names no `timeout` of its own."""
        return self._client.timeout

    def submit(self, name: str, *args: Any, timeout: float | None = None) -> Receipt:
        """As `Client.submit`."""
        return self._command(lambda: self._client.submit(name, *args, timeout=timeout))

    def submit_many(self, commands: Iterable[Command], timeout: float | None = None) -> Receipts:
        """As `Client.submit_many`."""
        listed = list(commands)  # read in the caller's thread
        return self._command(lambda: self._client.submit_many(listed, timeout))

    def submit_stream(
        self, commands: Iterable[Command], *, keep: bool = True, timeout: float | None = None,
        on_progress: Callable[[Receipts], None] | None = None,
        on_receipts: Callable[[list[Receipt]], None] | None = None,
    ) -> Receipts:  # fmt: skip
        """As `Client.submit_stream`; `commands` are read in the caller's thread, and may block it."""
        handed_over = HandedOver()
        future = self._thread.start(
            lambda: self._client.submit_stream(
                handed_over, keep=keep, timeout=timeout, on_progress=on_progress, on_receipts=on_receipts
            )
        )
        try:
            handed_over.hand_over(commands, future.done)
        except BaseException:
            future.cancel()
            raise
        return self._thread.wait(future, _may_have_happened)

    def resolve(self, error: Unknown, timeout: float | None = None) -> Receipt | Receipts:
        """As `Client.resolve`."""
        return self._command(lambda: self._client.resolve(error, timeout))

    def query(  # noqa: PLR0913 - the contract's keywords
        self, name: str, *args: Any, consistency: Consistency | None = None, min_seq: int = 0,
        max_ms: float | None = None, max_lag: int | None = None, timeout: float | None = None,
    ) -> QueryAnswer:  # fmt: skip
        """As `Client.query`."""
        return self._ask(
            lambda: self._client.query(
                name, *args, consistency=consistency, min_seq=min_seq, max_ms=max_ms, max_lag=max_lag, timeout=timeout
            )
        )

    def query_many(  # noqa: PLR0913 - as query
        self, queries: Iterable[Sequence[Any]], *, consistency: Consistency | None = None, min_seq: int = 0,
        max_ms: float | None = None, max_lag: int | None = None, timeout: float | None = None,
    ) -> list[QueryAnswer]:  # fmt: skip
        """As `Client.query_many`."""
        listed = list(queries)
        return self._ask(
            lambda: self._client.query_many(
                listed, consistency=consistency, min_seq=min_seq, max_ms=max_ms, max_lag=max_lag, timeout=timeout
            )
        )

    def subscribe(self, from_seq: int | Literal["now"] = 1, *, timeout: float | None = None) -> SyncEvents:
        """As `Client.subscribe`: an iterator, `for event in client.subscribe()`.

        From "now" on is from this call on: it returns once that is fixed, so that nothing submitted afterwards is
        missed.
        """

        async def begin() -> Events:
            events = self._client.subscribe(from_seq, timeout=timeout)
            return await events if from_seq == "now" else events

        return SyncEvents(self._thread, self._ask(begin))

    def status(self, *, timeout: float | None = None) -> StatusDocument:
        """As `Client.status`."""
        return self._ask(lambda: self._client.status(timeout=timeout))

    def gaps(self, *, timeout: float | None = None) -> GapsDocument:
        """As `Client.gaps`."""
        return self._ask(lambda: self._client.gaps(timeout=timeout))

    def describe(self, *, timeout: float | None = None) -> MachineDescription:
        """As `Client.describe`."""
        return self._ask(lambda: self._client.describe(timeout=timeout))

    def fault(self, node: str, spec: str, *, timeout: float | None = None) -> FaultDocument:
        """As `Client.fault`."""
        return self._ask(lambda: self._client.fault(node, spec, timeout=timeout))

    def handover(self, to: str, *, timeout: float | None = None) -> HandoverDocument:
        """As `Client.handover`."""
        return self._command(lambda: self._client.handover(to, timeout=timeout))

    def _command(self, make: Callable[[], Coroutine[Any, Any, _T]]) -> _T:
        return self._thread.wait(self._thread.start(make), _may_have_happened)

    def _ask(self, make: Callable[[], Coroutine[Any, Any, _T]]) -> _T:
        return self._thread.wait(self._thread.start(make), _was_closed)


class SyncEvents(Iterator[Event]):
    """What `SyncClient.subscribe` gives: an iterator of events; leaving `with`, or `close`, ends it.

    Several threads may take from one: each event goes to one of them. An iteration that Ctrl-C interrupted goes on
    with the event after the last one given.
    """

    def __init__(self, thread: LoopThread, events: Events) -> None:
        self._thread = thread
        self._events = events
        self._unread: deque[Event] = deque()
        self._taking: Future[list[Event]] | None = None
        self._lock = threading.Lock()
        self._closed = False

    def __enter__(self) -> SyncEvents:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __next__(self) -> Event:
        self._thread.check()
        with self._lock:
            while not self._unread:
                if self._closed:
                    raise StopIteration
                if self._taking is None:
                    self._taking = self._thread.start(self._events.batch)
                self._unread += self._take(self._taking)
            return self._unread.popleft()

    def _take(self, taking: Future[list[Event]]) -> list[Event]:
        """Its result. If Ctrl-C ends the waiting, the next call waits for the same result."""
        try:
            batch = taking.result()
        except CancelledError:
            batch = []
            if not self._closed:
                self._closed = True
                raise _was_closed() from None
        except Exception:
            self._taking, self._closed = None, True
            raise
        self._taking = None
        self._closed |= not batch
        return batch

    def close(self) -> None:
        """End the stream and its connection; a thread that waits for an event finds its end. Idempotent."""
        self._closed = True
        taking = self._taking
        if taking is not None and taking.cancel():
            return  # which ends the stream
        with contextlib.suppress(Error):  # the client is closed, and all its streams with it
            self._thread.wait(self._thread.start(self._events.aclose), _was_closed)

    def __del__(self) -> None:
        if self._taking is not None:
            self._taking.cancel()  # what Ctrl-C left


def _may_have_happened() -> Unknown:
    return Unknown("the client was closed before the answer came: the command may or may not have happened")


def _was_closed() -> Error:
    return Error("the client was closed")
