from collections.abc import Callable
from hashlib import blake2b
from random import Random

import pytest

from mcast.errors import CorruptionError, EnvironmentProblem
from mcast.sim.disk import SimFiles
from mcast.storage.journal import Journal
from mcast.storage.recovery import ScannedLog, recover
from mcast.storage.segment import (
    ENTRY_EXTRA_BYTES,
    HEADER_BYTES,
    PREFIX_BYTES,
    SEGMENT_BYTES_MIN,
    SegmentHeader,
    decode_header_untrusted,
    encode_entries,
    encode_header,
    segment_name,
)
from mcast.storage.verdict import RECOVERY_TABLE, LogFault, Mark, Past, Verdict
from mcast.storage.watermark import Watermark
from mcast.wire.frame import CHAIN_ZERO, Frame, make_frame
from mcast.wire.messages import EpochEntry

from .logs import JOURNAL, UUID, a_frame, a_log, genesis_frame

SIZE = 20_000  # three entries a segment
OTHER = b"\x99" * 16


ID = b"\x11" * 16
Judged = tuple[Watermark | None, bool]
"""A watermark, and whether it is doubtful."""


class Disk:
    """A journal of eight frames in three segments, the last with room for one more; nothing of it noted as synced."""

    def __init__(self) -> None:
        self.files = SimFiles(Random(1))
        journal, _ = Journal.create(self.files, JOURNAL, segment_bytes=SEGMENT_BYTES_MIN)
        genesis = genesis_frame()
        self.log = [genesis, *a_log(7, size=SIZE, epoch=3, after=genesis)]
        for frame in self.log:
            journal.append([frame])
        self.last = self.log[-1]
        journal.close()
        assert len(self.files.listdir(JOURNAL)) == 3

    def copy(self) -> "Disk":
        other = Disk()
        other.files = self.files.copy()
        return other

    def path(self, number: int) -> str:
        return f"{JOURNAL}/{segment_name(number)}"

    def header(self, number: int) -> SegmentHeader:
        return decode_header_untrusted(self.files.contents(self.path(number)))

    def place(self, frame: Frame) -> tuple[int, int]:
        """Segment and offset of a frame's entry."""
        number = max(number for number in (1, 2, 3) if self.header(number).first <= frame.first)
        inside = [other for other in self.log if self.header(number).first <= other.first < frame.first]
        return number, HEADER_BYTES + sum(ENTRY_EXTRA_BYTES + len(other.body) for other in inside)

    def flip(self, frame: Frame, at: int) -> None:
        number, offset = self.place(frame)
        self.files.corrupt(self.path(number), offset + at)

    def put(self, number: int, offset: int, data: bytes) -> None:
        held = bytearray(self.files.contents(self.path(number)))
        held[offset : offset + len(data)] = data
        self.files.replace(self.path(number), bytes(held))

    def put_entry(self, frame: Frame, synced: int = 0) -> None:
        """A valid entry behind the log's end, whether it belongs there or not."""
        number, offset = self.place(self.last)
        offset += ENTRY_EXTRA_BYTES + len(self.last.body)
        self.put(number, offset, b"".join(encode_entries([frame], synced, self.header(number).seed)))

    def recover(
        self, *, past: Past = Past.SAME_BOOT, judged: Judged = (None, False), floor: int = 0, cache_bytes: int = 1 << 20
    ) -> ScannedLog:
        return recover(
            self.files, JOURNAL, past=past, watermark=judged[0], doubtful=judged[1], synced_floor=floor,
            cache_bytes=cache_bytes,
        )  # fmt: skip

    def open(self, found: ScannedLog) -> Journal:
        return Journal.open(self.files, JOURNAL, found, segment_bytes=SEGMENT_BYTES_MIN)


def torn(keep: int) -> Callable[[Disk], int]:
    def damage(disk: Disk) -> int:
        number, offset = disk.place(disk.last)
        disk.put(number, offset + keep, bytes(ENTRY_EXTRA_BYTES + SIZE - keep))
        return 7

    return damage


