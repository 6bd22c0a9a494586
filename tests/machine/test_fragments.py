"""A command too large for one record arrives in pieces: whole and uninterrupted, or not at all."""

from typing import Any

import pytest

from mcast.limits import COMMAND_BYTES_MAX, VALUES_MAX
from mcast.machine.commands import encode_command
from mcast.machine.executor import Executor
from mcast.machine.fragments import Assembly
from mcast.wire.records import (
    Record,
    RecordKind,
    decode_records_untrusted,
    encode_record,
    split_fragments,
)
from tests.machine.conftest import Notebook, whole

COMMAND = bytes(range(250))


def fragments(session: int = 1, request: int = 1, command: bytes = COMMAND, record_max: int = 100) -> list[Record]:
    pieces = split_fragments(session, request, 1, command, record_max)
    return [record for piece in pieces for record in decode_records_untrusted(piece)]


def test_the_last_fragment_completes_the_command() -> None:
    assembly = Assembly()
    *early, last = fragments()
    assert [assembly.add(fragment) for fragment in early] == [None] * len(early)
    assert assembly.partial
    assert assembly.add(last) == COMMAND
    assert not assembly.partial


@pytest.mark.parametrize("kind", [kind for kind in RecordKind if kind != RecordKind.FRAGMENT])
def test_any_other_record_in_between_voids_it(kind: RecordKind) -> None:
    assembly = Assembly()
    first, *rest = fragments()
    assembly.add(first)
    assembly.interrupt(kind)
    assert [assembly.add(fragment) for fragment in rest] == [None] * len(rest)
    assert not assembly.partial


def test_without_the_rule_a_new_epoch_does_not_void_it() -> None:
    assembly = Assembly(cut=False)
    first, *rest = fragments()
    assembly.add(first)
    assembly.interrupt(RecordKind.EPOCH_START)
    assert [assembly.add(fragment) for fragment in rest][-1] == COMMAND


@pytest.mark.parametrize("other", [{"session": 2}, {"request": 2}, {"record_max": 60}])
def test_a_fragment_of_another_command_voids_it(other: dict[str, int]) -> None:
    assembly = Assembly()
    assembly.add(fragments()[0])
    assert assembly.add(fragments(**other)[1]) is None  # type: ignore[arg-type]
    assert not assembly.partial


def test_a_repeated_or_skipped_fragment_voids_it() -> None:
    for wrong in (1, 3):
        assembly = Assembly()
        pieces = fragments()
        assembly.add(pieces[0])
        assembly.add(pieces[1])
        assert assembly.add(pieces[wrong]) is None
        assert not assembly.partial


def test_starting_anew_is_always_possible() -> None:
    assembly = Assembly()
    assembly.add(fragments(session=1)[0])
    assert [assembly.add(fragment) for fragment in fragments(session=2)][-1] == COMMAND


def test_garbage_voids_it() -> None:
    assembly = Assembly()
    assembly.add(fragments()[0])
    [garbage] = decode_records_untrusted(encode_record(RecordKind.FRAGMENT, 1, 1, 1, 1, b"short"))
    assert assembly.add(garbage) is None
    assert not assembly.partial


def test_what_outgrows_a_command_is_dropped() -> None:
    assembly = Assembly()
    pieces = fragments(command=bytes(COMMAND_BYTES_MAX + 1), record_max=1 << 20)
    assert [assembly.add(piece) for piece in pieces] == [None] * len(pieces)
    assert not assembly.partial


@pytest.mark.parametrize(
    ("held", "text"),
    [
        ([None] * (VALUES_MAX - 2), None), ([None] * (VALUES_MAX - 1), "DecodeError"),
        ([[None] * 63] * (VALUES_MAX // 64 - 1), None), ([[None] * 63] * (VALUES_MAX // 64 + 1), "DecodeError"),
    ],
    ids=["most", "too many", "most in small lists", "too many in small lists"],
)  # fmt: skip
def test_what_holds_too_many_values_fails_alike_on_every_replica(held: list[Any], text: str | None) -> None:
    """However it came into the log: no gateway passes on as much."""
    notebook = Notebook()
    (outcome,) = whole(Executor(notebook).run(encode_command("note", held), 1, 1))
    assert outcome.error == text
    assert len(notebook.notes) == (text is None)
