"""The listening socket of a node: never more connections than there are file descriptors for, and no burst of them.

Each accepted connection costs a descriptor from its first moment on, long before anybody has proven a key. The journal
needs descriptors too, and a node whose journal fails is lost; so connections are counted from `accept` on, and whoever
comes beyond the bound is told and turned away at once.
"""

from __future__ import annotations

import contextlib
import logging
import resource
import socket
from collections.abc import Callable
from typing import Any, Final

from mcast.limits import CONNECTIONS_MAX, DESCRIPTORS_RESERVED
from mcast.net.sockets import resolve

LISTEN_BACKLOG: Final = 256  # connections the kernel holds meanwhile: let in before their clients give up, in a second

TOO_MANY: Final = "too many connections"
HUNG_UP: Final = "hung up before its turn"
_HUNG_UP: Final = (7, 8)  # Linux's TCP_CLOSE, TCP_CLOSE_WAIT

_log: Final = logging.getLogger("mcast.node")


class Listener(socket.socket):
    """A bound socket, for asyncio's `create_server`. While `full()`, it turns away who comes, with `words` if any.

    Whoever has hung up while waiting in the kernel's queue is passed over: a handshake with the dead takes as long as
    one with the living, and a crowd whose patience ends before its turn would never be let in.
    """

    full: Callable[[], bool]
    words: bytes
    turned_away: Callable[[str], None]
    """Is told why, once for each."""

    def accept(self) -> tuple[socket.socket, Any]:
        """The next connection. Raises BlockingIOError when there is none, or it was turned away."""
        taken = super().accept()
        while _has_hung_up(taken[0]):
            taken[0].close()
            self.turned_away(HUNG_UP)
            taken = super().accept()
        if not self.full():
            return taken
        with contextlib.closing(taken[0]) as refused, contextlib.suppress(OSError):
            refused.setblocking(False)
            refused.send(self.words)
        self.turned_away(TOO_MANY)
        raise BlockingIOError("turned away")


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
    listener = Listener(family, socket.SOCK_STREAM)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(address)
    except BaseException:
        listener.close()
        raise
    listener.full, listener.words, listener.turned_away = full, words, turned_away
    return listener


def listen(listener: Listener) -> None:
    """Make the kernel's queue long, after asyncio has begun to take a few from it each turn: see ACCEPTS_PER_TURN."""
    listener.listen(LISTEN_BACKLOG)


def room_for_connections(node_id: str) -> int:
    """How many connections this process may hold: CONNECTIONS_MAX if its limit of open files can be raised so far.

    Raises the soft limit, up to the hard one; says in the log what is missing and how to get it.
    """
    wanted = CONNECTIONS_MAX + DESCRIPTORS_RESERVED
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    allowed = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
    if soft != resource.RLIM_INFINITY and soft < allowed:
        try:
            resource.setrlimit(resource.RLIMIT_NOFILE, (allowed, hard))
            soft = allowed
        except (ValueError, OSError):  # macOS caps it below what it calls the hard limit
            allowed = soft
    room = max(allowed - DESCRIPTORS_RESERVED, allowed // 2)
    if room < CONNECTIONS_MAX:
        _log.warning(
            "node %s takes %d connections at most, not %d: this process may open only %d files; raise that with "
            "`ulimit -n %d`, or LimitNOFILE=%d in its systemd unit, and start the node again",
            node_id, room, CONNECTIONS_MAX, allowed, wanted, wanted,
        )  # fmt: skip
    return min(room, CONNECTIONS_MAX)
