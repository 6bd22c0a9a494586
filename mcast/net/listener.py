"""The listening socket of a node: never more connections than there are file descriptors for, and no burst of them.

Each accepted connection costs a descriptor from its first moment on, long before anybody has proven a key. The journal
needs descriptors too, and a node whose journal fails is lost; so connections are counted from `accept` on, and whoever
comes beyond the bound is told and turned away at once.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import logging
import os
import resource
import socket
from collections import deque
from collections.abc import Callable
from typing import Any, Final

from mcast.clock import monotonic_s
from mcast.errors import EnvironmentProblem
from mcast.limits import (
    ACCEPTS_PER_TURN,
    CONNECTIONS_MAX,
    CONNECTIONS_SPARE,
    DESCRIPTORS_OWN,
    DESCRIPTORS_OWN_MIN,
)
from mcast.net.forks import keep_from_children
from mcast.net.sockets import resolve

LISTEN_BACKLOG: Final = 1_024  # connections the kernel holds meanwhile: let in before their clients give up
CROWDED_S: Final = 0.002  # before it is looked again whether there is room inside
ACCEPT_AGAIN_S: Final = 0.02  # after the system had no descriptor or memory for one: until it is asked again

AWAY_S: Final = 60.0  # for which status tells of connections that were turned away
AWAY_MAX: Final = 1_000  # of them that are remembered
ROOM_MIN: Final = 8  # connections, however few files may be opened
_WANTED: Final = CONNECTIONS_MAX + CONNECTIONS_SPARE + DESCRIPTORS_OWN
MORE_FILES: Final = (
    f"raise that with `ulimit -n {_WANTED}`, or LimitNOFILE={_WANTED} in its systemd unit, and start the node again"
)

TOO_MANY: Final = "too many connections"
HUNG_UP: Final = "hung up before its turn"
NO_ROOM: Final = "the system has no room for a connection"
_NO_ROOM: Final = (errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM)
_HUNG_UP: Final = (7, 8)  # Linux's TCP_CLOSE, TCP_CLOSE_WAIT

_log: Final = logging.getLogger("mcast.node")


class Listener(socket.socket):
    """A bound socket, for a `Door`. While `full()`, it turns away who comes, with `words` if any.

    Whoever has hung up while waiting in the kernel's queue is passed over: a handshake with the dead takes as long as
    one with the living, and a crowd whose patience ends before its turn would never be let in.
    """

    full: Callable[[], bool]
    words: bytes
    turned_away: Callable[[str], None]
    """Is told why, once for each."""

    def leave_to_parent(self) -> list[int]:
        """See forks.Owner."""
        return [self.fileno()]

    def accept(self) -> tuple[socket.socket, Any]:
        """The next connection. Raises BlockingIOError when there is none, or it was turned away."""
        taken = super().accept()
        while _has_hung_up(taken[0]):
            taken[0].close()
            self.turned_away(HUNG_UP)
            taken = super().accept()
        if not self.full():
            return taken
        self._refuse(taken[0], TOO_MANY)
        raise BlockingIOError("turned away")

    def turn_away(self) -> None:
        """Whoever is next, there is no room. Raises OSError: there is nobody, or not even a descriptor to say so."""
        self._refuse(super().accept()[0], NO_ROOM)

    def _refuse(self, accepted: socket.socket, why: str) -> None:
        with contextlib.closing(accepted) as refused, contextlib.suppress(OSError):
            refused.setblocking(False)
            refused.send(self.words)
        self.turned_away(why)


class Crowd:
    """Remembers whom a node turned away for want of descriptors, to say so in its status, and once in its log."""

    def __init__(self, node_id: str) -> None:
        self._node_id = node_id
        self._away_s: deque[float] = deque(maxlen=AWAY_MAX)

    def on_turned_away(self, reason: str) -> None:
        """Somebody was closed, or not let in, for this reason."""
        if reason not in (TOO_MANY, NO_ROOM):
            return
        now_s = monotonic_s()
        if not self._away_s or now_s - self._away_s[-1] > AWAY_S:
            _log.warning("node %s turns connections away: %s", self._node_id, reason)
        self._away_s.append(now_s)

    def findings(self, clients_max: int) -> list[str]:
        """A finding if connections were turned away lately, and a higher limit would help."""
        count = sum(1 for then_s in self._away_s if then_s > monotonic_s() - AWAY_S)
        if not count or clients_max >= CONNECTIONS_MAX:
            return []
        said = f"{count:,}{' or more' if count == AWAY_MAX else ''}"
        return [
            f"{self._node_id} turned {said} connections away within {AWAY_S:.0f} s: it may open few files, so it takes "
            f"{clients_max} clients, not {CONNECTIONS_MAX}; {MORE_FILES}"
        ]


def _has_hung_up(accepted: socket.socket) -> bool:
    """Whether the other side has closed or aborted already, if the kernel tells."""
    if not hasattr(socket, "TCP_INFO"):  # macOS
        return False
    state = accepted.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 1)[0]
    return state in _HUNG_UP


def open_listener(
    host: str, port: int, full: Callable[[], bool], words: bytes, turned_away: Callable[[str], None]
) -> Listener:
    """Bound, not listening yet. Raises OSError: the address is in use, or not this machine's."""
    address = resolve(host, port)
    family = socket.AF_INET6 if len(address) == 4 else socket.AF_INET
    # named as TCP, else no event loop turns Nagle's delay off for who is accepted: 40 ms for each second small write
    listener = Listener(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(address)
    except BaseException:
        listener.close()
        raise
    keep_from_children(listener)
    listener.full, listener.words, listener.turned_away = full, words, turned_away
    return listener


class Door:
    """Lets in who comes to a listener, a few each turn of the loop: `made` gives each its protocol.

    While it is `crowded` inside, others wait in the kernel's queue, the first to come at its head.

    Not an event loop's server: those accept as many in a turn as the kernel may hold, and uvloop's goes past
    `Listener.accept`.
    """

    def __init__(
        self, listener: Listener, made: Callable[[], asyncio.BaseProtocol], crowded: Callable[[], bool]
    ) -> None:
        self._listener = listener
        self._crowded = crowded
        self._made = made
        self._loop = asyncio.get_running_loop()
        self._entering: set[asyncio.Task[None]] = set()
        self._again: asyncio.TimerHandle | None = None
        self._kept: int | None = None
        self._keep()
        listener.setblocking(False)
        listener.listen(LISTEN_BACKLOG)
        self._loop.add_reader(listener.fileno(), self._on_readable)

    async def close(self) -> None:
        """Let nobody in any more; who has been let in stays. Idempotent."""
        if self._listener.fileno() < 0:
            return
        if self._again is not None:
            self._again.cancel()
        self._loop.remove_reader(self._listener.fileno())
        self._listener.close()
        if self._kept is not None:
            os.close(self._kept)
            self._kept = None
        if self._entering:
            await asyncio.wait(self._entering)

    def _on_readable(self) -> None:
        for _ in range(ACCEPTS_PER_TURN):
            if self._crowded():
                self._pause(CROWDED_S)
                return
            try:
                accepted, _ = self._listener.accept()
            except (BlockingIOError, InterruptedError, ConnectionAbortedError):
                return
            except OSError as error:
                if error.errno not in _NO_ROOM:
                    raise
                self._turn_away()
                self._pause(ACCEPT_AGAIN_S)
                return
            entering = self._loop.create_task(self._enter(accepted))
            self._entering.add(entering)
            entering.add_done_callback(self._entering.discard)

    def _turn_away(self) -> None:
        """With the descriptor that is kept for this, those who come are told, rather than left waiting."""
        if self._kept is None:
            self._listener.turned_away(NO_ROOM)
            return
        os.close(self._kept)
        self._kept = None
        with contextlib.suppress(OSError):
            for _ in range(ACCEPTS_PER_TURN):
                self._listener.turn_away()
        self._keep()

    def _keep(self) -> None:
        with contextlib.suppress(OSError):
            self._kept = os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC)

    def _pause(self, seconds: float) -> None:
        """Else the listener would be readable at once again."""
        self._loop.remove_reader(self._listener.fileno())
        self._again = self._loop.call_later(seconds, self._resume)

    def _resume(self) -> None:
        self._again = None
        if self._kept is None:
            self._keep()
        self._loop.add_reader(self._listener.fileno(), self._on_readable)

    async def _enter(self, accepted: socket.socket) -> None:
        try:
            accepted.setblocking(False)
            await self._loop.connect_accepted_socket(self._made, accepted)
        except OSError:  # it has gone meanwhile
            accepted.close()


