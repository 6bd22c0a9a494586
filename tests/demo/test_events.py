"""The table of flights becomes commands in order of time, by the rule that the module states."""

import zipfile
from collections import Counter
from itertools import islice
from pathlib import Path

import pytest

from mcast.demo.events import DAY, flight_commands
from mcast.demo.questions import minute_of
from mcast.demo.source import COLUMNS
from mcast.errors import DecodeError, EnvironmentProblem

AIRPORTS = "faa,name,lat,lon,alt,tz,dst,tzone\nLAX,Los Angeles,0,0,0,-8,A,x\nPHX,Phoenix,0,0,0,-7,N,x\n"


def folder_of(path: Path, *rows: str) -> Path:
    with zipfile.ZipFile(path / "flights.csv.zip", "w") as archive:
        archive.writestr("flights.csv", "\n".join([",".join(COLUMNS), *rows]) + "\n")
    (path / "airports.csv").write_text(AIRPORTS)
    return path


def row(
    day: str, hour_utc: str, *, dep: str = "1000", late: str = "0", arr: str = "1200", dest: str = "LAX", hour: int = 10
) -> str:
    month, number = day.split("-")
    return (
        f"2013,{month},{number},{dep},{hour}00,{late},{arr},1,1,AA,7,N1,JFK,{dest},1,1,{hour},0,2013-{hour_utc}:00:00Z"
    )


def test_a_departure_and_its_landing_in_another_zone(tmp_path: Path) -> None:
    folder = folder_of(tmp_path, row("1-1", "01-01T15", late="5", arr="1315"))
    departed = minute_of("2013-01-01T10:05-05:00")
    assert list(flight_commands(folder=folder)) == [
        ("departed", 1, departed, "AA", 7, "JFK", "LAX", 5),
        ("landed", 1, minute_of("2013-01-01T13:15-08:00")),
    ]


def test_summer_moves_most_zones_but_not_all(tmp_path: Path) -> None:
    rows = [row("7-1", "07-01T14", arr="1315"), row("7-1", "07-01T14", arr="1315", dest="PHX")]
    landings = [command[2] for command in flight_commands(folder=folder_of(tmp_path, *rows)) if command[0] == "landed"]
    assert landings == [minute_of("2013-07-01T13:15-07:00")] * 2


def test_delay_and_landing_roll_over_midnight(tmp_path: Path) -> None:
    folder = folder_of(tmp_path, row("1-1", "01-02T04", late="90", arr="2400", hour=23))
    departed, landed = flight_commands(folder=folder)
    assert departed[2] == minute_of("2013-01-02T00:30-05:00")
    assert landed[2] == minute_of("2013-01-02T00:00-08:00")


def test_a_landing_is_after_the_departure_and_within_a_day(tmp_path: Path) -> None:
    departed, landed = flight_commands(folder=folder_of(tmp_path, row("1-1", "01-01T15", arr="700")))
    assert int(landed[2]) - int(departed[2]) == DAY


def test_cancelled_and_unheard_of_flights(tmp_path: Path) -> None:
    rows = [row("1-1", "01-01T15", dep="", late="", arr=""), row("1-1", "01-01T16", arr="NA")]
    scheduled = minute_of("2013-01-01T15:00+00:00")
    assert list(flight_commands(folder=folder_of(tmp_path, *rows))) == [
        ("cancelled", 1, scheduled, "AA", 7, "JFK", "LAX"), ("departed", 2, scheduled + 60, "AA", 7, "JFK", "LAX", 0),
    ]  # fmt: skip


def test_days_are_put_in_order_whatever_the_files(tmp_path: Path) -> None:
    rows = [row("1-2", "01-02T15"), row("1-3", "01-03T15"), row("12-1", "12-01T15"), row("2-1", "02-01T15")]
    commands = list(flight_commands(folder=folder_of(tmp_path, *rows)))
    assert [command[2] for command in commands] == sorted(command[2] for command in commands)
    assert [command[1] for command in commands if command[0] == "departed"] == [1, 2, 3, 4]
    assert commands[-2][2] == minute_of("2013-12-01T15:00+00:00")


def test_what_is_not_the_table_is_refused(tmp_path: Path) -> None:
    with pytest.raises(EnvironmentProblem):
        list(flight_commands(folder=tmp_path))
    folder_of(tmp_path, row("1-1", "01-01T15", late="soon"))
    with pytest.raises(DecodeError, match="not a flight"):
        list(flight_commands(folder=tmp_path))
    folder_of(tmp_path, row("1-1", "01-01T15", dest="ZZZ"))
    with pytest.raises(DecodeError, match="ZZZ"):
        list(flight_commands(folder=tmp_path))
    with zipfile.ZipFile(tmp_path / "flights.csv.zip", "w") as archive:
        archive.writestr("flights.csv", "a,b\n1,2\n")
    with pytest.raises(DecodeError, match="not the table"):
        list(flight_commands(folder=tmp_path))


def test_the_real_table_in_part() -> None:
    pytest.importorskip("mcast.demo.source").data_folder()
    commands = list(flight_commands(3_000))
    times = [int(command[2]) for command in commands]
    assert times == sorted(times)
    assert Counter(command[0] for command in commands).keys() == {"departed", "landed", "cancelled"}
    assert sum(command[0] != "landed" for command in commands) == 3_000
    assert list(islice(flight_commands(), 3)) == [
        ("departed", 1, 22617257, "UA", 1545, "EWR", "IAH", 2), ("departed", 2, 22617273, "UA", 1714, "LGA", "IAH", 4),
        ("departed", 3, 22617282, "AA", 1141, "JFK", "MIA", 2),
    ]  # fmt: skip
