from random import Random

import pytest

from mcast.sim.disk import SECTOR_BYTES, SimFiles, Stopped

SECTORS = 8


def written(seed: int, *, sync: bool) -> SimFiles:
    """A file of 'a's, made durable, then overwritten with 'b's and longer."""
    files = SimFiles(seed)
    fd = files.open("/f", create=True)
    files.pwritev(fd, [b"a" * SECTOR_BYTES * SECTORS], 0)
    files.fdatasync(fd)
    files.fsync_dir("/")
    files.pwritev(fd, [b"b" * SECTOR_BYTES * 2 * SECTORS], 0)
    if sync:
        files.fdatasync(fd)
    return files


def sectors(files: SimFiles) -> str:
    data = files.contents("/f")
    return "".join(chr(data[at]) for at in range(0, len(data), SECTOR_BYTES))


def test_synced_writes_survive_the_power() -> None:
    for seed in range(20):
        files = written(seed, sync=True)
        files.crash()
        assert sectors(files) == "b" * 2 * SECTORS


def test_unsynced_writes_survive_the_process() -> None:
    files = written(1, sync=False)
    files.kill()
    assert sectors(files) == "b" * 2 * SECTORS


def test_of_unsynced_writes_any_sectors_survive_the_power() -> None:
    found = set()
    for seed in range(60):
        files = written(seed, sync=False)
        files.crash()
        found.add(sectors(files))
    assert "a" * SECTORS in found and "b" * 2 * SECTORS in found
    assert any("ab" in one[:SECTORS] and "ba" in one[:SECTORS] for one in found), "torn in the middle"
    assert all(set(one[:SECTORS]) <= {"a", "b"} and set(one[SECTORS:]) <= {"b", "\0"} for one in found)


def test_the_same_seed_loses_the_same() -> None:
    def run(seed: int) -> bytes:
        files = written(seed, sync=False)
        files.crash()
        return files.contents("/f")

    assert [run(seed) for seed in range(10)] == [run(seed) for seed in range(10)]


def test_later_writes_may_survive_without_earlier_ones() -> None:
    found = set()
    for seed in range(80):
        files = SimFiles(seed)
        fd = files.open("/f", create=True)
        files.fsync_dir("/")
        files.pwritev(fd, [b"1" * SECTOR_BYTES], 0)
        files.pwritev(fd, [b"2" * SECTOR_BYTES], SECTOR_BYTES)
        files.crash()
        found.add(sectors(files))
    assert {"", "1", "12", "\x002"} <= found


@pytest.mark.parametrize("sync", [True, False])
def test_a_cut_survives_when_synced(sync: bool) -> None:
    found = set()
    for seed in range(20):
        files = written(seed, sync=True)
        fd = files.open("/f")
        files.ftruncate(fd, SECTOR_BYTES)
        files.ftruncate(fd, 3 * SECTOR_BYTES)
        if sync:
            files.fdatasync(fd)
        files.crash()
        found.add(sectors(files))
    assert "b\0\0" in found
    assert (found == {"b\0\0"}) == sync
    assert sync or "b" * 2 * SECTORS in found


@pytest.mark.parametrize("sync", [True, False])
def test_names_survive_when_their_directory_is_synced(sync: bool) -> None:
    found = set()
    for seed in range(40):
        files = SimFiles(seed)
        for name in ("/a", "/b"):
            fd = files.open(name, create=True)
            files.pwritev(fd, [name.encode()], 0)
            files.fdatasync(fd)
        files.fsync_dir("/")
        files.rename("/a", "/b")
        files.open("/c", create=True)
        if sync:
            files.fsync_dir("/")
        files.crash()
        found.add((*files.listdir("/"), files.contents("/b")))
    after = ("b", "c", b"/a")
    assert after in found
    assert (found == {after}) == sync
    assert sync or {("a", "b", b"/b"), ("a", "b", "c", b"/b"), ("b", b"/a")} <= found


def test_a_crash_is_another_boot_and_ends_descriptors_and_locks() -> None:
    files = SimFiles(1)
    fd = files.open("/f", create=True)
    files.lock("/lock", "me")
    boot = files.read_boot_id()
    files.kill()
    assert files.read_boot_id() == boot
    with pytest.raises(OSError, match="Bad file descriptor"):
        files.pread(fd, 1, 0)
    files.lock("/lock", "me")
    files.crash()
    assert files.read_boot_id() != boot


@pytest.mark.parametrize("size", [9, 2_000])
def test_a_write_in_progress_stops_part_way_but_never_within_a_sector(size: int) -> None:
    lengths = set()
    for seed in range(30):
        files = SimFiles(seed)
        fd = files.open("/f", create=True)
        files.stop_after(1)
        files.pwritev(fd, [b"x"], 0)
        with pytest.raises(Stopped):
            files.pwritev(fd, [b"y" * size], 1)
        lengths.add(len(files.contents("/f")))
        assert files.contents("/f").rstrip(b"y") == b"x"
    assert lengths == {1, 10} if size == 9 else len(lengths) > 20


def test_corruption_is_durable() -> None:
    files = written(1, sync=False)
    files.corrupt("/f", 5, flip=1)
    assert files.contents("/f")[5] == ord("b") ^ 1
    synced = written(1, sync=True)
    synced.corrupt("/f", 5, flip=1, size=2)
    synced.crash()
    assert synced.contents("/f")[4:8] == bytes([ord("b"), ord("b") ^ 1, ord("b") ^ 1, ord("b")])


def test_a_copy_shares_nothing() -> None:
    files = written(1, sync=True)
    other = files.copy(Random(2))
    files.corrupt("/f", 0)
    assert sectors(other) == "b" * 2 * SECTORS
    assert other.listdir("/") == files.listdir("/")


def test_an_empty_machine_can_lose_its_power() -> None:
    files = SimFiles(1)
    files.crash()
    assert files.listdir("/") == []


def test_what_the_kernel_wrote_back_survives_the_power() -> None:
    for seed in range(20):
        files = written(seed, sync=False)
        files.write_back()
        files.crash()
        assert sectors(files) == "b" * 2 * SECTORS
