"""Turns any source of commands into packed commands, a bounded number of bytes at a time."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncGenerator, AsyncIterable, Iterable, Iterator
from typing import Final

from mcast.client.packing import SLICE_COMMANDS, Command, CommandPacker, PackedCommands
from mcast.errors import Refused

FEED_BYTES: Final = 64 << 10  # bytes packed before the event loop gets its turn


async def packed_from(
    commands: Iterable[Command] | AsyncIterable[Command], packer: CommandPacker
) -> AsyncGenerator[list[PackedCommands], None]:
    """Packed, in the commands' order. Raises Refused as `CommandPacker.pack`."""
    if isinstance(commands, AsyncIterable):
        start = 0
        async with contextlib.aclosing(_slices(commands)) as slices:
            async for waiting in slices:
                async for batch in _fed(packer.pack(waiting, start)):
                    yield batch
                start += len(waiting)
        return
    async for batch in _fed(packer.pack(commands)):
        yield batch


async def _fed(source: Iterator[PackedCommands]) -> AsyncGenerator[list[PackedCommands], None]:
    """Packed commands in lists of about FEED_BYTES; all before a refused command come before the error."""
    batch: list[PackedCommands] = []
    size = 0
    refused: Refused | None = None
    try:
        for packed in source:
            batch.append(packed)
            size += len(packed.payload)
            if size >= FEED_BYTES:
                yield batch
                batch, size = [], 0
                await asyncio.sleep(0)
    except Refused as error:
        refused = error
    yield batch
    if refused is not None:
        raise refused


async def _slices(commands: AsyncIterable[Command]) -> AsyncGenerator[list[Command], None]:
    """Natural batching: what arrived while the last slice was on its way makes up the next one."""
    waiting: list[Command] = []
    changed, room = asyncio.Event(), asyncio.Event()

    async def read() -> None:
        async for command in commands:
            waiting.append(command)
            changed.set()
            if len(waiting) >= SLICE_COMMANDS:
                room.clear()
                await room.wait()

    reader = asyncio.get_running_loop().create_task(read())
    reader.add_done_callback(lambda _: changed.set())
    try:
        while waiting or not reader.done():
            await changed.wait()
            changed.clear()
            taken = waiting[:]
            waiting.clear()
            room.set()
            if taken:
                yield taken
        reader.result()
    finally:
        reader.cancel()
        await asyncio.gather(reader, return_exceptions=True)
