"""Outcomes are packed once, bounded, and what can't be packed is a failure rather than a crash."""

import contextlib
from typing import Any

import msgpack
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mcast.errors import DecodeError, Rejected
from mcast.limits import FRAME_BODY_BYTES_MAX, OUTCOMES_BYTES_MAX, REJECTION_CHARS_MAX
from mcast.machine.outcomes import (
    FAILED,
    NOTHING,
    REJECTED,
    TOO_LARGE,
    UNPACKABLE,
    Outcome,
    decode_outcomes_untrusted,
    encode_failures,
    encode_outcomes,
    errors_untrusted,
    rejection_text,
    settled,
    split_outcomes_untrusted,
)


def test_values_rejections_and_failures_come_back() -> None:
    packed = encode_outcomes([1, None, None], {1: [REJECTED, "no"], 2: [FAILED, "KeyError"]})
    assert decode_outcomes_untrusted(packed) == [
        Outcome("ok", 1, None), Outcome("rejected", None, "no"), Outcome("failed", None, "KeyError"),
    ]  # fmt: skip


def test_the_bytes_are_pinned() -> None:
    assert encode_outcomes([7, None], {1: [1, "no"]}).hex() == "929207c081019201a26e6f"
    assert NOTHING.hex() == "929080"
    assert encode_failures(1, "X") == msgpack.packb([[None], {0: [2, "X"]}])


def test_only_the_unpackable_values_of_a_record_fail() -> None:
    packed = encode_outcomes([1, 1 << 64, "\ud800", "fine"], {})
    assert [outcome.error for outcome in decode_outcomes_untrusted(packed)] == [None, UNPACKABLE, UNPACKABLE, None]


def test_values_beyond_the_bound_fail_and_smaller_ones_after_them_do_not() -> None:
    large = bytes(OUTCOMES_BYTES_MAX // 2)
    packed = encode_outcomes([large, large, 3], {})
    assert [outcome.error for outcome in decode_outcomes_untrusted(packed)] == [None, TOO_LARGE, None]
    assert len(packed) < OUTCOMES_BYTES_MAX


@pytest.mark.parametrize("letter", ["x", "\U0001f6eb"])
def test_rejections_stay_rejections_and_their_texts_are_bounded_in_all(letter: str) -> None:
    count, text = 20_000, letter * REJECTION_CHARS_MAX
    packed = encode_outcomes([None] * count, {index: [REJECTED, text] for index in range(count)})
    assert len(packed) <= OUTCOMES_BYTES_MAX
    outcomes = decode_outcomes_untrusted(packed)
    assert {outcome.kind for outcome in outcomes} == {"rejected"}
    texts = [outcome.error for outcome in outcomes]
    kept = texts.count(text)
    assert texts == [text] * kept + [TOO_LARGE] * (count - kept)
    assert kept > (OUTCOMES_BYTES_MAX - 32 * count) // len(text.encode()) * 0.9


@pytest.mark.parametrize("name", ["DecodeError", TOO_LARGE, "N" * 300])
def test_no_record_that_fits_a_frame_has_outcomes_beyond_the_bound(name: str) -> None:
    large = bytes(OUTCOMES_BYTES_MAX - FRAME_BODY_BYTES_MAX * 8)
    for values in ([large, *[None] * (FRAME_BODY_BYTES_MAX - 1)], [None] * FRAME_BODY_BYTES_MAX):
        errors = {index: [FAILED, name] for index, value in enumerate(values) if value is None}
        assert len(encode_outcomes(values, errors)) <= OUTCOMES_BYTES_MAX


def test_a_rejection_keeps_the_authors_words_bounded_and_nothing_that_could_hold_an_address() -> None:
    assert rejection_text(Rejected("only", 3, object())) == "only 3"
    assert rejection_text(Rejected("x" * 5000)) == "x" * REJECTION_CHARS_MAX
    assert rejection_text(Rejected("\ud800")) == "?"


@pytest.mark.parametrize(
    "text", ["", "c0", "9290", "92910181059201a0", "92910181009207a0", "920580", "92910181009101"]
)  # fmt: skip
def test_other_bytes_are_refused(text: str) -> None:
    with pytest.raises(DecodeError):
        decode_outcomes_untrusted(bytes.fromhex(text))


@pytest.mark.parametrize(
    "outcomes",
    [
        ["ab", {}], [{0: 1}, {}], [None, {}], [[1], [[0, [1, "x"]]]], [[1], {0: {1: "x"}}], [[1], {0: [1, "x", 2]}],
        [[1], {-1: [2, "X"]}], [[1], {1: [2, "X"]}], [[1], {False: [2, "X"]}], [[1], {"0": [2, "X"]}],
        [[1], {0: [3, "x"]}], [[1], {0: [True, "x"]}], [[1], {0: [1.0, "x"]}], [[1], {0: [[], "x"]}],
        [[1], {0: [1, None]}], [[1], {0: [1, b"x"]}], [[1], {0: [2, 7]}], [[msgpack.ExtType(5, b"x")], {}],
    ],
    ids=str,
)  # fmt: skip
def test_lists_and_errors_of_another_form_are_refused(outcomes: list[Any]) -> None:
    packed = msgpack.packb(outcomes)
    with pytest.raises(DecodeError):
        decode_outcomes_untrusted(packed)
    if outcomes[1]:
        with pytest.raises(DecodeError):
            errors_untrusted(packed, 1)


def test_a_timestamp_is_a_value() -> None:
    assert decode_outcomes_untrusted(encode_outcomes([msgpack.Timestamp(1, 2)], {}))[0].value == msgpack.Timestamp(1, 2)


@given(st.binary(max_size=40))
def test_garbage_raises_decode_error_only(data: bytes) -> None:
    with contextlib.suppress(DecodeError):
        decode_outcomes_untrusted(data)
    with contextlib.suppress(DecodeError):
        errors_untrusted(data, 3)


@given(
    st.lists(st.one_of(st.none(), st.integers(0, 9), st.text(max_size=3)), min_size=1, max_size=5),
    st.dictionaries(st.integers(0, 4), st.tuples(st.sampled_from([REJECTED, FAILED]), st.text(max_size=3)).map(list)),
)
def test_errors_can_be_had_without_the_values(values: list[Any], errors: dict[int, list[Any]]) -> None:
    errors = {index: error for index, error in errors.items() if index < len(values)}
    packed = encode_outcomes(values, dict(errors))
    assert errors_untrusted(packed, len(values)) == split_outcomes_untrusted(packed)[1] == errors


def test_a_settled_value_is_a_copy_in_canonical_order() -> None:
    state = {"b": [1], "a": {"d": 1, "c": 2}}
    copy = settled(state)
    state["b"].append(2)  # type: ignore[attr-defined]
    assert copy == {"a": {"c": 2, "d": 1}, "b": [1]}
    assert list(copy) == ["a", "b"] and list(copy["a"]) == ["c", "d"]
