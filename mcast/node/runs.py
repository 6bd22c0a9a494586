"""What a node runs: all that must be the same at every node, since otherwise their states differ and nobody notices."""

from __future__ import annotations

import sys
from functools import cache
from hashlib import blake2b
from importlib.metadata import PackageNotFoundError, version
from typing import Any

import msgpack

from mcast.machine.api import StateMachine
from mcast.storage import meta, segment
from mcast.wire import envelope, stream


def runs_of(machine: StateMachine) -> dict[str, Any]:
    """The same as `status` shows it."""
    kind = type(machine)
    schema = [[name, *arity] for name, arity in machine.commands().items()]
    return {
        "machine": f"{kind.__module__}:{kind.__qualname__}",
        "machine_version": machine.version if type(machine.version) is int else str(machine.version)[:64],
        "commands": blake2b(msgpack.packb(schema), digest_size=8).hexdigest(),
        "python": f"{sys.version_info.major}.{sys.version_info.minor}",
        "mcast": _mcast_version(),
        "formats": {
            "wire": envelope.VERSION, "stream": stream.VERSION, "journal": segment.FORMAT, "meta": meta.FORMAT,
        },
    }  # fmt: skip


@cache
def _mcast_version() -> str:
    try:
        return version("mcast-fabric")
    except PackageNotFoundError:
        return "unknown"
