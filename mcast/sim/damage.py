"""What befalls the disk of a stopped node while nobody looks; the checker is told, and nobody else."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from mcast.sim.node import SimNode


def rot(node: SimNode) -> None:
    """A byte of a node's files changes, unnoticed until it is read."""
    assert not node.up
    random = node.world.random
    paths = [path for path in node.files.paths() if "/journal/" in path or path.endswith(("meta.json", "watermark"))]
    if not paths:
        return
    path = paths[int(random.random() * len(paths))]
    written = len(node.files.contents(path).rstrip(bytes(1)))
    offset = int(random.random() * written)
    node.world.loop.say(f"{node.name} has a rotten byte at {offset} of {path}")
    node.files.corrupt(path, offset)
    node.world.checker.rotted(node.book)


def lose_tail(node: SimNode, share: float, *, zeroed: bool) -> None:
    """A node's journal keeps a first `share` of its bytes; behind them are zeros, or its files end."""
    assert not node.up
    node.world.loop.say(f"{node.name} keeps {share:.0%} of its journal{', and zeros' if zeroed else ''}")
    paths = [path for path in node.files.paths() if "/journal/" in path and path.endswith(".segment")]
    written = [len(node.files.contents(path).rstrip(bytes(1))) for path in paths]
    left = int(sum(written) * share)
    for path, size in zip(paths, written, strict=True):
        if left < size:
            node.files.lose_tail(path, max(left, 0), zeroed=zeroed)
        left -= size
    node.world.checker.rotted(node.book)
