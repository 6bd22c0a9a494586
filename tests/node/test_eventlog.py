"""The event log: everything applied can be read from any number on, whether it is in memory or on disk."""

from __future__ import annotations

from pathlib import Path

import pytest

from mcast.errors import CorruptionError, Gone
from mcast.machine.commands import encode_command
from mcast.machine.events import Event, EventReader
from mcast.machine.kv import KeyValue
from mcast.node import eventlog
from mcast.node.fake import FakeCluster, FakeShell
from mcast.wire.events import decode_events_untrusted
from mcast.wire.frame import Frame
from mcast.wire.records import RecordKind, encode_record, split_fragments
from mcast.wire.stream import HEAD_BYTES

RECORDS = 300


@pytest.fixture
def cluster(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> FakeCluster:
    """One node; three pieces' worth of bytes stay in memory."""
    monkeypatch.setattr(eventlog, "EVENTS_CHUNK_BYTES", 1_000)
    monkeypatch.setattr(eventlog, "EVENTS_PIECE_BYTES", 3_000)
    monkeypatch.setattr(eventlog, "EVENTS_RECENT_BYTES", 9_000)
    return FakeCluster(tmp_path, KeyValue, nodes=1, record_max=300)


async def fill(cluster: FakeCluster, records: int = RECORDS) -> FakeShell:
    """A session, and records of two commands each with outcomes of growing length."""
    shell = cluster.shells["n1"]
    first = shell.engine.applied_seq == 0
    groups = [(encode_record(RecordKind.OPEN, 1, 0, 0, 0, bytes(16)),)] if first else []
    start = 1 if first else shell.engine.applied_seq
    for request in range(start, start + 2 * records, 2):
        payload = encode_command("append", "list", request) + encode_command("get_set", request)
        groups.append((encode_record(RecordKind.COMMANDS, 2, 1, request, request, payload),))
    shell.submit(groups)
    cluster.pump()
    return shell


def read_all(shell: FakeShell, first: int) -> list[Event]:
    """What a subscriber reads, in how many batches it takes."""
    reader, reported = EventReader(first), 0
    events: list[Event] = []
    following = shell.events.beginning(first)
    while True:
        messages, following, reported = shell.events.read(following, reported)
        if not messages:
            return events
        for message in messages:
            events += reader.read(*decode_events_untrusted(message[HEAD_BYTES:]))


async def test_reading_begins_anywhere(cluster: FakeCluster) -> None:
    shell = await fill(cluster)
    everything = read_all(shell, 1)
    assert [event.seq for event in everything] == list(range(2, 2 * RECORDS + 2))
    assert {event.outcome for event in everything[1::2]} == {"failed"}
    assert [event.value for event in everything[::2]] == list(range(1, RECORDS + 1))
    assert len(list((shell.config.data_dir / "n1" / "outcomes").iterdir())) == 1
    assert shell.events._recent[0][0].first > 100, "most of it is on disk only"
    for first in range(1, shell.events.last + 2, 13):
        assert read_all(shell, first) == [event for event in everything if event.seq >= first]
    assert read_all(shell, shell.events.last + 5) == []


async def test_memory_is_bounded_and_batches_are_small(cluster: FakeCluster) -> None:
    shell = await fill(cluster, 2_000)
    assert shell.events._recent_bytes <= 9_000 + 3_000 and shell.events._unwritten_bytes < 3_000
    following = reported = 1
    while True:
        messages, following, reported = shell.events.read(following, reported)
        if not messages:
            break
        assert max(map(len, messages)) < 3_000 + 1_000 + 500


async def test_outcomes_larger_than_a_piece_are_sent_in_parts(cluster: FakeCluster) -> None:
    shell = cluster.shells["n1"]
    text = "x" * 5_000
    command = encode_command("cas", "big", None, text)
    groups = [
        (encode_record(RecordKind.OPEN, 1, 0, 0, 0, bytes(16)),),
        tuple(split_fragments(1, 1, 1, encode_command("set", "big", text), 300)),
        *[
            (encode_record(RecordKind.COMMANDS, 1, 1, request, request, encode_command("incr", f"n{request}")),)
            for request in range(2, 200)
        ],
    ]
    assert len(command) > 5_000
    shell.submit(groups)
    cluster.pump()
    events = read_all(shell, 1)
    assert events[0].args == ["big", text] and len(events) == 199
    assert read_all(shell, events[0].seq - 3) == events, "begins at the command's first fragment"
    assert read_all(shell, events[0].seq + 1) == events[1:]


async def test_what_the_journal_no_longer_holds_is_gone(cluster: FakeCluster) -> None:
    shell = await fill(cluster)
    shell.store.low_water = 50
    for read in (lambda: shell.events.read(49, 0), lambda: shell.events.beginning(3)):
        with pytest.raises(Gone) as gone:
            read()
        assert gone.value.low_water == 50
    assert read_all(shell, 50)[0].seq == 50


async def test_a_command_whose_first_fragments_are_gone_is_gone(cluster: FakeCluster) -> None:
    shell = await fill(cluster, 1)
    shell.submit([tuple(split_fragments(1, 3, 3, encode_command("set", "k", "x" * 2_000), 300))])
    cluster.pump()
    await fill(cluster)
    (large,) = [event for event in read_all(shell, 1) if event.name == "set"]
    shell.store.low_water = large.seq - 2
    with pytest.raises(Gone) as gone:
        shell.events.beginning(large.seq)
    assert gone.value.low_water == large.seq + 1


def full(*arguments: object) -> None:
    raise OSError(28, "No space left on device")


async def test_what_the_disk_does_not_take_at_once_is_written_later(
    cluster: FakeCluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    shell = await fill(cluster)
    with monkeypatch.context() as patch:
        patch.setattr(shell.outcomes, "append", full)
        await fill(cluster, 22)
        assert (str(shell.events.failing), shell.events.lost) == ("No space left on device", None)
        assert len(read_all(shell, 1)) == 2 * RECORDS + 44
    await fill(cluster, 22)
    assert [shell.events.failing, shell.events.lost] == [None, None]
    assert len(read_all(shell, 1)) == 2 * RECORDS + 88


async def test_what_the_disk_does_not_take_for_long_is_lost_and_not_gone(
    cluster: FakeCluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    shell = await fill(cluster)
    lost: list[str] = []
    shell.events.on_lost = lambda: lost.append(str(shell.events.lost))
    monkeypatch.setattr(shell.outcomes, "append", full)
    await fill(cluster)
    assert lost == ["the disk took no more of them: No space left on device"]
    assert shell.events.low_water == 1 and shell.events.read(1, 0) == ([], 1, 0)
    assert shell.engine.applied_seq > 4 * RECORDS - 10
    newest = shell.events._recent[0][0].first
    assert read_all(shell, newest)[-1].seq == shell.engine.applied_seq
    await fill(cluster, 2_000)
    assert shell.events._recent_bytes + shell.events._unwritten_bytes < 12_000


async def test_damaged_outcomes_are_not_sent_but_lost(cluster: FakeCluster) -> None:
    shell = await fill(cluster)
    (path,) = (shell.config.data_dir / "n1" / "outcomes").iterdir()
    data = bytearray(path.read_bytes())
    data[5] ^= 1
    path.write_bytes(data)
    assert shell.events.read(1, 0) == ([], 1, 0)
    assert "outcomes of events" in str(shell.events.lost)


async def test_events_that_the_disk_has_changed_are_not_sent(
    cluster: FakeCluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    shell = await fill(cluster)
    intact = shell.store.read
    whole = shell.events.read(1, 0)

    def read(first: int, max_bytes: int) -> list[Frame]:
        frames = intact(first, max_bytes)
        return [frame._replace(body=frame.body[:-1] + b"?") if frame.first == changed else frame for frame in frames]

    monkeypatch.setattr(shell.store, "read", read)
    changed = whole.next  # the first frame of the second batch: proven by the last one of the first
    assert shell.events.read(1, 0) == whole
    with pytest.raises(CorruptionError, match="not as they were written"):
        shell.events.read(whole.next, whole.outcomes_sent)
    changed = intact(1, 1_000)[1].first
    with pytest.raises(CorruptionError):
        shell.events.read(1, 0)


async def test_subscribers_in_step_share_one_message(cluster: FakeCluster) -> None:
    shell = await fill(cluster, 2)
    assert shell.events.read(1, 0).messages[0] is shell.events.read(1, 0).messages[0]
