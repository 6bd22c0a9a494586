"""The listening socket: who waits in vain is not let in, and who has hung up meanwhile is passed over."""

from __future__ import annotations

import asyncio
import contextlib
import os
import resource
import socket
import struct
import subprocess
import sys
import time
from collections.abc import Callable, Iterator

import pytest

from mcast.limits import CONNECTIONS_MAX
from mcast.net.listener import HUNG_UP, LISTEN_BACKLOG, NO_ROOM, TOO_MANY, Crowd, Door, Listener, open_listener

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


class Asked(asyncio.Protocol):
    """Says whether the kernel may hold back what is written in small pieces."""

    def __init__(self, delays: list[int]) -> None:
        self._delays = delays

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._delays.append(not transport.get_extra_info("socket").getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY))


async def test_nothing_that_is_written_to_who_was_let_in_is_held_back() -> None:
    delays: list[int] = []
    with listening(lambda: False, list[str]().append) as (listener, dial):
        door = Door(listener, lambda: Asked(delays), lambda: False)
        dial()
        async with asyncio.timeout(5):
            while not delays:
                await asyncio.sleep(0.001)
        await door.close()
    assert delays == [False]


@pytest.mark.skipif(sys.platform != "linux", reason="limits are Linux's here")
@pytest.mark.parametrize(("limit", "room"), [(64, (12, 4)), (256, (120, 40)), (1_024, (512, 128)), (40, (6, 2))])
def test_what_a_node_itself_opens_has_its_room_first(limit: int, room: tuple[int, int]) -> None:
    program = (
        f"import resource; resource.setrlimit(resource.RLIMIT_NOFILE, ({limit}, {limit})); "
        "from mcast.net.listener import room_for_connections; print(room_for_connections('n1'))"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=30, check=True)
    assert done.stdout.strip() == str(room)
    assert "ulimit -n" in done.stderr and "LimitNOFILE" in done.stderr


def test_a_crowd_is_told_of_once_in_the_log_and_as_a_finding_where_a_limit_can_be_raised(
    caplog: pytest.LogCaptureFixture,
) -> None:
    crowd = Crowd("n1")
    crowd.on_turned_away(HUNG_UP)
    assert crowd.findings(12) == []
    for _ in range(1_500):
        crowd.on_turned_away(TOO_MANY)
    (finding,) = crowd.findings(12)
    assert "n1 turned 1,000 or more connections away" in finding and "LimitNOFILE" in finding
    assert crowd.findings(CONNECTIONS_MAX) == [], "its own bound: there is nothing to raise"
    assert len(caplog.records) == 1


@pytest.mark.skipif(sys.platform != "linux", reason="limits are Linux's here")
async def test_without_a_descriptor_left_who_comes_is_told_and_not_left_waiting() -> None:
    away: list[str] = []
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    with listening(lambda: False, away.append) as (listener, dial):
        door = Door(listener, asyncio.Protocol, lambda: False)
        waiting = [dial() for _ in range(3)]
        lowest = os.dup(0)
        os.close(lowest)
        resource.setrlimit(resource.RLIMIT_NOFILE, (lowest, hard))  # all below are in use
        try:
            while len(away) < 3:
                await asyncio.sleep(0.001)
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
        assert away == [NO_ROOM] * 3
        assert [(one.recv(100), one.recv(100)) for one in waiting] == [(b"full", b"")] * 3
        await door.close()
