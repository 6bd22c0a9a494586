"""Two processes under one node id: who may run. The question goes out by `seal.duplicate_ids`; here it is judged."""

from __future__ import annotations

import asyncio
import logging
from typing import Final

from mcast.clock import monotonic_s
from mcast.config import Config
from mcast.errors import EnvironmentProblem, Halted
from mcast.limits import DUPLICATE_ID_START_S, DUPLICATE_ID_STARTS
from mcast.node.strangers import change, place
from mcast.node.transport import Transport

DUPLICATE_ID_LOGGED_S: Final = 10.0  # between two log lines about others that start under this node's name

_log: Final = logging.getLogger("mcast.node")


class DuplicateIdWatch:
    """One node's eye on others of its name. `known` is the incarnation of one that was found."""

    def __init__(self, config: Config, node_id: str, transport: Transport) -> None:
        self._config = config
        self.known: bytes | None = None
        self._node_id = node_id
        self._transport = transport
        self._quiet_until_s = 0.0

    async def check_alone(self) -> None:
        """Before taking part: raise EnvironmentProblem if another process answers. Nothing else is heard yet."""
        transport, duplicate_ids = self._transport, self._transport.duplicate_ids
        assert duplicate_ids is not None
        for _ in range(DUPLICATE_ID_STARTS):
            duplicate_ids.ask(monotonic_s())
            transport.receive(monotonic_s())
            await asyncio.sleep(DUPLICATE_ID_START_S)
            transport.receive(monotonic_s())
            if duplicate_ids.heard_of is not None:
                raise EnvironmentProblem(
                    f"another process already runs as {self._node_id} of a cluster named {self._config.name!r} on this "
                    f"network, on {place(self._config)} (incarnation {duplicate_ids.heard_of.hex()[:8]})",
                    "if it is this node, or is to have another id, mend that and stop one first; if that is another "
                    f"cluster of the same name, {change()}; the data directory is as it was",
                )

    def judge(self) -> None:
        """Raise Halted if another process has the better right to run; else say so, once for each."""
        duplicate_ids = self._transport.duplicate_ids
        if duplicate_ids is None:
            return
        if duplicate_ids.asked_by is not None:
            now_s = monotonic_s()
            if now_s >= self._quiet_until_s:  # who records such a question can repeat it at will
                self._quiet_until_s = now_s + DUPLICATE_ID_LOGGED_S
                _log.warning(
                    "node %s: another process starts as %s (incarnation %s), or its question was recorded and sent "
                    "again; it was told that this one runs", self._node_id, self._node_id,
                    duplicate_ids.asked_by.hex()[:8],
                )  # fmt: skip
            duplicate_ids.asked_by = None
        if duplicate_ids.heard_of is None or duplicate_ids.heard_of == self.known:
            return
        self.known = duplicate_ids.heard_of
        other = f"another process runs as {self._node_id} (incarnation {self.known.hex()[:8]})"
        if duplicate_ids.lesser:
            raise Halted(f"{other}, and has the vote or is the older: stop one of the two, they have one id")
        _log.warning("node %s: %s; that one must stop, this one goes on", self._node_id, other)
