"""Who a node is after a start on a disk that lost something, and on one of another version."""

import errno
import json
from contextlib import suppress
from dataclasses import replace
from hashlib import blake2b
from pathlib import Path
from random import Random

import pytest

from mcast.errors import DiskFailed, DiskFull, EnvironmentProblem
from mcast.sim.disk import SimFiles, Stopped
from mcast.storage.files import NEW, RealFiles
from mcast.storage.meta import META_NAME, load_meta, store_meta
from mcast.storage.segment import HEADER_BYTES, segment_name
from mcast.storage.store import Store
from mcast.storage.watermark import SLOT_BYTES, WATERMARK_NAME, load_watermark

from .logs import DATA, JOURNAL, a_log, all_frames, open_store

SEGMENT = f"{JOURNAL}/{segment_name(1)}"
WATERMARK = f"{DATA}/{WATERMARK_NAME}"
META = f"{DATA}/{META_NAME}"


def acknowledged(files: SimFiles, count: int = 20, *, sync: str = "always") -> bytes:
    """A node that acknowledged so many frames and was killed; its storage id."""
    store, first = open_store(files, sync=sync)
    store.append(a_log(count))
    if sync == "always":
        store.sync()
    else:
        store.cover()
    files.kill()
    return first.meta.storage_id


@pytest.mark.parametrize("sync", ["always", "os"])
@pytest.mark.parametrize("zeroed", [True, False])
@pytest.mark.parametrize("share", [0.0, 0.3, 0.5, 0.99])
def test_a_lost_tail_makes_it_another_node(sync: str, zeroed: bool, share: float) -> None:
    files = SimFiles(Random(1))
    before = acknowledged(files, sync=sync)
    written = len(files.contents(SEGMENT).rstrip(b"\0"))
    files.lose_tail(SEGMENT, max(int(written * share), HEADER_BYTES), zeroed=zeroed)
    store, recovered = open_store(files, sync=sync)
    assert recovered.meta.storage_id != before
    assert store.last_seq == 0
    (finding,) = store.findings
    assert "acknowledged up to event 20 of epoch 1: the log ends before" in finding and "new storage id" in finding


def test_a_tail_of_another_log_makes_it_another_node() -> None:
    files, other = SimFiles(Random(1)), SimFiles(Random(2))
    before = acknowledged(files)
    store, _ = open_store(other)
    store.append(a_log(30, size=99))
    store.close()
    files.replace(SEGMENT, other.contents(SEGMENT))
    store, recovered = open_store(files)
    assert recovered.meta.storage_id != before
    assert "other events" in store.findings[0]


@pytest.mark.parametrize("sync", ["always", "os"])
@pytest.mark.parametrize("power", [False, True])
@pytest.mark.parametrize("behind", [0, 1, 2])
def test_a_promise_below_the_log_s_epochs_makes_it_another_node(sync: str, power: bool, behind: int) -> None:
    files = SimFiles(Random(1))
    store, first = open_store(files, sync=sync, promised=True)
    older = []
    for epoch in (1, 2, 3):
        store.write_meta(replace(first.meta, promised=epoch, voted_epoch=epoch, voted_for=epoch))
        older.append({path: files.contents(path) for path in (META, WATERMARK)})
        store.append(a_log(1, epoch=epoch, after=all_frames(store)[-1] if epoch > 1 else None))
        store.sync()
    for path, data in older[-1 - behind].items():
        files.replace(path, data)
    if power:
        files.crash()
    else:
        files.kill()
    again, recovered = open_store(files, sync=sync, promised=True)
    if not behind:
        assert (recovered.meta.storage_id, again.last_seq) == (first.meta.storage_id, 3)
        return
    assert recovered.meta.storage_id != first.meta.storage_id
    assert again.last_seq == 0 and again.set_aside == ("journal.damaged-1",)
    assert f"meta.json is older than the journal: it promises epoch {3 - behind}" in again.findings[0]


