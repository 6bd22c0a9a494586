"""`mcast node` before its network is there, at boot: it waits, and says for what; at once, then rarely."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Final

from mcast.clock import monotonic_s
from mcast.config import Config
from mcast.errors import NetworkMissing
from mcast.net.names import in_thread
from mcast.node.place import FoundNode, look

LOOK_S: Final = 0.5  # between two looks whether it is there
LOGGED_EVERY_S: Final = 60.0  # between two lines about the same
LOGGED_CHANGED_S: Final = 5.0  # between two lines about something else: what flaps must not fill a log


class Waiting:
    """Looks again and again. `say` gets a line now and then, `stopped` ends it; without `patient` it raises instead."""

    def __init__(self, say: Callable[[str], None], stopped: asyncio.Future[int], *, patient: bool) -> None:
        self._say = say
        self._stopped = stopped
        self._patient = patient
        self._began_s = monotonic_s()
        self._logged = ""
        self._logged_s = float("-inf")

    async def find(self, config: Config, node_id: str | None) -> FoundNode | None:
        """The node (inferred where `node_id` is None) and its place; None if it was stopped before.

        Raises:
            NetworkMissing: it is not there, and nobody wants to wait. ConfigError: it does not fit together.
        """
        while not self._stopped.done():
            looking = asyncio.ensure_future(in_thread(lambda: look(config, node_id)))
            await asyncio.wait((looking, self._stopped), return_when=asyncio.FIRST_COMPLETED)
            if not looking.done():
                looking.cancel()
                break
            try:
                found = looking.result()
            except NetworkMissing as missing:
                await self.heed(missing)
            else:
                if self._logged:
                    self._say(f"the network is there, after {monotonic_s() - self._began_s:.0f} s")
                return found
        return None

    async def heed(self, missing: NetworkMissing) -> None:
        """Say so if it is time, and give it some time to come. Raises it if nobody wants to wait."""
        if not self._patient:
            raise missing
        now_s, what = monotonic_s(), str(missing)
        if now_s - self._logged_s >= (LOGGED_EVERY_S if what == self._logged else LOGGED_CHANGED_S):
            waited = f" ({now_s - self._began_s:.0f} s so far)" if self._logged else ""
            self._say(f"waits for its network{waited}: {what}")
            self._logged, self._logged_s = what, now_s
        await asyncio.wait((self._stopped,), timeout=LOOK_S)
