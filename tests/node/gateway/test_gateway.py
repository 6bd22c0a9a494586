"""The TCP side against clients and peers that are not honest, do not read, or come in crowds."""

from __future__ import annotations

import asyncio
import dataclasses
import itertools
import random
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from mcast import limits
from mcast.client import connection as client_connection_module
from mcast.client.client import connect
from mcast.clock import monotonic_s
from mcast.errors import EnvironmentProblem, NotSent, Refused, Unknown
from mcast.machine.commands import encode_command
from mcast.machine.kv import KeyValue
from mcast.machine.outcomes import decode_outcomes_untrusted
from mcast.node.fake import FakeCluster, serving
from mcast.node.gateway import connection as connection_module
from mcast.node.gateway import gateway as gateway_module
from mcast.node.gateway import reporting as reporting_module
from mcast.node.gateway.gateway import Gateway
from mcast.wire.groups import Result, decode_results_untrusted, pack_run
from mcast.wire.records import RecordKind, encode_record, split_fragments
from mcast.wire.stream import (
    VERSION,
    Ask,
    Fetch,
    Hello,
    Ping,
    Query,
    StreamKind,
    pack_message,
    pack_raw,
)
from tests.node.gateway.raw import NONCE, Raw, hello, opening, raws

__all__ = ["raws"]  # a fixture, used by all


@pytest.mark.parametrize(
    ("greeting", "words"),
    [
        (pack_message(StreamKind.HELLO, hello(cluster="other")), "not of 'other'"),
        (pack_message(StreamKind.HELLO, hello(version=9)), "not 9"),
        (pack_message(StreamKind.HELLO, hello("peer", "n9")), "no node 'n9'"),
        (pack_message(StreamKind.PING, Ping(1)), "no HELLO"),
        (b"GET / HTTP/1.1\r\n\r\n", "bad message length"),
        (bytes(100), "bad message length"),
        (b"\x00\x00\x00\x03\x01\xc1\xc1", "not msgpack"),
    ],
)
async def test_whoever_does_not_belong_is_told_why_and_counted(
    cluster: FakeCluster, gateways: dict[str, Gateway], greeting: bytes, words: str
) -> None:
    raw = await Raw.open(cluster, "n1")
    raw.send(greeting)
    assert words in await raw.ended()
    statistics = gateways["n1"].statistics()
    assert sum(statistics.hostile.values()) == 1 and statistics.connections == 0
    status = (await connect(cluster.config).status())["nodes"][0]
    assert status["refused_connections"] == statistics.hostile


@pytest.mark.parametrize(
    "message",
    [
        pack_raw(StreamKind.SUBMIT, b"junk"),
        pack_raw(StreamKind.SUBMIT, encode_record(RecordKind.EPOCH_START, 1, 0, 0, 0, b"x")),
        pack_raw(StreamKind.SUBMIT, encode_record(RecordKind.COMMANDS, 1, 5, 1, 1, bytes(5_000))),
        pack_raw(StreamKind.FORWARD, encode_record(RecordKind.OPEN, 1, 0, 0, 0, NONCE)),
        pack_message(StreamKind.FETCH, Fetch(1, 1_000)),
        pack_raw(StreamKind.FRAMES, b""),
        b"\x00\x00\x00\x01\xff",
        b"\x00\x00\x00\x02\x06\xc1",
    ],
)
async def test_what_no_client_may_say_ends_its_connection_only(
    cluster: FakeCluster, gateways: dict[str, Gateway], message: bytes
) -> None:
    async with connect(cluster.config, at="n1") as client:
        raw = await Raw.open(cluster, "n1", hello())
        raw.send(message)
        assert await raw.ended()
        assert sum(gateways["n1"].statistics().hostile.values()) == 1
        assert (await client.submit("incr", "k")).value == 1


