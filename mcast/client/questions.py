"""Queries on their way: each is sent again to a new gateway until it is answered, for a query changes nothing."""

from __future__ import annotations

import asyncio
from typing import Any, NamedTuple

from mcast.errors import Error, NotYet, QueryFailed, Refused
from mcast.wire.stream import Answer, Query, QueryRefused, StreamKind, pack_message


class QueryAnswer(NamedTuple):
    """A query's answer, the event number it holds at, and the level really served."""

    value: Any
    seq: int
    epoch: int
    level: str
    node: str
    lag_events: int
    lag_ms: float | None


class Questions:
    """The unanswered queries of one client, by id."""

    def __init__(self) -> None:
        self._waiting: dict[int, tuple[asyncio.Future[QueryAnswer], bytes]] = {}
        self._next_id = 1

    @property
    def busy(self) -> bool:
        """Whether any query waits for its answer."""
        return bool(self._waiting)

    def ask(self, query: Query) -> tuple[int, asyncio.Future[QueryAnswer], bytes]:
        """Give the query its id: the id, the future answer, the message. Raises Refused if it can't be packed."""
        number = self._next_id
        try:
            message = pack_message(StreamKind.QUERY, query._replace(id=number))
        except (TypeError, ValueError, OverflowError, RecursionError) as error:
            raise Refused(f"an argument cannot be sent: {error}") from None
        self._next_id += 1
        future: asyncio.Future[QueryAnswer] = asyncio.get_running_loop().create_future()
        self._waiting[number] = future, message
        return number, future, message

    def forget(self, number: int) -> None:
        """Nobody waits for this one any more."""
        self._waiting.pop(number, None)

    def resend(self) -> list[bytes]:
        """All unanswered queries, for a new gateway."""
        return [message for _, message in self._waiting.values()]

    def answered(self, answer: Answer) -> None:
        """Hand the answer to the waiting task; one to a forgotten query is ignored."""
        future, _ = self._waiting.pop(answer.id, (None, b""))
        if future is not None and not future.done():
            _, value, seq, epoch, lag_events, lag_ms, node, level = answer
            future.set_result(QueryAnswer(value, seq, epoch, level, node, lag_events, lag_ms))

    def refused(self, refused: QueryRefused) -> None:
        """Raise NotYet, Refused or QueryFailed in the waiting task."""
        future, _ = self._waiting.pop(refused.id, (None, b""))
        if future is not None and not future.done():
            error: Error
            if refused.kind == "not yet":
                error = NotYet(refused.reason, refused.try_node)
            elif refused.kind in ("failed", "rejected"):
                error = QueryFailed(refused.reason, rejected=refused.kind == "rejected")
            else:
                error = Refused(refused.reason, refused.try_node)
            future.set_exception(error)

    def abandon(self, error: Error) -> None:
        """None of them will be answered."""
        waiting, self._waiting = self._waiting, {}
        for future, _ in waiting.values():
            if not future.done():
                future.set_exception(error)
                future.exception()  # marks it as seen: the asking task may have given up
