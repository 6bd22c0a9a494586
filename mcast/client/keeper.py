"""Keeps one link to the cluster alive: which node to try next, when to move on, and what was tried in vain."""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from collections.abc import Callable
from typing import Final, Protocol

from mcast.client.link import CONNECT_S_MAX, Dialer, KeyMismatch, Link, LinkOwner, Unreachable
from mcast.config import NodeConfig
from mcast.wire.stream import Ping, Pong, StreamKind, pack_message

WATCH_INTERVAL_S: Final = 0.25  # between looks at a link whose answers are awaited
SILENT_LOOKS_PING: Final = 2  # looks without a byte before a PING ...
SILENT_LOOKS_LOST: Final = 4  # ... and before the node counts as dead: about 1 s
STALLED_LOOKS: Final = 8  # looks without progress, though it answers pings, before another gateway is tried: 2 s ...
ALONE_LOOKS: Final = 4  # ... and if it has lost touch with the cluster: 1 s
IN_VAIN_MAX: Final = 3  # doublings of these times while no gateway brings progress: 8 and 16 s
ALONE_MS: Final = 1_000  # since it was in touch: longer than most elections, which are no reason to leave
RETRY_S: Final = (0.05, 0.5)  # first and longest pause after every node was tried in vain; doubles
JITTER: Final = (0.5, 1.5)  # times that pause: those who lost one node together must not come back in step
MISMATCHES_MIN: Final = 2  # in a row, of one node, before its keys are blamed


class KeeperOwner(LinkOwner, Protocol):
    """Who uses the link."""

    def link_ready(self, link: Link) -> None:
        """A new link is up: everything unanswered must be sent again."""

    def waiting(self) -> bool:
        """Whether any answer is awaited."""

    def progress(self) -> int:
        """A number that changes with every answer."""


class Keeper:
    """Holds a link to one of `nodes`, tried in this order; the next one when it dies or falls silent.

    Looks happen by a timer while answers are awaited, and count silence in looks rather than by the clock: a program
    that blocked its own event loop for a second must not take its gateway for dead. Without a majority no node brings
    progress, so moves for want of it become rarer.
    """

    def __init__(self, dialer: Dialer, nodes: tuple[NodeConfig, ...], owner: KeeperOwner) -> None:
        self.link: Link | None = None
        self.failures: dict[str, str] = {}
        self._mismatches: Counter[str] = Counter()
        """By node: how often in a row its keys seemed to differ, if no node was reached since."""
        self._dialer = dialer
        self._nodes = nodes
        self._owner = owner
        self._next = 0
        self._lost = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._silent = self._stalled = self._heard = self._seen = self._in_vain = 0
        self._alone = False
        self._greeted = 0
        """The owner's progress when the link came up."""

    def start(self) -> None:
        """Begin to connect."""
        self._task = asyncio.get_running_loop().create_task(self._keep())

    async def stop(self) -> None:
        """Close the link, letting what was written leave first."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
        if self._timer is not None:
            self._timer.cancel()
        if self.link is not None:
            link, self.link = self.link, None
            link.close(flush=True)
            await link.wait_closed()

    def link_lost(self, link: Link, reason: str) -> None:
        """Go to another node."""
        if link is self.link:
            self.failures[link.node.id] = f"{link.node.id} at {link.node.address}: {reason}"
            self.link = None
            self._lost.set()

    @property
    def mismatch(self) -> str | None:
        """What was last said of a node whose keys differ; not on its first word, for a dying one may seem so, too."""
        return next((self.failures[node] for node, times in self._mismatches.items() if times >= MISMATCHES_MIN), None)

    def touch(self, pong: Pong) -> None:
        """The gateway said when it was last in touch with the cluster."""
        self._alone = pong.alone_ms >= ALONE_MS

    def tried(self) -> str:
        """Whom was asked on which address, and what came of it."""
        if self.link is not None and self._owner.progress() != self._greeted:
            self.failures.pop(self.link.node.id, None)
        parts = list(self.failures.values())
        if self.link is not None and self.link.node.id not in self.failures:
            parts.append(f"{self.link.node.id} at {self.link.node.address} took the connection and has not answered")
        if not parts:
            parts = [f"{node.id} at {node.address}: no answer" for node in self._nodes]
        return "; ".join(parts)

    def watch(self) -> None:
        """An answer is awaited from now on."""
        if self._timer is None and self.link is not None:
            self._silent = self._stalled = 0
            self._heard, self._seen = self.link.heard, self._owner.progress()
            self._timer = asyncio.get_running_loop().call_later(WATCH_INTERVAL_S, self._look)

    def _look(self) -> None:
        self._timer = None
        link = self.link
        if self._owner.progress() != self._seen:
            self._stalled = self._in_vain = 0
        else:
            self._stalled += 1
        if link is None or not self._owner.waiting():
            return
        self._silent = 0 if link.heard != self._heard else self._silent + 1
        self._heard, self._seen = link.heard, self._owner.progress()
        if self._silent >= SILENT_LOOKS_LOST:
            link.close(f"silent for {self._silent * WATCH_INTERVAL_S:g} s")
            return
        patience = (ALONE_LOOKS if self._alone else STALLED_LOOKS) << self._in_vain
        if self._stalled >= patience and len(self._nodes) > 1:
            self._in_vain = min(self._in_vain + 1, IN_VAIN_MAX)
            why = ", out of touch with the cluster" if self._alone else ""
            link.close(f"no progress for {self._stalled * WATCH_INTERVAL_S:g} s{why}")
            return
        if max(self._silent, self._stalled) >= SILENT_LOOKS_PING:
            link.write([pack_message(StreamKind.PING, Ping(0))])
        self._timer = asyncio.get_running_loop().call_later(WATCH_INTERVAL_S, self._look)

    async def _keep(self) -> None:
        pause_s, barren = RETRY_S[0], 0
        while True:
            if await self._connect_any():
                await self._lost.wait()
                barren += 1
                if self._owner.progress() != self._greeted:
                    pause_s, barren = RETRY_S[0], 0
                if barren < len(self._nodes):
                    continue  # else each in turn took the connection and ended it, as a halted node does
            await asyncio.sleep(pause_s * random.uniform(*JITTER))
            pause_s = min(pause_s * 2, RETRY_S[1])

    async def _connect_any(self) -> bool:
        for _ in self._nodes:
            node = self._nodes[self._next]
            self._next = (self._next + 1) % len(self._nodes)
            self._lost.clear()
            try:
                link = await self._dialer.open(node, self._owner, CONNECT_S_MAX)
            except Unreachable as error:
                self.failures[node.id] = str(error)
                self._mismatches[node.id] = self._mismatches[node.id] + 1 if isinstance(error, KeyMismatch) else 0
                continue
            self._mismatches.clear()
            self.link = link
            self._alone = False
            if self._timer is not None:  # it watched the link before
                self._timer.cancel()
                self._timer = None
            self._greeted = self._owner.progress()
            self._owner.link_ready(link)
            return True
        return False


def preferred(
    nodes: tuple[NodeConfig, ...], at: str | None, shuffle: Callable[[list[NodeConfig]], None]
) -> tuple[NodeConfig, ...]:
    """`nodes` with `at` first; the others, and all without `at`, in an order that spreads clients over the cluster."""
    rest = [node for node in nodes if node.id != at]
    shuffle(rest)
    return (*[node for node in nodes if node.id == at], *rest)
