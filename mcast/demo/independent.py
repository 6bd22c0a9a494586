"""The questions' answers straight from the CSV: no events, no machine, nothing in common with either but the files.

Each flight becomes an interval from its departure to its end, and the answers are counts over all of them at once. The
times come from other columns than the events' do: local date and scheduled time, with New York's zone by the calendar.
"""

from __future__ import annotations

import csv
import heapq
import io
from bisect import bisect_right
from collections.abc import Callable, Iterator
from datetime import datetime
from itertools import groupby
from operator import itemgetter
from pathlib import Path
from typing import Any, Final, NamedTuple

from mcast.demo.source import COLUMNS, read_table, read_zones
from mcast.errors import DecodeError

_EPOCH: Final = datetime(1970, 1, 1)
_SUMMER: Final = (datetime(2013, 3, 10, 2), datetime(2013, 11, 3, 2))  # by New York's clocks
_DAY: Final = 24 * 60
_UNHEARD: Final = _DAY + 1  # minutes in the air of a flight whose arrival is not known


class _Flight(NamedTuple):
    place: int
    carrier: str
    number: str
    origin: str
    destination: str
    departure: int  # in minutes since 1970, UTC; a cancelled flight's scheduled one
    delay: int | None  # None: cancelled
    arrival: int | None


class Independent:
    """The answers `mcast.demo.flights.Flights` must give once told of the table's first `limit` flights, by day.

    Raises:
        EnvironmentProblem, DecodeError: as reading the table does.
    """

    def __init__(self, limit: int | None = None, folder: Path | None = None) -> None:
        try:
            self._all = _read(limit, folder)
        except (ValueError, LookupError, csv.Error) as error:
            raise DecodeError("not the table of flights", str(error)) from None
        self._flown = [flight for flight in self._all if flight.delay is not None]
        self._arrived = [flight for flight in self._flown if flight.arrival is not None]
        moments = [flight.departure for flight in self._all] + [flight.arrival or 0 for flight in self._arrived]
        self._now = max(moments, default=0)
        self._departures = sorted(flight.departure for flight in self._flown)
        self._ends = sorted(flight.arrival or flight.departure + _UNHEARD for flight in self._flown)

    def answer(self, name: str, *args: Any) -> Any:
        """What the machine's query `name` must answer."""
        answers: dict[str, Callable[..., Any]] = {
            "in_the_air": self._in_the_air,
            "board": self._board,
            "mean_departure_delay": self._mean_departure_delay,
            "busiest_routes": self._busiest_routes,
            "totals": self._totals,
        }
        return answers[name](*args)

    def _in_the_air(self, at: int | None = None) -> int:
        moment = self._now if at is None else at
        return bisect_right(self._departures, moment) - bisect_right(self._ends, moment)

    def _mean_departure_delay(self) -> list[list[Any]]:
        answer: list[list[Any]] = []
        for carrier, flights in groupby(sorted(self._flown, key=itemgetter(1)), key=itemgetter(1)):
            delays = [flight.delay or 0 for flight in flights]
            answer.append([carrier, len(delays), sum(delays), sum(delays) * 100 // len(delays)])
        return answer

    def _busiest_routes(self, limit: int = 10) -> list[list[Any]]:
        pairs = sorted((flight.origin, flight.destination) for flight in self._flown)
        counted = [(-len(list(same)), pair) for pair, same in groupby(pairs)]
        return [[*pair, -negative] for negative, pair in heapq.nsmallest(limit, counted)]

    def _board(self, airport: str, limit: int = 20) -> list[list[Any]]:
        return [list(movement) for _, *movement in heapq.nlargest(min(limit, 20), self._movements(airport))]

    def _movements(self, airport: str) -> Iterator[tuple[Any, ...]]:
        for flight in self._all:
            name = flight.carrier + flight.number
            if flight.origin == airport:
                what = "cancelled" if flight.delay is None else "departed"
                moment = (flight.departure, flight.place)
                yield moment, flight.departure, what, name, flight.destination, flight.delay
            if flight.destination == airport and flight.arrival is not None:
                yield (flight.arrival, flight.place), flight.arrival, "landed", name, flight.origin, None

    def _totals(self) -> dict[str, int]:
        silent = [flight.departure for flight in self._flown if flight.arrival is None]
        return {
            "departed": len(self._flown),
            "landed": len(self._arrived),
            "cancelled": len(self._all) - len(self._flown),
            "lost": sum(departure + _UNHEARD <= self._now for departure in silent),
            "in_the_air": self._in_the_air(),
            "now": self._now,
        }


def _read(limit: int | None, folder: Path | None) -> list[_Flight]:
    zones = read_zones(folder)
    column = {name: place for place, name in enumerate(COLUMNS)}
    date = itemgetter(column["month"], column["day"])
    wanted = itemgetter(*(column[name] for name in _WANTED))
    once: dict[str, str] = {}  # the same few texts again and again, each kept once
    rows: list[tuple[tuple[int, int], int, tuple[str, ...]]] = []
    with io.TextIOWrapper(io.BytesIO(read_table(folder)), encoding="utf-8", newline="") as text:
        for place, row in enumerate(csv.reader(text)):
            month, day = date(row)
            fields = tuple([once.setdefault(field, field) for field in wanted(row)])
            rows.append(((int(month), int(day)), place, fields))
    rows.sort(key=itemgetter(0, 1))
    return [_flight(place, fields, day, zones) for place, (day, _, fields) in enumerate(rows[:limit], 1)]


_WANTED: Final = ("sched_dep_time", "dep_delay", "arr_time", "carrier", "flight", "origin", "dest")


def _flight(place: int, fields: tuple[str, ...], day: tuple[int, int], zones: dict[str, tuple[int, bool]]) -> _Flight:
    scheduled, delay, arrival, carrier, number, origin, destination = fields
    local = datetime(2013, *day, int(scheduled) // 100, int(scheduled) % 100)
    summer = _SUMMER[0] <= local < _SUMMER[1]
    departure = int((local - _EPOCH).total_seconds()) // 60 + (4 if summer else 5) * 60
    if not delay or delay == "NA":
        return _Flight(place, carrier, number, origin, destination, departure, None, None)
    departure += int(delay)
    landed = None
    if arrival and arrival != "NA":
        ahead, changes = zones[destination]
        offset = (ahead + (summer and changes)) * 60
        left_at = departure + offset
        arrives_at = left_at - left_at % _DAY + int(arrival) // 100 * 60 + int(arrival) % 100
        landed = (arrives_at if arrives_at > left_at else arrives_at + _DAY) - offset
    return _Flight(place, carrier, number, origin, destination, departure, int(delay), landed)
