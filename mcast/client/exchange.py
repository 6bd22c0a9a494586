"""What a client and its gateway tell each other: sends what waits, to a new gateway again, hands out the answers."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Sequence
from typing import Any, NoReturn

from mcast.client.calls import Entry
from mcast.client.keeper import Keeper
from mcast.client.packing import CommandPacker
from mcast.client.questions import Questions
from mcast.client.session import ClientSession
from mcast.clock import monotonic_s
from mcast.config import NodeConfig
from mcast.errors import DecodeError, Refused
from mcast.limits import SESSION_IDLE_S
from mcast.net.tcp import Dialer, StreamLink
from mcast.wire.groups import decode_results_untrusted, pack_run
from mcast.wire.records import NONCE_BYTES
from mcast.wire.stream import UNFOUNDED, StreamKind, Welcome, decode_stream_untrusted


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
        if kind == StreamKind.PONG:
            self.keeper.on_pong(message)
            return
        if kind == StreamKind.HINDERED:
            self.keeper.on_hindrance(message.text)
            return
        if kind == StreamKind.ERROR:
            link.close(message.text)
            return
        self._answers += kind == StreamKind.OPENED or not self.session.is_busy
        if kind == StreamKind.OPENED:
            self.session.on_opened(message)
            self.flush_soon()
        elif kind == StreamKind.ANSWER:
            self.questions.on_answer(message)
        elif kind == StreamKind.QUERY_REFUSED:
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
