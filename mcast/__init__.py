"""Multi-active replication for one LAN: one sequencer multicasts an ordered stream, every node is a full replica.

Names are imported when they are first used: `import mcast` itself loads nothing.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mcast import analysis as analysis
    from mcast import machine as machine
    from mcast import sim as sim
    from mcast import testing as testing
    from mcast.client.client import Client, connect
    from mcast.client.queries import QueryAnswer
    from mcast.client.receipts import Receipt, Receipts
    from mcast.client.subscription import Events
    from mcast.client.synchronous import SyncClient, SyncEvents, connect_sync
    from mcast.config import Config, NodeConfig, load_config
    from mcast.documents import (
        ArgumentDescription,
        ClosedGap,
        FaultDocument,
        GapsDocument,
        HandlerDescription,
        HandoverDocument,
        InjectedFaults,
        MachineDescription,
        NodeGaps,
        NodeStatus,
        StatusDocument,
    )
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
    from mcast.wire.levels import Consistency

    __version__: str

_HOMES = {
    "mcast.client.client": ("Client", "connect"),
    "mcast.client.queries": ("QueryAnswer",),
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
    "mcast.documents": (
        "ArgumentDescription", "ClosedGap", "FaultDocument", "GapsDocument", "HandlerDescription", "HandoverDocument",
        "InjectedFaults", "MachineDescription", "NodeGaps", "NodeStatus", "StatusDocument",
    ),
    "mcast.wire.levels": ("Consistency",),
}  # fmt: skip
_HOME_OF = {name: module for module, names in _HOMES.items() for name in names}

__all__ = [
    "ArgumentDescription", "Client", "ClosedGap", "Config", "ConfigError", "Consistency", "Context", "DecodeError",
    "Draws", "EnvironmentProblem", "Error", "Event", "Events", "FaultDocument", "GapsDocument", "Gone", "Halted",
    "HandlerDescription", "HandoverDocument", "InUse", "InjectedFaults", "MachineDescription", "Node", "NodeConfig",
    "NodeGaps", "NodeNotice", "NodeStatus", "NotSent", "NotYet", "QueryAnswer", "QueryFailed", "Receipt",
    "Receipts", "Refused", "Rejected", "Run", "StateMachine", "StatusDocument", "SyncClient", "SyncEvents",
    "Unknown", "command", "connect", "connect_sync", "load_config", "query",
]  # fmt: skip


if not TYPE_CHECKING:  # else any name would do, a misspelt one too

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
