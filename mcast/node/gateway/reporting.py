"""STATUS and GAPS are answered by reports that cost a node no more than a share of its time, however many ask.

Who asks now and then gets one of this moment. When many ask, one report answers all that come while making it has to be
paid for: it is older then by milliseconds.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final

import msgpack

from mcast.clock import monotonic_s
from mcast.wire.stream import Failure, StreamKind, pack_message, pack_raw

SHARE: Final = 0.05  # of the time that may go into making reports
AHEAD_S: Final = 0.025  # of making them that may be spent at once
_TWO: Final = b"\x92"  # msgpack's head of an array of two: REPORT's id and report


class Reports:
    """`made` holds what makes a report, by the kind of message that asks for it."""

    def __init__(self, made: Mapping[int, Callable[[], dict[str, Any]]]) -> None:
        self._made = made
        self._packed: dict[int, bytes] = {}
        self._owed_s = 0.0
        self._looked_s = 0.0

    def answer(self, kind: int, number: int) -> bytes:
        """A whole message: REPORT, or ERROR if there is something in it that cannot be sent."""
        now_s = monotonic_s()
        self._owed_s = max(self._owed_s - (now_s - self._looked_s) * SHARE, 0.0)
        self._looked_s = now_s
        try:
            packed = self._packed.get(kind)
            if packed is None or self._owed_s < AHEAD_S:
                packed = self._packed[kind] = msgpack.packb(self._made[kind]())
                self._owed_s += monotonic_s() - now_s
            return pack_raw(StreamKind.REPORT, b"".join((_TWO, msgpack.packb(number), packed)))
        except (TypeError, ValueError, OverflowError) as error:
            return pack_message(StreamKind.ERROR, Failure(number, f"the report cannot be sent: {error}"))
