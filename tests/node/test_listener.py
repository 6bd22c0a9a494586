"""The listening socket: who waits in vain is not let in, and who has hung up meanwhile is passed over."""

from __future__ import annotations

import contextlib
import socket
import struct
import sys
import time
from collections.abc import Callable, Iterator

import pytest

from mcast.node.listener import HUNG_UP, LISTEN_BACKLOG, TOO_MANY, Listener, open_listener

Dial = Callable[[], socket.socket]


@contextlib.contextmanager
def listening(full: Callable[[], bool], turned_away: Callable[[str], None]) -> Iterator[tuple[Listener, Dial]]:
    with contextlib.ExitStack() as stack:
        listener = stack.enter_context(open_listener("127.0.0.1", 0, full, b"full", turned_away))
        listener.listen(LISTEN_BACKLOG)
        listener.setblocking(False)
        yield listener, lambda: stack.enter_context(socket.create_connection(listener.getsockname()))


def accepted(listener: Listener) -> socket.socket:
    deadline_s = time.monotonic() + 5
    while True:
        try:
            return listener.accept()[0]
        except BlockingIOError:
            assert time.monotonic() < deadline_s


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells before a handshake")
@pytest.mark.parametrize("linger", [None, struct.pack("ii", 1, 0)], ids=["closed", "aborted"])
def test_who_has_hung_up_while_waiting_is_passed_over(linger: bytes | None) -> None:
    away: list[str] = []
    with listening(lambda: False, away.append) as (listener, dial):
        for _ in range(20):
            gone = dial()
            gone.send(b"hello, and here is something to read")
            if linger is not None:
                gone.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
            gone.close()
        patient = dial()
        with accepted(listener) as taken:
            assert taken.getpeername() == patient.getsockname()
        with pytest.raises(BlockingIOError):
            listener.accept()
    assert away == [HUNG_UP] * 20


def test_beyond_its_bound_it_says_so_and_counts() -> None:
    away: list[str] = []
    with listening(lambda: True, away.append) as (listener, dial):
        late = dial()
        with pytest.raises(BlockingIOError, match="turned away"):
            while not away:
                listener.accept()
        assert (late.recv(100), late.recv(100), away) == (b"full", b"", [TOO_MANY])
