"""Hypothesis strategies for everything on the wire, read off the messages' own annotations."""

from dataclasses import fields
from functools import cache
from struct import Struct
from typing import Annotated, Any, get_args, get_origin, get_type_hints

from hypothesis import strategies as st

from mcast.limits import EPOCH_MAX, NAME_BYTES_MAX, SEQ_MAX
from mcast.wire.envelope import SEALED, UNICAST, Envelope
from mcast.wire.frame import TIME_MAX_NS, make_frame
from mcast.wire.messages import Range
from mcast.wire.records import RecordKind, encode_record

U64 = st.integers(0, 2**64 - 1)
BYTES16 = st.binary(min_size=16, max_size=16)
NAMES = st.text(st.characters(codec="utf-8"), max_size=NAME_BYTES_MAX // 3).filter(
    lambda text: len(text.encode()) <= NAME_BYTES_MAX
)

envelopes = st.builds(
    Envelope, kind=st.integers(0, 255), channel=st.integers(0, UNICAST), flags=st.integers(0, SEALED), to=U64,
    sender=U64, incarnation=BYTES16, counter=st.integers(1, 2**64 - 1), promised=st.integers(0, EPOCH_MAX),
)  # fmt: skip

seqs = st.integers(1, SEQ_MAX // 2)
frames = st.builds(
    lambda epoch, first, count, commit, time, before, body: make_frame(
        epoch, first, min(count, len(body)), min(commit, first - 1), time, before, body
    ),
    st.integers(0, EPOCH_MAX), seqs, st.integers(1, 40), st.integers(0, SEQ_MAX), st.integers(0, TIME_MAX_NS), BYTES16,
    st.binary(min_size=1, max_size=200),
)  # fmt: skip

records = st.builds(
    lambda kind, count, session, request, waits, payload: encode_record(
        kind, min(count, len(payload)) or 1 if kind == RecordKind.COMMANDS else 1, session, request,
        max(0, request - waits), payload,
    ),
    st.sampled_from(RecordKind), st.integers(1, 5), st.integers(0, SEQ_MAX), st.integers(0, SEQ_MAX - 5),
    st.integers(0, 300), st.binary(min_size=1, max_size=60),
)  # fmt: skip


@cache
def messages(message: type) -> st.SearchStrategy[Any]:
    """Every value of a message type that its bounds allow."""
    if message is Range:
        return st.tuples(seqs, seqs).map(lambda ends: Range(min(ends), max(ends)))
    hints = get_type_hints(message, include_extras=True)
    return st.builds(message, *[_field(hints[field.name]) for field in fields(message)])


def _field(hint: Any) -> st.SearchStrategy[Any]:
    if hint is str:
        return NAMES
    if hint is bytes:
        return st.binary(max_size=300)
    if get_origin(hint) is not Annotated:
        return messages(hint)
    kind, layout, *limit = get_args(hint)
    if kind is bool:
        return st.booleans()
    if isinstance(layout, Struct):
        return BYTES16 if kind is bytes else st.integers(0, limit[0] if limit else 256**layout.size - 1)
    return st.lists(messages(get_args(kind)[0]), max_size=min(layout, 3)).map(tuple)
