"""Queries: answered at once, after the event they wait for, or refused; nothing weaker."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgpack
import pytest

from mcast.clock import monotonic_s
from mcast.errors import DecodeError
from mcast.limits import LEARNED_S, SESSION_READ_WAIT_S
from mcast.machine.kv import KeyValue
from mcast.node.fake import FakeCluster, FakeShell
from mcast.node.gateway import answering as answering_module
from mcast.node.gateway import queries as queries_module
from mcast.node.gateway.queries import Queries
from mcast.protocol.effects import ReadReady
from mcast.wire.records import RecordKind, encode_record
from mcast.wire.splitter import Splitter
from mcast.wire.stream import HEAD_BYTES, Query, StreamKind, decode_stream_untrusted, pack_message


class Clock:
    """Stands until a test moves it."""

    def __init__(self) -> None:
        self.now_s = 1_000.0

    def __call__(self) -> float:
        return self.now_s


class Asked:
    """A Queries and what it replied."""

    clock: Callable[[], float] = staticmethod(monotonic_s)

    def __init__(self, folder: Path, nodes: int = 1, machine: type[KeyValue] = KeyValue) -> None:
        self.cluster = FakeCluster(folder, machine, nodes=nodes)
        self.shell: FakeShell = self.cluster.shells["n1"]
        self.queries = Queries(self.shell)  # type: ignore[arg-type]
        self.shell.on_applied.append(lambda applied: self.queries.on_applied())
        self.replies: list[Any] = []
        self.writes = 0

    def ask(
        self, name: str = "size", *args: Any, level: str = "session", min_seq: int = 0, max_ms: float | None = None,
        max_lag: int | None = None, timeout_ms: float = 5_000.0,
    ) -> None:  # fmt: skip
        """Ask query number len(replies) + 1."""
        query = Query(7, name, list(args), level, min_seq, max_ms, max_lag, timeout_ms)
        self.queries.on_queries([pack_message(StreamKind.QUERY, query)[HEAD_BYTES:]], self._replied)

    def index(self, commit: int, *tokens: int) -> None:
        """The read index that was asked for last, or these, come back."""
        self.queries.on_read_ready(ReadReady(tokens or (self.shell.reads,), commit))

    def prove(self, commit: int, age_s: float) -> None:
        """A heartbeat's proof."""
        self.shell.replica.proven = commit, self.clock() - age_s

    def event(self) -> None:
        """One more event."""
        self.shell.submit([(encode_record(RecordKind.OPEN, 1, 0, 0, 0, bytes(16)),)])
        self.cluster.pump()

    def _replied(self, data: bytes) -> None:
        self.writes += 1
        for kind, payload in Splitter().feed(data):
            assert kind in (StreamKind.ANSWER, StreamKind.QUERY_REFUSED)
            self.replies.append(decode_stream_untrusted(kind, payload))


@pytest.fixture
async def asked(tmp_path: Path) -> Asked:
    return Asked(tmp_path)


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    """The clock of every Asked, which a busy machine does not move."""
    clock = Clock()
    for module in (queries_module, answering_module):
        monkeypatch.setattr(module, "monotonic_s", clock)
    monkeypatch.setattr(Asked, "clock", staticmethod(clock))
    return clock


async def test_an_answer_says_where_it_holds(asked: Asked) -> None:
    asked.event()
    asked.cluster.last_seq += 3
    asked.ask(level="any")
    (answer,) = asked.replies
    assert answer == (7, 0, 1, 1, 3, None, "n1", "any")


async def test_session_queries_wait_for_their_event_in_any_order(asked: Asked) -> None:
    for seq in (3, 1, 2, 2):
        asked.ask(min_seq=seq)
    assert asked.replies == []
    asked.event()
    assert [answer.seq for answer in asked.replies] == [1]
    asked.event()
    asked.event()
    assert [answer.seq for answer in asked.replies] == [1, 2, 2, 3]
    assert asked.queries.answered == 4


