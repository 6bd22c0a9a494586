"""The history's lines: what is written is read again, and nothing else is taken for a call."""

from __future__ import annotations

import pytest

from mcast.errors import DecodeError
from mcast.history.calls import RecordedCall, encode_call, read_calls_untrusted

CALL = RecordedCall(
    client="c1", kind="query", name="scan", args=("", 2), invoked_ns=5, returned_ns=9, outcome="ok",
    value=[["k", {"a": [1, None, 2.5]}]], seq=3, epoch=1, node="n2", level="bounded", served="bounded", max_ms=50.0,
    lag_ms=1.25,
)  # fmt: skip


def test_a_call_survives_its_line() -> None:
    lost = RecordedCall(client="c1", kind="submit", name="incr", args=("k", -1), invoked_ns=7, outcome="unknown")
    assert list(read_calls_untrusted([encode_call(CALL), "\n", encode_call(lost).encode()])) == [CALL, lost]


@pytest.mark.parametrize(
    "line",
    ["{", "[]", "{}", '{"client": 1}', encode_call(CALL).replace('"ok"', '"fine"'), encode_call(CALL)[:-1] + ',"x":1}',
     "[" * 5_000, b"\xff\xfe"],
    ids=["cut", "list", "empty", "type", "outcome", "unknown", "deep", "bytes"],
)  # fmt: skip
def test_another_line_is_refused_by_its_number(line: str | bytes) -> None:
    calls = read_calls_untrusted([encode_call(CALL), line])
    assert next(calls) == CALL
    with pytest.raises(DecodeError, match="line 2"):
        next(calls)


def test_a_call_is_told_in_a_few_words() -> None:
    assert str(CALL) == "c1: bounded scan  2 -> ok [['k', {'a': [1, None, 2.5]}]] at 3"
