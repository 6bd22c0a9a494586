"""What a query is answered with, and when its level allows that; else the refusal, and who may do better."""

from __future__ import annotations

from collections.abc import Callable, Collection
from itertools import chain, count
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from mcast.clock import monotonic_s, ticks_s
from mcast.errors import DecodeError, QueryFailed, Refused
from mcast.limits import BOUNDED_HEARTBEATS, READ_MARGIN, SESSION_READ_WAIT_S, TIMEOUT_MAX_S, VALUES_MAX
from mcast.machine.executor import SLOW_S
from mcast.machine.plain import ATOMS, LISTS
from mcast.wire.envelope import name_hash
from mcast.wire.stream import (
    HEAD_BYTES,
    Answer,
    Query,
    QueryRefused,
    StreamKind,
    decode_stream_untrusted,
    pack_message,
)

if TYPE_CHECKING:
    from mcast.node.shell import Shell

MOMENT_S: Final = 0.001  # for which answers share one look at the clock and the log; their age is told for its end


class Moment(NamedTuple):
    """What answers say of the state they hold at, until `ends_s`."""

    ends_s: float
    """On this process's clock."""
    seq: int
    """The last event applied ..."""
    epoch: int
    """... and the epoch that numbered it."""
    lag_events: int
    """Events that are known to exist, and not applied here."""
    lag_ms: float | None
    """How old the state can be at most; None without a proof of it."""


PAST: Final = Moment(0.0, 0, 0, 0, None)


