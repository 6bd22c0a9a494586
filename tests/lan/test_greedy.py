"""Clients that ask without end, of every kind of request that a connection may pipeline, and others beside them."""

from __future__ import annotations

import asyncio
import contextlib
import sys
from collections.abc import AsyncIterator, Sequence

import pytest

from mcast.clock import monotonic_s
from mcast.config import NodeConfig
from mcast.lab.processes import Processes
from mcast.wire.records import RecordKind, encode_record
from mcast.wire.stream import (
    VERSION,
    Ask,
    HandoverRequest,
    Hello,
    Ping,
    Query,
    StreamKind,
    pack_message,
    pack_raw,
)

CROWD = 8
BURST_BYTES = 140_000
PATIENCE_S = 1.0  # for a command beside them; without slices it takes several, and an election
COMMANDS = 15

pytestmark = [pytest.mark.timeout(90), pytest.mark.skipif(sys.platform != "linux", reason="one platform is enough")]

QUESTION = pack_message(StreamKind.QUERY, Query(1, "size", [], "any", 0, None, None, 5e3))
UNORDERED = b"".join(encode_record(RecordKind.NOOP, 1, 7, request, 1, b"") for request in range(1, 1_001))
KINDS = {
    "STATUS": pack_message(StreamKind.STATUS, Ask(1)),
    "GAPS": pack_message(StreamKind.GAPS, Ask(1)),
    "PING": pack_message(StreamKind.PING, Ping(1)),
    "QUERY": QUESTION,
    "HANDOVER": pack_message(StreamKind.HANDOVER, HandoverRequest(1, "nobody")),
    "SUBMIT": pack_raw(StreamKind.SUBMIT, UNORDERED),
}


@contextlib.asynccontextmanager
async def greedy(node: NodeConfig, messages: Sequence[bytes]) -> AsyncIterator[None]:
    """A crowd that sends each of these again and again, and reads what it is told."""

    async def one(message: bytes) -> None:
        reader, writer = await asyncio.open_connection(node.host, node.port)
        writer.write(pack_message(StreamKind.HELLO, Hello(VERSION, "local", "client", "", bytes(16))))

        async def ask() -> None:
            while True:
                writer.write(message * (BURST_BYTES // len(message)))
                await writer.drain()
                await asyncio.sleep(0.02)

        asking = asyncio.create_task(ask())
        try:
            while await reader.read(1 << 20):
                pass
        finally:
            asking.cancel()
            await asyncio.gather(asking, return_exceptions=True)
            writer.close()

    tasks = [asyncio.create_task(one(messages[number % len(messages)])) for number in range(CROWD)]
    try:
        yield
        assert not any(task.done() for task in tasks), "it was served to the end"
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def test_a_crowd_that_asks_without_end_keeps_nobody_else_waiting() -> None:
    async with Processes() as processes:
        status = await processes.wait_until_live()
        sequencer = processes.config.node(status["sequencer"])
        gateway = next(node_id for node_id in processes.ids if node_id != sequencer.id)
        async with processes.connect(gateway, strict=True) as client:
            for messages in ([KINDS["STATUS"]], [KINDS["GAPS"]], list(KINDS.values())):
                async with greedy(sequencer, messages):
                    for _ in range(COMMANDS):
                        began_s = monotonic_s()
                        await client.submit("incr", "k")
                        assert monotonic_s() - began_s < PATIENCE_S
        after = await processes.wait_until_equal()
    assert (after["epoch"], after["sequencer"]) == (status["epoch"], sequencer.id), "no election"
    assert all(not node["refused_connections"] for node in after["nodes"])
