"""Read indexes: what a linearizable read must wait for.

A read that begins now must see all that was committed before now, by anyone. The sequencer knows its own commit; but
only a round begun after the read was asked, and answered by a majority in this epoch, proves that no newer sequencer
has committed more meanwhile (Ongaro's thesis, 6.4). And only a sequencer that has committed an event of its own epoch
knows that nothing its predecessors committed lies beyond its commit.

One request at a time: reads that arrive while one is out wait for the next, and share it. A confirmation is never
used for a read that came after its request.

While there is no sequencer, a question to all does: a majority of the newest configuration says where their logs end.
Whatever was committed before is at or below the highest of these ends; a second question, a moment later, must find the
same.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from mcast.limits import LOG_POSITIONS_AGAIN_S, LOG_POSITIONS_RETRY_S, READ_RETRY_S, READS_WAITING_MAX
from mcast.protocol.configs import ConfigName, is_outdated
from mcast.protocol.core import Core
from mcast.protocol.effects import ReadReady, Relay
from mcast.protocol.quorum import majority
from mcast.wire.envelope import Envelope
from mcast.wire.messages import Read, ReadIndex, Standing, Survey

_CALLS_DATAGRAMS: Final = 4  # times the sequencer is asked by datagrams, for some 75 ms; then over TCP, too


class Reading:
    """The asking side, on every node. `sequencing` answers."""

    def __init__(self, core: Core) -> None:
        self.core = core
        self._last_token = 0
        self._waiting: list[int] = []
        self.out: tuple[int, ...] = ()
        """The tokens of the request that is out, if one is."""
        self._nonce = 0
        self._asked_epoch = 0
        """The sequencer to which the request went; 0: it went to all, as a question for log positions."""
        self._sent = 0.0
        self._retry_s = READ_RETRY_S
        self._calls = 0
        """How often the request that is out was sent."""
        self._index: ReadIndex | None = None
        self._confirmed = 0
        self._proven_high: int | None = None
        self._positions: dict[int, Standing] = {}
        self._highest: tuple[int, int] | None = None
        """The highest end that the last question found, and that question's nonce."""
        self._positions_due = float("inf")

    def ask(self, now: float) -> int | None:
        """Begin a read; its token comes back in ReadReady. None: too many wait already."""
        if len(self._waiting) >= READS_WAITING_MAX:
            return None
        self._last_token += 1
        self._waiting.append(self._last_token)
        if not self.out:
            self._request(now)
        return self._last_token

    @property
    def awaited_nonce(self) -> int | None:
        """The nonce of the request that is out, while no index has come for it; the sequencer gives its own."""
        return self._nonce if self._index is None else None

    def on_new_epoch(self) -> None:
        """Another epoch has begun: ask its sequencer for what the last one did not answer."""
        self._waiting = [*self.out, *self._waiting]
        self.out = ()
        self._index = None
        self._confirmed = 0
        self._highest = None

    def on_doubt(self) -> None:
        """This log is suspect from now on: only a round that begins later, and without this node, proves it whole."""
        self.on_new_epoch()
        self._proven_high = None

    def on_read_index(self, envelope: Envelope, index: ReadIndex, now: float) -> None:
        """The sequencer named a commit and the round that will prove it."""
        if envelope.sender == self.core.sequencer and index.epoch == self.core.promised:
            self.take_index(index, now)

    def take_index(self, index: ReadIndex, now: float) -> None:
        """An index for the request that is out; a later one for the same request would serve no better."""
        named = index.nonce == self._nonce or not self.core.rules.answers_named
        if named and self.out and (self._index is None or index.round < self._index.round):
            self._index = index
            self.on_round_confirmed(self._confirmed, now)

    def on_round_confirmed(self, round_number: int, now: float) -> None:
        """A majority has answered all rounds of this epoch up to this one."""
        self._confirmed = round_number  # the last word: a lower one is late, and costs a heartbeat
        index = self._index
        if index is None:
            return
        if self._confirmed >= index.round or not self.core.rules.read_index_confirmed:
            self._proven_high = index.high
            self._finish(index.commit, now)

    def prove(self, now: float) -> None:
        """A suspect log: reach the high water of a round begun after the restart, which this node did not answer."""
        core = self.core
        if self._proven_high is None:
            if core.sequencer is not None and not self.out and not self._waiting:
                self.ask(now)
        elif core.reconciled and core.log.last_seq >= self._proven_high:
            core.trust()

    def tick(self, now: float) -> None:
        """Ask again what got no answer: the same request, so that an answer slower than a retry still counts."""
        core = self.core
        if not (self._waiting or self.out) or now < self._sent + self._retry_s:
            return
        if self.out and core.sequencer is not None and self._asked_epoch == core.promised:
            self._sent = now
            self._retry_s = min(2 * self._retry_s, LOG_POSITIONS_RETRY_S)
            if self._index is None and not core.leads_epoch:
                self._calls += 1
                core.send(core.sequencer, Read(core.promised, self._nonce))
                if self._calls > _CALLS_DATAGRAMS and core.sequencer not in core.relayed:
                    core.effects.append(Relay(core.sequencer, Read(core.promised, self._nonce)))
            return
        self._waiting = [*self.out, *self._waiting]
        self._request(now)

    def deadline(self) -> float:
        """When `tick` has work next."""
        return self._sent + self._retry_s if self._waiting or self.out else float("inf")

    def on_standing(self, envelope: Envelope, position: Standing, now: float) -> None:
        """A member says where its log ends."""
        core = self.core
        if not is_answer(core, position, self._nonce) or not self.out or core.sequencer is not None:
            return
        if position.suspect:
            return
        self._positions[envelope.sender] = position
        self._judge_positions(now)

    def _judge_positions(self, now: float) -> None:
        core = self.core
        voters = core.voters()
        names, by_epoch = map(config_name, self._positions.values()), core.rules.config_named_by_epoch
        if core.rules.positions_of_newest_config and is_outdated(core.configs.name, names, by_epoch=by_epoch):
            return  # somebody knows a newer configuration: its majority is not ours to judge
        counted = {
            node: position for node, position in self._positions.items() if core.is_voter(node, position.storage_id)
        }
        ends = [position.last_seq for position in counted.values()]
        answered = len(counted)
        if core.is_voter(core.me, core.meta.storage_id) and not core.suspect:
            ends.append(core.log.last_seq)
            answered += 1
        if answered < majority(len(voters)):
            return
        found = (max(ends), self._nonce)
        if self._highest is not None and self._highest[0] == found[0] and self._highest[1] != self._nonce:
            self._finish(found[0], now)
        elif self._highest is None or self._highest[0] != found[0]:
            self._highest = found
            self._positions_due = now + LOG_POSITIONS_AGAIN_S

    def _request(self, now: float) -> None:
        core = self.core
        self.out, self._waiting = tuple(self._waiting), []
        self._index = None
        self._sent = now
        self._retry_s = READ_RETRY_S if core.sequencer is not None else LOG_POSITIONS_RETRY_S
        if not self.out:
            return
        self._nonce = core.random.getrandbits(63)
        self._calls = self._calls + 1 if core.sequencer is None else 0
        self._asked_epoch = core.promised if core.sequencer is not None else 0
        if core.leads_epoch:
            return  # the sequencer's own half looks at `awaited_nonce`
        if core.sequencer is not None:
            core.send(core.sequencer, Read(core.promised, self._nonce))
        elif now >= self._positions_due or self._highest is None:
            self._positions = {}
            core.call(Survey(self._nonce), core.voters(), self._calls)
            self._judge_positions(now)

    def _finish(self, commit: int, now: float) -> None:
        tokens, self.out, self._index = self.out, (), None
        self._highest = None
        self._calls = 0
        core = self.core
        core.in_touch = max(core.in_touch, self._sent)
        if self._asked_epoch and not core.leads_epoch:
            core.note_commit(commit, now)  # a log's end that was reported need not be committed
        if tokens:
            self.core.notices.append(ReadReady(tokens, commit))
        if self._waiting:
            self._request(now)


