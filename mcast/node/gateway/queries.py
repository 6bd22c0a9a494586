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
from itertools import count
from math import inf
from typing import TYPE_CHECKING, Final

from mcast.clock import Alarm, monotonic_s
from mcast.limits import GATEWAY_READS_WAITING, LEARNED_S, SESSION_READ_WAIT_S
from mcast.node.gateway.answering import MOMENT_S, PAST, Answering, limit_s
from mcast.protocol.effects import ReadReady
from mcast.wire.levels import LEVELS
from mcast.wire.stream import Query, StreamKind, decode_stream_untrusted

if TYPE_CHECKING:
    from mcast.node.shell import Shell

SLICE_S: Final = 0.005  # of answering in one turn of the loop: heartbeats and acknowledgements go out between

_LOOK_SHARE: Final = 20  # times what looking for late ones took is waited before it is done again
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


class Queries:
    """Answers each query by one call of its `reply`, with a whole message."""

    def __init__(
        self, shell: Shell, alive: Callable[[], Collection[str]] = tuple, dead: Callable[[], str | None] = lambda: None
    ) -> None:
        """`alive` and `dead` name nodes that TCP shows to be so: no dead one is to be named as better."""
        self._shell = shell
        self._answering = Answering(shell, alive, dead)
        self._order = count()
        """Of those that wait for the same event: the first to come is the first to be answered."""
        self._size = 0
        """Queries that wait, in whatever list."""
        self._alarm = Alarm(self._end_late)
        self._applying: list[tuple[int, int, _Waiting]] = []
        """A heap: those who wait for an event to be applied."""
        self._fresh: list[_Waiting] = []
        """Queries that wait for the next read index."""
        self._asked: list[_Waiting] = []
        """Queries that wait for the read index that was asked for."""
        self._proving: list[_Waiting] = []
        """Queries that wait for a proof of how old the state is; any read index is one."""
        self._token: int | None = None
        """What the read index that was asked for will name; None while none is."""
        self._asked_s = 0.0
        """When it was asked for, on this process's clock."""
        self._asking: asyncio.Handle | None = None
        """The asking, at the end of this turn of the loop."""
        self._learning: asyncio.TimerHandle | None = None
        """The look whether an event that nobody has told of is committed."""
        self._isolated = False
        """Whether this node was isolated, when that was looked at last ..."""
        self._isolation_looked_s = 0.0
        """... on this process's clock."""
        self._due: deque[_Waiting] = deque()
        """Those whose wait is over, which later turns of the loop will answer."""

    @property
    def answered(self) -> int:
        """Queries answered since the start; refusals do not count."""
        return self._answering.answered

    def on_queries(
        self, payloads: Iterable[bytes], reply: Reply, reply_now: Reply | None = None, until_s: float = inf
    ) -> int:
        """Take QUERYs until it is `until_s`, one at least; how many were taken.

        What can be answered at once, or is refused, leaves by one `reply_now`.

        Raises:
            DecodeError: a payload is no query; those before it were taken.
        """
        replies: list[bytes] = []
        self._answering.moment, taken = PAST, 0
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
        shell, answering, now = self._shell, self._answering, monotonic_s()
        reply_now = reply_now or reply
        if shell.halted is not None:
            reply_now(
                answering.refuse(query, f"{shell.node_id} has halted: {shell.halted}", try_node=answering.better_node())
            )
        elif query.level not in LEVELS:
            words = f"consistency level {query.level!r} is unknown; ask for one of: {', '.join(LEVELS)}"
            reply_now(answering.refuse(query, words))
        elif (self._isolated or now >= self._isolation_looked_s + MOMENT_S) and self._cannot_know(query, now):
            reply_now(answering.refuse(query, answering.why_out_of_touch(now), try_node=answering.better_node()))
        elif query.level == "linearizable":
            if waiting := self._wait(query, reply, limit_s(query), answering.why_unconfirmed):
                self._fresh.append(waiting)
                self._ask_soon()
        elif query.level == "bounded" and not answering.is_proven(query, now):
            if waiting := self._wait(query, reply, SESSION_READ_WAIT_S, answering.why_unproven):
                self._proving.append(waiting)
                self._ask_soon()
        elif query.min_seq > shell.engine.reached[0]:
            if waiting := self._wait(query, reply, SESSION_READ_WAIT_S, answering.why_not_yet):
                heapq.heappush(self._applying, (query.min_seq, next(self._order), waiting))
                if query.min_seq > shell.replica.high_seq and self._learning is None:
                    self._learning = asyncio.get_running_loop().call_later(LEARNED_S, self._learn)
        else:
            reply_now(answering.answer(query, now))

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
        self._answering.index = notice.commit, self._asked_s
        for waiting in asked:
            seq = max(notice.commit, waiting.query.min_seq)
            if seq <= applied:
                due.append(waiting)
            elif not waiting.over:
                waiting.why = self._answering.why_behind
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
            words, better = f"{self._size} queries wait here already", self._answering.better_node()
            reply(self._answering.refuse(query, words, try_node=better))
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
            served = self._answering.is_proven(waiting.query, now) and waiting.query.min_seq <= applied
            (due if served else left).append(waiting)
        self._proving = left
        self._answer_all(due)

    def _end_late(self, now: float) -> float:
        """Refuse those whose time is over; when the next one's is, but not so soon that looking is all that is done."""
        began = monotonic_s()
        for waiting in self._all_waiting():
            if waiting.until <= now:
                kind = "not yet" if waiting.why == self._answering.why_not_yet else "refused"
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
                self._answering.better_node()
                if kind != "not yet"
                else None
                if self._is_unheard_of(waiting)
                else self._answering.living_sequencer()
            )
            waiting.reply(self._answering.refuse(waiting.query, reason, kind, better))

    def _answer_all(self, due: Iterable[_Waiting]) -> None:
        """Answer at once what fits into a slice of time; the rest in later turns of the loop."""
        idle = not self._due
        self._due.extend(due)
        if idle and self._due:
            self._answer_slice()

    def _answer_slice(self) -> None:
        until = (now := monotonic_s()) + SLICE_S
        self._answering.moment = PAST
        while self._due:
            waiting = self._due.popleft()
            if not waiting.over:  # else it was refused meanwhile
                if waiting.query.level == "bounded" and not self._answering.is_proven(waiting.query, now):
                    self._proving.append(waiting)  # its proof has grown too old here
                    self._ask_soon()
                    continue
                waiting.over = True
                self._size -= 1
                waiting.reply(self._answering.answer(waiting.query, now))
                now = monotonic_s()
            if self._due and now >= until:
                asyncio.get_running_loop().call_soon(self._answer_slice)
                return

    def _is_unheard_of(self, waiting: _Waiting) -> bool:
        """Whether it waited for an event that no majority has committed since: no other node has it either."""
        return (
            waiting.query.min_seq > self._shell.replica.high_seq
            and self._answering.index is not None
            and self._answering.index[1] >= waiting.until - SESSION_READ_WAIT_S
        )
