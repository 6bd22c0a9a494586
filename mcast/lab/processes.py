"""A cluster of real processes on this machine's loopback: what the demo, the benchmarks and the scenarios run on.

Each node is `mcast node` in a session of its own, told to end when this process does. The folder, the ports and the
multicast group are the cluster's own, so that several never meet. Nothing stays behind when the context ends.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import secrets
import signal
import sys
import tempfile
from asyncio.subprocess import Process
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Final

from mcast.client.client import Client, connect
from mcast.config import Config, load_config
from mcast.errors import EnvironmentProblem, NotSent, NotYet
from mcast.machine.loading import load_machine
from mcast.net.ports import free_port_pair, free_ports
from mcast.seal.keys import generate_key_file

READY_S: Final = 60.0  # for all processes to start and elect a sequencer, where many others want the processors
DRAIN_S: Final = 30.0  # for a process to drain before it is killed
POLL_S: Final = 0.05
LOG_TAIL_BYTES: Final = 2_000  # of a dead node's log in an error


class Processes:
    """Nodes n1, n2, ... as processes: an async context manager. Entered, all of them are live.

    `machine` is "module:Class", found in `machine_folder` or installed. `faults` maps a node's id to its fault
    specification; "*" stands for all others. `keep_in` keeps config, journals and logs in that folder. `wrap` maps a
    node's id to words before its command, such as `unshare`'s, that end in becoming the node. `ipv6` moves all to ::1.
    `hosts` puts them on a LAN instead: an address each, all in `interface`, a CIDR.

    Raises on entering:
        ConfigError: a machine or fault that cannot be used. EnvironmentProblem: a node ended; its last words.
        NotYet: no sequencer within READY_S.
    """

    def __init__(  # noqa: PLR0913 - a cluster's settings, each by name
        self,
        *,
        nodes: int = 3,
        observers: int = 0,
        machine: str = "mcast.machine.kv:KeyValue",
        machine_folder: Path | None = None,
        sync: str = "os",
        mtu: int = 1500,
        profile: str = "default",
        sealed: bool = False,
        faults: Mapping[str, str] | None = None,
        keep_in: Path | None = None,
        wrap: Mapping[str, Sequence[str]] | None = None,
        ipv6: bool = False,
        hosts: Sequence[str] = (),
        interface: str | None = None,
    ) -> None:
        self.config: Config
        self.path: Path
        self._members = nodes
        self._observers = observers
        self._settings = {"machine": machine, "sync": sync, "profile": profile}
        self._mtu = mtu
        self._sealed = sealed
        self._machine_folder = machine_folder
        self._faults = dict(faults or {})
        self._folder = keep_in
        self._wrap = dict(wrap or {})
        self._ipv6 = ipv6
        self._hosts = tuple(hosts)
        self._interface = interface
        self._children: dict[str, Process] = {}
        self._stack = contextlib.AsyncExitStack()

    @property
    def ids(self) -> tuple[str, ...]:
        """Every node's id, running or not."""
        return tuple(node.id for node in self.config.nodes)

    @property
    def running(self) -> tuple[str, ...]:
        """The ids of the nodes whose process has not ended."""
        return tuple(node_id for node_id, child in self._children.items() if child.returncode is None)

    def pid(self, node_id: str) -> int:
        """A node's process id."""
        return self._children[node_id].pid

    @property
    def pids(self) -> dict[str, int]:
        """Every started node's process id, by the node's."""
        return {node_id: child.pid for node_id, child in self._children.items()}

    def log(self, node_id: str) -> Path:
        """The file that holds what the node wrote to stderr."""
        return self.path.parent / f"{node_id}.log"

    def connect(self, at: str | None = None, *, strict: bool = False) -> Client:
        """A client of this cluster."""
        return connect(self.config, at, strict=strict)

    async def start(self, node_id: str, fault: str | None = None) -> None:
        """Start a node's process (again); it need not be live yet. `fault` replaces what the cluster was made with."""
        fault = fault or self._faults.get(node_id, self._faults.get("*"))
        command = [*self._wrap.get(node_id, ()), sys.executable, "-m", "mcast", "node"]
        command += ["-c", str(self.path), "--id", node_id]
        command += ["--parent", str(os.getpid()), *(["--fault", fault] if fault else [])]
        environment = dict(os.environ)
        if self._machine_folder is not None:
            found_first = [str(self._machine_folder.resolve()), *filter(None, [environment.get("PYTHONPATH")])]
            environment["PYTHONPATH"] = os.pathsep.join(found_first)
        with self.log(node_id).open("ab") as log:
            self._children[node_id] = await asyncio.create_subprocess_exec(
                *command, stdin=asyncio.subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True,
                env=environment,
            )  # fmt: skip

    async def stop(self, node_id: str) -> int:
        """SIGTERM, then SIGKILL if it does not end in time; its exit code."""
        child = self._children[node_id]
        self.signal(node_id, signal.SIGCONT)
        self.signal(node_id, signal.SIGTERM)
        try:
            async with asyncio.timeout(DRAIN_S):
                return await child.wait()
        except TimeoutError:
            return await self.kill(node_id)

    async def kill(self, node_id: str) -> int:
        """SIGKILL; its exit code."""
        self.signal(node_id, signal.SIGKILL)
        return await self._children[node_id].wait()

    def signal(self, node_id: str, number: int) -> None:
        """Send a running node's process a signal, such as SIGSTOP."""
        child = self._children[node_id]
        if child.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                child.send_signal(number)

    async def status(self, timeout_s: float = 2.0) -> dict[str, Any]:
        """The document of `mcast status --json`. Raises NotSent when no node answers."""
        async with connect(self.config, timeout=timeout_s) as client:
            return dict(await client.status())

    async def gaps(self, timeout_s: float = 2.0) -> dict[str, Any]:
        """The document of `mcast gaps --json`. Raises NotSent when no node answers."""
        async with connect(self.config, timeout=timeout_s) as client:
            return dict(await client.gaps())

    async def wait_until_live(self, timeout_s: float = READY_S) -> dict[str, Any]:
        """Wait until every running node is live and a sequencer leads; the status document then.

        Raises:
            NotYet: not in time. EnvironmentProblem: a node's process ended meanwhile; its last words.
        """
        return await self._wait_until(lambda status, nodes: bool(status["sequencer"]), timeout_s, "live")

    async def wait_until_settled(self, timeout_s: float = READY_S) -> dict[str, Any]:
        """Wait until every running node has applied the same, newest event, without gaps; the status document then.

        Raises:
            NotYet: not in time. EnvironmentProblem: a node's process ended meanwhile; its last words.
        """
        return await self._wait_until(_is_settled, timeout_s, "settled")

    async def wait_until_equal(self, timeout_s: float = READY_S) -> dict[str, Any]:
        """Wait until every running node is live, without gaps, at the same event with the same chains; the status.

        Raises:
            NotYet: not in time. EnvironmentProblem: a node's process ended meanwhile; its last words.
        """

        def equal(status: dict[str, Any], nodes: Sequence[dict[str, Any]]) -> bool:
            return _is_settled(status, nodes) and len({(node["chain"], node["result_chain"]) for node in nodes}) == 1

        return await self._wait_until(equal, timeout_s, "equal")

    async def _wait_until(self, holds: Any, timeout_s: float, what: str) -> dict[str, Any]:
        loop = asyncio.get_running_loop()
        deadline = loop.time() + timeout_s
        status: dict[str, Any] = {}
        while True:
            expected = self.running
            with contextlib.suppress(NotSent):
                status = await self.status()
                nodes = [node for node in status["nodes"] if node["id"] in expected]
                if all(node["reachable"] and node["state"] == "live" for node in nodes) and holds(status, nodes):
                    return status
            self._check_alive(expected)
            if loop.time() >= deadline:
                states = ", ".join(f"{node['id']} {node['state']}" for node in status.get("nodes", [])) or "no answer"
                raise NotYet(f"nodes are not {what} after {timeout_s:g} s: {states}")
            await asyncio.sleep(POLL_S)

    def _check_alive(self, expected: Sequence[str]) -> None:
        for node_id in expected:
            code = self._children[node_id].returncode
            if code is not None:
                with self.log(node_id).open("rb") as log:
                    log.seek(max(os.fstat(log.fileno()).st_size - LOG_TAIL_BYTES, 0))
                    words = log.read().decode(errors="replace").strip().rsplit("\n", 1)[-1]
                raise EnvironmentProblem(f"{node_id} ended with exit code {code}: {words}", "see the message above")

    async def __aenter__(self) -> Processes:
        async with contextlib.AsyncExitStack() as stack:
            if self._folder is None:
                self._folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="mcast-")))
            self._folder.mkdir(parents=True, exist_ok=True)
            self.path = self._folder / "lab.toml"
            self.path.write_text(self._config_text(self._folder))
            self.config = load_config(self.path)
            load_machine(self.config.machine, str(self._machine_folder or self._folder))
            stack.push_async_callback(self._end_all)
            for node in self.config.nodes:
                await self.start(node.id)
            await self.wait_until_live()
            self._stack = stack.pop_all()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._stack.aclose()

    async def _end_all(self) -> None:
        await asyncio.gather(*(self.stop(node_id) for node_id in self.running))

    def _config_text(self, folder: Path) -> str:
        ports = free_ports(self._members + self._observers)
        own = [secrets.randbelow(250) + 1 for _ in range(2)]
        group = "ff01::77:{:x}{:02x}" if self._ipv6 else "239.77.{}.{}"
        host, interface = ("[::1]", "::1") if self._ipv6 else ("127.0.0.1", "127.0.0.1")
        lines = ["[cluster]", 'name = "local"', f'group = "{group.format(*own)}"', f"port = {free_port_pair()}"]
        lines += [f'interface = "{self._interface or interface}"']
        lines += [f'{key} = "{value}"' for key, value in self._settings.items()]
        lines += [f"mtu = {self._mtu}", "allow_faults = true"]
        if self._sealed:
            generate_key_file(folder / "lab.key")
            lines.append('key_file = "lab.key"')
        for index in range(self._members + self._observers):
            role = "member" if index < self._members else "observer"
            address = f"{self._hosts[index] if self._hosts else host}:{ports[index]}"
            lines += ["[[node]]", f'id = "n{index + 1}"', f'address = "{address}"', f'role = "{role}"']
        return "\n".join(lines) + "\n"


def _is_settled(status: dict[str, Any], nodes: Sequence[dict[str, Any]]) -> bool:
    idle = all(node["applied_seq"] == node["last_seq"] and not node["gaps_open"] for node in nodes)
    return bool(status["sequencer"]) and idle and len({node["applied_seq"] for node in nodes}) == 1
