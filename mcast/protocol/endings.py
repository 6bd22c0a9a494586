"""Words that would end a node, and why they are obeyed only when they are repeated.

A log that another cluster's recovery has left behind, or a committed event that an epoch would cut, must stop its node.
But a heartbeat that says so may be forged, or damaged where a checksum cannot see it; a true one is repeated every few
milliseconds. So a node goes on until whoever says so has insisted on it. It takes nothing from that sender meanwhile.
"""

from __future__ import annotations

from typing import Final

from mcast.protocol.cluster_uuid import succeeds
from mcast.protocol.core import Core

INSISTED_S: Final = 1.0  # that a word which ends a node must be repeated for ...
INSISTED_TIMES: Final = 8  # ... and how often; a true one comes with each heartbeat


class Endings:
    """One node's. Remembers the newest word of this kind."""

    def __init__(self, core: Core) -> None:
        self._core = core
        self._word: tuple[object, ...] = ()
        self._times = 0
        self._since = self._last = self._reported = float("-inf")

    def belongs(self, sender: int, uuid: bytes, now: float) -> bool:
        """Whether this log may go on in cluster `uuid`: its own, or its recovery, if this node had no vote before.

        A voter may have acknowledged what the recovery lost; so it halts, rather than pass its log off as the same.
        """
        core = self._core
        if uuid == core.cluster_uuid:
            return True
        if not succeeds(uuid, core.cluster_uuid):
            return False
        if core.is_voter(core.me, core.meta.storage_id):
            self.end(
                (sender, uuid),
                "the cluster was recovered on another node without this one (mcast recover --accept-loss): move this "
                "node's data directory away and start it again, empty; it then rejoins by itself; if that recovery was "
                "a mistake, move the other node's away instead, and start this one again as it is",
                now,
            )
            return False
        return True

    def end(self, word: tuple[object, ...], reason: str, now: float) -> None:
        """`word` names who says what: halt for this reason once it was repeated for long enough."""
        core = self._core
        if word != self._word or now >= self._last + INSISTED_S:
            self._word, self._since, self._times = word, now, 0
        self._last = now
        self._times += 1
        insists = self._times >= INSISTED_TIMES and now >= self._since + INSISTED_S
        if insists or not core.rules.lone_word_halts_nobody:
            core.halt(reason)
        elif now >= self._reported + INSISTED_S:  # the words may differ each time
            self._reported = now
            core.tell_contradiction(f"a heartbeat that means: {reason}")