def flipped(at: int) -> Callable[[Disk], int]:
    def damage(disk: Disk) -> int:
        disk.flip(disk.last, at)
        return 7

    return damage


def another_log(disk: Disk) -> int:
    disk.put_entry(make_frame(3, 9, 1, 0, 0, OTHER, b"x"))
    return 8


def claims_the_future(disk: Disk) -> int:
    disk.put_entry(a_frame(disk.last, epoch=3), synced=9)
    return 8


def again(disk: Disk) -> int:
    disk.put_entry(disk.last)
    return 8


def skips_one(disk: Disk) -> int:
    disk.put_entry(a_frame(a_frame(disk.last, epoch=3), epoch=3))
    return 8


def epoch_back(disk: Disk) -> int:
    disk.put_entry(a_frame(disk.last, epoch=2))
    return 8


def valid_after_invalid(disk: Disk) -> int:
    disk.flip(disk.log[6], PREFIX_BYTES + 56 + 10)
    return 6


def lost_in_between(disk: Disk) -> int:
    number, offset = disk.place(disk.log[5])
    disk.put(number, offset, bytes(ENTRY_EXTRA_BYTES + SIZE))
    return 5


def stray_bytes(disk: Disk) -> int:
    number, offset = disk.place(disk.last)
    disk.put(number, offset + ENTRY_EXTRA_BYTES + SIZE + 500, b"x")
    return 8


def segment_header(disk: Disk) -> int:
    disk.files.corrupt(disk.path(3), 40)
    return 7


def segment_emptied(disk: Disk) -> int:
    disk.files.replace(disk.path(3), b"")
    return 7


def segment_missing(disk: Disk) -> int:
    disk.files.unlink(disk.path(2))
    return 4


def segment_misplaced(disk: Disk) -> int:
    header = disk.header(3)
    disk.put(3, 0, encode_header(header._replace(first=header.first + 5)))
    return 7


def segment_number_wrong(disk: Disk) -> int:
    header = disk.header(3)
    disk.put(3, 0, encode_header(header._replace(number=7)))
    return 7


def end_of_segment_lost(disk: Disk) -> int:
    number, offset = disk.place(disk.log[6])
    assert (number, disk.header(3).first) == (2, 8)
    disk.put(number, offset, bytes(ENTRY_EXTRA_BYTES + SIZE))
    return 6


def segment_foreign(disk: Disk) -> int:
    header = disk.header(3)
    disk.put(3, 0, encode_header(header._replace(cluster_uuid=OTHER)))
    return 7


def segment_newer(disk: Disk) -> int:
    fields = bytearray(encode_header(disk.header(3)))
    fields[11] = 2
    fields[72:88] = blake2b(fields[:72], digest_size=16).digest()
    disk.put(3, 0, bytes(fields))
    return 7


def zeros(disk: Disk) -> int:
    number, offset = disk.place(disk.last)
    disk.put(number, offset, bytes(ENTRY_EXTRA_BYTES + SIZE))
    return 7


