"""Rounds: the heartbeats of an epoch, what a majority answers to them, and what a majority holds.

Every heartbeat opens a round, and whoever acknowledges names the newest round it has heard. A round that a majority
has answered proves that no other epoch had begun when it was opened; an event of the own epoch that a majority holds is
committed, with all before it. Frames, heartbeats and COMMITs tell both to the others.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from typing import Final

from mcast.limits import HEARTBEAT_HISTORY, HEARTBEAT_MIN_S, READ_RETRY_S
from mcast.protocol.core import Core
from mcast.protocol.effects import SequencerReady
from mcast.protocol.quorum import Progress, reached
from mcast.protocol.reading import ReadAnswers
from mcast.protocol.states import Input, Role
from mcast.protocol.ways import Seeking
from mcast.wire.messages import Commit, EpochEntry, Heartbeat, PeerState

_BEAT_BYTES: Final = 160 + HEARTBEAT_HISTORY * 32  # of a heartbeat without its table of replicas
_PEER_BYTES: Final = 24
_ELSEWHERE_S: Final = 1.0  # after other nodes' clients submitted, for which every commit is sent at once


class Rounds:
    """Of one epoch that this node leads, the last of the `newest` ones. Times in seconds of the protocol's clock."""

    def __init__(
        self, core: Core, progress: Mapping[int, Progress], newest: tuple[EpochEntry, ...], now: float
    ) -> None:
        self.core = core
        self.start_seq = newest[-1].first
        """The event that is this epoch's EPOCH_START: nothing commits by counting before it does."""
        self.reads = ReadAnswers(core)
        """The reads that wait for a round."""
        self.seeking = Seeking(core)
        """Who is sent the heartbeats by unicast or over TCP as well."""
        self.number = 0
        """Of the newest round begun; the first is 1."""
        self.confirmed = 0
        """The highest round that a majority has answered; 0 before the first."""
        self.confirmed_at = now
        """When that was, or this epoch began."""
        self.open: deque[tuple[int, float, int]] = deque(maxlen=256)
        """Rounds not confirmed yet, oldest first: (number, when it began, the commit then)."""
        self._progress = progress
        self._newest = newest
        """The newest epochs of the own log, this one the last: heartbeats carry them."""
        self._stream_base = core.stream_sent
        """DATA datagrams that this process had sent before this epoch."""
        self._announced: tuple[int, int] = (0, 0)
        """The commit and the confirmed round that the others have been told last."""
        self._tell_due = float("inf")
        """When a COMMIT is sent, unless frames or a heartbeat have carried the commit by then."""
        self._elsewhere_until = 0.0
        """Until when clients of other nodes are taken to wait for commits."""
        self._beat_due = float("inf")
        """When the next heartbeat is sent."""
        self._beat_interval = HEARTBEAT_MIN_S
        """How long after the next one the one behind it follows, in seconds: doubled by each, up to the longest."""
        self._last_beat = float("-inf")
        """When the last heartbeat was sent."""
        self.seeking.begin(now)
        self._quicken(now)

    def hasten_commits(self, now: float) -> None:
        """Another node submitted this, and answers its clients when it hears of the commit: send COMMITs at once."""
        self._elsewhere_until = now + _ELSEWHERE_S

    def on_streamed(self, commit: int, now: float) -> None:
        """Frames were sent, the last of which told this commit; heartbeats begin again from the shortest interval."""
        self._announced = (commit, self._announced[1])
        self._tell_due = float("inf")
        self._quicken(now)

    def count(self, now: float) -> int:
        """Confirm the rounds that a majority has answered; commit what a majority holds: all up to this event."""
        core = self.core
        voters, progress = core.voters(), self._progress.items()
        mine = core.me in voters
        if self.open:
            rounds = [one.round for node, one in progress if one.counted and node in voters]
            self._confirm(reached([*rounds, self.number] if mine else rounds, len(voters)), now)
        seqs = [one.seq for node, one in progress if one.counted and node in voters]
        held = reached([*seqs, core.persisted_seq] if mine else seqs, len(voters))
        if held > core.commit_seq and (held >= self.start_seq or not core.rules.commit_own_epoch_only):
            core.advance_commit(held)
            if core.role is Role.SEQUENCER_ELECT and core.commit_seq >= self.start_seq:
                core.become_sequencer(Input.STARTED)
                core.notices.append(SequencerReady(core.promised))
        return held

    def _confirm(self, confirmed: int, now: float) -> None:
        """A majority has answered all rounds up to this one."""
        if confirmed <= self.confirmed:
            return
        self.confirmed = confirmed
        self.confirmed_at = self.core.in_touch = now
        while self.open and self.open[0][0] <= confirmed:
            _, began, commit = self.open.popleft()
            if commit >= self.start_seq or not self.core.rules.staleness_proven:
                self.core.proofs.add(commit, int(began * 1e9))

    def announce(self, now: float) -> None:
        """After a burst: tell the others of a commit, at once or soon; and of a round that reads have waited for."""
        if self.core.commit_seq > self._announced[0] and self._tell_due == float("inf"):
            self._tell_due = now if now < self._elsewhere_until else now + HEARTBEAT_MIN_S
        if now >= self._tell_due or self._announced[1] < self.reads.proving <= self.confirmed:
            self._tell(now)

    def tick(self, now: float) -> None:
        """Send what is due. An epoch that is over has nothing to tell but, with a rule switched off, heartbeats."""
        leads = self.core.leads_epoch
        if now >= self._beat_due:
            self.skip_needless_beat()
        if now >= self._beat_due or (leads and self._awaits_proof and now >= self._last_beat + READ_RETRY_S):
            self.send_heartbeat(now)
        elif leads and now >= self._tell_due:
            self._tell(now)

    def deadline(self) -> float:
        """When `tick` has work next, or no majority has confirmed the epoch for too long."""
        if not self.core.leads_epoch:
            return self._beat_due
        due = min(self._beat_due, self._tell_due, self.confirmed_at + self.core.settings.election_timeout_s[1])
        return min(due, self._last_beat + READ_RETRY_S) if self._awaits_proof else due

    def send_heartbeat(self, now: float) -> None:
        """One heartbeat; it opens a round."""
        core = self.core
        self.number += 1
        self.open.append((self.number, now, core.commit_seq))
        self._note_announced(core.commit_seq, self.confirmed)
        beat = Heartbeat(
            epoch=self._newest[-1].epoch, cluster_uuid=core.cluster_uuid,
            high=core.log.last_seq, high_chain=core.log.last_chain,
            commit=core.commit_seq, commit_chain=core.log.chain_at(core.commit_seq) or bytes(16),
            round=self.number, confirmed=self.confirmed,
            stream_base=self._stream_base, stream_sent=core.stream_sent,
            history=self._newest,
            peers=self._next_peer_states(),
        )  # fmt: skip
        core.multicast(beat)
        self.seeking.tell(beat, now)
        self._last_beat = now
        self._beat_due = now + min(self._beat_interval, core.settings.heartbeat_max_s)
        self._beat_interval *= 2

    def skip_needless_beat(self) -> None:
        """Skip the first heartbeat after data, if every replica heard of has the log's end: no tail is lost.

        That is known as soon as all have acknowledged: a timer less for each command.
        """
        if (
            self._beat_interval == HEARTBEAT_MIN_S
            and self._beat_due + HEARTBEAT_MIN_S <= self._last_beat + self.core.settings.heartbeat_max_s
            and all(progress.seq == self.core.log.last_seq for progress in self._progress.values())
        ):
            self._beat_due += self._beat_interval
            self._beat_interval *= 2

    @property
    def _awaits_proof(self) -> bool:
        """Whether reads wait for a round that is out; it is begun again after a while: an answer may have been lost."""
        return self.confirmed < self.reads.proving

    def _next_peer_states(self) -> tuple[PeerState, ...]:
        """As many replicas' progress as fit one datagram; where they don't all, each heartbeat tells the next ones."""
        nodes = sorted(self._progress)
        room = max((self.core.settings.frame_body_max - _BEAT_BYTES) // _PEER_BYTES, 1)
        if len(nodes) > room:
            start = self.number * room % len(nodes)
            nodes = (nodes + nodes)[start : start + room]
        return tuple(PeerState(node, self._progress[node].seq, self._progress[node].stamp) for node in nodes)

    def _quicken(self, now: float) -> None:
        """Data was sent. Its loss must show soon, so heartbeats start again from the shortest interval."""
        self._beat_interval = HEARTBEAT_MIN_S
        self._beat_due = min(now + HEARTBEAT_MIN_S, max(self._last_beat, now) + self.core.settings.heartbeat_max_s)
        if now - self._last_beat >= self.core.settings.heartbeat_max_s:
            self._beat_due = now

    def _tell(self, now: float) -> None:
        core = self.core
        self._tell_due = float("inf")
        chain = core.log.chain_at(core.commit_seq)
        if chain is not None:
            commit = Commit(core.promised, core.commit_seq, chain, self.confirmed)
            core.multicast(commit)
            self.seeking.tell(commit, now)
            self._note_announced(core.commit_seq, self.confirmed)

    def _note_announced(self, commit: int, confirmed: int) -> None:
        self._announced = (commit, confirmed)
        self._tell_due = float("inf")
