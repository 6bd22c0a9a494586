"""A query that the gateway refused is asked once more, at the node that the refusal named."""

from __future__ import annotations

import asyncio

from mcast.client.questions import QueryAnswer, Questions
from mcast.config import NodeConfig
from mcast.errors import DecodeError
from mcast.net.tcp import Dialer, StreamLink, Unreachable
from mcast.wire.stream import Query, StreamKind, decode_stream_untrusted


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
        if kind == StreamKind.ANSWER:
            self._questions.on_answer(message)
        elif kind == StreamKind.QUERY_REFUSED:
            self._questions.on_refused(message)
        elif kind == StreamKind.ERROR:
            link.close(message.text)
        else:
            raise DecodeError("unexpected message", str(kind))

    def on_link_writable(self, link: StreamLink) -> None:
        """Queries are small; none waits to be written."""

    def on_link_lost(self, link: StreamLink, reason: str) -> None:
        self.link = None
        self._questions.abandon(Unreachable(f"{self._node.id} at {self._node.address}: {reason}"))
