"""Names that a resolver knows, does not know, or does not answer for, and what waits for them."""

from __future__ import annotations

import asyncio
import socket
import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest

from mcast.errors import NetworkMissing
from mcast.net.names import addresses, in_thread, look_up

REAL = socket.getaddrinfo
NAMES = {"alpha": ["127.0.0.1"], "both": ["127.0.1.1", "10.77.0.11"]}


class Resolver:
    """Knows NAMES; for a name that begins with `slow` it answers nothing until the test has ended."""

    def __init__(self) -> None:
        self.asked: list[str] = []
        self.ended = threading.Event()

    def __call__(self, host: str, port: int, **options: Any) -> list[Any]:
        self.asked.append(host)
        if host.startswith("slow"):
            self.ended.wait(20)
        if host in NAMES:
            return [entry for address in NAMES[host] for entry in REAL(address, port, **options)]
        if host[0].isalpha():
            raise socket.gaierror(socket.EAI_AGAIN, "Temporary failure in name resolution")
        return REAL(host, port, **options)


@pytest.fixture(autouse=True)
def resolver(monkeypatch: pytest.MonkeyPatch) -> Iterator[Resolver]:
    made = Resolver()
    monkeypatch.setattr(socket, "getaddrinfo", made)
    yield made
    made.ended.set()


async def test_a_name_has_all_its_addresses_and_its_outward_one_is_used() -> None:
    assert await addresses("both", 7711) == [("127.0.1.1", 7711), ("10.77.0.11", 7711)]
    assert await addresses("127.0.0.1", 7711) == [("127.0.0.1", 7711)]
    hosts = {"n1": ("both", 7711), "n2": ("gamma", 7712), "n3": ("10.0.0.3", 7713)}
    found, unknown = await look_up(hosts, 5.0)
    assert found == {"n1": ("10.77.0.11", 7711), "n3": ("10.0.0.3", 7713)}
    assert unknown == {"n2": "gamma:7712: the name cannot be resolved (Temporary failure in name resolution)"}


@pytest.mark.parametrize("host", ["gamma", "x" * 64 + ".lab", "a..b"])
async def test_an_unknown_name_and_what_is_none_raise_the_same(host: str, monkeypatch: pytest.MonkeyPatch) -> None:
    if host != "gamma":
        monkeypatch.setattr(socket, "getaddrinfo", REAL)
    with pytest.raises(NetworkMissing, match="cannot be resolved"):
        await addresses(host, 7711)


def test_names_that_nobody_answers_for_hold_up_neither_others_nor_the_end_of_the_program(resolver: Resolver) -> None:
    began_s = time.monotonic()

    async def ask() -> None:
        for _ in range(3):
            hosts = {f"n{number}": (f"slow{number}", 7711) for number in range(40)} | {"a": ("alpha", 7711)}
            found, unknown = await look_up(hosts, 0.2)
            assert found == {"a": ("127.0.0.1", 7711)} and "no answer within 0.2 s" in unknown["n7"]

    asyncio.run(ask())
    assert time.monotonic() - began_s < 5
    assert resolver.asked.count("slow7") == 1, "who asks again waits with the first"


async def test_who_gives_up_takes_nothing_from_those_who_wait_for_the_same_name(resolver: Resolver) -> None:
    NAMES["slow-alpha"] = ["127.0.0.1"]
    patient, hasty = (asyncio.create_task(addresses("slow-alpha", 1)) for _ in range(2))
    await asyncio.sleep(0.01)
    hasty.cancel()
    resolver.ended.set()
    assert await patient == [("127.0.0.1", 1)]
    assert await addresses("slow-alpha", 1) == [("127.0.0.1", 1)] and resolver.asked.count("slow-alpha") == 2
    with pytest.raises(ZeroDivisionError):
        await in_thread(lambda: 1 // 0)
