"""The flights as commands in order of time.

The rule. Times are whole minutes since 1970 in UTC.

* A flight departs at its scheduled minute (column time_hour, which is UTC, plus minute) plus dep_delay. So one that is
  late past midnight departs on the next day.
* It lands when clocks at its destination first read arr_time after it departed: at most 24 hours later. Destinations'
  zones are those of airports.csv. (For every flight with an air_time, this leaves 5 to 235 minutes for taxiing.)
* Without dep_time it was cancelled, at its scheduled minute. Without arr_time no landing is known: none is sent.

Events of the same minute are in the order of their flights. A flight is named by its place in the table, sorted by day,
from 1.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import Final

from mcast.demo.source import days_of, read_table, read_zones
from mcast.errors import DecodeError

Command = tuple[str | int, ...]
DAY: Final = 1_440  # minutes
ABSENT: Final = ("", "NA")
_SUMMER_HOURS_BEHIND: Final = 4  # what New York is behind UTC in summer

_Timed = tuple[int, int, Command]


def flight_commands(limit: int | None = None, folder: Path | None = None) -> Iterator[Command]:
    """Commands of the table's first `limit` flights, made lazily, day by day.

    ("departed", flight, at, carrier, number, origin, destination, delay), ("landed", flight, at) and
    ("cancelled", flight, at, carrier, number, origin, destination).

    Raises:
        EnvironmentProblem: the data is not installed.
        DecodeError: a row that is not a flight.
    """
    zones = read_zones(folder)
    hours: dict[str, int] = {}
    waiting: list[_Timed] = []
    flight = 0
    for lines in days_of(read_table(folder)):
        fresh: list[_Timed] = []
        for line in lines if limit is None else lines[: limit - flight]:
            flight += 1
            try:
                fresh += _events_of(flight, line.split(","), zones, hours)
            except (ValueError, KeyError) as error:
                raise DecodeError("not a flight", f"{line[:200]!r}: {error}") from None
        if not fresh:
            break
        # A later day's flights all depart after this day's first one: what is older than that is complete.
        complete = bisect_left(waiting, min(fresh))
        for item in waiting[:complete]:
            yield item[2]
        waiting = sorted(waiting[complete:] + fresh)
    for item in waiting:
        yield item[2]


def _events_of(
    flight: int, fields: list[str], zones: dict[str, tuple[int, bool]], hours: dict[str, int]
) -> list[_Timed]:
    (_, _, _, dep_time, _, dep_delay, arr_time, _, _, carrier, number_text, _, origin, destination, _, _,
     hour, minute, time_hour) = fields  # fmt: skip
    started = hours.get(time_hour)
    if started is None:
        started = hours[time_hour] = int(datetime.fromisoformat(time_hour).timestamp()) // 60
    scheduled = started + int(minute)
    number = int(number_text)
    if dep_time in ABSENT:
        return [(scheduled, flight, ("cancelled", flight, scheduled, carrier, number, origin, destination))]
    delay = int(dep_delay)
    departed = scheduled + delay
    first = (departed, flight, ("departed", flight, departed, carrier, number, origin, destination, delay))
    if arr_time in ABSENT:
        return [first]
    ahead, has_summer = zones[destination]
    if has_summer and (started // 60 - int(hour)) % 24 == _SUMMER_HOURS_BEHIND:
        ahead += 1
    clock = int(arr_time) // 100 * 60 + int(arr_time) % 100
    landed = departed + ((clock - ahead * 60 - departed) % DAY or DAY)
    return [first, (landed, flight, ("landed", flight, landed))]
