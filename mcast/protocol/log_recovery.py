"""A suspect log: what was acknowledged before a restart may be missing from it.

So it is with a journal cut at a torn write, and with every unsynced one after the machine itself went down. A suspect
member neither votes nor acknowledges, until its reconciled log has reached the high water of a round that began after
its restart and was confirmed without it: all that was ever acknowledged is in there. When no such round can come,
because too many are suspect at once, every member reports where its log ends, and reaching the best of them does as
well.

Reports of one question come from different moments, and count only together: from processes that were seen before it
began. Such a process loses nothing between the question's beginning and its report; so what a member held at the
beginning is in its report. A process that began later may have lost in its restart what the one before it had just
passed on to a member that had reported already: then each report would be true, and none would tell of it.

Every question that all answered is a proof by itself, and the newest one counts: whoever had the best log of the one
before may have lost it since, and be a suspect too.
"""

from __future__ import annotations

from mcast.limits import SUSPECT_ASK_S, SUSPECT_ASKS
from mcast.protocol.configs import ConfigName, is_outdated
from mcast.protocol.core import Core
from mcast.protocol.reading import config_name, is_answer
from mcast.wire.envelope import Envelope, name_hash
from mcast.wire.messages import Standing, Survey


class LogRecovery:
    """Does nothing unless the log was recovered as suspect."""

    def __init__(self, core: Core, now: float) -> None:
        self.core = core
        self._floor: tuple[int, int] | None = None
        self._reports: dict[int, tuple[int, int]] = {}
        self._processes: dict[int, bytes] = {}
        """Node hash -> incarnation that answered last, whichever question."""
        self._before: dict[int, bytes] = {}
        """The same when the present question began."""
        self._answered: set[int] = set()
        self._configs: dict[int, ConfigName] = {}
        """Node hash -> the newest configuration it knows, as it answered last, whichever question."""
        self._nonce = 0
        self._asks_left = 0
        self._due = now
        self._missed: frozenset[int] = frozenset()

    @property
    def waits_for(self) -> tuple[int, ...]:
        """Members that did not answer the last question: while one is away, only a confirmed round ends it."""
        return tuple(sorted(self._missed)) if self.core.suspect else ()

    def tick(self, now: float) -> None:
        """Ask every member where its log ends, again and then anew: answers to two questions prove nothing together."""
        core = self.core
        if not core.suspect or now < self._due:
            return
        self._due = now + SUSPECT_ASK_S
        if self._asks_left:
            self._asks_left -= 1
            core.call(Survey(self._nonce), sorted(self._members() - self._answered), SUSPECT_ASKS - self._asks_left)
            return
        self._asks_left = SUSPECT_ASKS - 1
        if self._reports:
            self._missed = frozenset(self._members() - self._answered)
        self._nonce = core.random.getrandbits(63)
        self._reports = {core.me: (core.log.last_epoch, core.log.last_seq)}
        self._answered = {core.me}
        self._before = dict(self._processes)
        core.multicast(Survey(self._nonce))
        self._judge()

    def deadline(self) -> float:
        """When `tick` has work next."""
        return self._due if self.core.suspect else float("inf")

    def on_standing(self, envelope: Envelope, position: Standing) -> None:
        """A member says where its log ends."""
        if not self.core.suspect:
            return
        sender, process = envelope.sender, envelope.incarnation
        self._processes[sender] = process
        if not is_answer(self.core, position, self._nonce):
            return
        self._answered.add(sender)
        self._configs[sender] = config_name(position)
        if self._before.get(sender) == process or not self.core.rules.positions_of_same_processes:
            self._reports[sender] = (position.last_epoch, position.last_seq)
            self._judge()

    def allows_vote(self, last_epoch: int, last_seq: int) -> bool:
        """Whether this node may vote for a log that ends there."""
        return not self.core.suspect or (self._floor is not None and (last_epoch, last_seq) >= self._floor)

    def review(self) -> None:
        """The log has grown: does it reach the best one that was reported?"""
        log = self.core.log
        if self.core.suspect and self._floor is not None and (log.last_epoch, log.last_seq) >= self._floor:
            self.core.trust()

    def _judge(self) -> None:
        core, names = self.core, self._configs.values()
        if core.config is not None and is_outdated(core.configs.name, names, by_epoch=core.rules.config_named_by_epoch):
            return  # members that this log does not know may hold more than those it asks
        if self._reports.keys() >= self._members():
            self._floor, self._missed = max(self._reports.values()), frozenset()
            self.review()

    def _members(self) -> set[int]:
        """The nodes that must answer, whatever their storage ids: the log's members, and the cluster file's."""
        return {*self.core.voters(), *(name_hash(node) for node, _ in self.core.settings.members)}