def room_for_connections(node_id: str) -> tuple[int, int]:
    """How many clients this process may hold, and how many connections besides.

    CONNECTIONS_MAX and CONNECTIONS_SPARE, if its limit of open files can be raised so far: raises the soft limit, up to
    the hard one; says in the log what is missing and how to get it. What the node itself opens has its room first.
    """
    wanted = _WANTED
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    allowed = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
    if soft != resource.RLIM_INFINITY and soft < allowed:
        try:
            resource.setrlimit(resource.RLIMIT_NOFILE, (allowed, hard))
            soft = allowed
        except (ValueError, OSError):  # macOS caps it below what it calls the hard limit
            allowed = soft
    own = min(DESCRIPTORS_OWN, max(DESCRIPTORS_OWN_MIN, allowed * 3 // 8))
    room = max(allowed - own, ROOM_MIN)
    spare = min(CONNECTIONS_SPARE, room // 4)
    if room - spare < CONNECTIONS_MAX:
        _log.warning(
            "node %s takes %d connections at most, not %d: this process may open only %d files; %s",
            node_id, room - spare, CONNECTIONS_MAX, allowed, MORE_FILES,
        )  # fmt: skip
    return min(room - spare, CONNECTIONS_MAX), spare


def listen_problem(error: OSError, node: str, address: str) -> EnvironmentProblem:
    """Why a node cannot listen, and what to do."""
    what = f"node {node} cannot listen on {address}"
    if error.errno == errno.EADDRINUSE:
        remedy = "stop the process that holds it (is this node running already?), or give the node another port"
        return EnvironmentProblem(f"{what}: the port is in use", remedy)
    if error.errno == errno.EADDRNOTAVAIL:
        remedy = "start the node on its own machine, or correct its address in the config"
        return EnvironmentProblem(f"{what}: this machine does not have that address", remedy)
    return EnvironmentProblem(f"{what}: {error.strerror or error}", "correct the node's address in the config")