@pytest.mark.parametrize("sync", ["always", "os"])
@pytest.mark.parametrize("power", [False, True])
@pytest.mark.parametrize("what", ["a promise", "a vote", "a doubt", "a start", "nothing"])
def test_an_older_meta_makes_it_another_node_whatever_its_log_says(sync: str, power: bool, what: str) -> None:
    files = SimFiles(Random(1))
    store, first = open_store(files, sync=sync, promised=True)
    promised = replace(first.meta, promised=1)
    store.write_meta(promised)
    store.append(a_log(3))
    store.sync()
    files.kill()
    if what == "a doubt":
        files.corrupt(WATERMARK, 50)
        older = files.contents(META)
        assert open_store(files, sync=sync, promised=True)[1].suspect
    else:
        before = files.contents(META)
        store, _ = open_store(files, sync=sync, promised=True)
        older = before if what == "a start" else files.contents(META)
        if what in ("a promise", "a vote"):
            voted = replace(promised, voted_epoch=1, voted_for=7)
            store.write_meta(voted if what == "a vote" else replace(promised, promised=2))
    files.write_back()
    files.replace(META, older)
    if power:
        files.crash()
    else:
        files.kill()
    again, recovered = open_store(files, sync=sync, promised=True)
    if what == "nothing":
        assert (recovered.meta, again.last_seq) == (promised, 3)
        return
    assert recovered.meta.storage_id != first.meta.storage_id
    assert again.last_seq == 0 and again.set_aside == ("journal.damaged-1",)
    assert "meta.json is an older one, put back, or the disk lost a newer one: it is number" in again.findings[0]
    files.kill()
    assert open_store(files, sync=sync, promised=True)[1].meta == recovered.meta


def test_a_directory_whose_meta_and_watermark_have_no_turn_is_taken_over() -> None:
    files = SimFiles(Random(1))
    before = acknowledged(files)
    values = json.loads(files.contents(META))["meta"] | {"format": 2}
    del values["turn"]
    canonical = json.dumps(values, sort_keys=True, separators=(",", ":")).encode()
    digest = blake2b(canonical, digest_size=16).hexdigest()
    files.replace(META, json.dumps({"meta": values, "blake2b": digest}).encode())
    slots = files.contents(WATERMARK)
    as_they_were = [slots[at : at + 4] + b"\0\0\0\1" + slots[at + 8 : at + 64] for at in (0, SLOT_BYTES)]
    sealed = [slot + blake2b(slot, digest_size=16).digest() for slot in as_they_were]
    files.replace(WATERMARK, b"".join(slot.ljust(SLOT_BYTES, b"\0") for slot in sealed))
    old = {path: files.contents(path) for path in (META, WATERMARK)}
    for stop in range(12):  # cut short anywhere, too
        again = files.copy(Random(stop))
        again.stop_after(stop)
        with suppress(Stopped):
            open_store(again)
        again.kill()
        store, recovered = open_store(again)
        assert (recovered.meta.storage_id, recovered.suspect, store.last_seq) == (before, False, 20)
        again.kill()
        again.replace(META, old[META])
        assert open_store(again)[1].meta.storage_id != before, "from now on an older one is told"


@pytest.mark.parametrize("loss", ["gone", "empty", "zeros", "one slot", "another node's"])
def test_without_a_whole_watermark_it_is_a_suspect(loss: str) -> None:
    files = SimFiles(Random(1))
    before = acknowledged(files)
    if loss == "gone":
        files.unlink(WATERMARK)
    elif loss == "empty":
        files.replace(WATERMARK, b"")
    elif loss == "zeros":
        files.replace(WATERMARK, bytes(2 * SLOT_BYTES))
    elif loss == "one slot":
        files.corrupt(WATERMARK, 50)
    else:
        other = SimFiles(Random(2))
        other.syncs = 7  # draws another storage id
        acknowledged(other)
        files.replace(WATERMARK, other.contents(WATERMARK))
    store, recovered = open_store(files)
    assert (recovered.meta.storage_id, recovered.suspect, store.last_seq) == (before, True, 20)
    assert "acknowledged events may be missing" in store.findings[0]
    assert load_watermark(files, DATA).whole
    files.kill()
    store, recovered = open_store(files)
    assert recovered.suspect and not store.findings, "until its log is known whole"
    store.clear_suspect()
    files.kill()
    assert not open_store(files)[1].suspect