def answer_log_position(core: Core, envelope: Envelope, question: Survey) -> None:
    """Say where this log ends."""
    log, config = core.log, core.configs.name
    core.send(
        envelope.sender,
        Standing(
            question.nonce, core.meta.storage_id, log.last_epoch, log.last_seq, config.number, core.suspect,
            config.epoch, config.digest, envelope.sender, *core.heard.get(envelope.sender, ()),
        ),
    )  # fmt: skip


def config_name(position: Standing) -> ConfigName:
    """What names the newest configuration of who answered a question."""
    return ConfigName(position.config_epoch, position.config_number, position.config_hash)


def is_answer(core: Core, position: Standing, nonce: int) -> bool:
    """Whether this answers the question that this node sent out with `nonce`."""
    return (position.nonce == nonce and position.asker == core.me) or not core.rules.answers_named


class ReadAnswers:
    """The sequencer's side: one round for all reads that wait, none begun before them."""

    def __init__(self, core: Core) -> None:
        self.core = core
        self.waiting: list[tuple[int, int]] = []
        """Node that wants an index -> the nonce of its request."""
        self.proving = 0
        """The newest round that was begun for reads; 0 before the first."""

    def on_read(self, requester: int, nonce: int) -> None:
        """A node wants an index."""
        if len(self.waiting) < READS_WAITING_MAX and (requester, nonce) not in self.waiting:
            self.waiting.append((requester, nonce))

    def may_begin(self, confirmed: int, started: bool) -> bool:
        """Whether a round may begin for reads that wait: none of theirs is out, the epoch has a commit of its own."""
        may = started or not self.core.rules.read_index_own_epoch
        return may and confirmed >= self.proving

    def begin_round(self, round_number: int) -> Sequence[tuple[int, ReadIndex]]:
        """A round has begun for all reads that wait: (requester, answer) for each."""
        core = self.core
        self.proving = round_number
        asked, self.waiting = self.waiting, []
        return [
            (requester, ReadIndex(core.promised, nonce, round_number, core.commit_seq, core.log.last_seq))
            for requester, nonce in asked
        ]
