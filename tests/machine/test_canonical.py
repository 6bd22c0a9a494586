"""Equal values have one encoding, different ones never share it, and it can be read back."""

import random
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mcast.machine.canonical import DEPTH_MAX, decode_plain, digest, encode_canonical, encode_ordered

_KEYS = st.one_of(st.text(max_size=4), st.integers(), st.binary(max_size=4), st.booleans(), st.none(),
                  st.tuples(st.integers(), st.text(max_size=2)))  # fmt: skip
PLAIN = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), st.floats(allow_nan=False), st.text(max_size=5),
              st.binary(max_size=5)),
    lambda inner: st.one_of(
        st.lists(inner, max_size=4), st.lists(inner, max_size=3).map(tuple), st.dictionaries(_KEYS, inner, max_size=4)
    ),
    max_leaves=12,
)  # fmt: skip


def shuffled(value: Any, draw: random.Random) -> Any:
    if isinstance(value, dict):
        items = [(key, shuffled(item, draw)) for key, item in value.items()]
        draw.shuffle(items)
        return dict(items)
    if isinstance(value, list | tuple):
        return type(value)([shuffled(item, draw) for item in value])
    return value


def typed(value: Any) -> Any:
    """The value with every type spelt out: 1, 1.0 and True are equal in Python, but not the same state."""
    if isinstance(value, dict):
        return {repr(typed(key)): typed(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [type(value).__name__, [typed(item) for item in value]]
    return (type(value).__name__, repr(value))


@given(PLAIN, st.randoms(use_true_random=False))
def test_the_order_of_insertion_leaves_no_trace(value: Any, draw: random.Random) -> None:
    assert encode_canonical(shuffled(value, draw)) == encode_canonical(value)


@given(PLAIN)
def test_what_is_encoded_reads_back_with_its_types(value: Any) -> None:
    assert typed(decode_plain(encode_canonical(value))) == typed(value)
    assert typed(decode_plain(encode_ordered(value))) == typed(value)


@given(PLAIN)
def test_a_snapshot_keeps_the_order_of_dicts(value: Any) -> None:
    assert repr(decode_plain(encode_ordered(value))) == repr(value)


@given(PLAIN, PLAIN)
def test_different_values_differ(one: Any, other: Any) -> None:
    assert (encode_canonical(one) == encode_canonical(other)) == (typed(one) == typed(other))


def test_the_encoding_is_pinned() -> None:
    value = {"b": [1, 2.5, None, True], "a": (b"x", 1 << 64), 3: {"é": -1}}
    assert encode_canonical(value).hex() == (
        "830381a2c3a9ffa161d80192c40178c70902010000000000000000a1629401cb4004000000000000c0c3"
    )
    assert digest([]).hex() == "7a9e3d48316709a334376b83e845f6fb"


def test_every_nan_is_the_same() -> None:
    negative = float.fromhex("nan") * -1
    assert encode_canonical([negative]) == encode_canonical([float("nan")])


@pytest.mark.parametrize("value", [{1}, frozenset(), object(), 1j, bytearray(b"x"), [{"a": {1}}], range(3)])
def test_what_has_no_order_or_no_plain_form_is_refused(value: object) -> None:
    with pytest.raises(TypeError, match="not plain data"):
        encode_canonical(value)


def test_subclasses_are_refused_since_reading_back_would_lose_them() -> None:
    with pytest.raises(TypeError, match="Sub is not plain"):
        encode_canonical(type("Sub", (dict,), {})())


def test_nesting_is_bounded() -> None:
    value: list[Any] = []
    for _ in range(DEPTH_MAX - 1):
        value = [value]
    assert decode_plain(encode_canonical(value)) == value
    with pytest.raises(ValueError, match="nested deeper"):
        encode_canonical([value])


@pytest.mark.parametrize("data", [b"", b"\xc1", b"\x92\x01", b"\x01\x01", b"\xd4\x63\x00", b"\x81\x90\x01"])
def test_other_bytes_are_refused(data: bytes) -> None:
    with pytest.raises(ValueError, match=r"."):
        decode_plain(data)