def test_a_watermark_lost_since_it_was_closed_in_order_makes_it_a_suspect() -> None:
    files = SimFiles(Random(1))
    before = acknowledged(files)
    open_store(files)[0].close()
    files.unlink(WATERMARK)
    _, recovered = open_store(files)
    assert (recovered.meta.storage_id, recovered.suspect) == (before, True)


def test_nothing_beyond_the_watermark_was_acknowledged() -> None:
    files = SimFiles(Random(1))
    before = acknowledged(files)
    store, _ = open_store(files)
    store.append(a_log(5, after=a_log(20)[-1]))
    files.kill()
    files.lose_tail(SEGMENT, len(files.contents(SEGMENT).rstrip(b"\0")) - 300, zeroed=True)
    store, recovered = open_store(files)
    assert (recovered.meta.storage_id, recovered.suspect) == (before, False)
    assert 20 <= store.last_seq < 25


def test_after_a_loss_of_power_unsynced_it_keeps_its_identity_and_is_a_suspect() -> None:
    files = SimFiles(Random(3))
    store, first = open_store(files, sync="os")
    store.append(a_log(5))
    store.cover()
    files.write_back()
    store.append(a_log(5, after=a_log(5)[-1]))
    store.cover()
    held = files.contents(WATERMARK)
    files.crash()
    files.replace(WATERMARK, held)  # which the disk took, and the journal's end it did not
    files.lose_tail(SEGMENT, HEADER_BYTES + 700, zeroed=True)
    _, recovered = open_store(files, sync="os")
    assert (recovered.meta.storage_id, recovered.suspect) == (first.meta.storage_id, True)


@pytest.mark.parametrize("seed", range(10))
def test_what_was_closed_in_order_is_durable_and_so_is_its_watermark(seed: int) -> None:
    files = SimFiles(Random(seed))
    store, first = open_store(files, sync="os")
    store.append(a_log(5))
    store.cover()
    store.close()
    files.crash()
    watermark = load_watermark(files, DATA).watermark
    assert watermark is not None and watermark.seq == 5
    copy = files.copy()
    assert open_store(copy, sync="os")[1].meta == first.meta
    files.lose_tail(SEGMENT, HEADER_BYTES + 200, zeroed=True)
    assert open_store(files, sync="os")[1].meta.storage_id != first.meta.storage_id


@pytest.mark.parametrize(("clean", "power"), [(True, True), (True, False), (False, False), (False, True)])
def test_a_directory_from_before_there_were_watermarks_is_taken_over(clean: bool, power: bool) -> None:
    files = SimFiles(Random(1))
    before = acknowledged(files)
    if clean:
        open_store(files)[0].close()
    meta = load_meta(files, DATA)
    assert meta is not None
    store_meta(files, DATA, replace(meta, watermarked=False))
    assert json.loads(files.contents(META))["meta"]["format"] == 1
    files.unlink(WATERMARK)
    files.fsync_dir(DATA)
    if power:
        files.crash()
    for stop in range(20):  # cut short anywhere, too
        again = files.copy(Random(stop))
        again.stop_after(stop)
        with suppress(Stopped):
            open_store(again)
        again.kill()
        store, recovered = open_store(again)
        assert (recovered.meta.storage_id, recovered.suspect) == (before, not clean)
        assert all_frames(store) == a_log(20)
        again.kill()
        assert open_store(again)[1].suspect is (not clean)
    files.lose_tail(SEGMENT, HEADER_BYTES + 700, zeroed=True)
    _, recovered = open_store(files)
    assert recovered.suspect or recovered.meta.storage_id != before


@pytest.mark.parametrize("name", [META, WATERMARK, SEGMENT])
def test_what_a_later_version_wrote_is_refused_and_stays(name: str) -> None:
    files = SimFiles(Random(1))
    acknowledged(files)
    data = bytearray(files.contents(name))
    if name == META:
        values = json.loads(data)["meta"] | {"format": 4, "new": "field"}
        canonical = json.dumps(values, sort_keys=True, separators=(",", ":")).encode()
        data[:] = json.dumps({"meta": values, "blake2b": blake2b(canonical, digest_size=16).hexdigest()}).encode()
    else:
        data[7 if name == WATERMARK else 11] = 9
        size = 72
        data[size : size + 16] = blake2b(data[:size], digest_size=16).digest()
    files.replace(name, bytes(data))
    with pytest.raises(EnvironmentProblem, match="later") as caught:
        open_store(files)
    assert "version of mcast that wrote it" in caught.value.remedy
    assert files.contents(name) == bytes(data)
    assert not [entry for entry in files.listdir(DATA) if "damaged" in entry]


