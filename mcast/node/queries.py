"""Answers queries from this replica's state, and never weaker than asked.

`any`: the committed state as it is here. `session`: not before event `min_seq` was applied; waits for it a little,
woken by the apply itself, then says NotYet.
"""

from __future__ import annotations

import asyncio
import heapq
from collections.abc import Callable
from itertools import count
from typing import TYPE_CHECKING, Final

from mcast.clock import monotonic_s
from mcast.errors import QueryFailed, Refused
from mcast.limits import GATEWAY_READS_WAITING, SESSION_READ_WAIT_S
from mcast.wire.envelope import name_hash
from mcast.wire.stream import Answer, Query, QueryRefused, StreamKind, pack_message

if TYPE_CHECKING:
    from mcast.node.shell import Shell

LEVELS: Final = ("any", "session")

Reply = Callable[[bytes], None]


class Queries:
    """Answers each query by one call of its `reply`, with a whole message; at once, or after an apply or a deadline."""

    def __init__(self, shell: Shell) -> None:
        self.answered = 0
        self._shell = shell
        self._waiting: list[tuple[int, int, Query, Reply]] = []
        self._timers: dict[int, asyncio.TimerHandle] = {}
        self._order = count()

    def ask(self, query: Query, reply: Reply) -> None:
        """Answer, refuse, or wait for event `min_seq`."""
        if self._shell.halted is not None:
            reply(self._refuse_halted(query))
        elif query.level not in LEVELS:
            known = query.level in ("bounded", "linearizable")
            why = "not served yet by this version" if known else "unknown"
            reply(_refuse(query, f"consistency level {query.level!r} is {why}; ask for one of: {', '.join(LEVELS)}"))
        elif query.level == "session" and query.min_seq > self._shell.engine.applied_seq:
            self._wait(query, reply)
        else:
            reply(self._answer(query))

    def applied(self) -> None:
        """Events were applied: answer those that waited for them."""
        applied = self._shell.engine.applied_seq
        while self._waiting and self._waiting[0][0] <= applied:
            _, number, query, reply = heapq.heappop(self._waiting)
            timer = self._timers.pop(number, None)
            if timer is not None:  # else it was refused meanwhile
                timer.cancel()
                reply(self._answer(query))

    def halted(self) -> None:
        """The node has halted: refuse those that wait for an event."""
        waiting = [(query, reply) for _, number, query, reply in self._waiting if number in self._timers]
        self.stop()
        for query, reply in waiting:
            reply(self._refuse_halted(query))

    def stop(self) -> None:
        """Answer nothing any more."""
        for timer in self._timers.values():
            timer.cancel()
        self._timers.clear()
        self._waiting.clear()

    def _wait(self, query: Query, reply: Reply) -> None:
        if len(self._waiting) >= GATEWAY_READS_WAITING:
            reply(_refuse(query, f"{len(self._waiting)} queries wait here already"))
            return
        number = next(self._order)
        heapq.heappush(self._waiting, (query.min_seq, number, query, reply))
        loop = asyncio.get_running_loop()
        self._timers[number] = loop.call_later(SESSION_READ_WAIT_S, self._late, number, query, reply)

    def _late(self, number: int, query: Query, reply: Reply) -> None:
        del self._timers[number]
        self._waiting = [waiting for waiting in self._waiting if waiting[1] != number]
        heapq.heapify(self._waiting)
        shell = self._shell
        reason = (
            f"{shell.node_id} has applied event {shell.engine.applied_seq} and not yet {query.min_seq}, "
            f"{SESSION_READ_WAIT_S * 1e3:g} ms after the query came"
        )
        reply(_refuse(query, reason, next(iter(self._others_ruling()), None), kind="not yet"))

    def _refuse_halted(self, query: Query) -> bytes:
        return _refuse(query, f"{self._shell.node_id} has halted: {self._shell.halted}", self._other_node())

    def _other_node(self) -> str | None:
        """Who may answer instead: the sequencer if that is another one, else any other."""
        others = [node.id for node in self._shell.config.nodes if node.id != self._shell.node_id]
        return next(iter(self._others_ruling() + others), None)

    def _others_ruling(self) -> list[str]:
        """The sequencer, if it is known and another node."""
        shell = self._shell
        ruler = shell.replica.sequencer
        return [node.id for node in shell.config.nodes if node.id != shell.node_id and name_hash(node.id) == ruler]

    def _answer(self, query: Query) -> bytes:
        shell = self._shell
        engine, replica = shell.engine, shell.replica
        try:
            value = engine.query(query.name, query.args)
        except Refused as refused:
            return _refuse(query, refused.reason, refused.try_node)
        except QueryFailed as failed:
            return _refuse(query, failed.text, kind="rejected" if failed.rejected else "failed")
        lag_s = replica.staleness(monotonic_s(), engine.applied_seq)
        answer = Answer(
            query.id, value, engine.applied_seq, engine.applied_epoch, max(replica.high_seq - engine.applied_seq, 0),
            None if lag_s is None else round(lag_s * 1e3, 3), shell.node_id, query.level,
        )  # fmt: skip
        try:
            message = pack_message(StreamKind.ANSWER, answer)
        except (TypeError, ValueError, OverflowError, RecursionError) as error:
            return _refuse(query, f"the answer cannot be sent: {error}", kind="failed")
        self.answered += 1
        return message


def _refuse(query: Query, reason: str, try_node: str | None = None, kind: str = "refused") -> bytes:
    words = reason[:1_000].encode("utf-8", "replace").decode()  # a handler may raise with any text
    return pack_message(StreamKind.QUERY_REFUSED, QueryRefused(query.id, words, try_node, kind))
