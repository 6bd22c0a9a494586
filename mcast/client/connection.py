"""A client's connection to its cluster: one link kept alive, and what goes over it.

`Keeper` keeps a link: which node to try next, when to move on, and what was tried in vain. `Exchange` sends what waits,
to a new gateway again, and hands out the answers.
"""

from __future__ import annotations

import asyncio
import random
import secrets
from asyncio import FIRST_COMPLETED
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any, Final, NoReturn, Protocol

from mcast.client.calls import Entry
from mcast.client.packing import CommandPacker
from mcast.client.queries import Questions
from mcast.client.session import ClientSession
from mcast.clock import monotonic_s
from mcast.config import NodeConfig
from mcast.errors import DecodeError, Refused
from mcast.limits import SESSION_IDLE_S
from mcast.net.tcp import ATTEMPT_S_MAX, CONNECT_S_MAX, Dialer, KeyMismatch, LinkOwner, StreamLink, Unreachable
from mcast.wire.groups import decode_results_untrusted, pack_run
from mcast.wire.records import NONCE_BYTES
from mcast.wire.stream import (
    UNFOUNDED,
    Answer,
    Failure,
    Opened,
    Ping,
    Pong,
    QueryRefused,
    StreamKind,
    Welcome,
    decode_stream_untrusted,
    pack_message,
)

WATCH_INTERVAL_S: Final = 0.25  # between looks at a link whose answers are awaited
SILENT_LOOKS_PING: Final = 2  # looks without a byte before a PING ...
SILENT_LOOKS_LOST: Final = 4  # ... and before the node counts as dead: about 1 s
STALLED_LOOKS: Final = 8  # looks without progress, though it answers pings, before another gateway is tried: 2 s ...
ALONE_LOOKS: Final = 4  # ... and if it has lost touch with the cluster, or with who numbers: 1 s
IN_VAIN_MAX: Final = 3  # doublings of these times while no gateway brings progress: 8 and 16 s
ALONE_MS: Final = 1_000  # since it was in touch: longer than most elections, which are no reason to leave
RETRY_S: Final = (0.05, 0.5)  # first and longest pause after every node was tried in vain; doubles
JITTER: Final = (0.5, 1.5)  # times that pause: those who lost one node together must not come back in step
PATIENCE: Final = (1.0, 1.5)  # times CONNECT_S_MAX, until the next node is asked too: a crowd must not move in step
MISMATCHES_MIN: Final = 2  # in a row, of one node, before its keys are blamed


