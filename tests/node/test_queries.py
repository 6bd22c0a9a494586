"""Queries: answered at once, after the event they wait for, or refused; nothing weaker."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import msgpack
import pytest

from mcast.machine.kv import KeyValue
from mcast.node import queries as queries_module
from mcast.node.fake import FakeCluster, FakeShell
from mcast.node.queries import Queries
from mcast.wire.records import RecordKind, encode_record
from mcast.wire.stream import Query, Splitter, StreamKind, decode_stream_untrusted


class Asked:
    """A Queries and what it replied."""

    def __init__(self, folder: Path, nodes: int = 1) -> None:
        self.cluster = FakeCluster(folder, KeyValue, nodes=nodes)
        self.shell: FakeShell = self.cluster.shells["n1"]
        self.queries = Queries(self.shell)  # type: ignore[arg-type]
        self.shell.on_applied.append(lambda applied: self.queries.applied())
        self.replies: list[Any] = []

    def ask(self, name: str = "size", *args: Any, level: str = "session", min_seq: int = 0) -> None:
        """Ask query number len(replies) + 1."""
        query = Query(7, name, list(args), level, min_seq, None, None)
        self.queries.ask(query, self._replied)

    def event(self) -> None:
        """One more event."""
        self.shell.submit([(encode_record(RecordKind.OPEN, 1, 0, 0, 0, bytes(16)),)])
        self.cluster.pump()

    def _replied(self, data: bytes) -> None:
        ((kind, payload),) = Splitter().feed(data)
        assert kind in (StreamKind.ANSWER, StreamKind.QUERY_REFUSED)
        self.replies.append(decode_stream_untrusted(kind, payload))


@pytest.fixture
async def asked(tmp_path: Path) -> Asked:
    return Asked(tmp_path)


async def test_an_answer_says_where_it_holds(asked: Asked) -> None:
    asked.event()
    asked.cluster.last_seq += 3
    asked.ask(level="any", min_seq=99)
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


@pytest.mark.parametrize(("ruling", "better"), [("n1", None), ("n2", "n2"), (None, None)])
async def test_an_event_that_does_not_come_is_not_yet_but_perhaps_at_the_sequencer(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, ruling: str | None, better: str | None
) -> None:
    monkeypatch.setattr(queries_module, "SESSION_READ_WAIT_S", 0.01)
    asked = Asked(tmp_path, nodes=2)
    asked.cluster.reign(ruling)
    asked.ask(min_seq=1)
    await asyncio.sleep(0.02)
    (refused,) = asked.replies
    assert refused.kind == "not yet" and "not yet 1" in refused.reason and refused.try_node == better
    asked.cluster.reign("n1")
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
        ("size", (), "bounded", "not served yet by this version"),
        ("size", (), "linearizable", "not served yet by this version"),
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
        (bytes(6 << 20), "cannot be sent"), ("\ud800", "cannot be sent"),
    ):  # fmt: skip
        object.__setattr__(asked.shell.engine.machine, "size", Odd(result))
        asked.ask()
        refused = asked.replies.pop()
        assert words in refused.reason and refused.kind == "failed"
        msgpack.packb(refused)


@pytest.mark.parametrize(("ruling", "better"), [("n1", "n2"), ("n3", "n3"), (None, "n2")])
async def test_a_halted_node_refuses_every_query_and_names_another(
    tmp_path: Path, ruling: str | None, better: str
) -> None:
    asked = Asked(tmp_path, nodes=3)
    asked.cluster.reign(ruling)
    asked.ask(min_seq=1)
    asked.shell.halt("the disk failed")
    asked.queries.halted()
    asked.ask(level="any")
    asked.ask(min_seq=1)
    assert [(refused.kind, refused.try_node) for refused in asked.replies] == [("refused", better)] * 3
    assert all("n1 has halted: the disk failed" in refused.reason for refused in asked.replies)


async def test_a_halted_node_that_is_alone_names_nobody(asked: Asked) -> None:
    asked.shell.halt("the disk failed")
    asked.ask()
    assert asked.replies[0].try_node is None
