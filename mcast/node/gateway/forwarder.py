"""The way of commands to the sequencer: into this node's own protocol when it leads, else over TCP to the sequencer.

The connection to the sequencer's node is kept open even when nothing is forwarded: its end is the fast sign of that
node's death. When it closes, or nothing has come back over it for some seconds, a new one is opened at once. If nobody
listens there any more, or another incarnation answers, the one that led is dead, and the protocol is told; the same
incarnation proves life; no answer proves nothing.

Nothing is kept here. Groups that find no way are simply not sent: their gateway keeps every unanswered group, and hears
through `resend` whenever a way opens, or earlier sendings may have been lost (another epoch, another connection).
Replicas apply each request once, so sending too often is harmless.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Final

from mcast.config import NodeConfig
from mcast.errors import DecodeError
from mcast.net.tcp import ATTEMPT_S_MAX, Dialer, NobodyListens, StreamLink, Unreachable
from mcast.protocol.effects import EpochChanged, Notice, SequencerReady, SteppedDown
from mcast.wire.envelope import name_hash
from mcast.wire.groups import RecordGroup, pack_run
from mcast.wire.stream import ForwardRefused, Ping, StreamKind, decode_stream_untrusted, pack_message

if TYPE_CHECKING:
    from mcast.node.shell import Shell

SILENT_LOOKS: Final = 5  # in a row without an answer, before a connection is given up: the sequencer may be busy ...
SILENT_LOOKS_TOLD: Final = 2  # ... and before it is told
RETRY_S: Final = (0.01, 0.2)  # first and longest pause before a failed forward is tried again; doubles
_PING: Final = pack_message(StreamKind.PING, Ping(0))


class Forwarder:
    """Sends groups of records to whoever numbers. `resend` must send all that is unanswered, each session's in order.

    `ready` is called when a congested way is free again.
    """

    def __init__(self, shell: Shell, dialer: Dialer, resend: Callable[[], None], ready: Callable[[], None]) -> None:
        self._shell = shell
        self._dialer = dialer
        self._resend = resend
        self._ready = ready
        self._nodes: dict[int, NodeConfig] = {name_hash(node.id): node for node in shell.config.nodes}
        self._me = name_hash(shell.node_id)
        self._link: StreamLink | None = None
        self._dead: str | None = None
        self._dialing: asyncio.Task[None] | None = None
        self._target: int | None = None
        self._followed: tuple[int, int, bytes | None] | None = None
        """The epoch followed, its sequencer, and the incarnation that led when it began, if that is known."""
        self._opened_s = 0.0
        self._heard = 0
        self._silent = 0
        """In how many looks in a row nothing came over the connection."""
        self._trouble: str | None = None
        self._retry: asyncio.TimerHandle | None = None
        self._pause_s = RETRY_S[0]
        self._stopped = False

    @property
    def is_congested(self) -> bool:
        """Whether the sequencer's node takes no more for now: clients should be read no further."""
        return self._link is not None and not self._link.writable

    @property
    def dead_node(self) -> str | None:
        """The node whose connection ended, and on whose port nobody has listened since."""
        return self._dead

    @property
    def linked_node(self) -> str | None:
        """The node that it has a connection to."""
        return None if self._link is None else self._link.node.id

    def look(self) -> str | None:
        """Once a second: ask whether the sequencer's node answers. Why what is sent does not get there, if that is so.

        A connection whose way is blocked looks open for a quarter of an hour, and may hold back what was written for
        two minutes after the way is open again. So it is given up, and dialled anew.
        """
        link = self._link
        if link is None:
            self._silent = self._silent + 1 if self._dialing is not None else 0
            target = self._nodes.get(self._target or 0)
            if self._trouble is None and target is not None and self._silent >= SILENT_LOOKS_TOLD:
                return f"{target.id} at {target.address}: no answer for {self._silent} s"
            return self._trouble
        self._silent = self._silent + 1 if link.heard == self._heard else 0
        self._heard = link.heard
        reported = f"{link.node.id} at {link.node.address}: no answer for {self._silent} s"
        if self._silent < SILENT_LOOKS:
            link.write([_PING])
            return reported if self._silent >= SILENT_LOOKS_TOLD else None
        self._silent, self._trouble = 0, reported
        link.close("no answer")
        return reported

    def send(self, groups: Sequence[RecordGroup]) -> None:
        """Send groups on their way, if there is one now."""
        if not groups or self._stopped:
            return
        shell = self._shell
        if shell.replica.is_sequencer:
            if not shell.submit(groups):
                self._retry_later()
        elif self._retry is None:
            sequencer = shell.replica.sequencer
            if self._link is not None and self._target == sequencer:
                self._link.write(pack_run(StreamKind.FORWARD, [b"".join(group) for group in groups]))
            else:
                self._open(sequencer)

    def on_notice(self, notice: Notice) -> None:
        """Follow the epochs: what an older one had not committed may be gone, so all is sent anew."""
        if isinstance(notice, SequencerReady):
            self._drop_link()
            self._on_way_open()
        elif isinstance(notice, EpochChanged):
            if notice.sequencer is not None:
                self._followed = notice.epoch, notice.sequencer, self._shell.incarnation_of(notice.sequencer)
            if notice.sequencer is None or notice.sequencer == self._me:
                self._drop_link()
            elif self._link is not None and self._target == notice.sequencer:
                self._on_way_open()
            else:
                self._open(notice.sequencer)
        elif isinstance(notice, SteppedDown):
            self._open(self._shell.replica.sequencer)

    def on_address_change(self) -> None:
        """Somebody has another address: the connection may lead nowhere."""
        target = self._target
        self._drop_link()
        self._open(target)

    async def stop(self) -> None:
        """Close the connection; nothing is sent any more."""
        self._stopped = True
        dialing = self._dialing
        self._drop_link()
        if dialing is not None:
            await asyncio.gather(dialing, return_exceptions=True)

    def on_link_message(self, link: StreamLink, kind: int, payload: bytes) -> None:
        """The other side may only refuse."""
        if kind == StreamKind.PONG:
            return
        if not isinstance(decode_stream_untrusted(kind, payload), ForwardRefused):
            raise DecodeError("unexpected message", str(kind))
        if link is self._link:
            self._retry_later()

    def on_link_writable(self, link: StreamLink) -> None:
        """The sequencer's node reads again."""
        self._ready()

    def on_link_lost(self, link: StreamLink, reason: str) -> None:
        """Whether the sequencer died or only the connection: try again, at once, until a notice names another."""
        if link is self._link:
            self._link = None
            if asyncio.get_running_loop().time() - self._opened_s < RETRY_S[1]:
                self._retry_later()  # else one that is closed again and again would be opened without a pause
            else:
                self._open(self._target)

    def _open(self, sequencer: int | None) -> None:
        """Dial the sequencer's node, unless that is under way."""
        if self._target != sequencer or sequencer is None:
            self._drop_link()
        node = self._nodes.get(sequencer) if sequencer is not None else None
        if node is None or sequencer == self._me or self._stopped:
            return
        if self._link is not None or self._dialing is not None:
            return
        self._target = sequencer
        self._dialing = asyncio.get_running_loop().create_task(self._dial(node))

    async def _dial(self, node: NodeConfig) -> None:
        try:
            link = await self._dialer.open(node, self, ATTEMPT_S_MAX)  # behind a crowd's handshakes, if need be
        except Unreachable as error:
            self._dialing = None
            self._trouble = str(error)
            if isinstance(error, NobodyListens):
                self._dead = node.id
                self._report_death(node)
            self._retry_later()
            return
        self._dialing = self._dead = self._trouble = None
        self._link, self._heard, self._silent = link, link.heard, 0
        self._opened_s = asyncio.get_running_loop().time()
        if self._followed is not None and self._followed[2] not in (None, link.welcome.incarnation):
            self._report_death(node)
        if self._shell.config.key_file is not None:
            self._shell.on_incarnation_proven(name_hash(node.id), link.welcome.incarnation)
        self._pause_s = RETRY_S[0]
        self._on_way_open()

    def _report_death(self, node: NodeConfig) -> None:
        """Say once an epoch that it died: if that is wrong, its heartbeats go on, and only silence counts from then."""
        if self._followed is not None and self._followed[1] == name_hash(node.id):
            self._followed = None
            self._shell.on_peer_died(name_hash(node.id))

    def _drop_link(self) -> None:
        if self._retry is not None:
            self._retry.cancel()
            self._retry = None
        if self._dialing is not None:
            self._dialing.cancel()
            self._dialing = None
        link, self._link, self._target, self._trouble = self._link, None, None, None
        self._silent = 0
        if link is not None:
            link.close("another node numbers now")

    def _retry_later(self) -> None:
        if self._retry is None and not self._stopped:
            self._retry = asyncio.get_running_loop().call_later(self._pause_s, self._retry_now)
            self._pause_s = min(self._pause_s * 2, RETRY_S[1])

    def _retry_now(self) -> None:
        self._retry = None
        if self._link is not None and not self._link.writable:
            self._retry_later()  # resending into a full buffer would only make it fuller
        elif self._shell.replica.is_sequencer or self._link is not None:
            self._resend()
        else:
            self._open(self._shell.replica.sequencer)

    def _on_way_open(self) -> None:
        if self._retry is not None:
            self._retry.cancel()
            self._retry = None
        self._pause_s = RETRY_S[0]
        self._resend()
        self._ready()
