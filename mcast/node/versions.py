"""Nodes of this cluster that run an mcast of another wire version: none hears the other, and each looks dead to it.

What they send is refused unread. But its header begins as ours does, so it can be told who sends it, and an operator
what to do. Nothing proves such a header: whoever is on the network can write one.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Final

from mcast.wire.envelope import SENDER, VERSION, VERSION_OFFSET

REASONS: Final = frozenset({"older version", "newer version"})
"""Reasons of refusal that mean another version."""
LOGGED_EVERY_S: Final = 10.0  # after its last datagram such a node is still told of

_log: Final = logging.getLogger("mcast.node")


class OtherVersions:
    """Which nodes sent datagrams of another version, and when last. `names` maps the cluster's nodes, hash to id."""

    def __init__(self, node_id: str, names: Mapping[int, str]) -> None:
        self._node_id = node_id
        self._names = names
        self._heard: dict[str, tuple[int, float]] = {}
        """By node id, or "a node": at most one more than the cluster has nodes."""

    def note_datagram(self, datagram: bytes | memoryview, now: float) -> None:
        """A datagram was refused for its version."""
        name = self._names.get(int.from_bytes(datagram[SENDER], "big"), "a node")
        version = datagram[VERSION_OFFSET]
        if name not in self._heard:
            _log.warning("node %s: %s", self._node_id, _words(name, version))
        self._heard[name] = (version, now)

    def findings(self, now: float) -> list[str]:
        """What to tell an operator, one line for each such node."""
        return [
            _words(name, version)
            for name, (version, last) in sorted(self._heard.items())
            if now - last < LOGGED_EVERY_S
        ]


def _words(name: str, version: int) -> str:
    age = "an older" if version < VERSION else "a newer"
    return (
        f"{name} sends datagrams of wire version {version}, and this node speaks version {VERSION}: it runs {age} "
        "mcast; install one version on all nodes"
    )