@pytest.mark.parametrize("role", ["client", "peer"])
async def test_a_command_of_too_many_values_is_refused_before_it_is_numbered(
    cluster: FakeCluster, gateways: dict[str, Gateway], role: str
) -> None:
    """Small on the wire, large in the memory of every replica."""
    empties = encode_command("set", "k", [[]] * 1_000_000)
    group = b"".join(split_fragments(5, 1, 1, empties, cluster.record_max))
    raw = await Raw.open(cluster, "n1", hello(role, "n2" if role == "peer" else ""))
    raw.send(pack_raw(StreamKind.FORWARD if role == "peer" else StreamKind.SUBMIT, group))
    assert "too many values" in await raw.ended()
    assert (cluster.shells["n1"].submitted, cluster.last_seq) == (0, 0)
    assert gateways["n1"].statistics().hostile == {"too many values": 1}
    asking = await Raw.open(cluster, "n1", hello())
    asking.send(pack_message(StreamKind.QUERY, Query(1, "get", [[[]] * 65_536], "any", 0, None, None, 5e3)))
    assert "too many values" in await asking.ended()


async def test_values_of_a_command_are_bounded_as_configured_and_clients_are_told(tmp_path: Path) -> None:
    cluster = FakeCluster(tmp_path, KeyValue)
    for shell in cluster.shells.values():
        shell.config = replace(shell.config, command_values_max=1_024)
    async with serving(cluster) as gateways, connect(cluster.config, at="n1") as client:
        assert (await client.submit("set", "k", [[]] * 1_020)).outcome == "ok"
        with pytest.raises(Refused, match="more than 1024 values"):
            await client.submit("set", "k", [[]] * 1_030)
        receipts = await client.submit_many([("set", "k", [1, 2])] * 2_000)
        assert all(receipt is not None and receipt.outcome == "ok" for receipt in receipts)
        assert not gateways["n1"].statistics().hostile
        raw = await Raw.open(cluster, "n1", hello())
        record = encode_record(RecordKind.COMMANDS, 1, 5, 1, 1, encode_command("set", "k", [[]] * 1_030))
        raw.send(pack_raw(StreamKind.SUBMIT, record))
        assert "too many values" in await raw.ended()


async def test_garbage_of_all_kinds_harms_nobody(cluster: FakeCluster, gateways: dict[str, Gateway]) -> None:
    rng = random.Random(3)
    good = [opening(), pack_message(StreamKind.QUERY, Query(1, "size", [], "any", 0, None, None, 5_000.0)),
            pack_message(StreamKind.STATUS, Ask(1)), pack_message(StreamKind.HELLO, hello())]  # fmt: skip
    async with connect(cluster.config, at="n1", strict=True) as client:
        for _ in range(150):
            raw = await Raw.open(cluster, "n1", hello(*rng.choice([("client", ""), ("peer", "n2")])))
            data = bytearray(b"".join(rng.choices(good, k=3)) if rng.random() < 0.6 else rng.randbytes(60))
            for _ in range(rng.randrange(4)):
                data[rng.randrange(len(data))] = rng.randrange(256)
            raw.send(bytes(data[: rng.randrange(1, len(data) + 1)]))
            raw.writer.write_eof()
            await raw.ended()
        assert (await client.submit("incr", "k")).value == 1
    assert gateways["n1"].statistics().unanswered_bytes == 0


async def test_a_connection_that_says_nothing_is_closed(
    cluster: FakeCluster, gateways: dict[str, Gateway], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connection_module, "HANDSHAKE_S", 0.02)
    raw = await Raw.open(cluster, "n1")
    await raw.ended()
    assert gateways["n1"].statistics().hostile == {"no HELLO in time": 1}


async def test_clients_are_bounded_and_told_where_to_go(cluster: FakeCluster, gateways: dict[str, Gateway]) -> None:
    gateways["n1"].clients_max = 2
    kept = [await Raw.open(cluster, "n1", hello()) for _ in range(2)]
    third = await Raw.open(cluster, "n1")
    third.send(pack_message(StreamKind.HELLO, hello()))
    kind, refusal = await third.message()
    assert (kind, refusal.text) == (
        StreamKind.ERROR, "too many connections: n1 serves 2 clients; that is as many as it may; try another node"
    )  # fmt: skip
    await third.ended()
    assert gateways["n1"].statistics().hostile == {"too many connections": 1}
    await Raw.open(cluster, "n1", Hello(VERSION, "lab", "peer", "n2", NONCE))
    async with connect(cluster.config, at="n1") as client:
        assert client.node != "n1", "there are others"
    with pytest.raises(NotSent, match="try another node"):
        async with connect(cluster.config, at="n1", timeout=0.1, strict=True):
            pass
    kept[0].writer.close()
    await kept[0].writer.wait_closed()
    await asyncio.sleep(0.01)
    await Raw.open(cluster, "n1", hello())


