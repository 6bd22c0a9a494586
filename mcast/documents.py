"""The documents that calls return and `--json` prints, as types: plain dicts with these keys.

Nodes of other versions may add keys, and lack those that are NotRequired.
"""

from __future__ import annotations

from typing import Any, Literal, NotRequired, TypedDict

NodeState = Literal["starting", "catching-up", "live", "isolated", "quarantined", "halted"]


class NodeStatus(TypedDict):
    """A node of a StatusDocument, and of `Node.status`. Where it is silent, only
    `id`, `role` and `reachable` are not None."""

    id: str
    role: Literal["member", "observer"]
    """As configured; `votes` says whether it votes now."""
    votes: bool | None
    state: NodeState | None
    reachable: bool
    epoch: int | None
    last_seq: int | None
    commit_seq: int | None
    applied_seq: int | None
    chain: str | None
    """The log's chain at `applied_seq`, in hex; equal on all replicas that have applied as much."""
    result_chain: str | None
    """The same of outcomes."""
    gaps_open: int | None
    naks_sent: int | None
    repairs_received: int | None
    repairs_sent: int | None
    lag_events: int | None
    queries: int | None
    address: NotRequired[str]
    sealed: NotRequired[bool]
    sync: NotRequired[Literal["always", "os"]]
    persisted_seq: NotRequired[int]
    in_touch_ms: NotRequired[float]
    isolated: NotRequired[str | None]
    refused: NotRequired[dict[str, int]]
    """Datagrams that were not taken, by reason."""
    kernel_drops: NotRequired[int]
    sends_lost: NotRequired[int]
    waits_for: NotRequired[list[str]]
    link: NotRequired[dict[str, Any]]
    wall_ns: NotRequired[int]
    clock_off_s: NotRequired[float]
    clock_unsure_s: NotRequired[float]
    log_ahead_s: NotRequired[float]
    runs: NotRequired[dict[str, Any]]
    allow_mixed: NotRequired[bool]
    marks: NotRequired[list[list[Any]]]
    failures: NotRequired[dict[str, int]]
    unknown_commands: NotRequired[int]
    duplicate: NotRequired[str]
    reason: NotRequired[str]
    awaits: NotRequired[str]
    findings: NotRequired[list[str]]
    up_s: NotRequired[float]
    refused_connections: NotRequired[dict[str, int]]
    clients: NotRequired[int]
    clients_max: NotRequired[int]
    subscribers: NotRequired[int]
    subscribers_behind: NotRequired[int]
    refused_sessions: NotRequired[int]
    reused_requests: NotRequired[int]
    catch_up: NotRequired[dict[str, Any]]
    history: NotRequired[dict[str, Any]]


class StatusDocument(TypedDict):
    """What `Client.status` returns and `mcast status --json` prints."""

    cluster: str
    epoch: int | None
    sequencer: str | None
    nodes: list[NodeStatus]
    findings: list[str]
    """What is amiss, each with its reason and remedy; empty where all is well."""


class ClosedGap(TypedDict):
    """A gap that was filled. `first` and `last` are event numbers."""

    first: int
    last: int
    opened_at: float
    """Seconds since 1970."""
    naks: int
    repaired_by: str | None
    latency_ms: float


class InjectedFaults(TypedDict):
    """First-sent DATA datagrams that were lost, doubled, ... on purpose."""

    lost: int
    duplicates: int
    reordered: int
    corrupted: int


class NodeGaps(TypedDict):
    """A node of a GapsDocument, and of `Node.gaps`; only `id` where the node is silent."""

    id: str
    open: NotRequired[list[list[int]]]
    """[first, last] each."""
    closed: NotRequired[list[ClosedGap]]
    lost: NotRequired[int]
    repaired: NotRequired[int]
    superseded: NotRequired[int]
    transferred: NotRequired[int]
    duplicates: NotRequired[int]
    injected: NotRequired[InjectedFaults]


class GapsDocument(TypedDict):
    """What `Client.gaps` returns and `mcast gaps --json` prints."""

    nodes: list[NodeGaps]


class FaultDocument(TypedDict):
    """What `Client.fault` returns."""

    node: dict[str, str]
    """`id`, and the `fault` that it now has."""
    epoch: int
    sequencer: str | None


HandoverDocument = TypedDict("HandoverDocument", {"from": str, "to": str, "epoch": int, "ms": float})
"""What `Client.handover` returns and `mcast handover --json` prints."""


class ArgumentDescription(TypedDict):
    """An argument of a command or query. `type` and `default` are Python's words for them."""

    name: str
    type: str | None
    required: bool
    default: str | None
    many: bool
    """Whether it takes all arguments that are left: `*name`."""


class HandlerDescription(TypedDict):
    """A command or query; it takes from `least` to `most` arguments."""

    name: str
    arguments: list[ArgumentDescription]
    least: int
    most: int
    returns: str | None
    doc: str | None


class MachineDescription(TypedDict):
    """What `Client.describe` returns and `mcast describe --json` prints."""

    machine: str
    """As the config names it."""
    version: int
    doc: str | None
    commands: list[HandlerDescription]
    queries: list[HandlerDescription]
