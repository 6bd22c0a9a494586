"""Election: silence, pre-vote, vote (Raft, with durable promises in every envelope).

Silence is measured by rounds: a heartbeat counts as life only when its confirmed round advanced, so a sequencer that
sends but hears nobody is replaced. A voter refuses a pre-vote while it hears its sequencer itself, so a node that was
cut off does not depose anyone when it returns. Faster than silence is a death that is seen: the TCP connection to the
sequencer closed, and a new one was refused or met another incarnation. Replies carry storage ids; the candidate counts
those of the newest configuration in its own log, and the voter does not check its own membership.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Final

from mcast.limits import ELECTION_RETRY_DOUBLINGS_MAX, ELECTION_RETRY_S, PEER_DIED_RANK_S, VOTE_CALLS_MAX
from mcast.protocol.caution import Caution
from mcast.protocol.climb import spent
from mcast.protocol.core import Core
from mcast.protocol.log_recovery import LogRecovery
from mcast.protocol.quorum import majority
from mcast.protocol.states import ELECTING, LEADS_EPOCH, Input, Role
from mcast.wire.envelope import Envelope
from mcast.wire.messages import PreVote, PreVoteRequest, Vote, VoteRequest

_CALLABLE: Final = (Role.FOLLOWER, *ELECTING)


class Election:
    """Calls and judges votes. `on_promise` runs when a higher epoch has been promised, `on_win` when a vote is won."""

    def __init__(  # noqa: PLR0913 - one class each
        self,
        core: Core,
        log_recovery: LogRecovery,
        caution: Caution,
        now: float,
        on_promise: Callable[[float], None],
        on_win: Callable[[float], None],
    ) -> None:
        self.core = core
        self._log_recovery = log_recovery
        self._caution = caution
        self._on_promise = on_promise
        self._on_win = on_win
        self._heard_at = now - core.settings.election_timeout_s[0]
        self._silent_at = 0.0
        self._tries = 0
        self._nonce = 0
        self._calls = 0
        self._in_favour: set[int] = set()
        self._sequencer_died = False
        """Whether the sequencer's process is known to be dead, not merely silent."""
        self.restart_timeout(now)

    def on_round_confirmed(self, now: float) -> None:
        """The sequencer proved that a majority hears it."""
        self._heard_at = now
        self._tries = 0
        self._sequencer_died = False
        self.restart_timeout(now)

    def restart_timeout(self, now: float) -> None:
        """Grant the present epoch one election timeout of silence."""
        self._silent_at = now + self.core.random.uniform(*self.core.settings.election_timeout_s)

    def on_sequencer_died(self, rank: int, now: float) -> None:
        """The sequencer is dead: stand at once, after those whose logs are further ahead."""
        self._sequencer_died = True
        self._tries = 0
        self._silent_at = min(self._silent_at, now + rank * PEER_DIED_RANK_S)

    def on_appointment(self, now: float) -> None:
        """The sequencer hands over to this node: stand without a pre-vote, since its silence is not in question."""
        if self.core.role is Role.FOLLOWER and self._is_electable():
            self.call(now, Input.APPOINTED)

    def tick(self, now: float) -> None:
        """Ask for pre-votes when the silence has lasted long enough."""
        if now < self._silent_at or self.core.role not in _CALLABLE:
            return
        if self.core.role is Role.CANDIDATE and self._calls < VOTE_CALLS_MAX:
            self._request_votes(now)
            return
        if not self._is_electable():
            self._silent_at = now + self.core.settings.election_timeout_s[0]
            return
        self._ask_pre_votes(now)

    def deadline(self) -> float:
        """When `tick` has work next."""
        return self._silent_at if self.core.role in _CALLABLE else float("inf")

    def call(self, now: float, because: Input = Input.PRE_VOTED) -> None:
        """Stand for the next epoch: promise it and vote for oneself, durably, then ask the others."""
        core = self.core
        core.become_candidate(because, core.sequencer)
        epoch = core.planned_meta.promised + 1
        if problem := spent(epoch):
            core.halt(problem)
            return
        self._calls = VOTE_CALLS_MAX  # nobody is asked before the own vote is durable
        self._in_favour = set()

        def on_promised(then: float) -> None:
            self._on_promise(then)
            if core.role is not Role.CANDIDATE or core.promised != epoch:
                return
            self._calls = 0
            self._request_votes(then)
            self._count(core.me, core.meta.storage_id, then)

        core.write_meta(
            replace(core.planned_meta, promised=epoch, voted_epoch=epoch, voted_for=core.me), on_promised, now
        )

    def on_pre_vote_request(self, envelope: Envelope, request: PreVoteRequest, now: float) -> None:
        """Would this node vote for the sender?"""
        core = self.core
        silent = self._sequencer_died or now >= self._heard_at + core.settings.election_timeout_s[0]
        granted = (
            silent and core.role not in LEADS_EPOCH and request.epoch > core.planned_meta.promised
            and self._may_vote(request.last_epoch, request.last_seq) and not self._stands_before(envelope, request)
        )  # fmt: skip
        if granted:
            self._let_try(now)
        core.send(envelope.sender, self._pre_vote(request, granted, envelope.sender))

    def _let_try(self, now: float) -> None:
        """Another node asks for pre-votes, and this one agrees: wait, or two that stand at once split the votes."""
        if self.core.role is Role.PRE_CANDIDATE:
            self.core.become_follower(Input.RETREAT)
        if self.core.role is Role.FOLLOWER or self._calls >= VOTE_CALLS_MAX:
            self._silent_at = max(self._silent_at, now + self.core.random.uniform(*ELECTION_RETRY_S))

    def _stands_before(self, envelope: Envelope, request: PreVoteRequest) -> bool:
        """Whether this node has just asked for pre-votes too, and ranks better: two that help each other split a vote.

        Only the first call counts so: a better rank that cannot be heard must not keep the other from leading.
        """
        core = self.core
        if core.role is not Role.PRE_CANDIDATE or self._tries > 1:
            return False
        order = list(core.voters())
        own, other = (order.index(node) if node in order else len(order) for node in (core.me, envelope.sender))
        log = core.log
        return (request.last_epoch, request.last_seq, -other) < (log.last_epoch, log.last_seq, -own)

    def on_pre_vote(self, envelope: Envelope, answer: PreVote, now: float) -> None:
        """An answer to this node's request for pre-votes."""
        core = self.core
        named = (answer.nonce, answer.candidate) == (self._nonce, core.me) or not core.rules.answers_named
        if core.role is not Role.PRE_CANDIDATE or not named or not answer.granted:
            return
        if core.is_voter(envelope.sender, answer.storage_id):
            self._in_favour.add(envelope.sender)
            if len(self._in_favour) >= majority(len(core.voters())):
                self.call(now)

    def on_vote_request(self, envelope: Envelope, request: VoteRequest, now: float) -> None:
        """Vote once per epoch, durably, for a log at least as up to date as this one."""
        core, planned = self.core, self.core.planned_meta
        if request.epoch != core.promised or planned.promised != request.epoch:
            return
        free = planned.voted_epoch < request.epoch or planned.voted_for == envelope.sender
        if not free or not self._may_vote(request.last_epoch, request.last_seq):
            self._answer(request, envelope.sender, granted=False)
            return
        if core.role in ELECTING and envelope.sender != core.me:
            core.become_follower(Input.RETREAT)
        self.restart_timeout(now)

        def on_voted(_: float) -> None:
            self._answer(request, envelope.sender, granted=True)

        meta = replace(planned, voted_epoch=request.epoch, voted_for=envelope.sender)
        if meta == core.meta == planned:
            on_voted(now)  # written with the promise, or asked for again
        else:
            core.write_meta(meta, on_voted, now, durable=core.rules.vote_durable)

    def may_vote_at_once(self, request: VoteRequest, promised: int) -> bool:
        """Whether the vote may be written together with its epoch's promise; `on_vote_request` then judges it again."""
        both = self.core.rules.vote_durable and self.core.rules.promise_durable
        return both and request.epoch == promised and self._may_vote(request.last_epoch, request.last_seq)

    def on_vote(self, envelope: Envelope, vote: Vote, now: float) -> None:
        """An answer to this node's call."""
        core = self.core
        if core.role is not Role.CANDIDATE or (vote.epoch != core.promised and core.rules.vote_of_own_epoch):
            return
        if vote.candidate != core.me and core.rules.answers_named:
            core.counts["vote for another"] += 1
            return
        if vote.granted:
            self._count(envelope.sender, vote.storage_id, now)
        elif self._calls < VOTE_CALLS_MAX:  # another stands in this epoch: asking again here is of no use
            self._calls = VOTE_CALLS_MAX
            self._silent_at = now + core.random.uniform(*ELECTION_RETRY_S)

    def _pre_vote(self, request: PreVoteRequest, granted: bool, candidate: int) -> PreVote:
        return PreVote(request.epoch, self.core.meta.storage_id, granted, request.nonce, candidate)

    def _answer(self, request: VoteRequest, candidate: int, *, granted: bool) -> None:
        self.core.send(candidate, Vote(request.epoch, self.core.meta.storage_id, granted, candidate))

    def _request_votes(self, now: float) -> None:
        """Ask for votes, again where an answer was lost: a vote is given again to the same candidate."""
        core = self.core
        self._calls += 1
        self._rearm(now)
        missing = core.voters().keys() - self._in_favour
        core.call(VoteRequest(core.promised, core.log.last_epoch, core.log.last_seq), sorted(missing), self._calls)

    def _count(self, voter: int, storage_id: bytes, now: float) -> None:
        core = self.core
        if not core.is_voter(voter, storage_id):
            core.counts["vote of no voter"] += 1
        else:
            self._in_favour.add(voter)
            if len(self._in_favour) >= majority(len(core.voters())):
                self._on_win(now)

    def _ask_pre_votes(self, now: float) -> None:
        core = self.core
        core.become_candidate(Input.SILENCE)
        self._in_favour = set()
        self._nonce = core.random.getrandbits(63)
        self._rearm(now)
        request = PreVoteRequest(core.promised + 1, core.log.last_epoch, core.log.last_seq, self._nonce)
        core.call(request, core.voters(), self._tries)
        self._in_favour.add(core.me)
        if majority(len(core.voters())) == 1:
            self.call(now)

    def _rearm(self, now: float) -> None:
        doubled = 2 ** min(self._tries, ELECTION_RETRY_DOUBLINGS_MAX)
        self._silent_at = now + self.core.random.uniform(*ELECTION_RETRY_S) * doubled
        self._tries += 1

    def _is_electable(self) -> bool:
        core = self.core
        in_config = core.is_voter(core.me, core.meta.storage_id)
        allowed = self._caution.allows_vote(core.log.last_epoch, core.log.last_seq)
        return core.promised > 0 and in_config and not core.suspect and allowed and self._has_begun()

    def _has_begun(self) -> bool:
        """Whether the founder has called the first vote: a promise alone, which may be forged, does not say so.

        Until then GENESIS may be redrawn, and a log of one looks like a log of the other. Whoever holds an event beyond
        GENESIS follows an epoch; whoever voted was asked by the founder, or by one that had voted before it.
        """
        core = self.core
        return core.log.last_seq > 1 or core.planned_meta.voted_epoch > 0 or not core.rules.founder_calls_first

    def _may_vote(self, last_epoch: int, last_seq: int) -> bool:
        parts = (self._log_recovery, self._caution)
        allowed = all(part.allows_vote(last_epoch, last_seq) for part in parts)
        return allowed and self._is_up_to_date(last_epoch, last_seq)

    def _is_up_to_date(self, last_epoch: int, last_seq: int) -> bool:
        log = self.core.log
        return (last_epoch, last_seq) >= (log.last_epoch, log.last_seq) or not self.core.rules.vote_log_rule