class Answering:
    """Holds no query: each is answered or refused in its call. `alive` and `dead` name nodes that TCP shows so."""

    def __init__(self, shell: Shell, alive: Callable[[], Collection[str]], dead: Callable[[], str | None]) -> None:
        self.answered = 0
        """Answers, no refusals, since the start."""
        self.moment = PAST
        """What the answers of this moment say; PAST where the next one is to look anew."""
        self.index: tuple[int, float] | None = None
        """All that was committed at this time is at or below this event: the newest read index."""
        self._alive = alive
        self._dead = dead
        self._shell = shell
        self._me = name_hash(shell.node_id)
        self._names = {name_hash(node.id): node.id for node in shell.config.nodes}
        """Hash -> id of every node of the config."""
        self._others = [node.id for node in shell.config.members if node.id != shell.node_id]
        """Ids of the other members, named in turn where no sequencer is known."""
        self._turns = count()

    def is_proven(self, query: Query, now: float) -> bool:
        """Whether what is applied is as new as a bounded query asks."""
        applied = self._shell.engine.reached[0]
        max_s = self._max_s(query)
        if query.max_ms is not None or query.max_lag is None:
            age_s = self._age_s(now)
            if age_s is None or age_s > max_s:
                return False
        if query.max_lag is not None:
            proof = self._newest_proof(now)
            return proof is not None and proof[1] <= max_s and proof[0] - applied <= query.max_lag
        return True

    def _max_s(self, query: Query) -> float:
        if query.max_ms is None:
            return BOUNDED_HEARTBEATS * self._shell.config.heartbeat_max_s
        return query.max_ms / 1e3

    def _newest_proof(self, now: float) -> tuple[int, float] | None:
        """Commit and age of the newest proof, a heartbeat's or a read index's."""
        proof = self._shell.replica.proof(now)
        if self.index is not None:
            commit, asked_s = self.index
            if proof is None or now - asked_s < proof[1]:
                return commit, now - asked_s
        return proof

    def _age_s(self, now: float) -> float | None:
        """How old the applied state can be at most."""
        applied = self._shell.engine.reached[0]
        age_s = self._shell.replica.staleness(now, applied)
        if self.index is not None and self.index[0] <= applied:
            since_s = now - self.index[1]
            return since_s if age_s is None else min(age_s, since_s)
        return age_s

    def answer(self, query: Query, now: float) -> bytes:
        """The message that answers a query, or says why none can."""
        shell = self._shell
        engine = shell.engine
        if shell.halted is not None:
            return self.refuse(query, f"{shell.node_id} has halted: {shell.halted}", try_node=self.better_node())
        began = ticks_s()
        try:
            value = engine.query(query.name, query.args)
        except Refused as refused:
            return self.refuse(query, refused.reason, try_node=refused.try_node)
        except QueryFailed as failed:
            if failed.__cause__ is not None:
                shell.handlers.on_query_failed(engine.reached[0], query.name, failed.__cause__)
            return self.refuse(query, failed.text, "rejected" if failed.rejected else "failed")
        if (took_s := ticks_s() - began) >= SLOW_S:
            shell.handlers.on_slow_query(query.name, took_s)
        moment = self.moment
        if now >= moment.ends_s or query.level == "bounded":
            moment = self._look(now, 0.0 if query.level == "bounded" else MOMENT_S)
        answer = Answer(
            query.id, value, moment.seq, moment.epoch, moment.lag_events, moment.lag_ms, shell.node_id, query.level
        )
        try:
            message = pack_message(StreamKind.ANSWER, answer)
            if len(message) > VALUES_MAX or not _is_plain(value):
                decode_stream_untrusted(StreamKind.ANSWER, message[HEAD_BYTES:])  # as its client will
        except (TypeError, ValueError, OverflowError, RecursionError, DecodeError) as error:
            return self.refuse(query, f"the answer cannot be sent: {error}", "failed")
        self.answered += 1
        return message

    def _look(self, now: float, share_s: float) -> Moment:
        """How the state stands; for answers of the next `share_s` seconds, so their age is told as it will be then."""
        (seq, epoch), ends_s = self._shell.engine.reached, now + share_s
        lag_s = None if self._shell.replica.is_isolated(now) else self._age_s(ends_s)
        self.moment = Moment(
            ends_s, seq, epoch, max(self._shell.replica.high_seq - seq, 0),
            None if lag_s is None else round(lag_s * 1e3, 3),
        )  # fmt: skip
        return self.moment

    def refuse(self, query: Query, reason: str, kind: str = "refused", try_node: str | None = None) -> bytes:
        """The message that refuses a query, and names who may do better."""
        words = reason[:1_000].encode("utf-8", "replace").decode()  # a handler may raise with any text
        return pack_message(StreamKind.QUERY_REFUSED, QueryRefused(query.id, words, try_node, kind))

    def _sequencer(self) -> str | None:
        """The sequencer, if it is known and another node."""
        sequencer = self._shell.replica.sequencer
        return None if sequencer is None or sequencer == self._me else self._names.get(sequencer)

    def living_sequencer(self) -> str | None:
        """The sequencer, if it is known, another node, and not known to be dead."""
        name = self._sequencer()
        return None if name == self._dead() else name

    def better_node(self) -> str | None:
        """The sequencer; where none is known, it is this node, or it is dead, the other members in turn.

        Of these those that live, as far as is known; where it is not, none that is known to be dead.
        """
        if (name := self.living_sequencer()) is not None:
            return name
        dead, alive = self._dead(), self._alive()
        others = [node for node in self._others if node in alive] or [node for node in self._others if node != dead]
        return others[next(self._turns) % len(others)] if others else None

    def why_not_yet(self, query: Query) -> str:
        """It waits for an event that has not been applied here."""
        reached, high = self._shell.engine.reached[0], self._shell.replica.high_seq
        reason = f"{self._shell.node_id} has applied event {reached} and not yet {query.min_seq}"
        if query.min_seq > high:
            return (
                f"{reason}: no such event is known here, the newest that it has heard of is event {max(high, reached)}"
            )
        return f"{reason}, {SESSION_READ_WAIT_S * 1e3:g} ms after the query came"

    def why_behind(self, query: Query) -> str:
        """Its read index is beyond what has been applied here."""
        return (
            f"{self._shell.node_id} has applied event {self._shell.engine.reached[0]} and not yet all that was "
            f"committed when the query came"
        )

    def why_unconfirmed(self, query: Query) -> str:
        """No read index has come."""
        waited_ms = limit_s(query) * 1e3
        return f"no majority has confirmed to {self._shell.node_id} within {waited_ms:.0f} ms what is committed"

    def why_out_of_touch(self, now: float) -> str:
        """This node is isolated."""
        alone_s = self._shell.replica.in_touch_s(now)
        return f"{self._shell.node_id} is isolated: no majority has confirmed anything to it for {alone_s:.1f} s"

    def why_unproven(self, query: Query) -> str:
        """No proof has come that the state is as new as it asks."""
        now = monotonic_s()
        age_s, proof = self._age_s(now), self._newest_proof(now)
        node, max_ms = self._shell.node_id, self._max_s(query) * 1e3
        if proof is None:
            return f"{node} has no proof of how old its state is"
        if age_s is not None and age_s * 1e3 > max_ms:
            return f"the state of {node} may be {age_s * 1e3:.1f} ms old; at most {max_ms:g} were asked for"
        if query.min_seq > self._shell.engine.reached[0]:
            return self.why_not_yet(query)
        lag = proof[0] - self._shell.engine.reached[0]
        wanted = "" if query.max_lag is None else f"; at most {query.max_lag} were asked for"
        return f"{node} is {lag} events behind what was committed {proof[1] * 1e3:.1f} ms ago{wanted}"


def _is_plain(value: Any) -> bool:
    """Whether it surely holds no dict with a key that packs but cannot be unpacked, such as a tuple."""
    kind = value.__class__
    if kind is list:
        kinds = set(map(type, value))
        return ATOMS.issuperset(map(type, chain.from_iterable(value)) if kinds == LISTS else kinds)
    if kind is dict:
        return ATOMS.issuperset(map(type, chain(value, value.values())))
    return kind in ATOMS


def limit_s(query: Query) -> float:
    """How long a linearizable query waits: its own time, less what its refusal needs to arrive."""
    return min(query.timeout_ms / 1e3, TIMEOUT_MAX_S) * (1 - READ_MARGIN)
