import json
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mcast.errors import DecodeError
from mcast.protocol.effects import Meta
from mcast.sim.disk import SimFiles, Stopped
from mcast.storage.meta import (
    META_BYTES_MAX,
    DirectoryMeta,
    _checksum,
    decode_meta_untrusted,
    encode_meta,
    kernel_boot_id,
    load_meta,
    store_meta,
)


def a_meta(promised: int = 5) -> DirectoryMeta:
    return DirectoryMeta(
        cluster="läb",
        node="n1",
        meta=Meta(bytes(range(16)), promised, 4, (1 << 64) - 1),
        boot_id="b",
        sync="os",
        clean=True,
        synced_seq=99,
        suspect=False,
        turn=7,
    )


def test_it_comes_back() -> None:
    assert decode_meta_untrusted(encode_meta(a_meta())) == a_meta()


def test_an_operator_can_read_it() -> None:
    shown = json.loads(encode_meta(a_meta()))["meta"]
    assert (shown["cluster"], shown["promised"], shown["storage_id"]) == ("läb", 5, bytes(range(16)).hex())


def test_any_changed_byte_is_noticed_or_means_the_same() -> None:
    data = encode_meta(a_meta())
    for at in range(len(data)):
        changed = bytearray(data)
        changed[at] ^= 2
        try:
            assert decode_meta_untrusted(bytes(changed)) == a_meta()
        except DecodeError:
            continue


@given(
    st.binary(max_size=300)
    | st.recursive(st.none() | st.integers() | st.text(), st.lists).map(
        lambda value: json.dumps({"meta": value, "blake2b": ""}).encode()
    )
)
def test_it_decodes_or_raises_decode_error(data: bytes) -> None:
    with pytest.raises(DecodeError):
        decode_meta_untrusted(data)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("format", 0), ("format", 4), ("storage_id", "00"), ("storage_id", "x" * 32), ("promised", -1),
        ("promised", 1 << 63), ("promised", True), ("voted_epoch", "1"), ("voted_for", 1 << 64), ("synced_seq", -1),
        ("sync", "never"), ("clean", 1), ("cluster", None), ("extra", 1),
    ],
)  # fmt: skip
def test_a_value_out_of_range_is_refused_whatever_its_checksum(field: str, value: object) -> None:
    values = json.loads(encode_meta(a_meta()))["meta"]
    values[field] = value
    with pytest.raises(DecodeError):
        decode_meta_untrusted(json.dumps({"meta": values, "blake2b": _checksum(values)}).encode())


def test_too_much_is_refused_before_it_is_parsed() -> None:
    with pytest.raises(DecodeError, match="too long"):
        decode_meta_untrusted(encode_meta(a_meta()) + b" " * META_BYTES_MAX)


@pytest.mark.parametrize("stop", range(7))
@pytest.mark.parametrize("power", [True, False])
def test_it_is_replaced_whole_or_not_at_all(stop: int, power: bool) -> None:
    files = SimFiles(Random(stop))
    files.mkdir("/d")
    files.write_back()
    assert load_meta(files, "/d") is None
    store_meta(files, "/d", a_meta(1))
    files.stop_after(stop)
    done = False
    try:
        store_meta(files, "/d", a_meta(2))
        done = True
    except Stopped:
        pass
    if power:
        files.crash()
    else:
        files.kill()
    assert load_meta(files, "/d") in ([a_meta(2)] if done else [a_meta(1), a_meta(2)])
    assert done == (stop >= 5)


def test_the_kernel_names_its_run() -> None:
    assert kernel_boot_id() == kernel_boot_id()
