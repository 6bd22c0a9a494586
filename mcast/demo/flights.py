"""The demonstration's machine: who is in the air, each airport's board, each carrier's delays, each route's flights.

Times are whole minutes since 1970 in UTC, and every command carries one: that of what it tells. They never go back. All
sums are of integers, so that they are equal everywhere.
"""

from __future__ import annotations

from typing import Any, Final

from mcast.machine.api import Context, Rejected, StateMachine, command, query

LOST_AFTER: Final = 1_441  # minutes after its departure that a flight whose landing nobody told leaves the air
TIMELINE_MAX: Final = 2 * 366 * 1_440  # minutes of history of how many were in the air
BOARD_MAX: Final = 20  # newest movements kept of each airport
AIRPORTS_MAX: Final = 2_000
CARRIERS_MAX: Final = 500
ROUTES_MAX: Final = 20_000
IN_THE_AIR_MAX: Final = 50_000
_CODE_MAX: Final = 8  # characters
_INTEGERS: Final = frozenset({int})


class Flights(StateMachine):
    """Follows flights by what is told of them: departed, landed, cancelled."""

    version = 1

    def __init__(self) -> None:
        self._now = 0
        self._since = 0
        self._timeline: list[int] = []  # how many were in the air at the end of each minute from _since to _now - 1
        self._in_the_air: dict[int, list[Any]] = {}  # flight -> [departed at, label, origin, destination]; oldest first
        self._boards: dict[str, list[list[Any]]] = {}  # airport -> newest movements, oldest first
        self._delays: dict[str, list[int]] = {}  # carrier -> [departures, sum of their delays in minutes]
        self._routes: dict[str, int] = {}  # "origin-destination" -> departures
        self._totals = {"departed": 0, "landed": 0, "cancelled": 0, "lost": 0}

    @command
    def departed(  # noqa: PLR0913 - what a departure tells
        self, ctx: Context, flight: int, at: int, carrier: str, number: int, origin: str, destination: str, delay: int
    ) -> int:
        """A flight left `origin`, `delay` minutes late; how many are in the air now.

        Rejected: time goes back, it is in the air already, or there are more airports, routes ... than are kept.
        """
        self._check(at, flight, number, delay)
        route = f"{_code(origin)}-{_code(destination)}"
        if flight in self._in_the_air:
            raise Rejected("already in the air")
        _room(self._in_the_air, flight, IN_THE_AIR_MAX)
        _room(self._boards, origin, AIRPORTS_MAX)
        _room(self._delays, _code(carrier), CARRIERS_MAX)
        _room(self._routes, route, ROUTES_MAX)
        self._advance(at)
        label = f"{carrier}{number}"
        self._in_the_air[flight] = [at, label, origin, destination]
        self._post(origin, [at, "departed", label, destination, delay])
        delays = self._delays.setdefault(carrier, [0, 0])
        delays[0] += 1
        delays[1] += delay
        self._routes[route] = self._routes.get(route, 0) + 1
        self._totals["departed"] += 1
        return len(self._in_the_air)

    @command
    def landed(self, ctx: Context, flight: int, at: int) -> int:
        """A flight arrived where it was bound for; how many are in the air now.

        Rejected: time goes back, it is not in the air (any more), or there are more airports than are kept.
        """
        self._check(at, flight)
        known = self._in_the_air.get(flight)
        if known is None or known[0] + LOST_AFTER <= at:
            raise Rejected("not in the air")
        _, label, origin, destination = known
        _room(self._boards, destination, AIRPORTS_MAX)
        self._advance(at)
        del self._in_the_air[flight]
        self._post(destination, [at, "landed", label, origin, None])
        self._totals["landed"] += 1
        return len(self._in_the_air)

    @command
    def cancelled(  # noqa: PLR0913 - what a cancellation tells
        self, ctx: Context, flight: int, at: int, carrier: str, number: int, origin: str, destination: str
    ) -> None:
        """A flight that was to leave `origin` now will not.

        Rejected: time goes back, it is in the air, or there are more airports than are kept.
        """
        self._check(at, flight, number)
        if flight in self._in_the_air:
            raise Rejected("already in the air")
        label = f"{_code(carrier)}{number}"
        _room(self._boards, _code(origin), AIRPORTS_MAX)
        self._advance(at)
        self._post(origin, [at, "cancelled", label, _code(destination), None])
        self._totals["cancelled"] += 1

    @query
    def in_the_air(self, at: int | None = None) -> int:
        """How many flights were in the air at the end of a minute up to now, or are.

        Rejected: not a minute, or one that lies ahead.
        """
        if at is None or at == self._now:
            return len(self._in_the_air)
        if type(at) is not int or at > self._now:
            raise Rejected(f"the newest event is of minute {self._now}")
        return self._timeline[at - self._since] if at >= self._since else 0

    @query
    def board(self, airport: str, limit: int = BOARD_MAX) -> list[list[Any]]:
        """The airport's newest movements, newest first: [at, what, flight, other, delay].

        `what` is "departed", "landed" or "cancelled"; `other` is where it goes to or comes from; `delay` is in minutes,
        None but for departures. Rejected: the limit is not a number from 0 on.
        """
        return self._boards.get(airport, [])[::-1][: _limit(limit)]

    @query
    def mean_departure_delay(self) -> list[list[Any]]:
        """[carrier, departures, sum of delays in minutes, mean in hundredths of a minute rounded down], by carrier."""
        return [[carrier, n, total, total * 100 // n] for carrier, (n, total) in sorted(self._delays.items())]

    @query
    def busiest_routes(self, limit: int = 10) -> list[list[Any]]:
        """[origin, destination, departures], most first, equal ones by name. Rejected: not a number from 0 on."""
        ranked = sorted(self._routes.items(), key=lambda item: (-item[1], item[0]))
        return [[*route.split("-"), count] for route, count in ranked[: _limit(limit)]]

    @query
    def totals(self) -> dict[str, int]:
        """departed, landed, cancelled, lost (no landing told within a day), in_the_air, and now: the newest minute."""
        return {**self._totals, "in_the_air": len(self._in_the_air), "now": self._now}

    def _check(self, at: int, *numbers: int) -> None:
        if at.__class__ is not int or not _INTEGERS.issuperset(map(type, numbers)) or at < 0:
            raise Rejected("not whole numbers")
        if at < self._now:
            raise Rejected("time goes back")
        if self._now and at - self._since > TIMELINE_MAX:
            raise Rejected("beyond the history that is kept")

    def _advance(self, at: int) -> None:
        if at == self._now:
            return
        if not self._now:
            self._since = self._now = at
            return
        while self._in_the_air:
            oldest = next(iter(self._in_the_air))
            lost_at = self._in_the_air[oldest][0] + LOST_AFTER
            if lost_at > at:
                break
            self._fill(lost_at)
            del self._in_the_air[oldest]
            self._totals["lost"] += 1
        self._fill(at)

    def _fill(self, until: int) -> None:
        self._timeline += [len(self._in_the_air)] * (until - self._now)
        self._now = until

    def _post(self, airport: str, movement: list[Any]) -> None:
        board = self._boards.setdefault(airport, [])
        board.append(movement)
        if len(board) > BOARD_MAX:
            del board[0]


def _code(code: str) -> str:
    if not isinstance(code, str) or not code.isalnum() or len(code) > _CODE_MAX:
        raise Rejected("not a code")
    return code


def _limit(limit: int) -> int:
    if type(limit) is not int or limit < 0:
        raise Rejected("not a number from 0 on")
    return limit


def _room(kept: dict[Any, Any], key: Any, most: int) -> None:
    if key not in kept and len(kept) >= most:
        raise Rejected("no room for more")
