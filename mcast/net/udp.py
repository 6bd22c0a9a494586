"""Real UDP: two group sockets to hear (stream, control), two to speak, one unicast socket; GSO and GRO if there are.

Receiving sockets are bound to the group's own address, so other groups on the port don't leak in, and joined by
interface index. Sending ones are pinned to the same interface; on loopback with TTL 0, so nothing can leave. DF is set
(and path MTU hints ignored: anyone can forge them). A refused send is a loss like any other: the stream repairs it.
"""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import errno
import socket
import struct
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

from mcast.limits import RECEIVE_BUFFER_BYTES
from mcast.net import forks, sockets
from mcast.net.interfaces import Interface
from mcast.net.link import LinkCounters, PeerAddress
from mcast.net.segments import gso_runs
from mcast.wire.envelope import CONTROL, STREAM, UNICAST

ARENA_BYTES: Final = 1 << 20  # bytes received in one wakeup; some 10 ms of Python work at full rate
DATAGRAM_BYTES_MAX: Final = 65_536  # a receive buffer this large is never cut short
RECEIVES_MAX: Final = 96  # system calls on one socket in one wakeup; without GRO each brings a single datagram
TRUESIZE_SHARE: Final = 4  # the kernel charges each packet for its bookkeeping too: up to 3 times its bytes
# Where in the arena control, unicast and stream must stop: a flood of one leaves the others their share.
_ARENA_ENDS: Final = (ARENA_BYTES // 4, ARENA_BYTES // 2, ARENA_BYTES)
_ANCILLARY_BYTES: Final = socket.CMSG_SPACE(4) * 2
_NO_OFFLOAD: Final = frozenset({errno.EINVAL, errno.ENOPROTOOPT, errno.EIO, errno.EOPNOTSUPP})
_INT: Final = struct.Struct("=i")
_U16: Final = struct.Struct("=H")


@dataclass(slots=True)
class _Drops:
    """What one socket dropped, by the kernel's count, of which `own` were one's own datagrams meeting the filter.

    The kernel tells its count with the next datagram only, so `own` may be ahead of it for a while, never behind.
    """

    own: int = 0
    _total: int = 0
    _counted: int = 0

    def count_new(self, count: int) -> int:
        """How many drops are new, given the kernel's 32-bit count."""
        self._total += (count - self._total) & 0xFFFF_FFFF
        new = max(self._total - self.own - self._counted, 0)
        self._counted += new
        return new


class UdpLink:
    """The five sockets of one node, non-blocking. Opening them raises ConfigError or EnvironmentProblem."""

    def __init__(  # noqa: PLR0913 - what identifies a node on a LAN
        self, *, group: str, port: int, interface: Interface, host: str, unicast_port: int,
        ignored_incarnation: bytes = b"", offload: bool = True,
    ) -> None:  # fmt: skip
        """Open and join. Datagrams of `ignored_incarnation` (one's own) are dropped by the kernel where it can."""
        self.counters = LinkCounters()
        self._loop: asyncio.AbstractEventLoop | None = None
        self.counters.gso = offload
        self._filtered: dict[socket.socket, _Drops] = {}
        """Sending socket -> the group's receiving socket, at which the kernel drops (and counts) what it sends."""
        self._arena = memoryview(bytearray(ARENA_BYTES))
        self._more = False
        self._group, self._port, self._unicast_port = group, port, unicast_port
        self._ignored = ignored_incarnation
        self._offload = offload
        self._readable: Callable[[], None] | None = None
        unicast = sockets.open_unicast(host, unicast_port)
        try:
            self._use(unicast, *self._open_group(interface))
        except BaseException:
            unicast.close()
            raise
        self.interface, self.host = interface, host
        """The interface that was joined, and the own address."""
        forks.keep_from_children(self)
        effective = min(sockets.grow_receive_buffer(sock, RECEIVE_BUFFER_BYTES) for sock in self._hearing)
        self._receive_window = effective // TRUESIZE_SHARE

    def rejoin(self, interface: Interface, host: str) -> None:
        """Open the sockets of the group anew, on what may be another interface, and tell the switches of it.

        The own address's socket too, if that is another one now. What waited in the old ones is lost, as datagrams may
        be. Raises EnvironmentProblem, and changes nothing, where they cannot be opened.
        """
        unicast = self._unicast
        fresh = self._open_group(interface)
        if host != self.host:
            try:
                own = sockets.open_unicast(host, self._unicast_port)
            except BaseException:
                for sock in fresh:
                    sock.close()
                raise
            old = self._every
            self._use(own, *fresh)
        else:
            old = [sock for sock in self._every if sock is not unicast]
            self._use(unicast, *fresh)
        self.interface, self.host = interface, host
        for sock in self._hearing:
            sockets.grow_receive_buffer(sock, RECEIVE_BUFFER_BYTES)
        for sock in old:
            if self._loop is not None:
                self._loop.remove_reader(sock)
            sock.close()
        for sock in (self._hearing[0], self._hearing[2]):
            sockets.join_again(sock, self._group, interface)
        if self._loop is not None and self._readable is not None:
            self.attach(self._loop, self._readable)

    def _open_group(self, interface: Interface) -> tuple[socket.socket, socket.socket, socket.socket, socket.socket]:
        """Control and stream to hear, stream and control to speak; all of them, or none."""
        group, port = self._group, self._port
        with contextlib.ExitStack() as opened:
            control = opened.enter_context(sockets.open_group(group, port + 1, interface))
            stream = opened.enter_context(sockets.open_group(group, port, interface))
            stream_out = opened.enter_context(sockets.open_sender(group, port, interface))
            control_out = opened.enter_context(sockets.open_sender(group, port + 1, interface))
            opened.pop_all()
        return control, stream, stream_out, control_out

    def _use(
        self, unicast: socket.socket, control: socket.socket, stream: socket.socket, stream_out: socket.socket,
        control_out: socket.socket,
    ) -> None:  # fmt: skip
        self._unicast, self._stream_out, self._control_out = unicast, stream_out, control_out
        self._every = [unicast, control, stream, stream_out, control_out]
        self._hearing = (control, unicast, stream)
        self._asked: tuple[socket.socket, ...] = self._hearing
        """The sockets from which the next `receive` reads."""
        for sock in self._hearing:
            sockets.report_drops(sock)
        self.counters.gro = all([self._offload and sockets.enable_gro(sock) for sock in self._hearing])
        self._drops = {sock: _Drops() for sock in self._hearing}
        self._filtered = {}
        if len(self._ignored) >= sockets.IGNORED_BYTES:
            for hearing, speaking in ((stream, stream_out), (control, control_out)):
                if sockets.ignore_incarnation(hearing, self._ignored):
                    self._filtered[speaking] = self._drops[hearing]

    @property
    def receive_window(self) -> int:
        """Bytes of full-sized datagrams its receive buffer surely takes."""
        return self._receive_window

    @property
    def has_more(self) -> bool:
        """Whether the last `receive` stopped at its bound rather than at an empty socket."""
        return self._more

    def attach(self, loop: asyncio.AbstractEventLoop, readable: Callable[[], None]) -> None:
        """Call `readable` on this loop whenever something can be received, until closed."""
        self._loop, self._readable = loop, readable
        control, unicast, stream = self._hearing
        loop.add_reader(unicast, self._on_readable, (unicast,), readable)
        loop.add_reader(stream, self._on_readable, (stream,), readable)
        loop.add_reader(control, self._on_readable, (control, stream), readable)  # both, for the order: see `receive`

    def _on_readable(self, ready: tuple[socket.socket, ...], readable: Callable[[], None]) -> None:
        """Some sockets have something: only they are asked, for each that is empty costs a system call."""
        self._asked = ready
        try:
            readable()
        finally:
            self._asked = self._hearing

    def close(self) -> None:
        """Leave the group and close; idempotent."""
        for sock in self._every:
            if self._loop is not None and sock.fileno() >= 0:
                self._loop.remove_reader(sock)
            sock.close()

    def leave_to_parent(self) -> list[int]:
        """See forks.Owner."""
        return [sock.fileno() for sock in self._every]

    def send(self, channel: int, datagrams: Sequence[bytes], to: PeerAddress | None = None) -> None:
        """Send a burst, in order; `to` exactly for the unicast channel. Never blocks; what is refused is counted."""
        assert (to is not None) == (channel == UNICAST), "only unicast names its receiver"
        sock = self._stream_out if channel == STREAM else self._control_out if channel == CONTROL else self._unicast
        if len(datagrams) == 1 or not self.counters.gso:
            self._send_singly(sock, datagrams, to)
            return
        for segment, run in gso_runs(datagrams):
            self._send_run(sock, segment, run, to)

    def _send_run(self, sock: socket.socket, segment: int, run: Sequence[bytes], to: PeerAddress | None) -> None:
        if len(run) == 1 or not self.counters.gso:
            self._send_singly(sock, run, to)
            return
        option = [(socket.IPPROTO_UDP, sockets.UDP_SEGMENT, _U16.pack(segment))]
        try:
            sent = sock.sendmsg(run, option, 0, to) if to else sock.sendmsg(run, option)
        except OSError as error:
            if error.errno in _NO_OFFLOAD:
                too_large = self.counters.sends_lost.get("EMSGSIZE", 0)
                self._send_singly(sock, run, to)
                if self.counters.sends_lost.get("EMSGSIZE", 0) == too_large:  # else the card carries less than it did
                    self.counters.gso = False
            else:
                self._count_lost(error, len(run))
            return
        self._count_sent(sock, len(run), sent)

    def _send_singly(self, sock: socket.socket, datagrams: Sequence[bytes], to: PeerAddress | None) -> None:
        for datagram in datagrams:
            try:
                sent = sock.sendto(datagram, to) if to else sock.send(datagram)
            except OSError as error:
                self._count_lost(error, 1)
            else:
                self._count_sent(sock, 1, sent)

    def _count_sent(self, sock: socket.socket, datagrams: int, size: int) -> None:
        counters = self.counters
        counters.sends += 1
        if sock in self._filtered:
            self._filtered[sock].own += 1 if self.counters.gro else datagrams
        counters.datagrams_sent += datagrams
        counters.bytes_sent += size

    def _count_lost(self, error: OSError, datagrams: int) -> None:
        name = errno.errorcode.get(error.errno or 0, "UNKNOWN")
        self.counters.sends_lost[name] = self.counters.sends_lost.get(name, 0) + datagrams

    def receive(self) -> list[memoryview]:
        """One bounded burst of datagrams, stream first; the views hold until the next call.

        The control socket is read before the stream socket but handed out after it: a heartbeat that names a frame
        must not be judged before that frame, which the kernel queued first.
        """
        self._more = False
        if len(self._asked) == 1:
            heard: list[memoryview] = []
            self._drain(self._asked[0], 0, _ARENA_ENDS[self._hearing.index(self._asked[0])], heard)
            self.counters.datagrams_received += len(heard)
            return heard
        control: list[memoryview] = []
        unicast: list[memoryview] = []
        stream: list[memoryview] = []
        at = 0
        for sock, into, end in zip(self._hearing, (control, unicast, stream), _ARENA_ENDS, strict=True):
            if sock in self._asked:
                at = self._drain(sock, at, end, into)
        stream += unicast
        stream += control
        self.counters.datagrams_received += len(stream)
        return stream

    def _drain(self, sock: socket.socket, at: int, end: int, into: list[memoryview]) -> int:
        """Receive between these two places of the arena; where the next socket goes on."""
        arena, counters = self._arena, self.counters
        for _ in range(RECEIVES_MAX):
            if at + DATAGRAM_BYTES_MAX > end:
                break
            try:
                size, ancillary, _, _ = sock.recvmsg_into([arena[at : at + DATAGRAM_BYTES_MAX]], _ANCILLARY_BYTES)
            except BlockingIOError:
                return at
            except OSError as error:  # an ICMP error of an earlier send: the stream copes, but it is counted
                self._count_lost(error, 1)
                continue
            counters.receives += 1
            counters.bytes_received += size
            segment = self._read_ancillary(sock, ancillary) if ancillary else 0
            if 0 < segment < size:
                whole = at + size - size % segment
                into += [arena[start : start + segment] for start in range(at, whole, segment)]
                if size % segment:
                    into.append(arena[whole : at + size])
            else:
                into.append(arena[at : at + size])
            at += size
        self._more = True
        return at

    def _read_ancillary(self, sock: socket.socket, ancillary: list[tuple[int, int, bytes]]) -> int:
        """The GRO segment size, 0 if this was a single datagram; counts what the socket had to drop."""
        segment = 0
        for level, kind, data in ancillary:
            if level == socket.IPPROTO_UDP and kind == sockets.UDP_GRO:
                (segment,) = _INT.unpack_from(data)
            elif level == socket.SOL_SOCKET and kind == sockets.SO_RXQ_OVFL:
                self.counters.kernel_drops += self._drops[sock].count_new(ctypes.c_uint32.from_buffer_copy(data).value)
        return segment
