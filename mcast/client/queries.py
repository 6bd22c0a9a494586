"""Queries on their way: each is sent again to a new gateway until it is answered, for a query changes nothing.

One that the gateway refused is asked once more, at the node that the refusal named: `Detour`.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Iterator
from typing import Any, Final, NamedTuple

from mcast.clock import Alarm
from mcast.config import NodeConfig
from mcast.errors import DecodeError, Error, NotSent, NotYet, QueryFailed, Refused
from mcast.machine.plain import ATOMS
from mcast.net.tcp import Dialer, StreamLink, Unreachable
from mcast.wire.stream import (
    HEAD_BYTES,
    Answer,
    Failure,
    Query,
    QueryRefused,
    StreamKind,
    decode_stream_untrusted,
    pack_message,
)

PLAIN_BYTES: Final = 4_096  # of a query whose arguments hold no others: no longer one may be too long for its node
_FOREVER: Final = float("inf")


class QueryAnswer(NamedTuple):
    """A query's answer, the event number it holds at, and the level really served."""

    value: Any
    seq: int
    epoch: int
    level: str
    node: str
    lag_events: int
    lag_ms: float | None


class QueryBatch:
    """Queries asked together, in order."""

    def __init__(self, questions: Questions) -> None:
        self.numbers: list[int] = []
        self.futures: list[asyncio.Future[QueryAnswer]] = []
        self._questions = questions

    def ask(self, query: Query, timeout_s: float) -> bytes:
        """As `Questions.ask`; the message."""
        number, future, message = self._questions.ask(query, timeout_s)
        self.numbers.append(number)
        self.futures.append(future)
        return message


class Questions:
    """The unanswered queries of one client, by id. `why` says what was tried, for those whose deadline is over."""

    def __init__(self, why: Callable[[], str] = str) -> None:
        self._waiting: dict[int, tuple[asyncio.Future[QueryAnswer], bytes, float, float]] = {}
        """Future, message, deadline in the event loop's time, and how long after asking that is."""
        self._next_id = 1
        self._why = why
        self._alarm = Alarm(self._expire)

    @property
    def is_busy(self) -> bool:
        """Whether any query waits for its answer."""
        return bool(self._waiting)

    def ask(self, query: Query, timeout_s: float = _FOREVER) -> tuple[int, asyncio.Future[QueryAnswer], bytes]:
        """Give the query an id: the id, the future answer, the message. The future fails when its time is over.

        Raises:
            Refused: it cannot be packed.
        """
        number = self._next_id
        try:
            message = pack_message(StreamKind.QUERY, Query(number, *query[1:]))
            if len(message) > PLAIN_BYTES or not ATOMS.issuperset(map(type, query.args)):
                decode_stream_untrusted(StreamKind.QUERY, message[HEAD_BYTES:])  # as the node will
        except (TypeError, ValueError, OverflowError, RecursionError, DecodeError) as error:
            raise Refused(f"an argument cannot be sent: {error}") from None
        self._next_id += 1
        loop = asyncio.get_running_loop()
        future: asyncio.Future[QueryAnswer] = loop.create_future()
        deadline = loop.time() + timeout_s
        self._waiting[number] = future, message, deadline, timeout_s
        self._alarm.set(deadline)
        return number, future, message

    def forget(self, number: int) -> None:
        """Forget a query: its caller waits no more."""
        self._waiting.pop(number, None)

    @contextlib.contextmanager
    def batch(self) -> Iterator[QueryBatch]:
        """Many queries that are forgotten together."""
        batch = QueryBatch(self)
        try:
            yield batch
        finally:
            for number, future in zip(batch.numbers, batch.futures, strict=True):
                self._waiting.pop(number, None)
                if future.done() and not future.cancelled():
                    future.exception()  # marks it as seen: only the first that failed is told

    def resend(self) -> list[bytes]:
        """All unanswered queries, for a new gateway: it is to refuse in the time that is left."""
        now = asyncio.get_running_loop().time()
        return [_hurried(message, deadline - now) for _, message, deadline, _ in self._waiting.values()]

    def on_answer(self, answer: Answer) -> None:
        """Hand the answer to the waiting task; one to a forgotten query is ignored."""
        number, value, seq, epoch, lag_events, lag_ms, node, level = answer
        waiting = self._waiting.pop(number, None)
        if waiting is not None and not waiting[0].done():
            waiting[0].set_result(QueryAnswer(value, seq, epoch, level, node, lag_events, lag_ms))

    def on_refused(self, refused: QueryRefused) -> None:
        """Raise NotYet, Refused or QueryFailed in the waiting task."""
        waiting = self._waiting.pop(refused.id, None)
        if waiting is not None and not waiting[0].done():
            error: Error
            if refused.kind == "not yet":
                error = NotYet(refused.reason, refused.try_node)
            elif refused.kind in ("failed", "rejected"):
                error = QueryFailed(refused.reason, rejected=refused.kind == "rejected")
            else:
                error = Refused(refused.reason, refused.try_node)
            waiting[0].set_exception(error)

    def abandon(self, error: Error) -> None:
        """Fail all waiting queries."""
        waiting, self._waiting = self._waiting, {}
        for future, _, _, _ in waiting.values():
            if not future.done():
                future.set_exception(error)
                future.exception()  # marks it as seen: the asking task may have given up

    def _expire(self, now: float) -> float:
        """Fail what is due; the next deadline."""
        late = [number for number, (_, _, deadline, _) in self._waiting.items() if deadline <= now]
        for number in late:
            future, _, _, timeout_s = self._waiting.pop(number)
            if not future.done():
                future.set_exception(NotSent(f"no answer within {round(timeout_s, 3):g} s: {self._why()}"))
        return min([deadline for _, _, deadline, _ in self._waiting.values()], default=_FOREVER)


