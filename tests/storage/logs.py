"""Logs and stores that the storage tests share."""

from dataclasses import replace
from random import Random

from mcast.protocol.recovered import Recovered
from mcast.protocol.rules import Rules
from mcast.sim.disk import SimFiles
from mcast.storage.files import Files
from mcast.storage.journal import Journal
from mcast.storage.recovery import ScannedLog, recover
from mcast.storage.segment import SEGMENT_BYTES_MIN
from mcast.storage.store import RULES, Store
from mcast.storage.verdict import Past
from mcast.wire.frame import CHAIN_ZERO, Frame, make_frame
from mcast.wire.messages import Configuration, Genesis, encode_message
from mcast.wire.records import RecordKind, encode_record

DATA = "/data/n1"
JOURNAL = "/data/n1/journal"
UUID = bytes(range(16))


def a_frame(before: Frame | None, *, epoch: int = 1, count: int = 1, size: int = 100, commit: int = 0) -> Frame:
    """The next frame of a log, of `count` events and `size` bytes of body."""
    first, chain = (before.last + 1, before.chain) if before else (1, CHAIN_ZERO)
    body = bytes([first & 0xFF, epoch & 0xFF]).ljust(size, b"\0")
    return make_frame(epoch, first, count, commit, 1_000 * first, chain, body)


def a_log(frames: int, *, size: int = 100, count: int = 1, epoch: int = 1, after: Frame | None = None) -> list[Frame]:
    """Consecutive frames, each of which finds all before it committed."""
    log: list[Frame] = []
    for _ in range(frames):
        commit = after.last if after else 0
        after = a_frame(after, epoch=epoch, count=count, size=size, commit=commit)
        log.append(after)
    return log


def genesis_frame(uuid: bytes = UUID) -> Frame:
    """Event 1 of a real log."""
    record = encode_record(RecordKind.GENESIS, 1, 0, 0, 0, encode_message(Genesis(uuid, Configuration(1, ()))))
    return make_frame(0, 1, 1, 0, 1_000, CHAIN_ZERO, record)


def open_store(
    files: SimFiles, *, sync: str = "always", rules: Rules = RULES, promised: bool = False
) -> tuple[Store, Recovered]:
    """The store of node n1 of cluster lab on a simulated disk, with the smallest segments.

    The logs of these tests come from nowhere: nobody promised their epochs. `test_identity` has those who did.
    """
    ids = iter(range(1 + files.syncs, 1 << 30))
    return Store.open(
        files,
        DATA,
        "lab",
        "n1",
        sync=sync,
        read_boot_id=files.read_boot_id,
        draw_id=lambda: next(ids).to_bytes(16, "big"),
        segment_bytes=SEGMENT_BYTES_MIN,
        rules=replace(rules, promise_held_against_log=promised),
    )


def all_frames(store: Store) -> list[Frame]:
    """The whole log."""
    return [frame for burst in store.frames_from(1) for frame in burst]


def begin(files: SimFiles | None = None, segment_bytes: int = SEGMENT_BYTES_MIN) -> tuple[SimFiles, Journal]:
    """A new journal."""
    files = files or SimFiles(Random(1))
    files.mkdir(JOURNAL)
    files.write_back()
    return files, Journal.create(files, JOURNAL, segment_bytes=segment_bytes)[0]


def reopen(files: SimFiles, *, power: bool = False) -> Journal:
    """The journal after the process, or with `power` the machine, has died."""
    if power:
        files.crash()
    else:
        files.kill()
    return open_journal(files, past=Past.OTHER_BOOT if power else Past.SAME_BOOT)[0]


def open_journal(
    files: Files,
    directory: str = JOURNAL,
    *,
    past: Past = Past.SAME_BOOT,
    synced_floor: int = 0,
    segment_bytes: int = SEGMENT_BYTES_MIN,
    truncation_durable: bool = True,
    rewrite_unsynced: bool = True,
) -> tuple[Journal, ScannedLog]:
    """What a scan finds, and the journal mended accordingly; without a watermark."""
    found = recover(files, directory, past=past, synced_floor=synced_floor)
    journal = Journal.open(
        files, directory, found, segment_bytes=segment_bytes, truncation_durable=truncation_durable,
        rewrite_unsynced=rewrite_unsynced,
    )  # fmt: skip
    return journal, found


def everything(journal: Journal) -> list[Frame]:
    """The whole journal."""
    return [frame for burst in journal.frames_from(1) for frame in burst]