async def test_connections_are_counted_before_they_have_said_a_word(
    cluster: FakeCluster, gateways: dict[str, Gateway], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each holds a file descriptor, and the journal needs some too."""
    gateways["n1"].clients_max, gateways["n1"].spare = 2, 1
    silent = [await Raw.open(cluster, "n1") for _ in range(3)]
    fourth = await Raw.open(cluster, "n1")
    kind, refusal = await fourth.message()
    assert kind == StreamKind.ERROR and "n1 is full" in refusal.text
    await fourth.ended()
    assert gateways["n1"].statistics().hostile == {"too many connections": 1}
    silent[0].writer.close()
    await silent[0].writer.wait_closed()
    await asyncio.sleep(0.01)
    await Raw.open(cluster, "n1", hello())


async def test_one_connection_cannot_fill_the_clusters_table_of_sessions(
    cluster: FakeCluster, gateways: dict[str, Gateway]
) -> None:
    raw = await Raw.open(cluster, "n2", hello())
    for number in range(limits.CONNECTION_SESSIONS_MAX):
        raw.send(opening(number.to_bytes(16, "big")))
        kind, opened = await raw.message()
        assert kind == StreamKind.OPENED
    raw.send(pack_raw(StreamKind.SUBMIT, encode_record(RecordKind.CLOSE, 1, opened.session, 1, 1, b"")))
    raw.send(opening(b"m" * 16))
    assert (await raw.message())[0] == StreamKind.OPENED, "one that was closed leaves room for another"
    raw.send(opening(b"x" * 16))
    kind, refusal = await raw.message()
    assert kind == StreamKind.ERROR and "too many sessions" in refusal.text
    await raw.ended()
    assert gateways["n2"].statistics().hostile == {"too many sessions": 1}


async def test_one_message_cannot_open_more_sessions_than_a_connection_may_have(
    cluster: FakeCluster, gateways: dict[str, Gateway]
) -> None:
    raw = await Raw.open(cluster, "n1", hello())
    nonces = [number.to_bytes(16, "big") for number in range(limits.CONNECTION_SESSIONS_MAX + 1)]
    opens = [encode_record(RecordKind.OPEN, 1, 0, 0, 0, nonce) for nonce in nonces]
    raw.send(b"".join(pack_run(StreamKind.SUBMIT, opens)))
    assert "too many sessions" in await raw.ended()
    assert cluster.shells["n1"].submitted == 0, "not one of them was opened"
    assert gateways["n1"].statistics().unanswered_bytes == 0


async def test_a_burst_of_commands_is_one_message_and_so_are_its_results(
    cluster: FakeCluster, gateways: dict[str, Gateway]
) -> None:
    for node in ("n1", "n2"):  # the sequencer's own gateway, and one that forwards
        raw = await Raw.open(cluster, node, hello())
        raw.send(opening(node.encode() * 8))
        _, opened = await raw.message()
        numbers = range(1, 41)
        records = [
            encode_record(RecordKind.COMMANDS, 1, opened.session, number, 1, b"\x92\xa4incr\xa1" + node[1:].encode())
            for number in numbers
        ]
        cluster.held = True
        raw.send(b"".join(pack_run(StreamKind.SUBMIT, records)))
        before = cluster.shells["n1"].submitted
        while cluster.shells["n1"].submitted < before + len(records):
            await asyncio.sleep(0.001)
        cluster.release()
        results: list[Result] = []
        while len(results) < len(records):
            results += decode_results_untrusted(await raw.payload(StreamKind.RESULT))
        assert [(one.request, one.status) for one in results] == [(number, 0) for number in numbers]
        assert [decode_outcomes_untrusted(one.outcomes)[0].value for one in results] == list(numbers)


async def test_a_client_that_never_reads_is_dropped(
    cluster: FakeCluster, gateways: dict[str, Gateway], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connection_module, "GATEWAY_WRITE_BYTES", 1 << 20)
    async with connect(cluster.config, at="n2") as client:
        await client.submit("set", "k", "x" * 500_000)
        raw = await Raw.open(cluster, "n1", hello())
        question = pack_message(StreamKind.QUERY, Query(1, "get", ["k"], "any", 0, None, None, 5_000.0))
        for _ in range(40):
            raw.send(question)
            await asyncio.sleep(0)
        while "does not read" not in gateways["n1"].statistics().hostile:
            await asyncio.sleep(0.001)
        assert (await client.submit("incr", "n")).value == 1
        await raw.ended()


async def test_nobody_makes_a_node_hold_reports_without_end(
    cluster: FakeCluster, gateways: dict[str, Gateway], monkeypatch: pytest.MonkeyPatch
) -> None:
    """One write can hold thousands of questions, whose answers are a thousand times as long."""
    monkeypatch.setattr(connection_module, "GATEWAY_WRITE_BYTES", 1 << 20)
    shell = cluster.shells["n1"]
    monkeypatch.setattr(shell, "gaps", lambda: {"id": "n1", "closed": ["x" * 100] * 1_000})
    raw = await Raw.open(cluster, "n1", hello())
    raw.send(pack_message(StreamKind.GAPS, Ask(1)) * 5_000)
    while "does not read" not in gateways["n1"].statistics().hostile:
        await asyncio.sleep(0.001)
    await raw.ended()


async def test_many_who_ask_at_once_share_a_report_and_later_ones_get_another(
    cluster: FakeCluster, gateways: dict[str, Gateway], monkeypatch: pytest.MonkeyPatch
) -> None:
    now_s, made = 1_000.0, itertools.count(1)

    def slow() -> dict[str, Any]:
        nonlocal now_s
        now_s += 0.010
        return {"id": next(made)}

    monkeypatch.setattr(reporting_module, "monotonic_s", lambda: now_s)
    monkeypatch.setattr(cluster.shells["n1"], "gaps", slow)
    crowd = [await Raw.open(cluster, "n1", hello()) for _ in range(3)]
    for number, raw in enumerate(crowd):
        raw.send(pack_message(StreamKind.GAPS, Ask(number)) * 20)
    reports = [await raw.message() for raw in crowd for _ in range(20)]
    assert [report.id for _, report in reports] == [number for number in range(3) for _ in range(20)]
    assert max(report.report["node"]["id"] for _, report in reports) == 3, "and not sixty"
    now_s += 10.0
    crowd[0].send(pack_message(StreamKind.GAPS, Ask(9)))
    assert (await crowd[0].message())[1].report["node"]["id"] == 4


@pytest.mark.parametrize("what", ["numbering", "applying"])
async def test_a_full_backlog_stops_reading_and_says_that_the_node_lives(
    cluster: FakeCluster, gateways: dict[str, Gateway], monkeypatch: pytest.MonkeyPatch, what: str
) -> None:
    monkeypatch.setattr(gateway_module, "KEEPALIVE_S", 0.02)
    raw, shell = await Raw.open(cluster, "n1", hello()), cluster.shells["n1"]
    shell.is_apply_backlog_full = what == "applying"
    shell.replica.backlog_bytes = 0 if what == "applying" else limits.PENDING_BYTES_MAX + 1
    raw.send(opening())
    assert (await raw.message())[0] == StreamKind.OPENED
    raw.send(pack_message(StreamKind.PING, Ping(77)))
    for _ in range(2):
        assert await pong(raw) == 0
    shell.replica.backlog_bytes, shell.is_apply_backlog_full = 0, False
    while number := 77 - await pong(raw):
        assert number == 77


async def pong(raw: Raw) -> int:
    """The id of the PONG that comes next."""
    kind, message = await raw.message()
    assert kind == StreamKind.PONG
    return int(message.id)


async def test_a_pong_says_how_long_ago_the_node_was_in_touch(
    cluster: FakeCluster, gateways: dict[str, Gateway]
) -> None:
    raw = await Raw.open(cluster, "n1", hello())
    for proven, least, most in (((0, monotonic_s() - 7), 7_000, 8_000), ((0, monotonic_s()), 0, 900), (None, 0, 5_000)):
        cluster.shells["n1"].replica.proven = proven
        raw.send(pack_message(StreamKind.PING, Ping(1)))
        _, message = await raw.message()
        assert least <= message.alone_ms <= most
    gateways["n1"]._started_s -= 60
    raw.send(pack_message(StreamKind.PING, Ping(2)))
    assert (await raw.message())[1].alone_ms >= 60_000, "it never was, since it started"


@pytest.mark.parametrize("role", ["client", "peer"])
async def test_behind_a_pong_clients_hear_what_keeps_the_node_from_serving_them(
    cluster: FakeCluster, gateways: dict[str, Gateway], role: str
) -> None:
    cluster.shells["n2"].watch.blocked = "commands do not get to n1" * 100
    raw = await Raw.open(cluster, "n2", hello()._replace(role=role, node="n3" if role == "peer" else ""))
    raw.send(b"".join(pack_message(StreamKind.PING, Ping(number)) for number in (5, 6, 7)))
    kinds = [await raw.message() for _ in range(3)]
    reported = [message.text for kind, message in kinds if kind == StreamKind.HINDERED]
    if role == "client":
        assert [kind for kind, _ in kinds] == [StreamKind.PONG, StreamKind.HINDERED, StreamKind.PONG]
        assert reported == [("commands do not get to n1" * 100)[:1_000]]
    else:
        assert reported == []


async def test_a_clients_unanswered_bytes_are_bounded(
    cluster: FakeCluster, gateways: dict[str, Gateway], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(gateway_module, "GATEWAY_CLIENT_BYTES", 10_000)
    cluster.held = True
    raw = await Raw.open(cluster, "n1", hello())
    for request in range(1, 400):
        raw.send(pack_raw(StreamKind.SUBMIT, encode_record(RecordKind.COMMANDS, 1, 5, request, 1, bytes(1_000))))
        await asyncio.sleep(0)
    assert 10_000 < gateways["n1"].statistics().unanswered_bytes < 300_000
    raw.writer.close()
    while gateways["n1"].statistics().unanswered_bytes:
        cluster.release()
        await asyncio.sleep(0.001)


async def test_a_session_moves_with_its_client(cluster: FakeCluster, gateways: dict[str, Gateway]) -> None:
    old, new = await Raw.open(cluster, "n1", hello()), await Raw.open(cluster, "n1", hello())
    old.send(opening())
    _, opened = await old.message()
    record = encode_record(RecordKind.COMMANDS, 1, opened.session, 1, 1, b"\x92\xa4incr\xa1k")
    new.send(pack_raw(StreamKind.SUBMIT, record))
    kind, result = await new.message()
    assert (kind, result.request, result.seq) == (StreamKind.RESULT, 1, 2)
    old.send(pack_message(StreamKind.PING, Ping(5)))
    assert await pong(old) == 5, "no RESULT before it"


async def test_a_port_in_use_and_a_foreign_address_are_explained(tmp_path: Path, cluster: FakeCluster) -> None:
    shell: Any = cluster.shells["n1"]
    async with serving(cluster):
        with pytest.raises(EnvironmentProblem, match="port is in use"):
            await Gateway(shell).start()
    node = dataclasses.replace(cluster.config.nodes[0], address="192.0.2.1:7711")
    shell.config = dataclasses.replace(cluster.config, nodes=(node, *cluster.config.nodes[1:]))
    with pytest.raises(EnvironmentProblem, match="does not have that address"):
        await Gateway(shell).start()


async def test_stop_answers_what_is_under_way_first(cluster: FakeCluster, gateways: dict[str, Gateway]) -> None:
    async with connect(cluster.config, at="n1", strict=True) as client:
        await client.submit("incr", "k")
        cluster.held = True
        task = asyncio.create_task(client.submit("incr", "k"))
        while cluster.shells["n1"].submitted < 3:
            await asyncio.sleep(0)
        stopping = asyncio.create_task(gateways["n1"].stop())
        await asyncio.sleep(0.01)
        assert not stopping.done()
        cluster.release()
        assert (await task).value == 2
        await stopping
        assert cluster.shells["n1"].on_applied == []


async def test_a_halted_node_sends_its_clients_away(cluster: FakeCluster, gateways: dict[str, Gateway]) -> None:
    async with connect(cluster.config, at="n2") as client, connect(cluster.config, at="n2", strict=True) as reader:
        cluster.shells["n2"].halt("a rule was broken")
        assert (await client.submit("incr", "k")).value == 1
        assert client.node != "n2"
        with pytest.raises(Refused, match="n2 has halted: a rule was broken") as caught:
            await reader.query("get", "k", consistency="any")
        assert caught.value.try_node == "n1"
        assert (await reader.status())["nodes"][1]["reachable"], "it goes on saying so"


async def test_what_a_node_forwarded_before_it_halted_is_answered_by_another(
    cluster: FakeCluster, gateways: dict[str, Gateway], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(client_connection_module, "WATCH_INTERVAL_S", 30.0)
    async with connect(cluster.config, at="n2") as client:
        await client.submit("incr", "k")
        cluster.held = True
        task = asyncio.create_task(client.submit("incr", "k"))
        while cluster.shells["n1"].submitted < 3:
            await asyncio.sleep(0)
        cluster.shells["n2"].halt("a rule was broken")
        async with asyncio.timeout(10):  # by being told, and not for want of progress
            while client.node in (None, "n2"):
                await asyncio.sleep(0)
        cluster.release()
        assert (await asyncio.wait_for(task, 10)).value == 2, "once, though it was sent twice"
        assert client.node != "n2"


async def test_a_query_that_waits_for_its_event_hears_of_the_halt(
    cluster: FakeCluster, gateways: dict[str, Gateway]
) -> None:
    raw = await Raw.open(cluster, "n2", hello())
    raw.send(pack_message(StreamKind.QUERY, Query(1, "size", [], "session", 7, None, None, 5_000.0)))
    raw.send(pack_message(StreamKind.PING, Ping(1)))
    assert (await raw.message())[0] == StreamKind.PONG, "the query is there, and waits"
    cluster.shells["n2"].halt("a rule was broken")
    kind, refused = await raw.message()
    assert (kind, refused.kind, refused.try_node) == (StreamKind.QUERY_REFUSED, "refused", "n1")


async def test_a_client_that_wants_no_other_node_hears_why_a_halted_one_takes_nothing(
    cluster: FakeCluster, gateways: dict[str, Gateway], monkeypatch: pytest.MonkeyPatch
) -> None:
    greeted = 0
    greet = gateways["n2"].greet

    def counting(*arguments: Any) -> bytes:
        nonlocal greeted
        greeted += 1
        return greet(*arguments)

    monkeypatch.setattr(gateways["n2"], "greet", counting)
    async with connect(cluster.config, at="n2", strict=True) as client:
        cluster.shells["n2"].halt("a rule was broken")
        with pytest.raises((NotSent, Unknown), match="n2 has halted: a rule was broken"):
            await client.submit("incr", "k", timeout=0.3)
        assert greeted < 10, "it is not asked again and again without a pause"
    assert cluster.last_seq == 0


async def test_a_stop_goes_on_as_soon_as_all_is_answered(cluster: FakeCluster, gateways: dict[str, Gateway]) -> None:
    async with connect(cluster.config, at="n1", strict=True) as client:
        await client.submit("incr", "k")
        submitted = cluster.shells["n1"].submitted
        cluster.held = True
        waiting = asyncio.create_task(client.submit("incr", "k"))
        while cluster.shells["n1"].submitted == submitted:
            await asyncio.sleep(0)
        stopping = asyncio.create_task(gateways["n1"].stop(drain_s=30))
        await asyncio.sleep(0.01)
        cluster.release()
        async with asyncio.timeout(5):
            await stopping
        assert (await waiting).value == 2
