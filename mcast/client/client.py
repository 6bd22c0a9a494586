"""The client library: `connect` to any node of a cluster, submit commands, ask queries.

A client holds one connection, to its gateway. When that dies or falls silent it moves to another node and sends again,
byte for byte, what was not answered; the session's request numbers make sure that each command takes effect once.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
import warnings
from collections.abc import AsyncGenerator, AsyncIterable, Callable, Generator, Iterable, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Literal

from mcast.client.admin import (
    ask_all,
    ask_each,
    describe_any,
    gaps_document,
    hand_over,
    inject,
    silences_of,
    status_document,
)
from mcast.client.calls import BatchCall, Deadlines, SingleCall
from mcast.client.connection import Exchange, preferred
from mcast.client.packing import Command, check_name, packed_from
from mcast.client.queries import Detour, QueryAnswer
from mcast.client.receipts import Receipt, Receipts
from mcast.client.subscription import NOW, Events, Subscription
from mcast.config import Config, load_config
from mcast.documents import FaultDocument, GapsDocument, HandoverDocument, MachineDescription, StatusDocument
from mcast.errors import ConfigError, Error, NotSent, NotYet, Refused, Unknown
from mcast.limits import SEQ_MAX, TIMEOUT_MAX_S, TIMEOUT_S
from mcast.machine.events import Event
from mcast.net.forks import keep_from_children
from mcast.net.tcp import Dialer, Unreachable, key_problem
from mcast.wire.levels import LEVELS, Consistency
from mcast.wire.stream import NUMBER_END, Query, StreamKind

STREAM_QUEUE_BYTES: Final = 256 << 10  # bytes a stream packs ahead of what may be sent
QUERIES_A_WRITE: Final = 512  # of many queries: the node answers the first while the next are packed
REPORT_S_MAX: Final = 2.0  # seconds one node gets to report: a dead one must not use up a whole status


def connect(
    source: Config | Path | str, at: str | None = None, timeout: float = TIMEOUT_S, *, strict: bool = False
) -> Client:
    """A client of the cluster that `source` (a config or its path) describes.

    `async with mcast.connect(...) as client` opens it and closes it; or `client = await mcast.connect(...)`, and
    `await client.close()` when it is not needed any more.

    `at` is the node to prefer as gateway; with `strict` no other will do. `timeout` is the default deadline of each
    call, in seconds; it and any call's own are at most TIMEOUT_MAX_S, a day.

    Raises:
        ConfigError: a config that cannot be used, an `at` that it does not name, or a `timeout` that is none.
    """
    if not timeout <= TIMEOUT_MAX_S:
        raise ConfigError(
            "timeout", timeout, "no deadline is so far away", f"give at most {TIMEOUT_MAX_S:,.0f} seconds"
        )
    config = source if isinstance(source, Config) else load_config(source)
    return Client(config, at, timeout, strict=strict)


class Client:
    """Submits commands and asks queries; any number of tasks may share one. Calls are numbered as they are made.

    Opening raises NotSent if no node answers before the timeout, naming who was asked on which address; ConfigError if
    that is because their keys differ. Before it, and after leaving, submissions and queries are Refused.
    `subscribe`, `status`, `gaps`, `fault` and `handover` use connections of their own and work without entering, too.
    """

    def __init__(self, config: Config, at: str | None, timeout: float, *, strict: bool = False) -> None:
        nodes = config.nodes if at is None else (config.node(at),)
        if not (strict and at is not None):
            nodes = preferred(config.nodes, at, random.shuffle)
        self.config = config
        self.timeout = timeout
        """Seconds a call takes at most that names no `timeout` of its own."""
        self._dialer = Dialer(config, "client")
        self._nodes = nodes
        self._exchange = Exchange(self._dialer, nodes)
        self._keeper = self._exchange.keeper
        self._session = self._exchange.session
        self._questions = self._exchange.questions
        self._detour = Detour(self._dialer)
        self._subscriptions: set[Subscription] = set()
        self._deadlines = Deadlines(self._keeper.attempts_in_words)
        self._opening = asyncio.Lock()

    def leave_to_parent(self) -> tuple[int, ...]:
        """See forks.Owner."""
        self._exchange.disown()
        return ()  # its links have the sockets

    def __await__(self) -> Generator[Any, None, Client]:
        return self._open().__await__()

    async def __aenter__(self) -> Client:
        return await self._open()

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def _open(self) -> Client:
        """Connect; nothing happens to a client that is open."""
        async with self._opening:
            self._exchange.check_own()
            if not self._exchange.ready.is_set():
                await self._connect()
        return self

    async def _connect(self) -> None:
        keep_from_children(self)
        self._keeper.start()
        try:
            async with asyncio.timeout(self.timeout):
                await self._exchange.ready.wait()
        except TimeoutError:
            await self._keeper.stop()
            if self._keeper.mismatch is not None:
                raise key_problem(self.config, self._keeper.mismatch) from None
            raise NotSent(
                f"no node answered within {self.timeout:g} s; asked {self._keeper.attempts_in_words()}"
            ) from None
        except BaseException:
            await self._keeper.stop()
            raise

    async def close(self) -> None:
        """End the session, the connections and the subscriptions; nothing happens to a client that is closed.

        Whoever still waits for an answer learns nothing more: end such tasks before.
        """
        if self._exchange.is_disowned:
            return
        for subscription in list(self._subscriptions):
            await subscription.stop()
        self._detour.stop()
        await self._exchange.close()

    @property
    def node(self) -> str | None:
        """The id of the node this client is connected to; None between two."""
        link = self._keeper.link
        return None if link is None else link.node.id

    async def submit(self, name: str, *args: Any, timeout: float | None = None) -> Receipt:
        """One command's receipt; rejected and failed ones are receipts too.

        Raises:
            Refused: unknown name, wrong number of arguments, or arguments that cannot be sent. It did not happen.
            NotSent: no node took it before the deadline. It did not happen.
            Unknown: it was sent, and no answer came before the deadline; `resolve` asks again.
        """
        timeout_s = self._limit_s(timeout)
        call = SingleCall(self._exchange.packer.pack_one((name, *args)))
        self._exchange.submit(call.entry)
        self._deadlines.set(call, timeout_s)
        try:
            return await call.future
        finally:
            self._deadlines.forget(call)
            if call.entry.given_up or not call.future.done() or call.future.cancelled():
                self._exchange.give_up(call.entry)

    async def submit_many(self, commands: Iterable[Command], timeout: float | None = None) -> Receipts:
        """All commands in order, pipelined, not atomic: list-like receipts, one a command.

        All are checked before any is sent. `timeout` bounds, in seconds, the time without any answer.

        Raises:
            Refused: some command can never be sent; none of them happened.
            NotSent: none of them happened.
            Unknown: with `.receipts`, None where unknown; `resolve` asks again.
        """
        batch = list(self._exchange.packer.pack(commands))
        call = BatchCall(Receipts())
        self._exchange.submit_all(call.expect(batch))
        await self._wait(call, lambda: bool(call.entries), timeout)
        return call.receipts

    async def submit_stream(
        self, commands: Iterable[Command] | AsyncIterable[Command], *, keep: bool = True, timeout: float | None = None,
        on_progress: Callable[[Receipts], None] | None = None,
        on_receipts: Callable[[list[Receipt]], None] | None = None,
    ) -> Receipts:  # fmt: skip
        """As `submit_many`, for sources of any length: packed and sent as they are read, in bounded memory.

        `on_progress` is called with the receipts so far whenever records were answered, `on_receipts` with each
        record's receipts in input order. Without `keep`, outcomes are dropped once counted. A Refused command ends
        the stream: those before it have happened by the time the error is raised. What a callback raises ends the
        call, too, and is raised here: what was sent by then may have happened, nothing more is sent.
        """
        call = BatchCall(Receipts(keep, on_receipts), on_progress)
        refused: Refused | None = None
        try:
            async with contextlib.aclosing(packed_from(commands, self._exchange.packer)) as feed:
                async for batch in feed:
                    self._exchange.submit_all(call.expect(batch))
                    await self._wait(call, lambda: self._session.queued_bytes > STREAM_QUEUE_BYTES, timeout)
        except Refused as error:
            refused = error
        await self._wait(call, lambda: bool(call.entries), timeout)
        if refused is not None:
            raise refused
        return call.receipts

    async def resolve(self, error: Unknown, timeout: float | None = None) -> Receipt | Receipts:
        """What became of the call of this client that raised `error`: asked again, under the same request numbers.

        A command gives its receipt, a batch its receipts, which are `error.receipts`, completed in place: a None left
        in them did not happen and never will. Ask before the client is closed.

        Raises:
            NotSent: the command did not happen and never will.
            Unknown: not known within `timeout` seconds; resolve that one, later. Without a `handle`: nobody can tell
                any more, for the cluster has forgotten the session or dropped the outcome.
        """
        call = error.handle
        if not isinstance(call, SingleCall | BatchCall):
            raise error
        timeout_s = self._limit_s(timeout)
        self._exchange.flush_soon()  # whose silence is watched from now on
        return await call.resolve(timeout_s, self._keeper.attempts_in_words)

    async def query(  # noqa: PLR0913 - the contract's keywords
        self, name: str, *args: Any, consistency: Consistency | None = None, min_seq: int = 0,
        max_ms: float | None = None, max_lag: int | None = None, timeout: float | None = None,
    ) -> QueryAnswer:  # fmt: skip
        """A query's answer, at the consistency level asked for or a stronger one, never a weaker.

        "any": the node's committed state. "session": not before this client's last event. "bounded": proven to be at
        most `max_ms` old (default: three heartbeats) and, if `max_lag` is given, at most that many events behind.
        "linearizable": not before anything that was committed, by anyone, when it was asked. All: not before `min_seq`.
        Without a level it is "session", or "bounded" if `max_ms` or `max_lag` is given; no other level takes these.
        What the gateway refuses and says who may do better is asked once more there, within the deadline; not by a
        `strict` client.

        Raises:
            Refused: unknown name or arity, or a level that cannot be served. QueryFailed: its handler raised.
            NotYet: the replica has not reached `min_seq`, or this client's last event.
            NotSent: nobody answered before the deadline.
        """
        timeout_s = self._limit_s(timeout)
        deadline = asyncio.get_running_loop().time() + timeout_s
        query = self._query_of(consistency, min_seq, max_ms, max_lag, timeout_s)((name, *args))
        number, future, message = self._questions.ask(query, timeout_s)
        self._exchange.write([message])
        try:
            answer = await future
        except (Refused, NotYet) as refused:
            answer = await self._ask_elsewhere(query, refused, deadline)
        finally:
            self._questions.forget(number)
        self._session.last_seq = max(self._session.last_seq, answer.seq)
        return answer

    def _query_of(
        self, consistency: Consistency | None, min_seq: int, max_ms: float | None, max_lag: int | None, timeout_s: float
    ) -> Callable[[Sequence[Any]], Query]:
        """Makes a query of `[name, arg, ...]`. Raises Refused, and so may what is returned."""
        if not _is_seq(min_seq, 0):
            raise Refused(f"min_seq = {min_seq}: an event number is from 0 to {SEQ_MAX}")
        if max_ms is not None and not 0 <= max_ms < NUMBER_END:
            raise Refused(f"max_ms = {max_ms}: an age is not below zero, and below {NUMBER_END:g}")
        if max_lag is not None and not _is_seq(max_lag, 0):
            raise Refused(f"max_lag = {max_lag}: a number of events is from 0 to {SEQ_MAX}")
        without_bound = max_ms is None and max_lag is None
        level = ("session" if without_bound else "bounded") if consistency is None else consistency
        if level not in LEVELS:
            raise Refused(f"consistency level {level!r} is unknown; ask for one of: {', '.join(LEVELS)}")
        if level != "bounded" and not without_bound:
            raise Refused(f"max_ms and max_lag go with level 'bounded', not {level!r}")
        if level == "session":
            min_seq = max(min_seq, self._session.last_seq)
        share = 0.5 if len(self._nodes) > 1 else 1.0  # of its time for the gateway: another node may need the rest
        wait_ms, known = timeout_s * 1e3 * share, self._exchange.welcome.queries

        def query(asked: Sequence[Any]) -> Query:
            name, *args = asked
            check_name("query", name, len(args), known)
            return Query(0, name, args, level, min_seq, max_ms, max_lag, wait_ms)

        return query

    async def _ask_elsewhere(self, query: Query, refused: Refused | NotYet, deadline: float) -> QueryAnswer:
        """The answer of the node that the refusal names; the refusal itself if there is none."""
        node = next((node for node in self._nodes if node.id == refused.try_node), None)
        left_s = deadline - asyncio.get_running_loop().time()
        if node is None or len(self._nodes) == 1 or left_s <= 0:
            raise refused
        try:
            return await self._detour.ask(node, query._replace(timeout_ms=left_s * 1e3), left_s)
        except (Unreachable, TimeoutError):
            raise refused from None

    async def query_many(  # noqa: PLR0913 - as query
        self, queries: Iterable[Sequence[Any]], *, consistency: Consistency | None = None, min_seq: int = 0,
        max_ms: float | None = None, max_lag: int | None = None, timeout: float | None = None,
    ) -> list[QueryAnswer]:  # fmt: skip
        """The answers to many queries, each `[name, arg, ...]`, pipelined. Raises what the first that fails raises."""
        timeout_s = self._limit_s(timeout)
        deadline = asyncio.get_running_loop().time() + timeout_s
        query_of = self._query_of(consistency, min_seq, max_ms, max_lag, timeout_s)
        asked = [query_of(query) for query in queries]
        answers: list[QueryAnswer | Refused | NotYet] = []
        with self._questions.batch() as batch:
            for start in range(0, len(asked), QUERIES_A_WRITE):
                self._exchange.write([batch.ask(query, timeout_s) for query in asked[start : start + QUERIES_A_WRITE]])
                self._exchange.flush()
            for future in batch.futures:  # no task for each: those that are answered meanwhile cost no turn of the loop
                try:
                    answers.append(await future)
                except (Refused, NotYet) as refused:
                    answers.append(refused)
        settled = await self._settle_refused(asked, answers, deadline)
        self._session.last_seq = max([self._session.last_seq, *(answer.seq for answer in settled)])
        return settled

    async def _settle_refused(
        self, asked: Sequence[Query], answers: Sequence[QueryAnswer | Refused | NotYet], deadline: float
    ) -> list[QueryAnswer]:
        """The same, with other nodes' answers where the gateway refused. Raises what the first that fails raises."""
        again = {
            index: asyncio.ensure_future(self._ask_elsewhere(asked[index], answer, deadline))
            for index, answer in enumerate(answers)
            if isinstance(answer, Error)
        }
        try:
            return [await again[index] if isinstance(answer, Error) else answer for index, answer in enumerate(answers)]
        finally:
            for task in again.values():
                task.cancel()
            await asyncio.gather(*again.values(), return_exceptions=True)

    def subscribe(self, from_seq: int | Literal["now"] = 1, *, timeout: float | None = None) -> Events:
        """Every client event from number `from_seq` on, as it is applied, without end: in order, once, none missing.

        `async for event in client.subscribe()`. Numbers are skipped where an event is internal, a fragment, or a
        repetition without effect. Runs over a connection of its own; when its gateway dies it goes on at another node
        after the last event given. Whoever takes events slowly costs nobody else anything. To resume later, subscribe
        from the last `seq` + 1. `timeout` is how long it looks for a node that serves it.

        "now" leaves out what happened before: this client's own events so far, and all that a live node has committed.
        It is the moment at which the first event is asked for; `events = await client.subscribe(from_seq="now")`, and
        `async with`, return when it is fixed, so that nothing submitted afterwards is missed.

        Raises:
            Refused: `from_seq` is no event number. Gone: it is older than what any node in reach still keeps; or the
                cluster was recovered, so that numbers may mean other events: what was built of them is void.
            NotSent: no node took the subscription before the timeout. ConfigError: keys differ.
            DecodeError: several gateways in a row sent events that cannot be read.
        """
        if from_seq != "now" and not _is_seq(from_seq, 1):
            raise Refused(f"from_seq = {from_seq}: an event number is from 1 to {SEQ_MAX}, or 'now'")
        return Events(self._batches(NOW if from_seq == "now" else from_seq, self._limit_s(timeout)))

    async def _batches(self, first: int, timeout_s: float) -> AsyncGenerator[list[Event], None]:
        """An empty list once its first number is fixed, then events without end."""
        subscription = Subscription(self._dialer, self._nodes, first, timeout_s, self._exchange.founded)
        subscription.after = self._session.last_seq
        self._subscriptions.add(subscription)
        subscription.start()
        try:
            await subscription.wait_until_placed()
            yield []
            while True:
                yield await subscription.next()
        finally:
            self._subscriptions.discard(subscription)
            await subscription.stop()

    async def status(self, *, timeout: float | None = None) -> StatusDocument:
        """The contract's status document: every configured node asked at once; null fields where none answered.

        A node that does not answer within REPORT_S_MAX seconds, or a shorter `timeout`, counts as silent.

        Its `findings` say what is amiss, each with its reason and remedy; all is well where there is none.

        Raises:
            ConfigError: none answered, for their keys differ.
        """
        given = await ask_each(self._dialer, StreamKind.STATUS, self._report_s(timeout))
        nodes, silences = self.config.nodes, silences_of(self.config.nodes, given)
        return status_document(
            self.config.name, nodes, [each if isinstance(each, dict) else None for each in given], silences
        )

    async def gaps(self, *, timeout: float | None = None) -> GapsDocument:
        """The contract's gaps document. `timeout` and errors as of `status`."""
        reports = await ask_all(self._dialer, StreamKind.GAPS, self._report_s(timeout))
        return gaps_document(self.config.nodes, reports)

    async def describe(self, *, timeout: float | None = None) -> MachineDescription:
        """The machine's commands and queries, with their arguments and docstrings: of the first node that answers.

        Raises:
            NotSent: no node answered. ConfigError: for their keys differ. Refused: the node cannot say.
            DecodeError: what it says is no description.
        """
        return await describe_any(self._dialer, self._nodes, self._report_s(timeout))

    async def fault(self, node: str, spec: str, *, timeout: float | None = None) -> FaultDocument:
        """Inject faults at a running node ("loss=5%,seed=7"), or end them ("clear"); what the node now does.

        Raises:
            ConfigError: no such node in the config. NotSent: it did not answer. Refused: it may not or can not.
        """
        return await inject(self._dialer, node, spec, self._limit_s(timeout))

    async def handover(self, to: str, *, timeout: float | None = None) -> HandoverDocument:
        """Give the sequencer's role to node `to`; returns once it leads: {"from", "to", "epoch", "ms"}.

        Raises:
            ConfigError: no such node in the config. NotSent: no node answered. Refused: there is no sequencer, or it
                keeps its role; says why. Unknown: it did not say in time.
        """
        self.config.node(to)
        return await hand_over(self._dialer, await self.status(timeout=timeout), to, self._limit_s(timeout))

    @property
    def timeout_s(self) -> float:
        """The former name of `timeout`."""
        warnings.warn("Client.timeout_s is called Client.timeout now", DeprecationWarning, stacklevel=2)
        return self.timeout

    def _limit_s(self, timeout: float | None) -> float:
        """What a call may take, in seconds. Raises Refused: its own is beyond TIMEOUT_MAX_S, or no number."""
        if timeout is None:
            return self.timeout
        if not timeout <= TIMEOUT_MAX_S:
            raise Refused(f"timeout = {timeout}: at most {TIMEOUT_MAX_S:,.0f} seconds")
        return timeout

    def _report_s(self, timeout: float | None) -> float:
        """The same for a report of one of many nodes."""
        return min(self._limit_s(timeout), REPORT_S_MAX)

    async def _wait(self, call: BatchCall, backlog: Callable[[], bool], timeout: float | None) -> None:
        try:
            await call.wait(backlog, self._limit_s(timeout), self._keeper.attempts_in_words)
        except BaseException:
            call.give_up()
            self._exchange.flush_soon()  # what was given up before it was numbered leaves the queue
            raise


def _is_seq(value: object, least: int) -> bool:
    return type(value) is int and least <= value <= SEQ_MAX