def _hurried(message: bytes, left_s: float) -> bytes:
    query = decode_stream_untrusted(StreamKind.QUERY, message[HEAD_BYTES:])
    left_ms = max(left_s, 0.0) * 1e3
    return pack_message(StreamKind.QUERY, query._replace(timeout_ms=min(query.timeout_ms, left_ms)))


class Detour:
    """Keeps a connection to each node that was named, beside the client's own, until `stop`."""

    def __init__(self, dialer: Dialer) -> None:
        self._dialer = dialer
        self._others: dict[str, _Other] = {}

    async def ask(self, node: NodeConfig, query: Query, timeout_s: float) -> QueryAnswer:
        """The node's answer.

        Raises:
            Refused, NotYet, QueryFailed: its words. Unreachable: there is no connection. TimeoutError: no answer.
        """
        other = self._others.setdefault(node.id, _Other(self._dialer, node))
        async with asyncio.timeout(timeout_s):
            return await other.ask(query)

    def stop(self) -> None:
        """Close the connections."""
        for other in self._others.values():
            if other.link is not None:
                other.link.close()
        self._others.clear()


class _Other:
    """One node, and what it was asked."""

    def __init__(self, dialer: Dialer, node: NodeConfig) -> None:
        self.link: StreamLink | None = None
        self._dialer = dialer
        self._node = node
        self._questions = Questions()
        self._dialing = asyncio.Lock()

    async def ask(self, query: Query) -> QueryAnswer:
        async with self._dialing:
            if self.link is None:
                self.link = await self._dialer.open(self._node, self)
        number, future, message = self._questions.ask(query)
        self.link.write([message])
        try:
            return await future
        finally:
            self._questions.forget(number)

    def on_link_message(self, link: StreamLink, kind: int, payload: bytes) -> None:
        message = decode_stream_untrusted(kind, payload)
        if isinstance(message, Answer):
            self._questions.on_answer(message)
        elif isinstance(message, QueryRefused):
            self._questions.on_refused(message)
        elif isinstance(message, Failure) and kind == StreamKind.ERROR:
            link.close(message.text)
        else:
            raise DecodeError("unexpected message", str(kind))

    def on_link_writable(self, link: StreamLink) -> None:
        """Queries are small; none waits to be written."""

    def on_link_lost(self, link: StreamLink, reason: str) -> None:
        self.link = None
        self._questions.abandon(Unreachable(f"{self._node.id} at {self._node.address}: {reason}"))