@pytest.mark.parametrize(("sequencer", "better"), [("n1", None), ("n2", "n2"), (None, None)])
async def test_an_event_that_does_not_come_is_not_yet_but_perhaps_at_the_sequencer(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, sequencer: str | None, better: str | None
) -> None:
    monkeypatch.setattr(queries_module, "SESSION_READ_WAIT_S", 0.01)
    asked = Asked(tmp_path, nodes=2)
    asked.cluster.elect(sequencer)
    asked.ask(min_seq=1)
    await asyncio.sleep(0.02)
    (refused,) = asked.replies
    assert refused.kind == "not yet" and "not yet 1" in refused.reason and refused.try_node == better
    asked.cluster.elect("n1")
    asked.event()
    assert len(asked.replies) == 1, "answered once"


async def test_waiting_queries_are_bounded(asked: Asked, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(queries_module, "GATEWAY_READS_WAITING", 1)
    asked.ask(min_seq=1)
    asked.ask(min_seq=1)
    assert [refused.kind for refused in asked.replies] == ["refused"]
    asked.queries.stop()


@pytest.mark.parametrize(
    ("name", "args", "level", "words"),
    [
        ("nope", (), "any", "no query named"),
        ("get", (), "any", "takes"),
        ("size", (), "strong", "unknown"),
    ],
)
async def test_what_cannot_be_served_is_refused(asked: Asked, name: str, args: Any, level: str, words: str) -> None:
    asked.ask(name, *args, level=level)
    (refused,) = asked.replies
    assert words in refused.reason and refused.kind == "refused"
    assert asked.queries.answered == 0


async def test_a_raising_handler_and_an_answer_that_cannot_be_packed_fail_alone(asked: Asked) -> None:
    class Odd:
        def __init__(self, result: Any) -> None:
            self.result = result

        def __call__(self) -> Any:
            if isinstance(self.result, Exception):
                raise self.result
            return self.result

    for result, words in (
        (ValueError("\ud800 secret"), "ValueError"), (object(), "cannot be sent"), (2**80, "cannot be sent"),
        (bytes(6 << 20), "cannot be sent"), ("\ud800", "cannot be sent"), ({(1, 2): 3}, "cannot be sent"),
        ([[1], {"k": [{(): 1}]}], "cannot be sent"), ({"k": {(1,): 1}}, "cannot be sent"),
    ):  # fmt: skip
        object.__setattr__(asked.shell.engine.machine, "size", Odd(result))
        asked.ask()
        refused = asked.replies.pop()
        assert words in refused.reason and refused.kind == "failed"
        msgpack.packb(refused)
    values: list[Any] = [[], [[]], {}, [[1, "k"], [b"", None]], {1: 2.5, "k": [{b"k": ()}]}, msgpack.Timestamp(1)]
    for value in values:
        object.__setattr__(asked.shell.engine.machine, "size", Odd(value))
        asked.ask()
        assert msgpack.packb(asked.replies.pop().value) == msgpack.packb(value)


@pytest.mark.parametrize(("sequencer", "better"), [("n1", ("n2", "n3")), ("n3", ("n3",)), (None, ("n2", "n3"))])
async def test_a_halted_node_refuses_every_query_and_names_another(
    tmp_path: Path, sequencer: str | None, better: tuple[str, ...]
) -> None:
    asked = Asked(tmp_path, nodes=3)
    asked.cluster.elect(sequencer)
    asked.ask(min_seq=1)
    asked.shell.halt("the disk failed")
    asked.queries.on_halted()
    asked.ask(level="any")
    asked.ask(min_seq=1)
    assert {refused.kind for refused in asked.replies} == {"refused"}
    assert {refused.try_node for refused in asked.replies} == set(better)
    assert all("n1 has halted: the disk failed" in refused.reason for refused in asked.replies)


async def test_a_halted_node_that_is_alone_names_nobody(asked: Asked) -> None:
    asked.shell.halt("the disk failed")
    asked.ask()
    assert asked.replies[0].try_node is None


async def turn() -> None:
    """What was put off to the end of this turn of the loop has happened."""
    await asyncio.sleep(0)


async def test_a_thousand_linearizable_queries_share_one_read_index(asked: Asked) -> None:
    for _ in range(1_000):
        asked.ask(level="linearizable")
    await turn()
    assert (asked.shell.reads, asked.replies) == (1, [])
    asked.index(0)
    while len(asked.replies) < 1_000:
        await turn()
    assert asked.queries.answered == 1_000
    assert {answer.level for answer in asked.replies} == {"linearizable"}


async def test_an_index_is_never_used_for_a_query_that_came_after_it_was_asked(asked: Asked) -> None:
    asked.ask(level="linearizable")
    await turn()
    asked.ask(level="linearizable")
    asked.ask(level="linearizable")
    await turn()
    assert asked.shell.reads == 1, "one at a time"
    asked.index(0)
    assert len(asked.replies) == 1
    await turn()
    assert asked.shell.reads == 2
    asked.index(0, 1)
    assert len(asked.replies) == 1, "an old token means nothing"
    asked.index(0)
    assert len(asked.replies) == 3


async def test_a_linearizable_query_waits_until_its_index_is_applied(asked: Asked) -> None:
    asked.ask(level="linearizable")
    asked.ask(level="linearizable", min_seq=3)
    await turn()
    asked.index(2)
    asked.event()
    assert asked.replies == []
    asked.event()
    assert [answer.seq for answer in asked.replies] == [2]
    asked.event()
    assert [answer.seq for answer in asked.replies] == [2, 3]


async def test_a_linearizable_query_without_an_index_is_refused_before_its_deadline(tmp_path: Path) -> None:
    asked = Asked(tmp_path, nodes=3)
    asked.cluster.elect("n2")
    loop = asyncio.get_running_loop()
    began, refused_at = loop.time(), loop.create_future()

    def replied(data: bytes) -> None:
        asked._replied(data)
        refused_at.set_result(loop.time())

    asked.queries.ask(Query(7, "size", [], "linearizable", 0, None, None, 50.0), replied)
    assert 0.04 < await refused_at - began < 5.0
    (refused,) = asked.replies
    assert "no majority has confirmed to n1 within 45 ms" in refused.reason
    assert (refused.kind, refused.try_node) == ("refused", "n2")
    asked.index(0)
    assert len(asked.replies) == 1, "answered once"


async def test_all_that_are_late_are_refused_by_one_timer(asked: Asked, monkeypatch: pytest.MonkeyPatch) -> None:
    loop = asyncio.get_running_loop()
    timers: list[float] = []

    def call_at(when: float, call: Callable[..., object], *args: object, context: object = None) -> asyncio.TimerHandle:
        timers.append(when)
        return asyncio.TimerHandle(when, call, args, loop)

    monkeypatch.setattr(loop, "call_at", call_at)
    for _ in range(300):
        asked.ask(level="linearizable", timeout_ms=1.0)
        asked.ask(level="any", min_seq=9, timeout_ms=1.0)
        asked.ask(level="linearizable")
    assert len(timers) == 2, "one for all deadlines, and one to learn of events that only tokens tell of"
    late_s = loop.time() + SESSION_READ_WAIT_S
    assert asked.queries._end_late(late_s) > late_s
    assert len(asked.replies) == 600 and len(asked.queries._all_waiting()) == 300
    assert asked.queries._end_late(loop.time() + 10.0) == float("inf")
    assert len(asked.replies) == 900 and asked.queries._all_waiting() == []


async def test_the_queries_of_one_read_are_answered_in_one_write(asked: Asked) -> None:
    asked.event()
    queries = [
        Query(1, "get", ["k"], "any", 0, None, None, 1e3), Query(2, "nope", [], "any", 0, None, None, 1e3),
        Query(3, "size", [], "session", 2, None, None, 1e3), Query(4, "size", [], "session", 1, None, None, 1e3),
    ]  # fmt: skip
    asked.queries.on_queries([pack_message(StreamKind.QUERY, query)[HEAD_BYTES:] for query in queries], asked._replied)
    assert [reply.id for reply in asked.replies] == [1, 2, 4] and asked.writes == 1
    asked.event()
    assert [reply.id for reply in asked.replies] == [1, 2, 4, 3]


async def test_a_read_that_is_no_query_in_the_middle_answers_what_came_before(asked: Asked) -> None:
    good = pack_message(StreamKind.QUERY, Query(1, "size", [], "any", 0, None, None, 1e3))[HEAD_BYTES:]
    with pytest.raises(DecodeError, match="not msgpack"):
        asked.queries.on_queries([good, b"", good], asked._replied)
    assert len(asked.replies) == 1


async def test_an_answer_never_says_that_the_state_is_younger_than_it_is(asked: Asked) -> None:
    asked.event()
    proven_s = monotonic_s() - 0.010
    asked.shell.replica.proven = 1, proven_s
    query = pack_message(StreamKind.QUERY, Query(1, "size", [], "any", 0, None, None, 1e3))[HEAD_BYTES:]
    asked.queries.on_queries([query] * 100, lambda data: asked._replied(data))
    age_ms = (monotonic_s() - proven_s) * 1e3
    assert 10.0 <= asked.replies[0].lag_ms <= age_ms + 1.0
    assert asked.replies[-1].lag_ms >= asked.replies[0].lag_ms


async def test_what_a_shell_cannot_ask_is_refused(asked: Asked, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(asked.shell, "ask_read", lambda: None)
    asked.ask(level="linearizable")
    await turn()
    assert "takes no linearizable queries" in asked.replies[0].reason


@pytest.mark.parametrize(
    ("commit", "age_s", "max_ms", "max_lag", "served"),
    [
        (1, 0.1, None, None, True),  # three heartbeats are the default
        (1, 0.2, None, None, False),
        (1, 0.2, 300.0, None, True),
        (2, 0.01, 300.0, None, False),  # behind the proof's commit: how old is unknown
        (2, 0.01, None, 1, True),
        (3, 0.01, None, 1, False),
        (2, 0.2, None, 1, False),  # the proof that lag counts against must itself be young
        (2, 0.01, 300.0, 1, False),  # both were asked for
        (1, 0.01, 0.0, None, False),
    ],
)
async def test_bounded_is_served_from_a_young_proof_or_waits_for_one(
    asked: Asked, clock: Clock, commit: int, age_s: float, max_ms: float | None, max_lag: int | None, served: bool
) -> None:
    asked.event()
    asked.prove(commit, age_s)
    asked.ask(level="bounded", max_ms=max_ms, max_lag=max_lag)
    await turn()
    assert (len(asked.replies), asked.shell.reads) == ((1, 0) if served else (0, 1))
    if served:
        (answer,) = asked.replies
        assert answer.level == "bounded" and (answer.lag_ms is None) == (commit > 1)
    asked.queries.stop()


async def test_bounded_queries_share_the_read_index_that_proves_them(asked: Asked, clock: Clock) -> None:
    asked.event()
    for _ in range(3):
        asked.ask(level="bounded")
        await turn()
    assert (asked.shell.reads, asked.replies) == (1, [])
    clock.now_s += 0.125
    asked.index(2)
    assert asked.replies == [], "event 2 is not applied"
    asked.event()
    assert [(answer.seq, answer.level) for answer in asked.replies] == [(2, "bounded")] * 3
    assert [answer.lag_ms for answer in asked.replies] == [125.0] * 3


async def test_a_read_index_proves_the_time_at_which_it_was_asked_for(asked: Asked, clock: Clock) -> None:
    asked.event()
    asked.ask(level="linearizable")
    await turn()
    clock.now_s += 0.25
    asked.index(1)
    (answer,) = asked.replies
    assert 250.0 <= answer.lag_ms <= 251.0


async def test_a_bounded_query_whose_proof_grew_too_old_while_it_waited_its_turn_asks_anew(
    asked: Asked, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(queries_module, "SLICE_S", 0.0)
    asked.event()
    for _ in range(2):
        asked.ask(level="bounded", max_ms=100.0)
    await turn()
    asked.index(1)
    assert (len(asked.replies), asked.shell.reads) == (1, 1)
    clock.now_s += 0.125  # the loop stands still
    for _ in range(3):
        await turn()
    assert (len(asked.replies), asked.shell.reads) == (1, 2)
    asked.index(1)
    assert [answer.level for answer in asked.replies] == ["bounded"] * 2
    assert [answer.lag_ms for answer in asked.replies] == [0.0] * 2


async def test_a_bounded_query_waits_for_its_event_too(asked: Asked) -> None:
    asked.event()
    asked.ask(level="bounded", min_seq=2)
    await turn()
    asked.index(1)
    assert asked.replies == [], "proven young, but event 2 is not applied"
    asked.event()
    assert [(answer.seq, answer.level) for answer in asked.replies] == [(2, "bounded")]


async def test_bounded_without_a_proof_is_refused_with_how_old_the_state_is(
    tmp_path: Path, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(queries_module, "SESSION_READ_WAIT_S", 0.01)
    asked = Asked(tmp_path, nodes=3)
    asked.cluster.elect(None)
    asked.ask(level="bounded")
    asked.prove(0, 10.0)
    asked.ask(level="any")
    asked.ask(level="bounded", max_lag=5)
    while len(asked.replies) < 3:
        await asyncio.sleep(0.01)
    answer, *refused = asked.replies
    assert 10_000 <= answer.lag_ms <= 10_001 and answer.level == "any"
    assert all("may be 10000" in one.reason and "at most 150 were asked for" in one.reason for one in refused)
    assert {one.try_node for one in refused} == {"n2", "n3"}


async def test_answering_many_at_once_leaves_the_loop_its_turns(asked: Asked, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(queries_module, "SLICE_S", 0.0)
    for _ in range(10):
        asked.ask(level="linearizable")
    await turn()
    asked.index(0)
    assert len(asked.replies) == 1
    for _ in range(10):
        await turn()
    assert len(asked.replies) == 10


async def test_of_many_queries_only_so_many_are_taken_as_there_is_time_for(asked: Asked) -> None:
    query = pack_message(StreamKind.QUERY, Query(7, "size", [], "any", 0, None, None, 5_000.0))[HEAD_BYTES:]
    assert asked.queries.on_queries([query] * 10, asked._replied, until_s=monotonic_s()) == 1
    assert asked.queries.on_queries([query] * 10, asked._replied, until_s=monotonic_s() + 60) == 10
    assert (len(asked.replies), asked.writes) == (11, 2)


async def test_an_isolated_node_serves_what_needs_no_majority_and_refuses_the_rest_at_once(asked: Asked) -> None:
    asked.event()
    asked.prove(1, 0.0)
    asked.shell.replica.alone_s = 4.2
    asked.ask(level="any")
    asked.ask(min_seq=1)
    assert [(reply.level, reply.seq, reply.lag_ms) for reply in asked.replies] == [
        ("any", 1, None),
        ("session", 1, None),
    ]
    asked.ask(level="linearizable")
    asked.ask(min_seq=2)
    asked.ask(level="bounded", max_lag=0, max_ms=1e-6)
    asked.ask(level="bounded", max_lag=1_000, max_ms=60_000)  # its old proof is young enough for that: no excuse
    assert [reply.reason for reply in asked.replies[2:]] == [
        "n1 is isolated: no majority has confirmed anything to it for 4.2 s"
    ] * 4
    asked.shell.replica.alone_s = 0.0
    asked.ask(level="any")
    assert asked.replies[-1].lag_ms is not None, "and no longer than it lasts"


async def test_a_token_of_an_event_that_nobody_told_of_asks_for_a_read_index(asked: Asked) -> None:
    asked.ask(min_seq=1)
    assert asked.shell.reads == 0, "it is likely on its way"
    await asyncio.sleep(LEARNED_S + 0.02)
    assert asked.shell.reads == 1
    asked.ask(min_seq=1)
    await asyncio.sleep(LEARNED_S + 0.02)
    assert asked.shell.reads == 1, "one at a time"


async def test_a_token_of_an_event_that_arrives_asks_for_nothing(asked: Asked) -> None:
    asked.ask(min_seq=1)
    asked.event()
    await asyncio.sleep(LEARNED_S + 0.02)
    assert (asked.shell.reads, len(asked.replies)) == (0, 1)
