"""A whole node inside a program of one's own: the shell, its TCP side, and a client of its own."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Literal, cast

from mcast.client.client import connect
from mcast.config import Config, load_config
from mcast.config.model import NOT_SYNCED
from mcast.documents import NodeGaps, NodeStatus
from mcast.limits import TIMEOUT_S
from mcast.machine.api import StateMachine
from mcast.net.forks import keep_from_children
from mcast.net.names import in_thread
from mcast.node.gateway.gateway import Gateway
from mcast.node.notices import NodeNotice, Notices, log_of
from mcast.node.place import look
from mcast.node.shell import Shell
from mcast.storage.files import RealFiles
from mcast.wire.levels import Consistency

if TYPE_CHECKING:
    from mcast.client.client import Client
    from mcast.client.queries import QueryAnswer
    from mcast.client.receipts import Receipt, Receipts
    from mcast.client.subscription import Events
    from mcast.net.memory import Hub


class Node:
    """One node of a cluster: `async with mcast.Node("lab.toml", id="n1") as node`.

    Without `id` it is the node with an address of this machine, as for `mcast node`; found on starting, and `id`,
    `shell` and `gateway` are there from then on. It logs what `mcast node` logs, below the logger `mcast`; handlers and
    levels, signals and the event loop stay the host's. A child that the host forks has no part in the node.
    `fault` as in `mcast node --fault`. `machine`, `hub` are for tests: a machine's instance instead of the config's
    class, an in-process network instead of UDP.

    Raises on entering:
        ConfigError, EnvironmentProblem: the message names the fix.
    """

    id: str
    shell: Shell
    gateway: Gateway

    def __init__(
        self, source: Config | Path | str, id: str | None = None, *, fault: str | None = None,
        machine: StateMachine | None = None, hub: Hub | None = None,
    ) -> None:  # fmt: skip
        self.config = source if isinstance(source, Config) else load_config(source)
        self._files = RealFiles()
        self._forked = False
        self._listeners: list[Callable[[NodeNotice], object]] = []
        self._make_shell = partial(Shell, self.config, fault=fault, machine=machine, hub=hub, files=self._files)
        self._client: Client | None = None
        if id is not None:
            self._become(id)

    def _become(self, id: str) -> None:
        """This is the node with that id."""
        self.id = id
        self.shell = self._make_shell(id)
        self.gateway = Gateway(self.shell)
        self._notices = Notices(self.shell, self._tell_listeners)

    def leave_to_parent(self) -> set[int]:
        """See forks.Owner."""
        self._forked = True
        return self._files.disown()

    async def start(self) -> None:
        """Recover, listen, compare with the others, take part. What fails leaves nothing open."""
        if not hasattr(self, "shell"):
            self._become((await in_thread(partial(look, self.config, None))).node_id)
        keep_from_children(self)
        self._notices.start()
        try:
            await self._start()
        except BaseException:
            self._notices.stop()
            raise
        log_of(self.id).info("%s", _serves(self.config, self.id))

    async def _start(self) -> None:
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
        if self._forked or not hasattr(self, "shell"):
            return
        if self._client is not None:
            client, self._client = self._client, None
            await client.close()
        if hand_over and self.shell.joined and not self.shell.stopped.is_set():
            await self.gateway.retire()
        await self.gateway.stop()
        await self.shell.stop()
        self._notices.stop()

    async def __aenter__(self) -> Node:
        await self.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.stop()

    def on_notice(self, listener: Callable[[NodeNotice], object]) -> Callable[[], None]:
        """Call `listener` whenever something happens to the node that it logs; what is returned ends that.

        In the event loop, soon after; what it raises is the loop's exception handler's to report. To be called before
        the node has started, or at any time after.
        """
        self._listeners.append(listener)

        def end() -> None:
            if listener in self._listeners:
                self._listeners.remove(listener)

        return end

    def _tell_listeners(self, notice: NodeNotice) -> None:
        """The shell is in the middle of its own: what listeners raise must not halt it."""
        for listener in self._listeners:
            asyncio.get_running_loop().call_soon(self._pass_on, listener, notice)

    def _pass_on(self, listener: Callable[[NodeNotice], object], notice: NodeNotice) -> None:
        if listener in self._listeners:
            listener(notice)

    def _own_client(self) -> Client:
        if self._client is None:
            self._client = connect(self.config, self.id, strict=True)
        return self._client

    async def client(self) -> Client:
        """A client connected to this very node; opened by the first call, closed with the node."""
        return await self._own_client()

    async def submit(self, name: str, *args: Any, timeout: float = TIMEOUT_S) -> Receipt:
        """As the client's `submit`, at this node."""
        return await (await self.client()).submit(name, *args, timeout=timeout)

    async def submit_many(self, commands: Iterable[Sequence[Any]], timeout: float = TIMEOUT_S) -> Receipts:
        """As the client's `submit_many`, at this node."""
        return await (await self.client()).submit_many(commands, timeout=timeout)

    async def query(  # noqa: PLR0913 - the contract's keywords
        self, name: str, *args: Any, consistency: Consistency | None = None, min_seq: int = 0,
        max_ms: float | None = None, max_lag: int | None = None, timeout: float | None = None,
    ) -> QueryAnswer:  # fmt: skip
        """As the client's `query`, answered by this node."""
        return await (await self.client()).query(
            name, *args, consistency=consistency, min_seq=min_seq, max_ms=max_ms, max_lag=max_lag, timeout=timeout
        )

    def subscribe(self, from_seq: int | Literal["now"] = 1, *, timeout: float | None = None) -> Events:
        """As the client's `subscribe`, at this node."""
        return self._own_client().subscribe(from_seq, timeout=timeout)

    def status(self) -> NodeStatus:
        """This node's object of `mcast status --json`."""
        return cast("NodeStatus", self.gateway.status())

    def gaps(self) -> NodeGaps:
        """This node's object of `mcast gaps --json`."""
        return cast("NodeGaps", self.shell.gaps())


def _serves(config: Config, node_id: str) -> str:
    unsealed = "" if config.key_file else ", unsealed: anyone on this network may join in (see key_file)"
    unsynced = f"; {NOT_SYNCED}" if config.sync == "os" else ""
    return f"serves {config.name} on {config.node(node_id).address}{unsealed}{unsynced}"
