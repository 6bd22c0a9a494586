"""Turns any source of commands into parcels, a bounded number of bytes at a time."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterable, AsyncIterator, Iterable
from typing import Final

from mcast.client.packing import SLICE_COMMANDS, Command, CommandPacker, Parcel

FEED_BYTES: Final = 64 << 10  # bytes packed before the event loop gets its turn


async def parcels_of(
    commands: Iterable[Command] | AsyncIterable[Command], packer: CommandPacker
) -> AsyncIterator[list[Parcel]]:
    """Parcels in the commands' order. Raises Refused as `CommandPacker.pack`."""
    if isinstance(commands, AsyncIterable):
        async for waiting in _slices(commands):
            yield list(packer.pack(waiting))
        return
    parcels: list[Parcel] = []
    size = 0
    for parcel in packer.pack(commands):
        parcels.append(parcel)
        size += len(parcel.payload)
        if size >= FEED_BYTES:
            yield parcels
            parcels, size = [], 0
            await asyncio.sleep(0)
    yield parcels


async def _slices(commands: AsyncIterable[Command]) -> AsyncIterator[list[Command]]:
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
