"""What a command's handler may know besides its arguments and the state: number, time, random draws."""

from __future__ import annotations

from mcast.machine.draws import Draws


class Context:
    """One object for all events of an engine, only its fields change: never keep it beyond the handler's call."""

    __slots__ = ("_cluster", "_drawn_for", "_draws", "_epoch", "seq", "time")

    seq: int
    """The event's number."""
    time: int
    """The sequencer's clock when it numbered the event's frame: ns since 1970, never decreasing."""

    def __init__(self) -> None:
        self.seq = self.time = self._epoch = 0
        self._cluster = bytes(16)
        self._draws: Draws | None = None
        self._drawn_for = (0, 0)

    def set_cluster_uuid(self, cluster_uuid: bytes) -> None:
        """From here on draws are seeded with this cluster's uuid."""
        self._cluster = cluster_uuid

    def enter(self, epoch: int, time: int) -> None:
        """The events that follow were numbered in this epoch, at this time (ns)."""
        self._epoch = epoch
        self.time = time

    @property
    def random(self) -> Draws:
        """Random draws, seeded by cluster, epoch and seq: the same on every replica, others for every event."""
        if self._draws is None or self._drawn_for != (self._epoch, self.seq):
            self._drawn_for = (self._epoch, self.seq)
            self._draws = Draws(b"%b%d.%d" % (self._cluster, self._epoch, self.seq))
        return self._draws
