"""Outcomes: what each command of a record came to, packed once and the same on every replica.

Bytes: msgpack `[[value, ...], {index: [kind, text]}]`; the value is nil where an index stands in the map. Kind 1 is
rejected: the handler's own words. Kind 2 is failed: only a name, since messages of unexpected errors hold addresses.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import Any, Final, Literal, NamedTuple

import msgpack

from mcast.errors import DecodeError, Rejected
from mcast.limits import FRAME_BODY_BYTES_MAX, OUTCOMES_BYTES_MAX, REJECTION_CHARS_MAX, TCP_MESSAGE_BYTES_MAX
from mcast.machine.canonical import canonical
from mcast.machine.plain import unpack

REJECTED: Final = 1
FAILED: Final = 2
UNPACKABLE: Final = "UnpackableValue"
TOO_LARGE: Final = "OutcomesTooLarge"

Errors = dict[int, list[Any]]


class Outcome(NamedTuple):
    """One command's outcome; `error` is the rejection's text or the failure's name, None when ok."""

    kind: Literal["ok", "rejected", "failed"]
    value: Any
    error: str | None


_HEADS_BYTES: Final = 11  # of the pair, the longest list and the longest map
_FAILURE_BYTES: Final = 32  # at most, of a command that failed for being TOO_LARGE or UNPACKABLE
assert _FAILURE_BYTES * FRAME_BODY_BYTES_MAX < OUTCOMES_BYTES_MAX < TCP_MESSAGE_BYTES_MAX, "any record's outcomes fit"
KINDS: Final[dict[int, Literal["rejected", "failed"]]] = {REJECTED: "rejected", FAILED: "failed"}
_PACKER: Final = msgpack.Packer()
_NOT_A_PAIR: Final = (ValueError, TypeError, OverflowError, RecursionError, msgpack.UnpackException)
NOTHING: Final[bytes] = _PACKER.pack([[], {}])
"""The outcomes of a NOOP: no command's, so that whoever filled a number can tell which of the two took effect."""


def encode_outcomes(values: list[Any], errors: Errors) -> bytes:
    """Pack a record's outcomes, in at most OUTCOMES_BYTES_MAX.

    Values without a msgpack form, or with no room left, become failures; texts with no room left become TOO_LARGE.
    """
    if not errors and values[-1] is None and values.count(None) == len(values):
        return nothing_returned(len(values))
    try:
        packed: bytes = _PACKER.pack([values, errors])
        if len(packed) <= OUTCOMES_BYTES_MAX:
            return packed
    except (TypeError, ValueError, OverflowError):
        pass
    _fail_unfit(values, errors)
    packed = _PACKER.pack([values, errors])
    return packed


def encode_outcomes_of_each(values: list[Any], errors: Errors, counts: Sequence[int]) -> list[bytes]:
    """Pack the outcomes of consecutive records of so many commands, each as `encode_outcomes` would."""
    if not errors and values.count(None) == len(values):
        return list(map(nothing_returned, counts))
    packed, start = [], 0
    for count in counts:
        end = start + count
        own = {index - start: errors[index] for index in range(start, end) if index in errors} if errors else {}
        packed.append(encode_outcomes(values[start:end], own))
        start = end
    return packed


@lru_cache(maxsize=256)
def nothing_returned(count: int) -> bytes:
    """The outcomes of so many commands that all were ok and returned None."""
    packed: bytes = _PACKER.pack([[None] * count, {}])
    return packed


def encode_failures(count: int, name: str) -> bytes:
    """Every one of `count` commands failed alike."""
    packed: bytes = _PACKER.pack([[None] * count, {index: [FAILED, name] for index in range(count)}])
    return packed


def settled(value: Any) -> Any:
    """A plain copy that later changes of the state can't reach, its dicts in canonical order.

    Raises:
        TypeError, ValueError, OverflowError: msgpack has no form for it.
    """
    return canonical(unpack(_PACKER.pack(value)))


def rejection_text(error: Rejected) -> str:
    """The author's words, bounded; only plain arguments, since others may print an address."""
    words = [str(word) for word in error.args if type(word) in (str, int, bool)]
    return " ".join(words)[:REJECTION_CHARS_MAX].encode(errors="replace").decode()


def decode_outcomes_untrusted(data: bytes | memoryview) -> list[Outcome]:
    """A record's outcomes, one a command, in order.

    Raises:
        DecodeError: not of the form that `encode_outcomes` gives.
    """
    values, errors = split_outcomes_untrusted(data)
    outcomes = [Outcome("ok", value, None) for value in values]
    for index, (kind, text) in errors.items():
        outcomes[index] = Outcome(KINDS[kind], None, text)
    return outcomes


def split_outcomes_untrusted(data: bytes | memoryview, count: int | None = None) -> tuple[list[Any], Errors]:
    """A record's values, `count` of them if that is known, and its errors by index.

    Raises:
        DecodeError: not that many, or not of the form that `encode_outcomes` gives.
    """
    if len(data) > TCP_MESSAGE_BYTES_MAX:
        raise DecodeError("outcomes too long", str(len(data)))
    try:
        values, errors = unpack(data)
    except _NOT_A_PAIR as error:
        raise DecodeError("bad outcomes", type(error).__name__) from None
    if type(values) is not list or (count is not None and len(values) != count):
        raise DecodeError("bad outcomes", "no list with a value for each command")
    return values, errors if errors == {} else _checked(errors, len(values))


def errors_untrusted(data: bytes, count: int) -> Errors:
    """The errors alone, of `count` commands: their values are skipped, neither unpacked nor checked.

    Raises:
        DecodeError: not a pair, or errors that are not what `encode_outcomes` gives.
    """
    unpacker = msgpack.Unpacker(strict_map_key=False, max_buffer_size=TCP_MESSAGE_BYTES_MAX)
    try:
        unpacker.feed(data)
        if unpacker.read_array_header() != 2:
            raise DecodeError("bad outcomes", "not a pair")
        unpacker.skip()
        errors = unpacker.unpack()
    except _NOT_A_PAIR as error:
        raise DecodeError("bad outcomes", type(error).__name__) from None
    return _checked(errors, count)


def _checked(errors: Any, count: int) -> Errors:
    if type(errors) is not dict or not all(
        type(index) is int and 0 <= index < count
        and type(pair) is list and len(pair) == 2 and type(pair[0]) is int and pair[0] in KINDS and type(pair[1]) is str
        for index, pair in errors.items()
    ):  # fmt: skip
        raise DecodeError("bad outcomes", "malformed errors")
    return errors


def _fail_unfit(values: list[Any], errors: Errors) -> None:
    """First come, first served; but every command has at least room for its failure."""
    room = OUTCOMES_BYTES_MAX - _HEADS_BYTES - _FAILURE_BYTES * len(values)
    for index, value in enumerate(values):
        error = errors.get(index)
        try:
            size = len(_PACKER.pack(value)) if error is None else len(_PACKER.pack({index: error}))
        except (TypeError, ValueError, OverflowError):
            values[index] = None
            errors[index] = [FAILED, UNPACKABLE]
            continue
        more = max(0, size - _FAILURE_BYTES)
        if more <= room:
            room -= more
        else:
            values[index] = None
            errors[index] = [FAILED if error is None else error[0], TOO_LARGE]
