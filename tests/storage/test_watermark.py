import errno
from hashlib import blake2b
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mcast.errors import DecodeError, NewerFormat
from mcast.sim.disk import SimFiles, Stopped
from mcast.storage.watermark import (
    SLOT_BYTES,
    WATERMARK_NAME,
    FoundWatermark,
    Watermark,
    decode_slot_untrusted,
    load_watermark,
    open_watermark,
)

PATH = f"/d/{WATERMARK_NAME}"
ID = bytes(range(16))


def at(seq: int) -> Watermark:
    return Watermark(ID, 3, seq, bytes([seq]) * 16, 40 + seq)


def a_disk(seed: int = 1) -> SimFiles:
    files = SimFiles(Random(seed))
    files.mkdir("/d")
    files.write_back()
    return files


def test_there_is_none_at_first_and_then_what_was_written_last() -> None:
    files = a_disk()
    assert load_watermark(files, "/d") == FoundWatermark(None, whole=False)
    file = open_watermark(files, "/d", at(1))
    for seq in (2, 3, 4):
        assert load_watermark(files, "/d").watermark == file.written == at(seq - 1)
        file.write(at(seq))
    file.replace(at(2))
    file.close()
    found = load_watermark(files, "/d")
    assert (found.watermark, found.whole) == (at(2), True)
    again = open_watermark(files, "/d", at(7))
    again.write(at(8))
    assert load_watermark(files, "/d").watermark == at(8)


def test_a_write_leaves_the_one_before_as_it_was() -> None:
    files = a_disk()
    file = open_watermark(files, "/d", at(1))
    for seq in range(2, 7):
        file.write(at(seq))
        slots = [files.contents(PATH)[place * SLOT_BYTES :][:88] for place in (0, 1)]
        assert sorted(decode_slot_untrusted(slot)[1].seq for slot in slots) == [seq - 1, seq]


def test_the_bytes_are_what_the_page_says() -> None:
    files = a_disk()
    open_watermark(files, "/d", at(1)).replace(at(9))
    data = files.contents(PATH)
    assert len(data) == 2 * SLOT_BYTES
    slot = data[: data.index(bytes(100))]
    turn = slot[8:16]
    numbers = [number.to_bytes(8, "big") for number in (3, 9, 49)]
    assert slot[:72] == b"mcwm\0\0\0\2" + turn + ID + numbers[0] + numbers[1] + b"\x09" * 16 + numbers[2]
    assert slot[72:88] == blake2b(slot[:72], digest_size=16).digest()
    assert data[SLOT_BYTES : SLOT_BYTES + 4] == b"mcwm"


@pytest.mark.parametrize("power", [True, False])
@pytest.mark.parametrize("stop", range(12))
def test_whatever_cuts_a_write_short_the_one_before_still_stands(stop: int, power: bool) -> None:
    files = a_disk(stop)
    file = open_watermark(files, "/d", at(1))
    files.stop_after(stop)
    done = 1
    with pytest.raises(Stopped):
        while True:
            file.replace(at(done + 1))
            done += 1
    if power:
        files.crash()
    else:
        files.kill()
    found = load_watermark(files, "/d")
    assert found.whole and found.watermark in (at(done), at(done + 1))


@pytest.mark.parametrize("stop", range(8))
@pytest.mark.parametrize("loss", ["all", "one slot"])
def test_one_made_anew_is_there_as_a_whole_or_not_at_all(stop: int, loss: str) -> None:
    files = a_disk(stop)
    open_watermark(files, "/d", at(5)).replace(at(6))
    if loss == "all":
        files.unlink(PATH)
        files.fsync_dir("/d")
    else:
        files.corrupt(PATH, 20)
    before = load_watermark(files, "/d")
    files.stop_after(stop)
    try:
        open_watermark(files, "/d", at(2))
    except Stopped:
        files.crash()
        assert load_watermark(files, "/d") in (
            before,
            FoundWatermark(at(2), whole=True, turn=load_watermark(files, "/d").turn),
        )
    else:
        files.crash()
        assert load_watermark(files, "/d").watermark == at(2)


def test_a_write_that_failed_is_repeated_in_its_place() -> None:
    files = a_disk()
    file = open_watermark(files, "/d", at(1))
    for seq in range(2, 6):
        files.fail("pwritev", errno.ENOSPC, times=3)
        for _ in range(3):
            with pytest.raises(OSError, match="No space"):
                file.replace(at(seq))
            assert file.written == at(seq - 1)
        files.mend()
        slots = [files.contents(PATH)[place * SLOT_BYTES :][:88] for place in (0, 1)]
        assert at(seq - 1) in [decode_slot_untrusted(slot)[1] for slot in slots], "the one before was overwritten"
        file.replace(at(seq))
        assert load_watermark(files, "/d").watermark == at(seq)


@pytest.mark.parametrize("place", [0, 1])
@pytest.mark.parametrize("offset", [0, 5, 15, 20, 35, 44, 50, 70, 87])
def test_a_slot_that_is_not_whole_is_told(place: int, offset: int) -> None:
    files = a_disk()
    file = open_watermark(files, "/d", at(5))
    file.replace(at(6))
    files.corrupt(PATH, place * SLOT_BYTES + offset)
    found = load_watermark(files, "/d")
    assert found.watermark in (at(5), at(6)) and not found.whole
    files.corrupt(PATH, (1 - place) * SLOT_BYTES + 70)
    assert load_watermark(files, "/d") == FoundWatermark(None, whole=False)


@given(st.binary(max_size=100))
def test_it_decodes_or_raises_decode_error(data: bytes) -> None:
    with pytest.raises(DecodeError):
        decode_slot_untrusted(data)


@pytest.mark.parametrize(("offset", "value", "later"), [(7, 3, True), (7, 0, False), (0, 9, False), (40, 0xFF, False)])
def test_what_is_sound_but_not_ours_is_refused(offset: int, value: int, later: bool) -> None:
    files = a_disk()
    open_watermark(files, "/d", at(1))
    slot = bytearray(files.contents(PATH)[:72])
    slot[offset] = value
    data = bytes(slot) + blake2b(slot, digest_size=16).digest()
    with pytest.raises(NewerFormat if later else DecodeError):
        decode_slot_untrusted(data)
    files.replace(PATH, data)
    if later:
        with pytest.raises(NewerFormat):
            load_watermark(files, "/d")
