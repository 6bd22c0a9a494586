"""Whether what took effect is what a client waits for here: told by the record, or by its mark."""

from zlib import crc32

import pytest

from mcast.machine.sessions import mark_of
from mcast.node.submissions import _is_content
from mcast.wire.groups import Group
from mcast.wire.records import RecordKind, encode_record, split_fragments

COMMAND = b"\x92\xa4note\x01"


def commands(payload: bytes = COMMAND, count: int = 1, lowest: int = 1) -> bytes:
    return encode_record(RecordKind.COMMANDS, count, 5, 9, lowest, payload)


RECORD, NOOP = commands(), encode_record(RecordKind.NOOP, 1, 5, 9, 1, b"")
LARGE: Group = tuple(split_fragments(5, 9, 3, COMMAND * 100, 100))


@pytest.mark.parametrize(
    ("group", "mark", "same"),
    [
        ((RECORD,), RECORD, True),
        ((RECORD,), commands(lowest=7), True),
        ((RECORD,), mark_of(RecordKind.COMMANDS, 1, crc32(COMMAND)), True),
        ((RECORD,), commands(COMMAND[:-1] + b"\x02"), False),
        ((RECORD,), commands(COMMAND * 2, 2), False),
        ((RECORD,), mark_of(RecordKind.NOOP, 1, crc32(b"")), False),
        ((NOOP,), mark_of(RecordKind.NOOP, 1, crc32(b"")), True),
        ((NOOP,), RECORD, False),
        (LARGE, mark_of(RecordKind.FRAGMENT, 1, crc32(COMMAND * 100)), True),
        (LARGE, mark_of(RecordKind.FRAGMENT, 1, crc32(COMMAND * 99)), False),
        (LARGE, commands(COMMAND * 100), False),
    ],
)
def test_content_is_told_by_the_record_or_its_mark(group: Group, mark: int | bytes, same: bool) -> None:
    assert _is_content(group, mark) is same