class KeeperOwner(LinkOwner, Protocol):
    """The user of the link."""

    def on_link_ready(self, link: StreamLink) -> None:
        """A new link is up: everything unanswered must be sent again."""

    def is_waiting(self) -> bool:
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
        self.link: StreamLink | None = None
        self.failures: dict[str, str] = {}
        self._mismatches: Counter[str] = Counter()
        """Node -> how often in a row its keys seemed to differ, since a node was last reached."""
        self._dialer = dialer
        self._nodes = nodes
        self._owner = owner
        self._next = 0
        self._attempts: dict[str, asyncio.Task[StreamLink]] = {}
        """Node -> its connection attempt that has neither succeeded nor failed yet."""
        self._lost = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._silent = self._stalled = self._heard = self._seen = self._in_vain = 0
        self._alone = False
        self._hindrance = ""
        """Why the gateway cannot serve, in its own words."""
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
        self._give_up_attempts()
        if self._timer is not None:
            self._timer.cancel()
        if self.link is not None:
            link, self.link = self.link, None
            link.close(flush=True)
            await link.wait_closed()

    def on_link_lost(self, link: StreamLink, reason: str) -> None:
        """Go to another node."""
        if link is self.link:
            self.failures[link.node.id] = f"{link.node.id} at {link.node.address}: {reason}"
            self.link = None
            self._lost.set()

    @property
    def mismatch(self) -> str | None:
        """What was last said of a node whose keys differ; not on its first word, for a dying one may seem so, too."""
        return next((self.failures[node] for node, times in self._mismatches.items() if times >= MISMATCHES_MIN), None)

    def on_pong(self, pong: Pong) -> None:
        """The gateway said when it was last in touch with the cluster."""
        self._alone = pong.alone_ms >= ALONE_MS
        self._hindrance = ""

    def on_hindrance(self, why: str) -> None:
        """Behind its PONG the gateway said why what is waited for may not come by it."""
        self._hindrance = why

    def attempts_in_words(self) -> str:
        """Which nodes were tried, on which addresses, and how each attempt ended."""
        if self.link is not None and self._owner.progress() != self._greeted:
            self.failures.pop(self.link.node.id, None)
        parts = list(self.failures.values())
        if self.link is not None and self.link.node.id not in self.failures:
            why = f": {self._hindrance}" if self._hindrance else ""
            parts.append(
                f"{self.link.node.id} at {self.link.node.address} took the connection and has not answered{why}"
            )
        if not parts:
            parts = [f"{node.id} at {node.address}: no answer" for node in self._nodes]
        return "; ".join(parts)

    def watch(self) -> None:
        """An answer is awaited from now on: watch whether the gateway lives."""
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
        if link is None or not self._owner.is_waiting():
            return
        self._silent = 0 if link.heard != self._heard else self._silent + 1
        self._heard, self._seen = link.heard, self._owner.progress()
        if self._silent >= SILENT_LOOKS_LOST:
            link.close(f"silent for {self._silent * WATCH_INTERVAL_S:g} s")
            return
        patience = (ALONE_LOOKS if self._alone or self._hindrance else STALLED_LOOKS) << self._in_vain
        if self._stalled >= patience and len(self._nodes) > 1:
            self._in_vain = min(self._in_vain + 1, IN_VAIN_MAX)
            why = (
                f": {self._hindrance}" if self._hindrance else ", out of touch with the cluster" if self._alone else ""
            )
            link.close(f"no progress for {self._stalled * WATCH_INTERVAL_S:g} s{why}")
            return
        if max(self._silent, self._stalled) >= SILENT_LOOKS_PING:
            link.write([pack_message(StreamKind.PING, Ping(0))])
        self._timer = asyncio.get_running_loop().call_later(WATCH_INTERVAL_S, self._look)

    async def _keep(self) -> None:
        pause_s, barren, found = RETRY_S[0], 0, False
        while True:
            if found or await self._connect_any():
                found = False
                await self._lost.wait()
                barren += 1
                if self._owner.progress() != self._greeted:
                    pause_s, barren = RETRY_S[0], 0
                if barren < len(self._nodes):
                    continue  # else each in turn took the connection and ended it, as a halted node does
            found = await self._pause(pause_s * random.uniform(*JITTER))
            pause_s = min(pause_s * 2, RETRY_S[1])

    async def _connect_any(self) -> bool:
        """Ask each node once, the next one when one has failed or let a while pass; whether one has answered.

        What is not over by then goes on: a node that a whole crowd turns to needs seconds for all its handshakes, and
        whoever hangs up and comes again would wait from the beginning.
        """
        for _ in self._nodes:
            node = self._nodes[self._next]
            self._next = (self._next + 1) % len(self._nodes)
            self._lost.clear()
            if node.id not in self._attempts:
                attempt = self._dialer.open(node, self._owner, ATTEMPT_S_MAX)
                self._attempts[node.id] = asyncio.get_running_loop().create_task(attempt)
            if await self._any_answers(CONNECT_S_MAX * random.uniform(*PATIENCE), node):
                return True
        return False

    async def _pause(self, pause_s: float) -> bool:
        """Wait, unless a node answers meanwhile; whether one does."""
        loop = asyncio.get_running_loop()
        until = loop.time() + pause_s
        if await self._any_answers(pause_s):
            return True
        await asyncio.sleep(until - loop.time())
        return False

    async def _any_answers(self, wait_s: float, asked: NodeConfig | None = None) -> bool:
        """Whether one answers within `wait_s`, and before all, or the one that was `asked`, have failed."""
        loop = asyncio.get_running_loop()
        until = loop.time() + wait_s
        while self._attempts if asked is None else asked.id in self._attempts:
            done, _ = await asyncio.wait(
                self._attempts.values(), timeout=max(until - loop.time(), 0), return_when=FIRST_COMPLETED
            )
            for node in self._nodes:
                if self._attempts.get(node.id) in done and self._take_attempt(node, self._attempts.pop(node.id)):
                    self._give_up_attempts()
                    return True
            if loop.time() >= until:
                if asked is not None and asked.id in self._attempts:
                    self.failures[asked.id] = f"{asked.id} at {asked.address}: no answer within {wait_s:.1f} s"
                return False
        return False

    def _take_attempt(self, node: NodeConfig, attempt: asyncio.Task[StreamLink]) -> bool:
        """An attempt is over: whether its link is used from now on."""
        try:
            link = attempt.result()
        except Unreachable as error:
            self.failures[node.id] = str(error)
            self._mismatches[node.id] = self._mismatches[node.id] + 1 if isinstance(error, KeyMismatch) else 0
            return False
        self._mismatches.clear()
        self.link = link
        self._alone, self._hindrance = False, ""
        if self._timer is not None:  # it watched the link before
            self._timer.cancel()
            self._timer = None
        self._greeted = self._owner.progress()
        self._owner.on_link_ready(link)
        return True

    def _give_up_attempts(self) -> None:
        for attempt in self._attempts.values():
            attempt.cancel()
            attempt.add_done_callback(_hang_up)
        self._attempts.clear()


