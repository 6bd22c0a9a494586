"""The file that keeps what a journal came to: whole or not at all, and never believed when it is damaged."""

import json
from pathlib import Path

import pytest

from mcast.errors import DecodeError
from mcast.storage.files import RealFiles
from mcast.storage.results import (
    RESULTS_NAME,
    KeptResults,
    decode_results_untrusted,
    encode_results,
    load_results,
    store_results,
)

KEPT = KeptResults({"machine": "m:M", "formats": {"wire": 2}}, ((7, b"a" * 16, b"b" * 16), (9, b"c" * 16, b"d" * 16)))


def test_what_is_stored_is_loaded(tmp_path: Path) -> None:
    files = RealFiles()
    assert load_results(files, str(tmp_path)) is None
    store_results(files, str(tmp_path), KEPT)
    store_results(files, str(tmp_path), KEPT)
    assert load_results(files, str(tmp_path)) == KEPT
    assert [path.name for path in tmp_path.iterdir()] == [RESULTS_NAME]


def test_nothing_else_is_believed() -> None:
    good = encode_results(KEPT)
    for at in range(0, len(good) - 1, 7):
        with pytest.raises(DecodeError):
            decode_results_untrusted(good[:at] + bytes([good[at] ^ 1]) + good[at + 1 :])
    document = json.loads(good)
    for bad in (b"", b"[]", b"{}", b"\xff", json.dumps({**document, "results": 7}).encode(), good * 1_000):
        with pytest.raises(DecodeError):
            decode_results_untrusted(bad)
    with pytest.raises(DecodeError):
        decode_results_untrusted(encode_results(KeptResults({}, ((0, b"", b""),))))
