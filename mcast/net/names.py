"""Looks names up, and does other work that a resolver may hold up, without holding up the loop or the program's end.

A resolver that is gone lets one wait for half a minute. The loop's own threads are few, and a program does not end
before they do: names that nobody knows would keep those from being looked up that somebody does.
"""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import Callable, Mapping
from concurrent.futures import Future
from functools import partial
from typing import Final, TypeVar

from mcast.errors import NetworkMissing
from mcast.net.link import PeerAddress
from mcast.net.sockets import is_address, outward, resolve_all

K = TypeVar("K")
T = TypeVar("T")

_lock: Final = threading.Lock()
_under_way: Final[dict[tuple[int, str, int], Future[list[PeerAddress]]]] = {}
"""(process, name) -> the look-up under way; whoever else asks for that name waits for the same one."""


async def in_thread(work: Callable[[], T]) -> T:
    """What `work` returns or raises, from a thread that does not keep the program from ending."""
    outcome: Future[T] = Future()
    _begin(work, outcome)
    return await asyncio.wrap_future(outcome)


async def addresses(host: str, port: int) -> list[PeerAddress]:
    """All socket addresses that a host has, at least one. Cancel it, or give it a timeout: it may take long.

    Raises:
        NetworkMissing: the name is unknown, or nobody is there to ask.
    """
    if is_address(host):
        return resolve_all(host, port)
    key = os.getpid(), host, port
    with _lock:
        asked = _under_way.get(key)
        if asked is None:
            asked = _under_way[key] = Future()
            _begin(partial(resolve_all, host, port), asked, lambda: _under_way.pop(key))
    return await asyncio.wrap_future(asked)


async def look_up(hosts: Mapping[K, tuple[str, int]], timeout_s: float) -> tuple[dict[K, PeerAddress], dict[K, str]]:
    """The socket addresses of many at once, and why some have none within this time."""
    found: dict[K, PeerAddress] = {}
    unknown: dict[K, str] = {}

    async def one(key: K, host: str, port: int) -> None:
        try:
            async with asyncio.timeout(timeout_s):
                found[key] = outward(await addresses(host, port))
        except TimeoutError:
            unknown[key] = f"{host}:{port}: the name cannot be resolved (no answer within {timeout_s:g} s)"
        except NetworkMissing as missing:
            unknown[key] = missing.what

    await asyncio.gather(*[one(key, host, port) for key, (host, port) in hosts.items()])
    return found, unknown


def _begin(work: Callable[[], T], outcome: Future[T], done: Callable[[], object] = lambda: None) -> None:
    outcome.set_running_or_notify_cancel()  # who no longer waits takes nothing from the others

    def run() -> None:
        try:
            value = work()
        except BaseException as error:
            done()
            outcome.set_exception(error)
        else:
            done()
            outcome.set_result(value)

    threading.Thread(target=run, name="looking", daemon=True).start()
