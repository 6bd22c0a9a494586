"""Outcomes: what each command of a record came to, packed once and the same on every replica.

Bytes: msgpack `[[value, ...], {index: [kind, text]}]`; the value is nil where an index stands in the map. Kind 1 is
rejected: the handler's own words. Kind 2 is failed: only a name, since messages of unexpected errors hold addresses.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any, Final, Literal, NamedTuple

import msgpack

from mcast.errors import DecodeError, Rejected
from mcast.limits import OUTCOMES_BYTES_MAX, REJECTION_CHARS_MAX, TCP_MESSAGE_BYTES_MAX
from mcast.machine.canonical import canonical

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


_KINDS: Final[dict[int, Literal["rejected", "failed"]]] = {REJECTED: "rejected", FAILED: "failed"}
_PACKER: Final = msgpack.Packer()
NOTHING: Final[bytes] = _PACKER.pack([[], {}])
"""The outcomes of a NOOP: no command's, so that whoever filled a number can tell which of the two took effect."""


def encode_outcomes(values: list[Any], errors: Errors) -> bytes:
    """Pack a record's outcomes. Values without a msgpack form, or beyond OUTCOMES_BYTES_MAX in all, become failures."""
    if not errors and values[-1] is None and values.count(None) == len(values):
        return _nothing_returned(len(values))
    try:
        packed: bytes = _PACKER.pack([values, errors])
        if len(packed) <= OUTCOMES_BYTES_MAX:
            return packed
    except (TypeError, ValueError, OverflowError):
        pass
    _fail_unfit(values, errors)
    packed = _PACKER.pack([values, errors])
    return packed


@lru_cache(maxsize=256)
def _nothing_returned(count: int) -> bytes:
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
    return canonical(msgpack.unpackb(_PACKER.pack(value), strict_map_key=False, ext_hook=_no_extension))


def rejection_text(error: Rejected) -> str:
    """The author's words, bounded; only plain arguments, since others may print an address."""
    words = [str(word) for word in error.args if type(word) in (str, int, bool)]
    return " ".join(words)[:REJECTION_CHARS_MAX].encode(errors="replace").decode()


def decode_outcomes_untrusted(data: bytes | memoryview) -> list[Outcome]:
    """A record's outcomes, one a command, in order.

    Raises:
        DecodeError: not what `encode_outcomes` gives.
    """
    if len(data) > TCP_MESSAGE_BYTES_MAX:
        raise DecodeError("outcomes too long", str(len(data)))
    try:
        values, errors = msgpack.unpackb(data, strict_map_key=False)
        outcomes = [Outcome("ok", value, None) for value in values]
        for index, (kind, text) in errors.items():
            outcomes[index] = Outcome(_KINDS[kind], None, str(text))
    except (TypeError, ValueError, LookupError, AttributeError, msgpack.UnpackException) as error:
        raise DecodeError("bad outcomes", type(error).__name__) from None
    return outcomes


def _fail_unfit(values: list[Any], errors: Errors) -> None:
    total = 0
    for index, value in enumerate(values):
        try:
            size = len(_PACKER.pack(value))
        except (TypeError, ValueError, OverflowError):
            values[index] = None
            errors[index] = [FAILED, UNPACKABLE]
            continue
        if total + size > OUTCOMES_BYTES_MAX:
            values[index] = None
            errors[index] = [FAILED, TOO_LARGE]
            continue
        total += size


def _no_extension(code: int, _data: bytes) -> Any:
    raise ValueError(f"extension type {code}")
