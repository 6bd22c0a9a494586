"""The library against real gateways on a fake cluster: calls, receipts, queries, deadlines, streams."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from mcast.client import client as client_module
from mcast.client.client import Client, connect
from mcast.client.receipts import Receipt, Receipts
from mcast.errors import ConfigError, NotSent, NotYet, QueryFailed, Refused, Unknown
from mcast.limits import COMMAND_BYTES_MAX, SESSION_PENDING_RECORDS_MAX
from mcast.machine.api import StateMachine, command, query
from mcast.machine.kv import KeyValue
from mcast.node.fake import FakeCluster, serving


class Touchy(StateMachine):
    """A machine that raises."""

    def __init__(self) -> None:
        self.calls = 0

    @command
    def divide(self, ctx: Any, a: int, b: int) -> int:
        """Raise ZeroDivisionError now and then."""
        self.calls += 1
        return a // b

    @query
    def total(self) -> int:
        """How many commands ran."""
        return self.calls

    @query
    def broken(self) -> int:
        """Raise KeyError."""
        return dict[str, int]()["x"]

    def snapshot(self) -> int:
        """The count."""
        return self.calls

    def restore(self, data: int) -> None:
        """Set it."""
        self.calls = data


@pytest.fixture
async def cluster(tmp_path: Path) -> AsyncIterator[FakeCluster]:
    fake = FakeCluster(tmp_path, KeyValue)
    async with serving(fake):
        yield fake


@pytest.fixture
async def client(cluster: FakeCluster) -> AsyncIterator[Client]:
    async with connect(cluster.config, at="n2") as connected:
        yield connected


async def test_submit_through_a_follower_and_query_everywhere(cluster: FakeCluster, client: Client) -> None:
    assert client.node == "n2"
    assert (await client.submit("incr", "k", 5)) == Receipt(2, 1, "ok", 5, None)
    answer = await client.query("get", "k")
    assert (answer.value, answer.seq, answer.node, answer.level, answer.lag_events) == (5, 2, "n2", "session", 0)
    for node in ("n1", "n3"):
        async with connect(cluster.config, at=node, strict=True) as other:
            assert (await other.query("get", "k", consistency="any")).node == node
    assert cluster.shells["n1"].submitted == 2, "the OPEN and one record"


async def test_rejected_and_failed_are_receipts(tmp_path: Path) -> None:
    async with serving(fake := FakeCluster(tmp_path, Touchy)), connect(fake.config) as client:
        receipts = await client.submit_many([("divide", 4, 2), ("divide", 1, 0), ("divide", 9, 3)])
        assert [(one.outcome, one.value, one.error) for one in receipts if one] == [
            ("ok", 2, None), ("failed", None, "ZeroDivisionError"), ("ok", 3, None),
        ]  # fmt: skip
        assert (receipts.ok, receipts.rejected, receipts.failed) == (2, 0, 1)
        with pytest.raises(QueryFailed, match="KeyError"):
            await client.query("broken")
        assert (await client.query("total")).value == 3


@pytest.mark.parametrize(
    "bad",
    [
        ("nope", 1),
        ("set", "k"),
        ("set", "k", object()),
        ("set", "k", "x" * COMMAND_BYTES_MAX),
        ("set", "k", {(1, 2): 3}),
    ],
)
async def test_what_can_never_be_applied_is_refused_before_a_number_is_used(
    cluster: FakeCluster, client: Client, bad: tuple[Any, ...]
) -> None:
    with pytest.raises(Refused):
        await client.submit(*bad)
    with pytest.raises(Refused):
        await client.submit_many([("set", "k", 1), bad])
    assert cluster.last_seq == 0
    assert (await client.submit("set", "k", 2)).seq == 2


async def test_many_tasks_share_one_client_and_keep_their_order(client: Client) -> None:
    receipts = await asyncio.gather(*[client.submit("append", "list", index) for index in range(500)])
    assert [receipt.value for receipt in receipts] == list(range(1, 501))
    assert (await client.query("get", "list")).value == list(range(500))


async def test_a_batch_beyond_the_window_keeps_order_and_a_large_value_goes_in_and_out(client: Client) -> None:
    receipts = await client.submit_many([("incr", "n") for _ in range(40_000)])
    assert [receipt.value for receipt in receipts if receipt] == list(range(1, 40_001))
    first, last = receipts[0], receipts[-1]
    assert first and last and last.seq - first.seq == 39_999
    big = "x" * (1 << 20)
    receipt = await client.submit("set", "big", big)
    assert (await client.query("get", "big")).value == big
    later = await client.submit("incr", "n")
    assert later.seq == receipt.seq + 1


async def test_empty_batch(client: Client) -> None:
    receipts = await client.submit_many([])
    assert list(receipts) == [] and receipts.count == 0


async def test_no_sequencer_means_not_sent_and_nothing_happens_later(cluster: FakeCluster, client: Client) -> None:
    cluster.elect(None)
    with pytest.raises(NotSent, match=r"n2 at 127\.0\.0\.1"):
        await client.submit("incr", "k", timeout=0.05)
    with pytest.raises(NotSent):
        await client.submit_many([("incr", "k")], timeout=0.05)
    cluster.elect("n3")
    assert (await client.submit("incr", "k")).value == 1


async def test_a_written_command_without_an_answer_is_unknown_and_its_number_is_filled(
    cluster: FakeCluster, client: Client
) -> None:
    await client.submit("incr", "k")
    cluster.held = True
    with pytest.raises(Unknown, match="n2"):
        await client.submit("incr", "k", timeout=0.05)
    cluster.release()
    assert (await client.submit("incr", "k")).value == 3, "the original came first; its NOOP had no effect"


async def test_an_unknown_command_that_was_lost_never_happens(cluster: FakeCluster, client: Client) -> None:
    await client.submit("incr", "k")
    cluster.held = True
    with pytest.raises(Unknown):
        await client.submit("incr", "k", timeout=0.05)
    cluster.lose_taken()
    cluster.elect("n3")
    cluster.release()
    assert (await client.submit("incr", "k")).value == 2, "the NOOP won"


async def test_a_cancelled_call_leaves_no_hole(cluster: FakeCluster, client: Client) -> None:
    await client.submit("incr", "k")
    cluster.held = True
    task = asyncio.create_task(client.submit("incr", "k"))
    await asyncio.sleep(0.01)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    cluster.release()
    assert (await client.submit("incr", "k")).value == 3


async def test_a_stalled_batch_tells_what_is_known(cluster: FakeCluster, client: Client) -> None:
    await client.submit("incr", "k")
    cluster.shells["n2"].on_applied.append(lambda applied: setattr(cluster, "held", True))
    with pytest.raises(Unknown) as caught:
        await client.submit_many([("append", "l", "x" * 1_000) for _ in range(600)], timeout=0.5)
    receipts = caught.value.receipts
    assert isinstance(receipts, Receipts) and len(receipts) == 600
    known = [receipt for receipt in receipts if receipt]
    assert 0 < len(known) == receipts.known < 600
    assert [receipt.value for receipt in known] == list(range(1, len(known) + 1))
    assert receipts[-1] is None


async def test_stream_of_an_async_source_in_order_with_progress(client: Client) -> None:
    async def source() -> AsyncIterator[tuple[Any, ...]]:
        for index in range(5_000):
            if index % 700 == 0:
                await asyncio.sleep(0)
            yield ("append", "l", index)

    seen: list[int] = []
    reported: list[Receipt] = []
    receipts = await client.submit_stream(
        source(), keep=False, on_progress=lambda so_far: seen.append(so_far.known), on_receipts=reported.extend
    )
    assert (receipts.count, receipts.ok) == (5_000, 5_000)
    assert seen == sorted(seen) and seen[-1] == 5_000
    assert [receipt.value for receipt in reported] == list(range(1, 5_001))
    assert (await client.query("get", "l")).value == list(range(5_000))


async def test_stream_packs_ahead_only_so_much(
    cluster: FakeCluster, client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(client_module, "STREAM_QUEUE_BYTES", 100_000)
    await client.submit("incr", "k")
    cluster.held = True
    taken = 0

    def source() -> Any:
        nonlocal taken
        for _ in range(20_000):
            taken += 1
            yield ("set", "k", "x" * 500)

    with pytest.raises(Unknown):
        await client.submit_stream(source(), timeout=0.1)
    assert taken * 500 < SESSION_PENDING_RECORDS_MAX * 1_300 + 100_000 + 64 * 1_024 + 1_024 * 600 < 20_000 * 500


async def test_a_refused_command_ends_a_stream_after_those_before_it_happened(client: Client) -> None:
    with pytest.raises(Refused, match="command 3000: unknown command 'nope'"):
        await client.submit_stream([("incr", "k")] * 3_000 + [("nope",), ("incr", "k")])
    assert (await client.query("get", "k")).value == 3_000


async def test_a_refused_command_of_a_source_that_waits_is_numbered_from_its_begin(client: Client) -> None:
    async def source() -> AsyncIterator[tuple[Any, ...]]:
        for number in range(3_000):
            yield ("incr", "k") if number < 2_999 else ("nope",)

    with pytest.raises(Refused, match=r"^command 2999: unknown command 'nope'") as caught:
        await client.submit_stream(source())
    assert caught.value.index == 2_999
    assert caught.value.reason.startswith("unknown command 'nope'")


async def test_an_error_in_the_source_is_raised(client: Client) -> None:
    async def source() -> AsyncIterator[tuple[Any, ...]]:
        yield ("incr", "k")
        raise OSError("the file is gone")

    with pytest.raises(OSError, match="the file is gone"):
        await client.submit_stream(source())
    assert (await client.submit("incr", "k")).value in (1, 2)


@pytest.mark.parametrize("callback", ["on_receipts", "on_progress"])
@pytest.mark.parametrize("error", [OSError("disk full"), Refused("mine"), asyncio.CancelledError("mine")])
async def test_what_a_callback_raises_ends_the_call_and_nothing_else(
    cluster: FakeCluster, client: Client, callback: Any, error: BaseException
) -> None:
    calls = 0

    def fail(_: Any) -> None:
        nonlocal calls
        calls += 1
        raise error

    link = client._keeper.link
    callbacks: Any = {callback: fail}
    with pytest.raises(type(error), match=str(error)):
        await client.submit_stream([("append", "l", index) for index in range(20_000)], **callbacks)
    assert calls == 1 and client._keeper.link is link
    assert (await client.submit("append", "l", -1)).outcome == "ok"
    appended = (await client.query("get", "l")).value
    assert appended == [*range(len(appended) - 1), -1]


async def test_query_errors(client: Client) -> None:
    with pytest.raises(Refused, match="unknown query 'nope'"):
        await client.query("nope")
    with pytest.raises(Refused, match="query 'get' takes 1 argument, not 0"):
        await client.query("get")
    with pytest.raises(Refused, match="no majority has confirmed"):
        await client.query("get", "k", consistency="linearizable", timeout=0.05)
    with pytest.raises(Refused, match="no proof of how old"):
        await client.query("get", "k", consistency="bounded")
    with pytest.raises(Refused, match="below zero"):
        await client.query("get", "k", consistency="bounded", max_ms=-1)
    with pytest.raises(Refused, match="unknown"):
        await client.query("get", "k", consistency="fresh")  # type: ignore[arg-type]
    with pytest.raises(Refused, match="min_seq"):
        await client.query("get", "k", min_seq=-1)
    with pytest.raises(Refused, match="cannot be sent"):
        await client.query("get", object())
    with pytest.raises(Refused, match="cannot be sent"):
        await client.query("get", {(1, 2): 3})
    with pytest.raises(Refused, match="cannot be sent"):
        await client.query("get", "k" * (1 << 20))
    with pytest.raises(NotYet, match="has applied event 0 and not yet 9"):
        await client.query("get", "k", min_seq=9)


async def test_a_bound_is_kept_or_refused(client: Client) -> None:
    bounds: list[Any] = [{"max_ms": 100}, {"max_lag": 0}]
    for bound in bounds:
        with pytest.raises(Refused, match="no proof of how old"):
            await client.query("size", **bound)
        with pytest.raises(Refused, match="no proof of how old"):
            await client.query_many([("size",)], **bound)
        for level in ("any", "session", "linearizable"):
            with pytest.raises(Refused, match=f"go with level 'bounded', not '{level}'"):
                await client.query("size", consistency=level, **bound)
    assert (await client.query("size")).level == "session"


@pytest.mark.parametrize(
    "keywords",
    [
        {"min_seq": 1.5}, {"min_seq": True}, {"max_lag": 1.5}, {"max_ms": float("nan")}, {"max_ms": float("inf")},
        {"consistency": 5}, {"consistency": ""}, {"timeout": float("nan")}, {"timeout": float("inf")},
        {"timeout": 10**9},
    ],
)  # fmt: skip
async def test_numbers_that_are_none_are_refused_at_once(client: Client, keywords: Any) -> None:
    with pytest.raises(Refused, match=next(iter(keywords))):
        await client.query("size", **keywords)


@pytest.mark.parametrize("timeout", [float("nan"), float("inf"), 86_401])
async def test_no_deadline_is_further_away_than_a_day(cluster: FakeCluster, client: Client, timeout: float) -> None:
    with pytest.raises(ConfigError, match="at most 86,400 seconds"):
        connect(cluster.config, timeout=timeout)
    with pytest.raises(Refused, match="at most 86,400 seconds"):
        await client.submit("incr", "k", timeout=timeout)
    with pytest.raises(Refused, match="at most 86,400 seconds"):
        await client.submit_many([("incr", "k")], timeout=timeout)
    with pytest.raises(Refused, match="at most 86,400 seconds"):
        await client.submit_stream([("incr", "k")], timeout=timeout)
    assert (await client.query("get", "k")).value is None, "what was refused did not happen"
    assert (await client.submit("incr", "k", timeout=86_400)).value == 1


async def test_a_client_that_is_not_open_refuses_at_once_and_says_why(cluster: FakeCluster) -> None:
    client = connect(cluster.config, timeout=0.5)

    async def refuses(words: str) -> None:
        for call in (
            client.submit("incr", "k"), client.submit_many([("incr", "k")]), client.submit_stream([("incr", "k")]),
            client.query("size"), client.query_many([("size",)]),
        ):  # fmt: skip
            with pytest.raises(Refused, match=words):
                await call

    await refuses("not open; use `async with")
    for count in (1, 2):
        async with client:
            assert (await client.query("size")).level == "session"
            if count == 1:
                assert (await client.submit("incr", "k")).value == 1
        await refuses("is closed")
    assert (await client.status())["nodes"][0]["reachable"]


async def test_status_and_gaps_ask_every_node_and_say_who_is_down(tmp_path: Path) -> None:
    fake = FakeCluster(tmp_path, KeyValue)
    async with serving(fake) as gateways, connect(fake.config, at="n1") as client:
        await gateways["n3"].stop(drain_s=0)
        status = await client.status()
        assert (status["cluster"], status["epoch"], status["sequencer"]) == ("lab", 1, "n1")
        assert [(node["id"], node["reachable"], node["state"]) for node in status["nodes"]] == [
            ("n1", True, "live"), ("n2", True, "live"), ("n3", False, None),
        ]  # fmt: skip
        gaps = await client.gaps()
        assert [node.get("open") for node in gaps["nodes"]] == [[], [], None]


async def test_fault_needs_permission_and_sense(tmp_path: Path) -> None:
    fake = FakeCluster(tmp_path, KeyValue, allow_faults=True)
    async with serving(fake), connect(fake.config) as client:
        assert (await client.fault("n2", "loss=5%"))["node"]["fault"] == "loss=5%"
        assert fake.shells["n2"].faults == ["loss=5%"]
        with pytest.raises(Refused, match="no fault"):
            await client.fault("n2", "nonsense")
        with pytest.raises(ConfigError):
            await client.fault("n9", "clear")


async def test_faults_are_off_by_default(client: Client) -> None:
    with pytest.raises(Refused, match="allow_faults"):
        await client.fault("n1", "clear")


async def test_nobody_answers(tmp_path: Path) -> None:
    fake = FakeCluster(tmp_path, KeyValue)
    with pytest.raises(NotSent, match=f"n2 at {fake.config.node('n2').address}: connection refused"):
        async with connect(fake.config, at="n2", timeout=0.1, strict=True):
            pass
    with pytest.raises(ConfigError):
        connect(fake.config, at="n9")


async def test_another_cluster_on_that_address_is_named(tmp_path: Path) -> None:
    import dataclasses

    fake = FakeCluster(tmp_path, KeyValue)
    foreign = dataclasses.replace(fake.config, name="other")
    async with serving(fake):
        with pytest.raises(NotSent, match="this is a node of 'lab', not of 'other'"):
            async with connect(foreign, timeout=0.1):
                pass


async def test_a_node_that_dies_while_it_is_dialled_is_not_taken_for_one_with_another_key(tmp_path: Path) -> None:
    """Without a key file, a connection that ends before the first answer is all there is to tell either by."""
    config = FakeCluster(tmp_path, KeyValue).config
    node, closed = config.nodes[0], asyncio.Event()

    def end(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.close()
        dying.close()
        closed.set()

    dying = await asyncio.start_server(end, node.host, node.port)
    with pytest.raises(NotSent, match="connection refused"):
        async with connect(config, at=node.id, timeout=0.5, strict=True):
            raise AssertionError("connected")
    assert closed.is_set()


async def test_a_node_that_ends_every_connection_unheard_may_have_another_key(tmp_path: Path) -> None:
    config = FakeCluster(tmp_path, KeyValue).config
    node = config.nodes[0]
    async with await asyncio.start_server(lambda _, writer: writer.close(), node.host, node.port):
        with pytest.raises(ConfigError, match="keys differ"):
            async with connect(config, at=node.id, timeout=0.5, strict=True):
                raise AssertionError("connected")