LENGTH_AT = PREFIX_BYTES + 20
DAMAGES: list[tuple[str, Callable[[Disk], int], LogFault]] = [
    ("nothing of the last entry", zeros, LogFault.ZERO_TAIL),
    ("part of the prefix", torn(9), LogFault.TORN),
    ("part of the head", torn(PREFIX_BYTES + 30), LogFault.TORN),
    ("no body", torn(PREFIX_BYTES + 56), LogFault.TORN),
    ("all but the end mark", torn(PREFIX_BYTES + 56 + SIZE), LogFault.TORN),
    ("length", flipped(LENGTH_AT), LogFault.LENGTH),
    ("magic", flipped(0), LogFault.HEADER),
    ("checksum", flipped(5), LogFault.HEADER),
    ("synced", flipped(15), LogFault.HEADER),
    ("length, low byte", flipped(LENGTH_AT + 3), LogFault.HEADER),
    ("epoch", flipped(PREFIX_BYTES + 7), LogFault.HEADER),
    ("chain", flipped(PREFIX_BYTES + 40), LogFault.HEADER),
    ("body", flipped(PREFIX_BYTES + 56), LogFault.CHAIN),
    ("body's last byte", flipped(PREFIX_BYTES + 56 + SIZE - 1), LogFault.CHAIN),
    ("end mark", flipped(PREFIX_BYTES + 56 + SIZE), LogFault.CHAIN),
    ("another log", another_log, LogFault.CHAIN),
    ("claims the future", claims_the_future, LogFault.CHAIN),
    ("twice", again, LogFault.DUPLICATE),
    ("one skipped", skips_one, LogFault.GAP),
    ("epoch going back", epoch_back, LogFault.EPOCH_BACK),
    ("valid after invalid", valid_after_invalid, LogFault.VALID_AFTER_INVALID),
    ("one lost in between", lost_in_between, LogFault.VALID_AFTER_INVALID),
    ("stray bytes", stray_bytes, LogFault.HEADER),
    ("segment header", segment_header, LogFault.SEGMENT_HEADER),
    ("segment emptied", segment_emptied, LogFault.SEGMENT_HEADER),
    ("segment missing", segment_missing, LogFault.SEGMENT_MISSING),
    ("segment misplaced", segment_misplaced, LogFault.SEGMENT_MISPLACED),
    ("segment number", segment_number_wrong, LogFault.SEGMENT_MISPLACED),
    ("end of a segment lost", end_of_segment_lost, LogFault.SEGMENT_MISPLACED),
    ("segment of another cluster", segment_foreign, LogFault.SEGMENT_FOREIGN),
    ("segment of a later version", segment_newer, LogFault.SEGMENT_NEWER),
]


def expected(fault: LogFault, *, behind: bool, mark: Mark, past: Past) -> Verdict:
    """The rule in words, against the table in data."""
    if fault in (LogFault.SEGMENT_FOREIGN, LogFault.SEGMENT_NEWER):
        return Verdict.FOREIGN
    if not behind or mark is Mark.OTHER:
        return Verdict.CORRUPT
    if mark is Mark.SHORT and past is not Past.UNSYNCED:
        return Verdict.CORRUPT
    suspect = past is Past.UNSYNCED or mark is Mark.UNKNOWN
    if fault is LogFault.ZERO_TAIL:
        return Verdict.SUSPECT if suspect else Verdict.INTACT
    if past is Past.SAME_BOOT and fault is not LogFault.TORN:
        return Verdict.CORRUPT
    return Verdict.CUT_SUSPECT if suspect or past is Past.OTHER_BOOT else Verdict.CUT


CELLS = [(behind, mark, past) for behind in (False, True) for mark in Mark for past in Past]


def test_the_table_has_every_cell_as_the_rule_says() -> None:
    assert set(RECOVERY_TABLE) == {(fault, *cell) for fault in LogFault for cell in CELLS}
    for (fault, behind, mark, past), verdict in RECOVERY_TABLE.items():
        assert verdict is expected(fault, behind=behind, mark=mark, past=past)


def test_every_fault_is_provoked_below() -> None:
    assert {fault for _, _, fault in DAMAGES} == set(LogFault)


def judged_as(mark: Mark, disk: Disk, last: int) -> list[Judged]:
    """Watermarks that a log that is good up to event `last` has this relation to."""
    reached = [Watermark(ID, 3, at, disk.log[at - 1].chain) for at in (1, last)]
    if mark is Mark.REACHED:
        return [(None, False), (Watermark(ID), False), *((watermark, False) for watermark in reached)]
    if mark is Mark.SHORT:
        beyond = Watermark(ID, 3, last + 1, disk.log[last].chain if last < len(disk.log) else OTHER)
        return [(beyond, False), (beyond, True)]
    if mark is Mark.OTHER:
        return [(one._replace(chain=OTHER), doubtful) for one in reached for doubtful in (False, True)]
    return [(None, True), *((watermark, True) for watermark in reached)]