@pytest.mark.parametrize("seed", range(8))
@pytest.mark.parametrize("stop", [None, *range(0, 16, 3)])
def test_a_directory_in_which_anything_was_promised_is_there_after_a_loss_of_power(seed: int, stop: int | None) -> None:
    files = SimFiles(Random(seed))
    if stop is not None:  # a first start that was cut short, after which nothing seems to be left to be made
        files.stop_after(stop)
        with suppress(Stopped):
            open_store(files)
        files.kill()
    store, first = open_store(files)
    store.append(a_log(3))
    store.sync()
    files.crash()
    _, recovered = open_store(files)
    assert (recovered.meta, recovered.frames) == (first.meta, tuple(a_log(3)))


@pytest.mark.parametrize("power", [True, False])
def test_an_identity_given_up_is_never_taken_again_wherever_its_replacement_is_cut_short(power: bool) -> None:
    for stop in range(60):
        files = SimFiles(Random(stop))
        before = acknowledged(files)  # the meta does not know what was synced
        files.corrupt(SEGMENT, HEADER_BYTES + 100)
        files.stop_after(stop)
        try:
            open_store(files)
        except Stopped:
            pass
        else:
            assert stop > 15
            return
        if power:
            files.crash()
        else:
            files.kill()
        store, recovered = open_store(files)
        assert recovered.meta.storage_id != before
        assert store.last_seq == 0 and "journal.damaged-1" in files.listdir(DATA)
    raise AssertionError("a start that never ends")


def test_the_watermark_of_real_files_is_synced_behind_the_journal(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store, _ = Store.open(RealFiles(), tmp_path / "n1", "lab", "n1")
    synced: list[str] = []

    def note(self: RealFiles, fd: int) -> None:
        synced.append(Path(f"/proc/self/fd/{fd}").resolve().name)

    monkeypatch.setattr(RealFiles, "fdatasync", note)
    store.append(a_log(2))
    assert store.sync() == 2
    assert synced == [segment_name(1), WATERMARK_NAME]
    assert store.sync() == 2 and synced == [segment_name(1), WATERMARK_NAME]
    store.truncate(1)
    assert synced[2] == WATERMARK_NAME and segment_name(1) in synced[3:]
    del synced[:]
    store.write_meta(replace(store.meta, promised=9))
    assert synced == [META_NAME + NEW, WATERMARK_NAME]
    monkeypatch.undo()
    store.close()


@pytest.mark.parametrize("what", ["raised", "lowered"])
def test_a_watermark_whose_sync_failed_is_not_synced_again(what: str) -> None:
    files = SimFiles(Random(1))
    store, _ = open_store(files)
    store.append(a_log(3))
    store.sync()
    store.append(a_log(2, after=a_log(3)[-1]))
    files.fail("fdatasync", errno.ENOSPC, after=what == "raised")
    for _ in range(2):
        with pytest.raises(DiskFailed, match="watermark"):
            if what == "raised":
                store.sync()
            else:
                store.truncate(1)
    assert store.last_seq == 5
    assert what == "lowered" or not store.covers(store.sync_begin())


def test_a_watermark_that_finds_no_room_is_written_later() -> None:
    files = SimFiles(Random(1))
    store, _ = open_store(files)
    store.append(a_log(3))
    files.fail("pwritev", errno.ENOSPC, times=2)
    for covered in (False, False, True):
        mark = store.sync_begin()
        assert store.sync_finish(mark) == 3
        assert store.covers(mark) is covered
    store.append(a_log(2, after=a_log(3)[-1]))
    files.fail("pwritev", errno.ENOSPC)
    with pytest.raises(DiskFull):
        store.cover()
    store.cover()
    assert store.covers(store.sync_begin())
    files.crash()
    assert load_watermark(files, DATA).whole
