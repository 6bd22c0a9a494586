"""Who can take part: what each system's acknowledgement means, whether it is here, and how it is installed."""

from __future__ import annotations

import contextlib
import importlib
import importlib.metadata
import importlib.util
import re
import shutil
import subprocess
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from tools.other_systems.peer import Peer

OURS: Final = "mcast"
OURS_SYNCED: Final = "mcast-synced"
_ASK_S: Final = 10.0  # for a program to tell its version


@dataclass(frozen=True, slots=True, kw_only=True)
class PeerKind:
    """One system: how the table calls it, and what its numbers mean."""

    title: str
    acknowledged: str
    """What its client knows of an event that is acknowledged."""
    beside: str = OURS
    """Which of our own settings does the nearest to the same work."""
    install: str = ""
    programs: Sequence[str] = ()
    packages: Sequence[str] = ()
    version_words: Sequence[str] = ()
    module: str

    def missing(self) -> str | None:
        """What it lacks on this machine; None if nothing."""
        lacks = [name for name in self.programs if shutil.which(name) is None]
        lacks += [name for name in self.packages if importlib.util.find_spec(name) is None]
        return ", ".join(lacks) or None

    def version(self) -> str:
        """What is installed here; empty where it does not say."""
        if not self.version_words:
            with contextlib.suppress(importlib.metadata.PackageNotFoundError):  # run from a checkout
                return importlib.metadata.version(self.packages[0] if self.packages else "mcast-fabric")
            return ""
        printed = subprocess.run(self.version_words, capture_output=True, text=True, timeout=_ASK_S, check=False)
        found = re.search(r"\d+(\.\d+)+", printed.stdout + printed.stderr)
        return found[0] if found else ""

    def running(self, folder: Path) -> AbstractContextManager[Peer]:
        """It, started in `folder` and ready; ended with all its processes when the context is."""
        open_it: Callable[[Path], AbstractContextManager[Peer]]
        name, _, attribute = self.module.partition(":")
        open_it = getattr(importlib.import_module(name), attribute or "running")
        return open_it(folder)


KINDS: Final[Mapping[str, PeerKind]] = {
    OURS: PeerKind(
        title="mcast, sync os", module="tools.other_systems.ours:running_unsynced",
        acknowledged="a majority has it in its journal, and the sequencer's node has applied it",
    ),
    OURS_SYNCED: PeerKind(
        title="mcast, sync always", module="tools.other_systems.ours:running_synced", beside=OURS_SYNCED,
        acknowledged="a majority has synced it to disk, and the sequencer's node has applied it",
    ),
    "redis": PeerKind(
        title="Redis Streams, one master", module="tools.other_systems.redis",
        acknowledged="the one master has it in memory; no copy is awaited",
        programs=["redis-server"], version_words=["redis-server", "-v"], packages=["hiredis"],
        install="apt install redis-server; pip install hiredis",
    ),
    "pysyncobj": PeerKind(
        title="PySyncObj, in memory", module="tools.other_systems.pysyncobj",
        acknowledged="a majority has it in memory, and the leader has applied it",
        packages=["pysyncobj"], install="pip install PySyncObj",
    ),
    "nats": PeerKind(
        title="NATS JetStream R3, file", module="tools.other_systems.nats",
        acknowledged="a majority has it in a file, synced every two minutes",
        programs=["nats-server"], version_words=["nats-server", "-v"], install="apt install nats-server",
    ),
    "etcd": PeerKind(
        title="etcd, fsync", module="tools.other_systems.etcd", beside=OURS_SYNCED,
        acknowledged="a majority has synced it to disk, and one member has applied it",
        programs=["etcd"], version_words=["etcd", "--version"], install="apt install etcd-server",
    ),
    "corosync": PeerKind(
        title="Corosync CPG", module="tools.other_systems.corosync",
        acknowledged="its sender has had it back in the agreed order; no other copy is awaited",
        programs=["corosync", "ip", "unshare"], version_words=["corosync", "-v"],
        install="apt install corosync libcpg4 iproute2 util-linux; run as root",
    ),
    "pipes": PeerKind(
        title="three pipes, no agreement", module="tools.other_systems.pipes", beside="pipes",
        acknowledged="nothing; it is in pipes to three processes: what the measuring itself can do",
    ),
}  # fmt: skip
USUAL: Final = tuple(name for name in KINDS if name != "pipes")
