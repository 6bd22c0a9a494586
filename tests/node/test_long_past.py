"""A past of more epochs than any datagram, or any constant, has room for strands nobody: real nodes, disks and TCP."""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import Callable
from contextlib import AsyncExitStack
from pathlib import Path

from mcast.config import Config, NodeConfig
from mcast.node.node import Node
from mcast.sim.past import eventful, write_past
from mcast.storage.files import RealFiles
from mcast.storage.meta import kernel_boot_id
from mcast.wire.messages import Member

EPOCHS = 66_000
BEHIND = 100


def lab(folder: Path, nodes: int) -> Config:
    held = []
    for _ in range(nodes + 1):
        held.append(socket.socket())
        held[-1].bind(("127.0.0.1", 0))
    *ports, port = [one.getsockname()[1] for one in held]
    for one in held:
        one.close()
    return Config(
        name=f"lab-{folder.name}", folder=folder, data_dir=folder / "data", port=port,
        nodes=tuple(NodeConfig(id=f"n{at + 1}", address=f"127.0.0.1:{own}") for at, own in enumerate(ports)),
        group=f"239.79.{os.getpid() % 250}.{os.getpid() // 250 % 250}",
    )  # fmt: skip


async def until(holds: Callable[[], bool]) -> None:
    async with asyncio.timeout(40):
        while not holds():
            await asyncio.sleep(0.005)


async def test_who_is_a_hundred_epochs_behind_and_who_is_empty_become_whole(tmp_path: Path) -> None:
    config = lab(tmp_path, 3)
    members = [Member(node.id, node.id.encode().ljust(16, b"."), node.address) for node in config.nodes]
    past = eventful(members, EPOCHS, b"u" * 16)
    for member, epochs in zip(members, (EPOCHS, EPOCHS - BEHIND), strict=False):
        write_past(
            RealFiles(), str(config.data_dir / member.node), config.name, member.node, past[: epochs + 1],
            storage_id=member.storage_id, boot_id=kernel_boot_id(),
        )  # fmt: skip
    states: set[tuple[str, bool]] = set()
    async with AsyncExitStack() as stack:
        nodes = [await stack.enter_async_context(Node(config, node.id)) for node in config.nodes]

        def whole() -> bool:
            said = [node.status() for node in nodes]
            states.update((str(one["state"]), "epochs before" in one.get("awaits", "")) for one in said[1:])
            return {one["state"] for one in said} == {"live"} and len({one["applied_seq"] for one in said}) == 1

        await until(whole)
        receipt = await nodes[2].submit("set", "k", 1)
        await until(lambda: len({node.status()["result_chain"] for node in nodes}) == 1)
        assert receipt.seq > EPOCHS
        assert ("catching-up", True) in states and ("live", True) not in states
