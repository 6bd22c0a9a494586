"""Multi-active replication for one LAN: one sequencer multicasts an ordered stream, every node is a full replica.

Names are imported when they are first used: `import mcast` itself loads nothing.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mcast.client.client import Client, connect
    from mcast.client.questions import QueryAnswer
    from mcast.client.receipts import Receipt, Receipts
    from mcast.client.subscription import Events
    from mcast.client.synchronous import SyncClient, SyncEvents, connect_sync
    from mcast.config import Config, NodeConfig, load_config
    from mcast.errors import (
        ConfigError,
        DecodeError,
        EnvironmentProblem,
        Error,
        Gone,
        Halted,
        InUse,
        NotSent,
        NotYet,
        QueryFailed,
        Refused,
        Rejected,
        Unknown,
    )
    from mcast.machine.api import Context, Run, StateMachine, command, query
    from mcast.machine.draws import Draws
    from mcast.machine.events import Event
    from mcast.node.node import Node
    from mcast.node.notices import NodeNotice

    __version__: str

_HOMES = {
    "mcast.client.client": ("Client", "connect"),
    "mcast.client.questions": ("QueryAnswer",),
    "mcast.client.receipts": ("Receipt", "Receipts"),
    "mcast.client.subscription": ("Events",),
    "mcast.client.synchronous": ("SyncClient", "SyncEvents", "connect_sync"),
    "mcast.config": ("Config", "NodeConfig", "load_config"),
    "mcast.errors": (
        "ConfigError", "DecodeError", "EnvironmentProblem", "Error", "Gone", "Halted", "InUse", "NotSent", "NotYet",
        "QueryFailed", "Refused", "Rejected", "Unknown",
    ),
    "mcast.machine.api": ("Context", "Run", "StateMachine", "command", "query"),
    "mcast.machine.draws": ("Draws",),
    "mcast.machine.events": ("Event",),
    "mcast.node.node": ("Node",),
    "mcast.node.notices": ("NodeNotice",),
}  # fmt: skip
_HOME_OF = {name: module for module, names in _HOMES.items() for name in names}

__all__ = [
    "Client", "Config", "ConfigError", "Context", "DecodeError", "Draws", "EnvironmentProblem", "Error", "Event",
    "Events", "Gone", "Halted", "InUse", "Node", "NodeConfig", "NodeNotice", "NotSent", "NotYet", "QueryAnswer",
    "QueryFailed", "Receipt", "Receipts", "Refused", "Rejected", "Run", "StateMachine", "SyncClient", "SyncEvents",
    "Unknown", "command", "connect", "connect_sync", "load_config", "query",
]  # fmt: skip


def __getattr__(name: str) -> Any:
    """Import what is asked for by name; submodules too, so that `mcast.testing` works after `import mcast`."""
    if name == "__version__":
        from importlib.metadata import version

        return version("mcast-fabric")
    home = _HOME_OF.get(name)
    if home is None:
        if name.startswith("_") or name not in _SUBMODULES:
            raise AttributeError(f"module 'mcast' has no attribute {name!r}")
        return import_module(f"mcast.{name}")
    value = getattr(import_module(home), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})


_SUBMODULES = frozenset({"analysis", "machine", "sim", "testing"})