@pytest.mark.parametrize(("damage", "fault"), [row[1:] for row in DAMAGES], ids=[row[0] for row in DAMAGES])
def test_each_damage_gets_its_verdict_in_every_cell(damage: Callable[[Disk], int], fault: LogFault) -> None:
    disk = Disk()
    last = damage(disk)
    mended = set()
    for behind, mark, past in CELLS:
        for judged in judged_as(mark, disk, last):
            found = disk.recover(past=past, judged=judged, floor=0 if behind else last + 1)
            assert (found.fault, found.last_seq, found.mark) == (fault, last, mark)
            assert found.verdict is expected(fault, behind=behind, mark=mark, past=past)
        if found.verdict not in mended:
            mended.add(found.verdict)
            _assert_carried_out(disk, found, past)


def _assert_carried_out(damaged: Disk, found: ScannedLog, past: Past) -> None:
    disk = damaged.copy()
    if found.verdict in (Verdict.CORRUPT, Verdict.FOREIGN):
        with pytest.raises(CorruptionError if found.verdict is Verdict.CORRUPT else EnvironmentProblem):
            disk.open(found)
        names = damaged.files.listdir(JOURNAL)
        assert disk.files.listdir(JOURNAL) == names
        assert all(disk.files.contents(f"{JOURNAL}/{n}") == damaged.files.contents(f"{JOURNAL}/{n}") for n in names)
        return
    last = found.last_seq
    journal = disk.open(found)  # mends it, durably, so that it goes on where it was cut
    assert journal.last_seq == journal.synced_seq == last
    kept = disk.log[:last]
    assert list(journal.read(1, 1 << 20)) == kept
    disk.files.crash()
    again = disk.recover(past=Past.OTHER_BOOT)
    once = disk.open(again)
    assert (again.verdict, again.fault, once.last_seq) == (Verdict.INTACT, LogFault.ZERO_TAIL, last)
    behind = a_log(4, size=SIZE, epoch=9, after=kept[-1])
    once.append(behind)
    once.close()
    again = disk.recover()
    assert again.verdict is Verdict.INTACT
    assert disk.open(again).read(1, 1 << 20) == kept + behind


def test_a_watermark_inside_a_frame_is_another_logs() -> None:
    files = SimFiles(Random(1))
    journal, _ = Journal.create(files, JOURNAL, segment_bytes=SEGMENT_BYTES_MIN)
    log = a_log(3, count=5)
    journal.append(log)
    watermark = Watermark(ID, 1, 7, log[1].chain)
    found = recover(files, JOURNAL, past=Past.SAME_BOOT, watermark=watermark)
    assert (found.mark, found.verdict) == (Mark.OTHER, Verdict.CORRUPT)


@pytest.mark.parametrize("past", Past)
def test_an_entry_behind_the_damage_proves_what_was_synced(past: Past) -> None:
    disk = Disk()
    disk.put_entry(a_frame(disk.last, epoch=3), synced=8)
    disk.flip(disk.log[1], PREFIX_BYTES + 60)
    found = disk.recover(past=past)
    assert (found.last_seq, found.synced_seq) == (1, 8)
    assert (found.verdict, found.fault) == (Verdict.CORRUPT, LogFault.VALID_AFTER_INVALID)


@pytest.mark.parametrize("past", Past)
def test_a_segment_header_behind_the_damage_proves_what_was_synced(past: Past) -> None:
    disk = Disk()
    header = disk.header(3)
    disk.put(3, 0, encode_header(header._replace(synced=5)))
    disk.flip(disk.log[1], PREFIX_BYTES + 60)
    assert disk.recover(past=past).verdict is Verdict.CORRUPT


