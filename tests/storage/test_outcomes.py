"""Outcomes on disk: pieces come back by range, nothing survives a restart, damage is noticed."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from mcast.errors import CorruptionError
from mcast.storage.files import RealFiles
from mcast.storage.outcomes import OutcomeLog


@pytest.fixture
def log(tmp_path: Path) -> OutcomeLog:
    return OutcomeLog(RealFiles(), str(tmp_path / "outcomes"), segment_bytes=100)


def test_pieces_are_found_by_range_and_read_back(log: OutcomeLog) -> None:
    for number in range(10):
        log.append(number * 10 + 1, number * 10 + 10, bytes([number]) * 30)
    log.append(101, 110, b"a")
    log.append(101, 110, b"b")
    assert [piece.first for piece in log.pieces(15, 30)] == [11, 21]
    assert [log.read(piece)[:1] for piece in log.pieces(100, 105)] == [b"\x09", b"a", b"b"]
    assert log.pieces(111, 200) == []


def test_a_new_start_removes_what_was_left(log: OutcomeLog, tmp_path: Path) -> None:
    log.append(1, 5, bytes(150))
    log.append(6, 9, bytes(10))
    folder = tmp_path / "outcomes"
    (folder / "notes.txt").write_text("not ours")
    assert len(list(folder.iterdir())) == 3
    again = OutcomeLog(RealFiles(), str(folder))
    assert [path.name for path in folder.iterdir()] == ["notes.txt"] and again.pieces(1, 9) == []


def test_segments_below_the_low_water_are_given_back(log: OutcomeLog, tmp_path: Path) -> None:
    for first in (1, 11, 21):
        log.append(first, first + 9, bytes(150))
    log.forget(15)
    log.forget(15)
    assert [piece.first for piece in log.pieces(1, 30)] == [11, 21]
    log.forget(99)
    assert [piece.first for piece in log.pieces(1, 30)] == [21], "the one being written stays"
    assert len(list((tmp_path / "outcomes").iterdir())) == 1
    log.close()
    assert list((tmp_path / "outcomes").iterdir()) == []


def test_damage_is_noticed(log: OutcomeLog, tmp_path: Path) -> None:
    log.append(1, 5, b"outcomes")
    (path,) = (tmp_path / "outcomes").iterdir()
    path.write_bytes(b"0utcomes")
    with pytest.raises(CorruptionError, match="events 1 to 5"):
        log.read(*log.pieces(1, 5))


def test_a_segment_goes_by_its_newest_piece(log: OutcomeLog) -> None:
    log.append(1, 10, bytes(60))
    log.append(11, 20, bytes(60))
    log.append(21, 30, bytes(10))
    log.forget(11)
    assert [piece.first for piece in log.pieces(1, 30)] == [1, 11, 21]
    log.forget(21)
    assert [piece.first for piece in log.pieces(1, 30)] == [21]


def test_after_a_close_it_begins_anew(log: OutcomeLog, tmp_path: Path) -> None:
    for first in (1, 11):
        log.append(first, first + 9, bytes(150))
    log.close()
    for first in (21, 31):
        log.append(first, first + 9, bytes(150))
    log.forget(31)
    assert [piece.first for piece in log.pieces(1, 40)] == [31]
    assert len(list((tmp_path / "outcomes").iterdir())) == 1


def test_what_stands_in_the_way_is_set_aside(tmp_path: Path) -> None:
    (tmp_path / "outcomes").write_text("a file")
    log = OutcomeLog(RealFiles(), str(tmp_path / "outcomes"))
    log.append(1, 5, b"outcomes")
    assert log.read(*log.pieces(1, 5)) == b"outcomes"
    assert log.set_aside == [str(tmp_path / "outcomes.damaged-1")]
    assert (tmp_path / "outcomes.damaged-1").read_text() == "a file"
    log.close()
    (tmp_path / "outcomes" / "00000007.outcomes").mkdir()
    log = OutcomeLog(RealFiles(), str(tmp_path / "outcomes"))
    assert log.set_aside == [str(tmp_path / "outcomes.damaged-2")]


def test_what_cannot_be_made_at_first_is_made_later(tmp_path: Path) -> None:
    (tmp_path / "above").write_text("a file")
    log = OutcomeLog(RealFiles(), str(tmp_path / "above" / "outcomes"))
    with pytest.raises(OSError):
        log.append(1, 5, b"outcomes")
    (tmp_path / "above").unlink()
    log.append(1, 5, b"outcomes")
    assert log.read(*log.pieces(1, 5)) == b"outcomes"


def test_a_cleared_log_begins_anew_whatever_became_of_its_files(log: OutcomeLog, tmp_path: Path) -> None:
    log.append(1, 5, b"outcomes")
    shutil.rmtree(tmp_path / "outcomes")
    log.clear()
    (tmp_path / "outcomes").write_text("a file")
    log.append(1, 5, b"again")
    assert [log.read(piece) for piece in log.pieces(1, 9)] == [b"again"]
    log.append(6, 9, b"dropped")
    log.drop_from(6)
    assert [piece.first for piece in log.pieces(1, 9)] == [1]
