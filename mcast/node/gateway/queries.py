"""Answers queries from this replica's state, and never weaker than asked.

`any`: the committed state as it is here. `session`: not before event `min_seq` was applied; waits for it a little.
`bounded`: with a proof that the state is no older, or no further behind, than asked. `linearizable`: after all that was
committed before the query came, by anyone. What cannot be served is refused, and says who may do better.

Waiting costs a query no task, no timer and no polling: applying events, and notices from the protocol, wake those
concerned, and one alarm rings for all deadlines. One read index is out at a time; all queries that come meanwhile share
the next one. The queries of one read are answered in one write.
"""

from __future__ import annotations

import asyncio
import heapq
from collections import deque
from collections.abc import Callable, Collection, Iterable
from itertools import chain, count
from math import inf
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from mcast.clock import Alarm, monotonic_s, ticks_s
from mcast.errors import DecodeError, QueryFailed, Refused
from mcast.limits import (
    BOUNDED_HEARTBEATS,
    GATEWAY_READS_WAITING,
    LEARNED_S,
    READ_MARGIN,
    SESSION_READ_WAIT_S,
    TIMEOUT_MAX_S,
    VALUES_MAX,
)
from mcast.machine.executor import SLOW_S
from mcast.machine.plain import ATOMS, LISTS
from mcast.protocol.effects import ReadReady
from mcast.wire.envelope import name_hash
from mcast.wire.levels import LEVELS
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

SLICE_S: Final = 0.005  # of answering in one turn of the loop: heartbeats and acknowledgements go out between

_LOOK_SHARE: Final = 20  # times what looking for late ones took is waited before it is done again
_MOMENT_S: Final = 0.001  # for which answers share one look at the clock and the log; their age is told for its end
Reply = Callable[[bytes], None]


class _Waiting:
    """A query that cannot be answered yet. It is `over` once it was answered, refused or is about to be."""

    __slots__ = ("over", "query", "reply", "until", "why")

    def __init__(self, query: Query, reply: Reply, until: float, why: Callable[[Query], str]) -> None:
        self.query = query
        self.reply = reply
        self.until = until
        """In the event loop's time."""
        self.over = False
        self.why = why
        """The refusal for when its time has run out."""


class _Moment(NamedTuple):
    """What answers say of the state they hold at, until `ends_s`."""

    ends_s: float
    seq: int
    epoch: int
    lag_events: int
    lag_ms: float | None


_PAST: Final = _Moment(0.0, 0, 0, 0, None)