def test_a_segment_header_in_the_log_proves_what_was_synced() -> None:
    disk = Disk()
    disk.put(3, 0, encode_header(disk.header(3)._replace(synced=7)))
    found = disk.recover()
    assert (found.synced_seq, found.verdict) == (7, Verdict.INTACT)


def test_an_entry_under_a_damaged_segment_header_still_proves_what_was_synced() -> None:
    disk = Disk()
    disk.put_entry(a_frame(disk.last, epoch=3), synced=8)
    disk.files.corrupt(disk.path(3), 3)
    found = disk.recover(past=Past.OTHER_BOOT)
    assert (found.synced_seq, found.verdict) == (8, Verdict.CORRUPT)


def test_an_entry_of_another_segment_proves_nothing() -> None:
    disk = Disk()
    stray = b"".join(encode_entries([a_frame(disk.last, epoch=3)], 8, seed=12345))
    number, offset = disk.place(disk.last)
    disk.flip(disk.last, PREFIX_BYTES + 60)
    disk.put(number, offset + ENTRY_EXTRA_BYTES + SIZE, stray)
    found = disk.recover(past=Past.OTHER_BOOT)
    assert (found.synced_seq, found.verdict, found.fault) == (0, Verdict.CUT_SUSPECT, LogFault.CHAIN)


@pytest.mark.parametrize("past", Past)
@pytest.mark.parametrize("loss", ["file", "header", "directory"])
def test_the_first_segment_was_durable_before_its_first_event(loss: str, past: Past) -> None:
    disk = Disk()
    if loss == "header":
        disk.files.corrupt(disk.path(1), 10)
    else:
        for number in (1,) if loss == "file" else (1, 2, 3):
            disk.files.unlink(disk.path(number))
    with pytest.raises(CorruptionError):
        disk.open(disk.recover(past=past))


def test_history_names_every_epoch() -> None:
    disk = Disk()
    found = disk.recover()
    assert tuple(found.history) == (EpochEntry(0, 1, CHAIN_ZERO), EpochEntry(3, 2, disk.log[0].chain))
    assert found.cluster_uuid == UUID
    assert (found.last_epoch, found.last_chain) == (3, disk.last.chain)


def test_frames_are_the_newest_that_fit_but_all_uncommitted_ones() -> None:
    disk = Disk()
    whole = disk.recover()
    assert (whole.base_seq, whole.base_chain, whole.frames) == (0, CHAIN_ZERO, tuple(disk.log))
    assert (whole.genesis, whole.config) == (None, None)
    two = disk.recover(cache_bytes=3 * SIZE - 1)
    assert two.frames == tuple(disk.log[6:])
    assert (two.base_seq, two.base_chain) == (6, disk.log[5].chain)
    assert two.genesis == two.config == disk.log[0]


def test_frames_reach_back_to_the_last_ones_commit() -> None:
    disk = Disk()
    lagging = a_frame(disk.last, epoch=4, commit=2)  # a new sequencer may know of an older commit than the one before
    disk.put_entry(lagging)
    found = disk.recover(cache_bytes=100)
    assert found.frames == (*disk.log[2:], lagging)
    assert (found.base_seq, found.base_chain) == (2, disk.log[1].chain)
    assert found.genesis == found.config == disk.log[0]


def test_a_scan_crosses_its_window_anywhere() -> None:
    files = SimFiles(Random(1))
    journal, _ = Journal.create(files, JOURNAL, segment_bytes=16 << 20)
    log: list[Frame] = []
    random = Random(5)
    while sum(frame.size for frame in log) < 9 << 20:
        log.append(a_frame(log[-1] if log else None, size=random.choice((2, 1_400, 60_000)), count=2))
    journal.append(log)
    found = recover(files, JOURNAL, past=Past.SAME_BOOT)
    assert found.frames == tuple(log)
