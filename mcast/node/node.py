"""A whole node inside a program of one's own: the shell, its TCP side, and a client of its own."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Sequence
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any

from mcast.client.client import connect
from mcast.config import Config, load_config
from mcast.limits import TIMEOUT_S
from mcast.machine.api import StateMachine
from mcast.net.forks import keep_from_children
from mcast.node.gateway import Gateway
from mcast.node.shell import Shell
from mcast.storage.files import RealFiles

if TYPE_CHECKING:
    from mcast.client.client import Client
    from mcast.client.questions import QueryAnswer
    from mcast.client.receipts import Receipt, Receipts
    from mcast.net.memory import Hub


class Node:
    """One node of a cluster: `async with mcast.Node("lab.toml", id="n1") as node`.

    Signals, logging and the event loop stay the host's. A child that the host forks has no part in the node.
    `fault` as in `mcast node --fault`. `machine`, `hub` are for tests: a machine's instance instead of the config's
    class, an in-process network instead of UDP.

    Raises on entering:
        ConfigError, EnvironmentProblem: the message names the fix.
    """

    def __init__(
        self, source: Config | Path | str, id: str, *, fault: str | None = None, machine: StateMachine | None = None,
        hub: Hub | None = None,
    ) -> None:  # fmt: skip
        self.config = source if isinstance(source, Config) else load_config(source)
        self.id = id
        self._files = RealFiles()
        self._forked = False
        self.shell = Shell(self.config, id, fault=fault, machine=machine, hub=hub, files=self._files)
        self.gateway = Gateway(self.shell)
        self._client: Client | None = None
        self._stack = contextlib.AsyncExitStack()

    def leave_to_parent(self) -> set[int]:
        """See forks.Owner."""
        self._forked = True
        return self._files.disown()

    async def start(self) -> None:
        """Recover, listen, compare with the others, take part. What fails leaves nothing open."""
        keep_from_children(self)
        await self.shell.open()
        try:
            await self.gateway.start()
            try:
                await self.gateway.alike.check()
            except BaseException:
                await self.gateway.stop(0)
                raise
        except BaseException:
            await self.shell.stop()
            raise
        self.shell.join()

    async def stop(self, *, hand_over: bool = True) -> None:
        """Answer what is under way, leave the group, make the journal durable; idempotent.

        A sequencer gives its role to another member first, if one is there to take it: users then hardly notice.
        In a forked child there is nothing to stop: the node is the parent's.
        """
        if self._forked:
            return
        await self._stack.aclose()
        self._client = None
        if hand_over and self.shell.joined and not self.shell.stopped.is_set():
            await self.gateway.retire()
        await self.gateway.stop()
        await self.shell.stop()

    async def __aenter__(self) -> Node:
        await self.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.stop()

    async def client(self) -> Client:
        """A client connected to this very node; opened by the first call, closed with the node."""
        if self._client is None:
            client = connect(self.config, self.id, strict=True)
            self._client = await self._stack.enter_async_context(client)
        return self._client

    async def submit(self, name: str, *args: Any, timeout: float = TIMEOUT_S) -> Receipt:
        """As the client's `submit`, at this node."""
        return await (await self.client()).submit(name, *args, timeout=timeout)

    async def submit_many(self, commands: Iterable[Sequence[Any]], timeout: float = TIMEOUT_S) -> Receipts:
        """As the client's `submit_many`, at this node."""
        return await (await self.client()).submit_many(commands, timeout=timeout)

    async def query(  # noqa: PLR0913 - the contract's keywords
        self, name: str, *args: Any, consistency: str | None = None, min_seq: int = 0, max_ms: float | None = None,
        max_lag: int | None = None, timeout: float | None = None,
    ) -> QueryAnswer:  # fmt: skip
        """As the client's `query`, answered by this node."""
        return await (await self.client()).query(
            name, *args, consistency=consistency, min_seq=min_seq, max_ms=max_ms, max_lag=max_lag, timeout=timeout
        )

    def status(self) -> dict[str, Any]:
        """This node's object of `mcast status --json`."""
        return self.gateway.status()

    def gaps(self) -> dict[str, Any]:
        """This node's object of `mcast gaps --json`."""
        return self.shell.gaps()
