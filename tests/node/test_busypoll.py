"""A loop that never sleeps runs what any loop runs."""

from __future__ import annotations

import asyncio
import selectors
import socket
import time

import pytest

from mcast.node.busypoll import BusySelector, busy_loop


def test_it_runs_timers_sockets_and_threads() -> None:
    async def run() -> bytes:
        one, two = socket.socketpair()
        with one, two:
            one.setblocking(False)
            loop = asyncio.get_running_loop()
            loop.call_later(0.002, two.send, b"late")
            data = await loop.sock_recv(one, 16)
            assert await asyncio.to_thread(lambda: 7) == 7
            return data

    with asyncio.Runner(loop_factory=busy_loop) as runner:
        assert runner.run(run()) == b"late"


def test_it_never_asks_the_system_to_wait(monkeypatch: pytest.MonkeyPatch) -> None:
    waits: list[float | None] = []
    plain = selectors.DefaultSelector.select

    def select(self: selectors.DefaultSelector, timeout: float | None = None) -> object:
        waits.append(timeout)
        return plain(self, timeout)

    monkeypatch.setattr(selectors.DefaultSelector, "select", select)
    one, two = socket.socketpair()
    with one, two, BusySelector() as selector:
        selector.register(one, selectors.EVENT_READ)
        began_s = time.monotonic()
        assert selector.select(0.002) == [] and time.monotonic() - began_s >= 0.002
        asked = len(waits)
        assert selector.select(-1) == [] and len(waits) == asked + 1
        two.send(b"x")
        assert [key.fileobj for key, _ in selector.select(None)] == [one]
    assert set(waits) == {0}
