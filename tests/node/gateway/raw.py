"""A TCP connection to a gateway with nothing in between, for tests of what no honest client says."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any, ClassVar

import pytest

from mcast import limits
from mcast.node.fake import FakeCluster
from mcast.wire.groups import decode_results_untrusted
from mcast.wire.records import RecordKind, encode_record
from mcast.wire.splitter import Splitter
from mcast.wire.stream import VERSION, Hello, StreamKind, decode_stream_untrusted, pack_message, pack_raw

NONCE = bytes(16)
SILENCE_S = 10.0  # after which whoever waits for a message gives up


class Raw:
    """A connection with nothing in between; `opened` are closed after each test."""

    opened: ClassVar[list[Raw]] = []

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        Raw.opened.append(self)
        self.reader, self.writer = reader, writer
        self._splitter = Splitter(limits.TCP_MESSAGE_BYTES_MAX)
        self._waiting: list[tuple[int, bytes]] = []

    @classmethod
    async def open(cls, cluster: FakeCluster, node: str, hello: Hello | None = None) -> Raw:
        """Connect; say `hello` and read the WELCOME, if there is one to say."""
        where = cluster.config.node(node)
        raw = cls(*await asyncio.open_connection(where.host, where.port))
        if hello is not None:
            raw.send(pack_message(StreamKind.HELLO, hello))
            kind, _ = await raw.message()
            assert kind == StreamKind.WELCOME
        return raw

    def send(self, data: bytes) -> None:
        """Write bytes, unless the connection has ended: uvloop raises then."""
        if not self.writer.is_closing():
            self.writer.write(data)

    async def message(self) -> tuple[int, Any]:
        """The next message, decoded; (0, None) at the end."""
        while not self._waiting:
            try:
                async with asyncio.timeout(SILENCE_S):
                    data = await self.reader.read(65_536)
            except ConnectionResetError:
                data = b""
            if not data:
                return 0, None
            self._waiting += self._splitter.feed(data)
        kind, payload = self._waiting.pop(0)
        if kind == StreamKind.RESULT:
            (result,) = decode_results_untrusted(payload)
            return kind, result
        return kind, payload if kind == StreamKind.FRAMES else decode_stream_untrusted(kind, payload)

    async def payload(self, kind: StreamKind) -> bytes:
        """The next message, which must be of this kind, as it is."""
        while not self._waiting:
            self._waiting += self._splitter.feed(await self.reader.read(65_536))
        found, payload = self._waiting.pop(0)
        assert found == kind
        return payload

    async def ended(self) -> str:
        """Read to the end; the last ERROR's words."""
        words = ""
        while (item := await self.message())[0]:
            words = item[1].text if item[0] == StreamKind.ERROR else words
        self.writer.close()
        return words


def hello(role: str = "client", node: str = "", cluster: str = "lab", version: int = VERSION) -> Hello:
    return Hello(version, cluster, role, node, NONCE)


def opening(nonce: bytes = NONCE) -> bytes:
    return pack_raw(StreamKind.SUBMIT, encode_record(RecordKind.OPEN, 1, 0, 0, 0, nonce))


@pytest.fixture(autouse=True)
async def raws() -> AsyncIterator[None]:
    yield
    for raw in Raw.opened:
        raw.writer.close()
    Raw.opened.clear()
