"""Which cluster, which of its nodes, and how long: what every command that talks to a cluster was told."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from mcast.client.client import Client

_LEAST_S = 0.001  # so that a call that begins at its deadline still ends by it


@dataclass(frozen=True, slots=True)
class Target:
    """`at` is strict here: no other node will do. `timeout_s` counts from this object's making on."""

    config: Path
    at: str | None
    timeout_s: float
    _began_s: float = field(default_factory=time.monotonic)

    def connect(self) -> Client:
        """A client, to be entered."""
        from mcast.client.client import connect

        return connect(self.config, at=self.at, timeout=self.timeout_s, strict=self.at is not None)

    def remaining_s(self) -> float:
        """What is left of the timeout."""
        return max(self._began_s + self.timeout_s - time.monotonic(), _LEAST_S)
