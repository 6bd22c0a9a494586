"""Clients that call a cluster in trouble with a bit of everything, and write down every call."""

from __future__ import annotations

import asyncio
import itertools
import random
from collections.abc import Callable, Sequence
from typing import Any, Final

from mcast.client.client import Client
from mcast.clock import monotonic_s
from mcast.errors import NotSent, NotYet, QueryFailed, Refused, Unknown
from mcast.history.calls import CallOutcome, RecordedCall
from mcast.wire.levels import LEVELS, Consistency

SUBMITS_S: Final = (0.2, 1.0, 4.0)  # patience: some calls end as unknown in every election, some outlast it
QUERY_S: Final = 2.0
REGISTER_S: Final = 1.5  # a register serves so long, then the next one: the search is exponential in unknown calls
PAUSE_S: Final = 0.06  # between two calls of one task, on average
LARGE_CHARACTERS: Final = 6_000  # more than a frame holds: numbered as fragments
_ERRORS: Final[dict[type[Exception], CallOutcome]] = {
    NotSent: "not_sent", Refused: "refused", NotYet: "not_yet", Unknown: "unknown", QueryFailed: "failed",
}  # fmt: skip


class Callers:
    """Runs callers until told to stop. `record` hears every call once it has ended; `make` connects one client.

    Every value submitted occurs once, so that it is known whose it is.
    """

    def __init__(self, record: Callable[[RecordedCall], None]) -> None:
        self.stopping = False
        self._record = record
        self._numbers = itertools.count(1)

    async def run(self, name: str, make: Callable[[], Client], seed: int, *, writes: bool) -> None:
        """One client after the other, two tasks each, until stopping. Without `writes` it only asks."""
        for life in itertools.count():
            try:
                async with make() as client:
                    tasks = [
                        self._calls(f"{name}.{life}", client, random.Random(f"{seed}/{name}/{task}"), writes=writes)
                        for task in range(2)
                    ]
                    await asyncio.gather(*tasks)
            except NotSent:
                await asyncio.sleep(PAUSE_S)  # nobody to connect to just now
            if self.stopping:
                return

    async def _calls(self, name: str, client: Client, draw: random.Random, *, writes: bool) -> None:
        while not self.stopping:
            kind = draw.choices(("register", "command", "batch", "query"), (5, 3, 1, 4))[0] if writes else "query"
            register = f"reg{int(monotonic_s() / REGISTER_S)}"
            if kind == "register":
                await self._use_register(name, client, register, draw)
            elif kind == "command":
                await self._submit(name, client, draw, *self._command(draw))
            elif kind == "batch":
                await self._submit_batch(name, client, draw, [self._command(draw) for _ in range(draw.randint(2, 12))])
            else:
                query: list[Any] = draw.choice([["get", "list0"], ["get", "sum1"], ["scan", "s", 5], ["size"]])
                level = draw.choice(LEVELS)
                if level == "linearizable" or draw.random() < 0.2:
                    query = ["get", register]
                await self._query(name, client, level, query, draw)
            await asyncio.sleep(draw.uniform(0, 2 * PAUSE_S))

    async def _use_register(self, name: str, client: Client, register: str, draw: random.Random) -> None:
        """Read, then compare and set what was read; or write."""
        if draw.random() < 0.3:
            await self._submit(name, client, draw, "set", register, next(self._numbers))
            return
        seen = await self._query(name, client, "linearizable", ["get", register], draw)
        if seen is not None:
            await self._submit(name, client, draw, "cas", register, seen.value, next(self._numbers))

    def _command(self, draw: random.Random) -> list[Any]:
        number, of = next(self._numbers), draw.randrange(4)
        return draw.choice(
            [
                ["append", f"list{of}", number],
                ["incr", f"sum{of}", number],
                ["set", f"set{number % 50}", number],
                ["incr", f"list{of}", number],  # rejected once there is a list
                ["set", f"large{of}", f"{number}/" + "x" * LARGE_CHARACTERS] if of == 0 else ["set", f"s{of}", number],
            ]
        )

    async def _submit(self, name: str, client: Client, draw: random.Random, *command: Any) -> None:
        invoked_ns = _now_ns()
        receipts: Sequence[Any] = [None]
        outcome: CallOutcome = "ok"
        error = None
        try:
            receipts = [await client.submit(*command, timeout=draw.choice(SUBMITS_S))]
        except (NotSent, Refused, Unknown) as reported:
            outcome, error = _ERRORS[type(reported)], str(reported)
        self._note(name, invoked_ns, [command], receipts, outcome, error, None)

    async def _submit_batch(self, name: str, client: Client, draw: random.Random, commands: list[list[Any]]) -> None:
        invoked_ns = _now_ns()
        receipts: Sequence[Any] = [None] * len(commands)
        outcome: CallOutcome = "ok"
        error = None
        try:
            receipts = await client.submit_many(commands, timeout=draw.choice(SUBMITS_S))
        except (NotSent, Refused, Unknown) as reported:
            outcome, error = _ERRORS[type(reported)], str(reported)
            receipts = getattr(reported, "receipts", None) or receipts
        self._note(name, invoked_ns, commands, receipts, outcome, error, next(self._numbers))

    def _note(  # noqa: PLR0913 - what is known of a batch
        self, name: str, invoked_ns: int, commands: Sequence[Sequence[Any]], receipts: Sequence[Any],
        outcome: CallOutcome, error: str | None, batch: int | None,
    ) -> None:  # fmt: skip
        returned_ns = _now_ns()
        for place, (command, receipt) in enumerate(zip(commands, receipts, strict=True)):
            reported: dict[str, Any] = {"outcome": outcome, "error": error}
            if receipt is not None:
                reported = {
                    "outcome": receipt.outcome, "error": receipt.error, "value": receipt.value, "seq": receipt.seq,
                    "epoch": receipt.epoch,
                }  # fmt: skip
            self._record(
                RecordedCall(
                    client=name, kind="submit", name=command[0], args=tuple(command[1:]), invoked_ns=invoked_ns,
                    returned_ns=returned_ns, batch=batch, place=place, **reported,
                )
            )  # fmt: skip

    async def _query(self, name: str, client: Client, level: Consistency, query: list[Any], draw: random.Random) -> Any:
        bounds: dict[str, Any] = {}
        if level == "bounded":
            bounds = draw.choice([{"max_ms": draw.choice([20, 100, 500])}, {"max_lag": draw.choice([0, 10])}, {}])
        answer = None
        reported: dict[str, Any] = {"outcome": "ok"}
        invoked_ns = _now_ns()
        try:
            answer = await client.query(*query, consistency=level, timeout=QUERY_S, **bounds)
            reported |= {
                "value": answer.value, "seq": answer.seq, "epoch": answer.epoch, "node": answer.node,
                "served": answer.level, "lag_ms": answer.lag_ms, "lag_events": answer.lag_events,
            }  # fmt: skip
        except (NotSent, Refused, NotYet, QueryFailed) as error:
            reported = {"outcome": _ERRORS[type(error)], "error": str(error)}
        self._record(
            RecordedCall(
                client=name, kind="query", name=query[0], args=tuple(query[1:]), level=level, invoked_ns=invoked_ns,
                returned_ns=_now_ns(), **bounds, **reported,
            )
        )  # fmt: skip
        return answer


def _now_ns() -> int:
    return int(monotonic_s() * 1e9)
