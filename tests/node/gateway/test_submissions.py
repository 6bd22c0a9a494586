"""Whether what took effect is what a client waits for here, and what a client is told of it."""

from __future__ import annotations

from zlib import crc32

import pytest

from mcast.machine.commands import encode_command
from mcast.machine.sessions import mark_of
from mcast.node.fake import FakeCluster
from mcast.node.gateway.gateway import Gateway
from mcast.node.gateway.submissions import _is_content
from mcast.wire.groups import RecordGroup, Result
from mcast.wire.records import RecordKind, encode_record, split_fragments
from mcast.wire.stream import Ping, Status, StreamKind, pack_message, pack_raw
from tests.node.gateway.raw import Raw, hello, opening, raws

__all__ = ["raws"]  # a fixture, used by all

COMMAND = b"\x92\xa4note\x01"


def commands(payload: bytes = COMMAND, count: int = 1, lowest: int = 1) -> bytes:
    return encode_record(RecordKind.COMMANDS, count, 5, 9, lowest, payload)


RECORD, NOOP = commands(), encode_record(RecordKind.NOOP, 1, 5, 9, 1, b"")
LARGE: RecordGroup = tuple(split_fragments(5, 9, 3, COMMAND * 100, 100))


@pytest.mark.parametrize(
    ("group", "mark", "same"),
    [
        ((RECORD,), RECORD, True),
        ((RECORD,), commands(lowest=7), True),
        ((RECORD,), mark_of(RecordKind.COMMANDS, 1, COMMAND), True),
        ((RECORD,), commands(COMMAND[:-1] + b"\x02"), False),
        ((RECORD,), commands(COMMAND * 2, 2), False),
        ((RECORD,), mark_of(RecordKind.NOOP, 1, b""), False),
        ((NOOP,), mark_of(RecordKind.NOOP, 1, b""), True),
        ((NOOP,), RECORD, False),
        (LARGE, mark_of(RecordKind.FRAGMENT, 1, COMMAND * 100), True),
        (LARGE, mark_of(RecordKind.FRAGMENT, 1, COMMAND * 99), False),
        (LARGE, commands(COMMAND * 100), False),
    ],
)
def test_content_is_told_by_the_record_or_its_mark(group: RecordGroup, mark: int | bytes, same: bool) -> None:
    assert _is_content(group, mark) is same


ALIKE = (b"plumless", b"buckeroo")  # contents of one crc32


def submit(session: int, request: int, value: bytes) -> bytes:
    record = encode_record(RecordKind.COMMANDS, 1, session, request, 1, encode_command("set", "k", value))
    return pack_raw(StreamKind.SUBMIT, record)


async def opened(cluster: FakeCluster, node: str) -> tuple[Raw, int]:
    raw = await Raw.open(cluster, node, hello())
    raw.send(opening())
    return raw, (await raw.message())[1].session


async def reported(raw: Raw) -> Result:
    kind, result = await raw.message()
    assert kind == StreamKind.RESULT
    assert isinstance(result, Result)
    return result


async def submitted(cluster: FakeCluster, node: str, raw: Raw, message: bytes) -> None:
    """Send it, and wait until the gateway has passed it on."""
    raw.send(message)
    raw.send(pack_message(StreamKind.PING, Ping(9)))
    assert (await raw.message())[0] == StreamKind.PONG


async def test_who_lost_its_request_number_to_another_content_is_not_told_that_its_own_took_effect(
    cluster: FakeCluster, gateways: dict[str, Gateway]
) -> None:
    """Two contents under one number, of one checksum: only one of them happened."""
    assert crc32(ALIKE[0]) == crc32(ALIKE[1]), "what a checksum cannot tell apart"
    first, session = await opened(cluster, "n1")
    cluster.held = True
    other = await Raw.open(cluster, "n2", hello())
    await submitted(cluster, "n2", other, submit(session, 1, ALIKE[1]))
    while not cluster._taken:  # n2 dials the sequencer first
        await submitted(cluster, "n2", other, b"")
    await submitted(cluster, "n1", first, submit(session, 1, ALIKE[0]))
    cluster.release()
    assert (await reported(first)).status == Status.REUSED
    assert (await reported(other)).status == Status.ALIKE
    assert [gateways[node]._submissions.reused for node in ("n1", "n2")] == [1, 0]
    assert cluster.shells["n3"].engine.query("get", ["k"]) == ALIKE[1]


async def test_what_was_answered_is_not_answered_again_as_a_refusal(
    cluster: FakeCluster, gateways: dict[str, Gateway]
) -> None:
    first, session = await opened(cluster, "n1")
    first.send(submit(session, 1, b"mine"))
    assert (await reported(first)).status == Status.ALIKE
    other = await Raw.open(cluster, "n2", hello())
    other.send(submit(session, 1, b"another's"))
    assert (await reported(other)).status == Status.REUSED
    first.send(pack_message(StreamKind.PING, Ping(1)))
    assert (await first.message())[0] == StreamKind.PONG, "nothing is said of what nobody waits for"
    assert gateways["n1"]._submissions.reused == 0


async def test_a_hole_is_filled_from_the_first_missing_request_on(
    cluster: FakeCluster, gateways: dict[str, Gateway]
) -> None:
    raw, session = await opened(cluster, "n1")
    cluster.held = True
    await submitted(cluster, "n1", raw, submit(session, 1, b"lost"))
    assert cluster.lose_taken() == 1
    cluster.held = False
    raw.send(submit(session, 2, b"beyond it"))
    results = [await reported(raw)]
    while results[-1].request + results[-1].events <= 2:
        results.append(await reported(raw))
    assert sum(result.events for result in results) == 2, "the client had to send nothing again"
    assert {result.status for result in results} == {Status.ALIKE}
