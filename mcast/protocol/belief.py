"""Numbers that only rise, as a sequencer tells them: one word is not believed for good.

Without a key anybody can forge a heartbeat, and a fault may do the same: a high water that can't be, a round that was
never confirmed. Kept for ever as the highest, such a number would leave its node behind what is not there. So when
what the sequencer says next stays below, again and again, the lower number is the true one. Rounds tell which words
are the next ones: of late heartbeats many may come at once.
"""

from __future__ import annotations

from typing import Final, NamedTuple

from mcast.wire.messages import EpochEntry, Heartbeat

CONTRADICTIONS: Final = 3  # heartbeats in a row that say less than is believed: one or two may only be late


class Claim:
    """One such number: the highest value believed so far. Judges the next value that is reported."""

    __slots__ = ("_claimed", "_lasting_s", "_since", "_times")

    def __init__(self, lasting_s: float = 0.0) -> None:
        self._lasting_s = lasting_s
        """How long it must be contradicted."""
        self._claimed = 0
        self._times = 0
        self._since = 0.0

    def yields_to(self, believed: int, reported: int, now: float) -> bool:
        """Whether `reported` is to be believed from now on, in place of what is higher; to be asked of every word.

        What was believed at the first contradiction counts: it may rise meanwhile, and what is told may lag a little.
        """
        if reported >= believed or (self._times and reported >= self._claimed):
            self._times = 0
            return False
        if not self._times:
            self._claimed, self._since = believed, now
        self._times += 1
        if self._times < CONTRADICTIONS or now < self._since + self._lasting_s:
            return False
        self._times = 0
        return True


class HeartbeatVerdict(NamedTuple):
    """What one heartbeat shows."""

    is_alive: bool
    """A majority hears its sequencer: a newer round was confirmed, or it is the first one heard."""
    is_newer: bool
    """Whether a newer confirmed round shows that."""
    too_high: bool
    """There are no events beyond the high water that it reports, whatever others reported."""
    too_many: bool
    """No more datagrams were sent than it reports."""


class Beliefs:
    """What one epoch's heartbeats say, of which one comes every `interval_s` at least. `doubting` off: the ablation."""

    def __init__(self, interval_s: float, *, doubting: bool = True) -> None:
        self._doubting = doubting
        self._lasting_s = 2 * interval_s
        self.reset()

    def reset(self) -> None:
        """Another epoch: nothing of it was heard."""
        self.round = 0
        """The round of the last heartbeat: a higher one may never have begun."""
        self.high = 0
        """The highest event that a heartbeat reported."""
        self.history: tuple[EpochEntry, ...] = ()
        """The newest epochs that this epoch's heartbeats report; none while this node leads it."""
        self._disputes = 0
        self._newest = 0
        """The highest round that a heartbeat reported."""
        self._confirmed = 0
        self._of_round = Claim(self._lasting_s)
        self._of_confirmed, self._of_high, self._of_sent = Claim(), Claim(), Claim()

    def tells_history(self, beat: Heartbeat) -> bool:
        """Whether a heartbeat tells the same history as those before. It stays as it is as long as its epoch lasts.

        So where two are told one is false, and who goes on saying the same is right.
        """
        if beat.history == self.history or not self._doubting:
            self._disputes = 0
            return True
        self._disputes += 1
        return False

    def take_history(self, history: tuple[EpochEntry, ...]) -> None:
        """Take this history for the epoch's from now on."""
        self.history, self._disputes = history, 0

    @property
    def is_disputed(self) -> bool:
        """Whether so many heartbeats in a row told another history that this one must be false."""
        return self._disputes >= CONTRADICTIONS

    def hear(self, beat: Heartbeat, known_high: int, known_sent: int, now: float) -> HeartbeatVerdict:
        """Take a heartbeat; `known_high` and `known_sent` are the highest event and stream counter spoken of before."""
        is_first, is_newer = not self.round, beat.confirmed > self._confirmed
        self.round = beat.round
        is_next = beat.round > self._newest or self._of_round.yields_to(self._newest, beat.round, now)
        too_high = too_many = False
        if is_next:
            self._newest, self._of_round = beat.round, Claim(self._lasting_s)
        if is_next and self._doubting:
            if self._of_confirmed.yields_to(self._confirmed, beat.confirmed, now):
                self._confirmed = beat.confirmed
            # A sequencer that a majority confirms has all that is committed; one that was cut off may not.
            too_high = is_newer and self._of_high.yields_to(max(known_high, self.high), beat.high, now)
            too_many = self._of_sent.yields_to(known_sent, beat.stream_sent, now)
        self._confirmed = max(self._confirmed, beat.confirmed)
        self.high = beat.high if too_high else max(self.high, beat.high)
        return HeartbeatVerdict(is_newer or is_first, is_newer, too_high, too_many)