def _hang_up(attempt: asyncio.Task[StreamLink]) -> None:
    """Drop an attempt: its result is not wanted any more."""
    if not attempt.cancelled() and attempt.exception() is None:
        attempt.result().close("another node was quicker")


def preferred(
    nodes: tuple[NodeConfig, ...], at: str | None, shuffle: Callable[[list[NodeConfig]], None]
) -> tuple[NodeConfig, ...]:
    """`nodes` with `at` first; the others, and all without `at`, in an order that spreads clients over the cluster."""
    rest = [node for node in nodes if node.id != at]
    shuffle(rest)
    return (*[node for node in nodes if node.id == at], *rest)


class _Absent:
    """Stands for what only an open client has: whatever is asked of it is Refused."""

    def __init__(self, why: str) -> None:
        self.why = why

    def __getattr__(self, name: str) -> NoReturn:
        raise Refused(self.why)


_UNOPENED: Any = _Absent("this client is not open; use `async with mcast.connect(...) as client`, or `await` it")
_FORKED: Any = _Absent("this client is the parent process's; connect another one")
_CLOSED: Any = _Absent("this client is closed; connect another one")


class Exchange:
    """One client's link, session and questions. `welcome` and `packer` are the gateway's, once it is `ready`."""

    def __init__(self, dialer: Dialer, nodes: tuple[NodeConfig, ...]) -> None:
        self.keeper = Keeper(dialer, nodes, self)
        self.session = ClientSession(lambda: secrets.token_bytes(NONCE_BYTES), 0)
        self.questions = Questions(self.keeper.attempts_in_words)
        self.welcome: Welcome = _UNOPENED
        self.packer: CommandPacker = _UNOPENED
        self.ready = asyncio.Event()
        self.founded = UNFOUNDED
        """The uuid of the cluster, once it is known."""
        self._flushing = False
        self._outbox: list[bytes] = []
        self._answers = 0
        self._used_s = 0.0

    @property
    def is_disowned(self) -> bool:
        """Whether this is a forked child, which has no client."""
        return self.welcome is _FORKED

    def disown(self) -> None:
        """For a forked child: the session and the link are the parent's. Calls from now on are Refused."""
        self.welcome = self.packer = _FORKED

    def check_own(self) -> None:
        """Raise Refused in a forked child."""
        if self.is_disowned:
            raise Refused(_FORKED.why)

    async def close(self) -> None:
        """Close the session and the link; idempotent. Calls from now on are Refused."""
        self.welcome = self.packer = _CLOSED
        self.ready.clear()
        if self.keeper.link is not None:
            self.keeper.link.write(pack_run(StreamKind.SUBMIT, self.session.close_group()))
        if not self.session.pending:
            self.session.renew()  # whoever opens it again begins anew
        await self.keeper.stop()

    def submit(self, entry: Entry) -> None:
        """Send a single command: now, if nothing else is on its way."""
        idle = self._begin() and not self._flushing
        self.session.enqueue(entry)
        if idle:
            self.flush()  # what else comes in this turn of the event loop goes together
        else:
            self.flush_soon()

    def submit_all(self, entries: Sequence[Entry]) -> None:
        """Send entries with all that is called in this turn of the event loop."""
        self._begin()
        self.session.enqueue(*entries)
        self.flush_soon()

    def give_up(self, entry: Entry) -> None:
        """Give up an entry: its caller waits no more."""
        self.write(pack_run(StreamKind.SUBMIT, self.session.give_up(entry)))

    def _begin(self) -> bool:
        """Before the session is used: whether it is idle. One that was for long may be forgotten: begin another."""
        idle, now_s = not self.session.is_busy, monotonic_s()
        if idle and now_s - self._used_s > SESSION_IDLE_S / 2:
            self.write(pack_run(StreamKind.SUBMIT, self.session.close_group()))
            self.session.renew()
        self._used_s = now_s
        return idle

    def write(self, messages: Sequence[bytes]) -> None:
        """Write with the next flush. Without a link nothing is lost: a new one hears all that is unanswered."""
        if self.keeper.link is not None:
            self._outbox += messages
            self.flush_soon()

    def flush_soon(self) -> None:
        """One write for all that is called in this turn of the event loop."""
        if not self._flushing:
            self._flushing = True
            asyncio.get_running_loop().call_soon(self.flush)

    def flush(self) -> None:
        """Write now what waits and may go out."""
        self._flushing = False
        link = self.keeper.link
        outbox, self._outbox = self._outbox, []
        if link is not None:
            link.write(outbox + pack_run(StreamKind.SUBMIT, self.session.take()) if link.writable else outbox)
        if self.is_waiting():
            self.keeper.watch()

    def on_link_ready(self, link: StreamLink) -> None:
        """A gateway was found: send it everything that is unanswered, in order."""
        if link.welcome.cluster_uuid not in (self.founded, UNFOUNDED):
            if self.founded != UNFOUNDED:
                self.session.on_forgotten()
            self.founded = link.welcome.cluster_uuid
        self.welcome = link.welcome
        self.session.record_max = link.welcome.record_max
        self.packer = CommandPacker(link.welcome.commands, link.welcome.record_max, link.welcome.values_max)
        self.ready.set()
        self._outbox = []
        link.write(pack_run(StreamKind.SUBMIT, self.session.resend()) + self.questions.resend())
        self.flush()

    def on_link_message(self, link: StreamLink, kind: int, payload: bytes) -> None:
        """Hand an answer to the session, or to the call, that waits for it."""
        if link is not self.keeper.link:
            return
        if kind == StreamKind.RESULT:
            self._on_results(link, payload)
            return
        message = decode_stream_untrusted(kind, payload)
        if isinstance(message, Pong):
            self.keeper.on_pong(message)
            return
        if isinstance(message, Failure):
            if kind == StreamKind.HINDERED:
                self.keeper.on_hindrance(message.text)
            else:
                link.close(message.text)
            return
        self._answers += isinstance(message, Opened) or not self.session.is_busy
        if isinstance(message, Opened):
            self.session.on_opened(message)
            self.flush_soon()
        elif isinstance(message, Answer):
            self.questions.on_answer(message)
        elif isinstance(message, QueryRefused):
            self.questions.on_refused(message)
        else:
            raise DecodeError("unexpected message", str(kind))

    def _on_results(self, link: StreamLink, payload: bytes) -> None:
        results = decode_results_untrusted(payload)
        self._answers += 1
        if self.session.on_results(results):
            link.write(pack_run(StreamKind.SUBMIT, self.session.resend()))
        if self.session.queue:  # there may be room for it now
            self.flush_soon()

    def on_link_writable(self, link: StreamLink) -> None:
        """The gateway reads again."""
        self.flush_soon()

    def on_link_lost(self, link: StreamLink, reason: str) -> None:
        """The link is lost: look for another gateway at once."""
        self.keeper.on_link_lost(link, reason)

    def is_waiting(self) -> bool:
        """Whether any answer is awaited."""
        return self.session.is_busy or self.questions.is_busy

    def progress(self) -> int:
        """A number that changes with every answer; while commands wait, with theirs: queries may be answered alone."""
        return self._answers
