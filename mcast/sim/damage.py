"""Damage to the disk of a stopped node. Only the checker learns of it."""

from __future__ import annotations

import errno
from collections.abc import Mapping
from random import Random
from typing import TYPE_CHECKING, Final

from mcast.storage.meta import META_NAME, decode_meta_untrusted
from mcast.storage.watermark import WATERMARK_NAME

if TYPE_CHECKING:
    from mcast.sim.node import SimNode


CALLS: Final = (
    "open", "pread", "pwritev", "fdatasync", "fsync_dir", "ftruncate", "allocate", "unlink", "rename", "mkdir", "lock",
)  # fmt: skip
"""What a disk may refuse."""
ROOM: Final = ("open", "pwritev", "allocate", "rename", "ftruncate", "unlink")
"""What may need room."""
CUT_WITHIN: Final = 30  # changes of the disk; a start takes some 10 to 30


def lose(node: SimNode, kind: str, random: Random) -> None:
    """The disk of a node loses what a fault of this kind takes."""
    if kind == "wipe":
        node.wipe()
    elif kind == "rot":
        rot(node)
    else:
        lose_tail(node, random.random(), zeroed=random.random() < 0.5, watermark=random.random() < 0.25)


def trouble(node: SimNode, kind: str, random: Random) -> None:
    """The disk of a running node will soon fail in a fault of this kind."""
    if kind == "torn-call":
        node.files.stop_after(int(random.random() * 6))
    elif kind == "bad-sync":
        node.files.fail("fdatasync", errno.EIO, after=int(random.random() * 3))
    elif kind == "bad-call":
        node.files.fail(CALLS[int(random.random() * len(CALLS))], errno.EIO, after=int(random.random() * 8))
    elif kind == "full-disk":
        call = ROOM[int(random.random() * len(ROOM))]
        node.files.fail(call, errno.ENOSPC, after=int(random.random() * 6), times=1 + int(random.random() * 12))
    else:
        node.files.shorten(1 + int(random.random() * 20))


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
    node.world.checker.on_rot(node.book)


def bring_back(node: SimNode, older: Mapping[str, bytes]) -> None:
    """Files of a node, its meta among them, are those of an older moment: the disk reported a write, and lost it."""
    assert not node.up
    node.world.loop.say(f"{node.name} has an older {' and '.join(sorted(older))}")
    for path, data in older.items():
        node.files.replace(path, data)
        if path.endswith(META_NAME):
            node.book.meta = node.book.writing = decode_meta_untrusted(data).meta
    node.world.checker.on_rot(node.book)


def bring_back_disk(node: SimNode, disk: Mapping[str, bytes]) -> None:
    """A node's whole directory is that of an older moment, when all that it had was committed."""
    assert not node.up
    node.world.loop.say(f"{node.name} has the disk of an older moment")
    for path, data in disk.items():
        node.files.replace(path, data)
    for path in set(node.files.paths()) - disk.keys():
        node.files.unlink(path)
    node.book.meta = decode_meta_untrusted(next(data for path, data in disk.items() if path.endswith(META_NAME))).meta
    node.world.checker.on_went_back(node.book)


def lose_tail(node: SimNode, share: float, *, zeroed: bool, watermark: bool = False) -> None:
    """A node's journal keeps a first `share` of its bytes; behind them are zeros, or its files end.

    With `watermark` that is gone, too.
    """
    assert not node.up
    node.world.loop.say(f"{node.name} keeps {share:.0%} of its journal{', and zeros' if zeroed else ''}")
    paths = [path for path in node.files.paths() if "/journal/" in path and path.endswith(".segment")]
    written = [len(node.files.contents(path).rstrip(bytes(1))) for path in paths]
    left = int(sum(written) * share)
    for path, size in zip(paths, written, strict=True):
        if left < size:
            node.files.lose_tail(path, max(left, 0), zeroed=zeroed)
        left -= size
    if watermark:
        for path in [path for path in node.files.paths() if path.endswith(WATERMARK_NAME)]:
            node.files.lose_tail(path, 0, zeroed=zeroed)
    node.world.checker.on_rot(node.book)
