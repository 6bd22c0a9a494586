"""Many clients in processes of their own: `python -m tests.lan.crowd CONFIG COUNT NODE` connects and then idles.

It answers each line of input by one line of JSON: how many clients are at which node, and how often any has moved. It
ends with its input.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import resource
import sys
from asyncio.subprocess import PIPE, Process
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self

from mcast.client.client import Client
from mcast.config import NodeConfig, load_config
from mcast.net.tcp import CONNECT_S_MAX, Dialer, LinkOwner, StreamLink

ROOT: Final = Path(__file__).parents[2]
EACH_MAX: Final = 2_500  # clients of one process
DIALS_AT_ONCE: Final = 16  # of one process, which else could finish none of its thousands of handshakes in time
ENTERING: Final = 16  # clients of one process that connect at once in the beginning
CONNECT_S: Final = 120.0
ANSWER_S: Final = 600.0  # the first answer comes when all clients are in


class Crowd:
    """`count` clients that prefer the gateways named in turn, in as many processes as they need: a context manager."""

    def __init__(self, path: Path, count: int, nodes: Sequence[str]) -> None:
        self._path = path
        processes = -(-count // EACH_MAX)
        self._shares = [count // processes + (number < count % processes) for number in range(processes)]
        self._nodes = ",".join(nodes)
        self._children: list[Process] = []

    async def __aenter__(self) -> Self:
        for share in self._shares:
            words = [sys.executable, "-m", "tests.lan.crowd", str(self._path), str(share), self._nodes]
            environment = os.environ | {"PYTHONPATH": str(ROOT)}
            child = await asyncio.create_subprocess_exec(*words, stdin=PIPE, stdout=PIPE, cwd=ROOT, env=environment)
            self._children.append(child)
        try:
            await self.look()
        except BaseException:
            await self.__aexit__(None, None, None)
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for child in self._children:
            assert child.stdin is not None
            child.stdin.close()
        await asyncio.gather(*(child.wait() for child in self._children))

    @property
    def pids(self) -> list[int]:
        """Of the processes."""
        return [child.pid for child in self._children]

    async def look(self) -> tuple[Counter[str], int]:
        """How many clients are where ("" for nowhere), and how many links there have been in all."""
        answers = await asyncio.gather(*map(_ask, self._children))
        at: Counter[str] = Counter()
        for answer in answers:
            at.update(answer["at"])
        return at, sum(answer["links"] for answer in answers)

    async def until(self, holds: Callable[[Counter[str]], bool], timeout_s: float) -> Counter[str]:
        """Look until it holds. Raises TimeoutError."""
        async with asyncio.timeout(timeout_s):
            while not holds((await self.look())[0]):
                await asyncio.sleep(0.1)
        return (await self.look())[0]


async def _ask(child: Process) -> dict[str, Any]:
    assert child.stdin is not None and child.stdout is not None
    child.stdin.write(b"\n")
    async with asyncio.timeout(ANSWER_S):
        line = await child.stdout.readline()
    assert line, "a process of the crowd has ended; its own words are above"
    answer: dict[str, Any] = json.loads(line)
    return answer


class _Turns(Dialer):
    """One TLS context for all, and not all of them at once: in truth each has a process and a processor of its own.

    It counts their links.
    """

    _turns = asyncio.Semaphore(DIALS_AT_ONCE)
    links = 0

    async def open(self, node: NodeConfig, owner: LinkOwner, timeout_s: float = CONNECT_S_MAX) -> StreamLink:
        async with self._turns:
            link = await super().open(node, owner, timeout_s)
        _Turns.links += 1
        return link


async def _idle(path: Path, count: int, nodes: Sequence[str]) -> None:
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    config = load_config(path)
    turns = asyncio.Semaphore(ENTERING)
    shared = _Turns(config, "client")
    clients = []
    async with contextlib.AsyncExitStack() as stack:
        for number in range(count):
            client = Client(config, nodes[number % len(nodes)], CONNECT_S)
            client._keeper._dialer = shared
            clients.append(client)

        async def enter(client: Client) -> None:
            async with turns:
                await stack.enter_async_context(client)

        await asyncio.gather(*map(enter, clients))
        await _answer(clients)
        os._exit(0)  # thousands of orderly goodbyes would keep the next test waiting


async def _answer(clients: Sequence[Client]) -> None:
    reader = asyncio.StreamReader()
    await asyncio.get_running_loop().connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
    while await reader.readline():
        at = Counter(client.node or "" for client in clients)
        print(json.dumps({"at": at, "links": _Turns.links}), flush=True)


if __name__ == "__main__":
    asyncio.run(_idle(Path(sys.argv[1]), int(sys.argv[2]), sys.argv[3].split(",")))
