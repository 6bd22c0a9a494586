"""The history of a run: one JSON line a call, as its client saw it. Everything the checks know comes from here.

Times are nanoseconds of one monotonic clock that all clients share: only then does "returned before the other was
invoked" mean anything.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any, Final, Literal

import msgspec

from mcast.errors import DecodeError
from mcast.wire.levels import Consistency

LINE_BYTES_MAX: Final = 16 << 20  # more than any command and its outcome take as JSON

CallKind = Literal["submit", "query"]
CallOutcome = Literal["ok", "rejected", "failed", "unknown", "not_sent", "refused", "not_yet"]
ANSWERED: Final = frozenset({"ok", "rejected", "failed"})
"""The result of the call is known, from its receipt or answer."""
DEFINITE: Final = frozenset({"not_sent", "refused", "not_yet"})
"""The call certainly had no effect."""


class RecordedCall(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """One call. `returned_ns` is None when it never came back; `seq` and what follows are what the answer said.

    Calls of one client with the same `batch` were submitted together, in the order of their `place`.
    `level` is what a query asked for, `served` what its answer claims.
    """

    client: str
    kind: CallKind
    name: str
    args: tuple[Any, ...]
    invoked_ns: int
    outcome: CallOutcome
    returned_ns: int | None = None
    value: Any = None
    error: str | None = None
    seq: int | None = None
    epoch: int | None = None
    node: str | None = None
    batch: int | None = None
    place: int = 0
    level: Consistency | None = None
    served: str | None = None
    min_seq: int = 0
    max_ms: float | None = None
    max_lag: int | None = None
    lag_ms: float | None = None
    lag_events: int | None = None

    @property
    def is_acknowledged(self) -> bool:
        """Whether it came back with a number."""
        return self.outcome in ANSWERED and self.seq is not None and self.returned_ns is not None

    def __str__(self) -> str:
        words = " ".join(_short(each) for each in (self.name, *self.args))
        where = "" if self.seq is None else f" at {self.seq}"
        return f"{self.client}: {self.level or 'submit'} {words} -> {self.outcome} {_short(self.value)}{where}"


def encode_call(call: RecordedCall) -> str:
    """The call's line, without its end."""
    return _ENCODER.encode(call).decode()


def read_calls_untrusted(lines: Iterable[str | bytes]) -> Iterator[RecordedCall]:
    """Every call of a history, in the order of its lines; empty lines are skipped.

    Raises:
        DecodeError: a line that is no call; says which. Calls before it have been given by then.
    """
    for number, line in enumerate(lines, 1):
        if len(line) > LINE_BYTES_MAX:
            raise DecodeError("bad history", f"line {number} is longer than {LINE_BYTES_MAX} bytes")
        if line.strip():
            try:
                yield _DECODER.decode(line)
            except (msgspec.DecodeError, UnicodeError, RecursionError) as error:
                raise DecodeError("bad history", f"line {number}: {error}") from None


def _short(value: Any) -> str:
    text = str(value)
    return text if len(text) <= _SHOWN else text[: _SHOWN - 3] + "..."


_SHOWN: Final = 60  # characters of one value in a finding
_ENCODER: Final = msgspec.json.Encoder()
_DECODER: Final = msgspec.json.Decoder(RecordedCall)