class Queries:
    """Answers each query by one call of its `reply`, with a whole message."""

    def __init__(
        self, shell: Shell, alive: Callable[[], Collection[str]] = tuple, dead: Callable[[], str | None] = lambda: None
    ) -> None:
        """`alive` and `dead` name nodes that TCP shows to be so: no dead one is to be named as better."""
        self.answered = 0
        self._alive = alive
        self._dead = dead
        self._shell = shell
        self._me = name_hash(shell.node_id)
        self._names = {name_hash(node.id): node.id for node in shell.config.nodes}
        self._others = [node.id for node in shell.config.members if node.id != shell.node_id]
        self._turns = count()
        self._order = count()
        self._size = 0
        self._alarm = Alarm(self._end_late)
        self._moment = _PAST
        self._applying: list[tuple[int, int, _Waiting]] = []
        """A heap: those who wait for an event to be applied."""
        self._fresh: list[_Waiting] = []
        """Queries that wait for the next read index."""
        self._asked: list[_Waiting] = []
        """Queries that wait for the read index that was asked for."""
        self._proving: list[_Waiting] = []
        """Queries that wait for a proof of how old the state is; any read index is one."""
        self._token: int | None = None
        self._asked_s = 0.0
        self._asking: asyncio.Handle | None = None
        self._learning: asyncio.TimerHandle | None = None
        self._isolated = False
        self._isolation_looked_s = 0.0
        self._index: tuple[int, float] | None = None
        """All that was committed at this time is at or below this event: the newest read index."""
        self._due: deque[_Waiting] = deque()

    def on_queries(
        self, payloads: Iterable[bytes], reply: Reply, reply_now: Reply | None = None, until_s: float = inf
    ) -> int:
        """Take QUERYs until it is `until_s`, one at least; how many were taken.

        What can be answered at once, or is refused, leaves by one `reply_now`.

        Raises:
            DecodeError: a payload is no query; those before it were taken.
        """
        replies: list[bytes] = []
        self._moment, taken = _PAST, 0
        try:
            for payload in payloads:
                self.ask(decode_stream_untrusted(StreamKind.QUERY, payload), reply, replies.append)
                taken += 1
                if monotonic_s() >= until_s:
                    break
        finally:
            if replies:
                (reply_now or reply)(b"".join(replies))
        return taken

    def ask(self, query: Query, reply: Reply, reply_now: Reply | None = None) -> None:
        """Answer or refuse, by `reply_now` if that can be done in this call; or wait."""
        shell, now = self._shell, monotonic_s()
        reply_now = reply_now or reply
        if shell.halted is not None:
            reply_now(self._refuse(query, f"{shell.node_id} has halted: {shell.halted}", try_node=self._better_node()))
        elif query.level not in LEVELS:
            words = f"consistency level {query.level!r} is unknown; ask for one of: {', '.join(LEVELS)}"
            reply_now(self._refuse(query, words))
        elif (self._isolated or now >= self._isolation_looked_s + _MOMENT_S) and self._cannot_know(query, now):
            reply_now(self._refuse(query, self._why_out_of_touch(now), try_node=self._better_node()))
        elif query.level == "linearizable":
            if waiting := self._wait(query, reply, _limit_s(query), self._why_unconfirmed):
                self._fresh.append(waiting)
                self._ask_soon()
        elif query.level == "bounded" and not self._is_proven(query, now):
            if waiting := self._wait(query, reply, SESSION_READ_WAIT_S, self._why_unproven):
                self._proving.append(waiting)
                self._ask_soon()
        elif query.min_seq > shell.engine.reached[0]:
            if waiting := self._wait(query, reply, SESSION_READ_WAIT_S, self._why_not_yet):
                heapq.heappush(self._applying, (query.min_seq, next(self._order), waiting))
                if query.min_seq > shell.replica.high_seq and self._learning is None:
                    self._learning = asyncio.get_running_loop().call_later(LEARNED_S, self._learn)
        else:
            reply_now(self._answer(query, now))

    def _cannot_know(self, query: Query, now: float) -> bool:
        """Whether this node is isolated, and the query asks for more than it can know so."""
        self._isolation_looked_s, self._isolated = now, self._shell.replica.is_isolated(now)
        if not self._isolated or query.level == "any":
            return False
        return query.level != "session" or query.min_seq > self._shell.engine.reached[0]

    def _learn(self) -> None:
        """A token tells of an event that nobody else has told of here: a read index says whether it is committed."""
        self._learning = None
        high = self._shell.replica.high_seq
        if self._token is None and any(seq > high and not waiting.over for seq, _, waiting in self._applying):
            self._ask_index()

    def on_applied(self) -> None:
        """Events were applied: answer those that waited for them."""
        applied, due = self._shell.engine.reached[0], []
        while self._applying and self._applying[0][0] <= applied:
            due.append(heapq.heappop(self._applying)[2])
        if due:
            self._answer_all(due)
        if self._proving:
            self._judge_proving()

    def on_read_ready(self, notice: ReadReady) -> None:
        """A read index came: all that was committed when it was asked for is at or below its commit."""
        if self._token not in notice.tokens:
            return
        applied, due = self._shell.engine.reached[0], []
        asked, self._asked, self._token = self._asked, [], None
        self._index = notice.commit, self._asked_s
        for waiting in asked:
            seq = max(notice.commit, waiting.query.min_seq)
            if seq <= applied:
                due.append(waiting)
            elif not waiting.over:
                waiting.why = self._why_behind
                heapq.heappush(self._applying, (seq, next(self._order), waiting))
        self._answer_all(due)
        self._judge_proving()
        self._ask_soon()

    def on_halted(self) -> None:
        """This node takes part no more: refuse all that wait."""
        for waiting in self._all_waiting():
            self._give_up(waiting, f"{self._shell.node_id} has halted: {self._shell.halted}")
        self.stop()

    def stop(self) -> None:
        """Answer nothing any more."""
        for waiting in self._all_waiting():
            waiting.over = True
        self._alarm.stop()
        for handle in (self._asking, self._learning):
            if handle is not None:
                handle.cancel()
        self._applying, self._fresh, self._asked, self._proving = [], [], [], []
        self._due.clear()
        self._size = 0

    def _all_waiting(self) -> list[_Waiting]:
        return [*(entry[2] for entry in self._applying), *self._fresh, *self._asked, *self._proving, *self._due]

    def _wait(self, query: Query, reply: Reply, limit_s: float, why: Callable[[Query], str]) -> _Waiting | None:
        """A place to wait in for at most `limit_s`; None, and refused, when there is none."""
        if self._size >= GATEWAY_READS_WAITING:
            reply(self._refuse(query, f"{self._size} queries wait here already", try_node=self._better_node()))
            return None
        self._size += 1
        until = asyncio.get_running_loop().time() + limit_s
        self._alarm.set(until)
        return _Waiting(query, reply, until, why)

    def _ask_soon(self) -> None:
        """Ask for a read index at the end of this turn of the loop, for all that came in it."""
        if self._asking is None and self._token is None and (self._fresh or self._proving):
            self._asking = asyncio.get_running_loop().call_soon(self._ask_index)

    def _ask_index(self) -> None:
        self._asking = None
        self._asked, self._fresh = self._fresh, []
        self._asked_s = monotonic_s()
        self._token = self._shell.ask_read()
        if self._token is None:
            asked, self._asked = self._asked, []
            for waiting in asked:
                self._give_up(waiting, f"{self._shell.node_id} takes no linearizable queries now")

    def _judge_proving(self) -> None:
        now, applied = monotonic_s(), self._shell.engine.reached[0]
        due: list[_Waiting] = []
        left: list[_Waiting] = []
        for waiting in self._proving:
            served = self._is_proven(waiting.query, now) and waiting.query.min_seq <= applied
            (due if served else left).append(waiting)
        self._proving = left
        self._answer_all(due)

    def _is_proven(self, query: Query, now: float) -> bool:
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
        if self._index is not None:
            commit, asked_s = self._index
            if proof is None or now - asked_s < proof[1]:
                return commit, now - asked_s
        return proof

    def _age_s(self, now: float) -> float | None:
        """How old the applied state can be at most."""
        applied = self._shell.engine.reached[0]
        age_s = self._shell.replica.staleness(now, applied)
        if self._index is not None and self._index[0] <= applied:
            since_s = now - self._index[1]
            return since_s if age_s is None else min(age_s, since_s)
        return age_s

    def _end_late(self, now: float) -> float:
        """Refuse those whose time is over; when the next one's is, but not so soon that looking is all that is done."""
        began = monotonic_s()
        for waiting in self._all_waiting():
            if waiting.until <= now:
                kind = "not yet" if waiting.why == self._why_not_yet else "refused"
                self._give_up(waiting, waiting.why(waiting.query), kind)
        self._applying = [entry for entry in self._applying if not entry[2].over]
        heapq.heapify(self._applying)
        self._fresh, self._asked, self._proving = [
            [one for one in waiting if not one.over] for waiting in (self._fresh, self._asked, self._proving)
        ]
        next_s = min([waiting.until for waiting in self._all_waiting() if not waiting.over], default=float("inf"))
        return max(next_s, now + _LOOK_SHARE * (monotonic_s() - began))

    def _give_up(self, waiting: _Waiting, reason: str, kind: str = "refused") -> None:
        if not waiting.over:
            waiting.over = True
            self._size -= 1
            better = (
                self._better_node()
                if kind != "not yet"
                else None
                if self._is_unheard_of(waiting)
                else self._living_sequencer()
            )
            waiting.reply(self._refuse(waiting.query, reason, kind, better))

    def _answer_all(self, due: Iterable[_Waiting]) -> None:
        """Answer at once what fits into a slice of time; the rest in later turns of the loop."""
        idle = not self._due
        self._due.extend(due)
        if idle and self._due:
            self._answer_slice()

    def _answer_slice(self) -> None:
        until = (now := monotonic_s()) + SLICE_S
        self._moment = _PAST
        while self._due:
            waiting = self._due.popleft()
            if not waiting.over:  # else it was refused meanwhile
                if waiting.query.level == "bounded" and not self._is_proven(waiting.query, now):
                    self._proving.append(waiting)  # its proof has grown too old here
                    self._ask_soon()
                    continue
                waiting.over = True
                self._size -= 1
                waiting.reply(self._answer(waiting.query, now))
                now = monotonic_s()
            if self._due and now >= until:
                asyncio.get_running_loop().call_soon(self._answer_slice)
                return

    def _answer(self, query: Query, now: float) -> bytes:
        shell = self._shell
        engine = shell.engine
        if shell.halted is not None:
            return self._refuse(query, f"{shell.node_id} has halted: {shell.halted}", try_node=self._better_node())
        began = ticks_s()
        try:
            value = engine.query(query.name, query.args)
        except Refused as refused:
            return self._refuse(query, refused.reason, try_node=refused.try_node)
        except QueryFailed as failed:
            if failed.__cause__ is not None:
                shell.handlers.on_query_failed(engine.reached[0], query.name, failed.__cause__)
            return self._refuse(query, failed.text, "rejected" if failed.rejected else "failed")
        if (took_s := ticks_s() - began) >= SLOW_S:
            shell.handlers.on_slow_query(query.name, took_s)
        moment = self._moment
        if now >= moment.ends_s or query.level == "bounded":
            moment = self._look(now, 0.0 if query.level == "bounded" else _MOMENT_S)
        answer = Answer(
            query.id, value, moment.seq, moment.epoch, moment.lag_events, moment.lag_ms, shell.node_id, query.level
        )
        try:
            message = pack_message(StreamKind.ANSWER, answer)
            if len(message) > VALUES_MAX or not _is_plain(value):
                decode_stream_untrusted(StreamKind.ANSWER, message[HEAD_BYTES:])  # as its client will
        except (TypeError, ValueError, OverflowError, RecursionError, DecodeError) as error:
            return self._refuse(query, f"the answer cannot be sent: {error}", "failed")
        self.answered += 1
        return message

    def _look(self, now: float, share_s: float) -> _Moment:
        """How the state stands; for answers of the next `share_s` seconds, so their age is told as it will be then."""
        (seq, epoch), ends_s = self._shell.engine.reached, now + share_s
        lag_s = None if self._shell.replica.is_isolated(now) else self._age_s(ends_s)
        self._moment = _Moment(
            ends_s, seq, epoch, max(self._shell.replica.high_seq - seq, 0),
            None if lag_s is None else round(lag_s * 1e3, 3),
        )  # fmt: skip
        return self._moment

    def _refuse(self, query: Query, reason: str, kind: str = "refused", try_node: str | None = None) -> bytes:
        words = reason[:1_000].encode("utf-8", "replace").decode()  # a handler may raise with any text
        return pack_message(StreamKind.QUERY_REFUSED, QueryRefused(query.id, words, try_node, kind))

    def _sequencer(self) -> str | None:
        """The sequencer, if it is known and another node."""
        sequencer = self._shell.replica.sequencer
        return None if sequencer is None or sequencer == self._me else self._names.get(sequencer)

    def _living_sequencer(self) -> str | None:
        """The sequencer, if it is known, another node, and not known to be dead."""
        name = self._sequencer()
        return None if name == self._dead() else name

    def _better_node(self) -> str | None:
        """The sequencer; where none is known, it is this node, or it is dead, the other members in turn.

        Of these those that live, as far as is known; where it is not, none that is known to be dead.
        """
        if (name := self._living_sequencer()) is not None:
            return name
        dead, alive = self._dead(), self._alive()
        others = [node for node in self._others if node in alive] or [node for node in self._others if node != dead]
        return others[next(self._turns) % len(others)] if others else None

    def _why_not_yet(self, query: Query) -> str:
        reached, high = self._shell.engine.reached[0], self._shell.replica.high_seq
        reason = f"{self._shell.node_id} has applied event {reached} and not yet {query.min_seq}"
        if query.min_seq > high:
            return (
                f"{reason}: no such event is known here, the newest that it has heard of is event {max(high, reached)}"
            )
        return f"{reason}, {SESSION_READ_WAIT_S * 1e3:g} ms after the query came"

    def _is_unheard_of(self, waiting: _Waiting) -> bool:
        """Whether it waited for an event that no majority has committed since: no other node has it either."""
        return (
            waiting.query.min_seq > self._shell.replica.high_seq
            and self._index is not None
            and self._index[1] >= waiting.until - SESSION_READ_WAIT_S
        )

    def _why_behind(self, query: Query) -> str:
        return (
            f"{self._shell.node_id} has applied event {self._shell.engine.reached[0]} and not yet all that was "
            f"committed when the query came"
        )

    def _why_unconfirmed(self, query: Query) -> str:
        waited_ms = _limit_s(query) * 1e3
        return f"no majority has confirmed to {self._shell.node_id} within {waited_ms:.0f} ms what is committed"

    def _why_out_of_touch(self, now: float) -> str:
        alone_s = self._shell.replica.in_touch_s(now)
        return f"{self._shell.node_id} is isolated: no majority has confirmed anything to it for {alone_s:.1f} s"

    def _why_unproven(self, query: Query) -> str:
        now = monotonic_s()
        age_s, proof = self._age_s(now), self._newest_proof(now)
        node, max_ms = self._shell.node_id, self._max_s(query) * 1e3
        if proof is None:
            return f"{node} has no proof of how old its state is"
        if age_s is not None and age_s * 1e3 > max_ms:
            return f"the state of {node} may be {age_s * 1e3:.1f} ms old; at most {max_ms:g} were asked for"
        if query.min_seq > self._shell.engine.reached[0]:
            return self._why_not_yet(query)
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


def _limit_s(query: Query) -> float:
    """How long a linearizable query waits: its own time, less what its refusal needs to arrive."""
    return min(query.timeout_ms / 1e3, TIMEOUT_MAX_S) * (1 - READ_MARGIN)
