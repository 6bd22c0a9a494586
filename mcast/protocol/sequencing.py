"""What only a sequencer has: an object of this exists while its node leads an epoch, and no longer.

An epoch begins with a heartbeat (so that everybody can judge its frames) and EPOCH_START, alone in its frame. Until
that has committed nothing else is numbered. `numbering` packs and streams, `rounds` sends heartbeats, counts and
commits, `handover` gives the role away.
"""

from __future__ import annotations

from collections.abc import Callable

from mcast.protocol.core import Core
from mcast.protocol.effects import EpochChanged
from mcast.protocol.handover import HandingOver
from mcast.protocol.history import History
from mcast.protocol.logtime import LogTime
from mcast.protocol.membership import Membership
from mcast.protocol.numbering import Numbering
from mcast.protocol.quorum import Progress
from mcast.protocol.rounds import Rounds
from mcast.protocol.states import Input
from mcast.wire.envelope import Envelope
from mcast.wire.messages import Ack, EpochEntry, ReadIndex


class Sequencing:
    """One epoch that this node leads: the last of the `newest` ones. It is not begun before the role says so.

    `time` goes on from epoch to epoch; `on_own_index` takes the answers to this node's own reads.
    """

    def __init__(
        self,
        core: Core,
        time: LogTime,
        newest: tuple[EpochEntry, ...],
        on_own_index: Callable[[ReadIndex, float], None],
        now: float,
    ) -> None:
        self.core = core
        self.progress: dict[int, Progress] = {}
        """Node -> what it has acknowledged in this epoch."""
        self.membership = Membership(core)
        self.rounds = Rounds(core, self.progress, newest, now)
        self.numbering = Numbering(core, self.progress, self.rounds, self.membership, time)
        self.handing_over = HandingOver(core, self.progress, self.numbering)
        self._on_own_index = on_own_index
        time.begin(now)

    def begin(self, now: float) -> History:
        """The own epoch begins: heartbeat first, then EPOCH_START."""
        core = self.core
        config = core.config
        assert config is not None, "only a voter of a configuration in its log is elected"
        history = self.resume()
        core.acknowledged = core.promised, core.persisted_seq  # as nodes assume that hear this epoch's heartbeats
        self.rounds.send_heartbeat(now)
        self.numbering.start(config, now)
        return history

    def resume(self) -> History:
        """Lead without a new EPOCH_START: alone an ablation, of `epoch_begins_with_vote`, is content with this."""
        self.core.notices.append(EpochChanged(self.core.promised, self.core.me))
        return History(self.core.promised, self.core.log.epochs)

    def finish_burst(self, now: float) -> None:
        """After a burst of acknowledgements: confirm rounds, commit, open the window, tell."""
        core, rounds, numbering = self.core, self.rounds, self.numbering
        if rounds.open or core.commit_seq < core.log.last_seq:
            numbering.on_held(rounds.count(now))
            if core.commit_seq == core.log.last_seq:
                rounds.skip_needless_beat()
        if numbering.pending or self.membership.applicants:
            numbering.number(now)
        if rounds.reads.waiting:
            self._serve_reads(now)
        rounds.announce(now)
        if self.handing_over.successor is not None:
            self.handing_over.go_on(now)

    def tick(self, now: float) -> None:
        """Heartbeats; and the end of an epoch that no majority confirms."""
        core = self.core
        if now >= self.rounds.confirmed_at + core.settings.election_timeout_s[1]:
            core.counts["quorum lost"] += 1
            core.become_follower(Input.RETREAT)
            return
        if self.handing_over.successor is not None:
            self.handing_over.go_on(now)
        self.rounds.tick(now)

    def deadline(self) -> float:
        """When `tick` has work next."""
        due = self.rounds.deadline()
        return due if self.handing_over.successor is None else min(due, self.handing_over.deadline())

    def _serve_reads(self, now: float) -> None:
        """Begin a round for the reads that wait, unless one of theirs is out already."""
        core, rounds = self.core, self.rounds
        if rounds.reads.may_begin(rounds.confirmed, core.commit_seq >= rounds.start_seq):
            rounds.send_heartbeat(now)
            for requester, index in rounds.reads.begin_round(rounds.number):
                if requester == core.me:
                    self._on_own_index(index, now)
                else:
                    core.send(requester, index)


class Acknowledgements:
    """What replicas acknowledge, heard by every node: it counts for the epoch that this node leads, if it leads one."""

    def __init__(self, core: Core) -> None:
        self.core = core

    def on_ack(self, envelope: Envelope, ack: Ack, now: float) -> None:
        """A replica says what it holds."""
        core, sequencing = self.core, self.core.sequencing
        if sequencing is None or (ack.epoch != core.promised and core.rules.ack_of_own_epoch):
            core.counts["ack of another epoch"] += 1
            return
        if ack.round > sequencing.rounds.number and core.rules.ack_of_begun_round:
            core.counts["ack of a round never begun"] += 1
            return
        progress = sequencing.progress.get(envelope.sender)
        if progress is None or progress.storage_id != ack.storage_id:
            # acknowledgements of a lost disk do not count for the disk that replaces it
            progress = sequencing.progress[envelope.sender] = Progress(ack.storage_id)
        progress.counted = core.is_voter(envelope.sender, ack.storage_id)
        progress.heard = now
        progress.stamp = ack.stamp
        progress.window = ack.window
        if ack.round > progress.round:
            progress.round = ack.round
            sequencing.rounds.seeking.on_answer(envelope.sender, now)
        if not progress.counted:
            sequencing.membership.on_ack(envelope.sender, ack)
        if ack.seq > progress.seq:
            if core.log.chain_at(ack.seq) == ack.chain or not core.rules.ack_chain_checked:
                progress.seq = min(ack.seq, core.log.last_seq)
                if progress.counted:
                    core.heard[envelope.sender] = core.promised, progress.seq, ack.storage_id
            elif ack.seq >= core.log.low_water - 1:  # an older one can't be judged; more will be acknowledged
                core.counts["ack of another chain"] += 1


def epochs_with_own(core: Core) -> tuple[EpochEntry, ...]:
    """What heartbeats tell of the epoch that begins here now: the newest of the own log, and the one that is begun."""
    own = EpochEntry(core.promised, core.log.last_seq + 1, core.log.last_chain)
    return (*core.log.epochs.newest(core.settings.heartbeat_epochs - 1), own)
