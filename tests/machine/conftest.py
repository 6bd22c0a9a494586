"""A log written by hand: frames of any records, applied to an engine as they are written."""

from collections.abc import Callable, Sequence
from typing import Any

import pytest

from mcast.machine.api import Context, Rejected, StateMachine, command, query
from mcast.machine.commands import encode_command
from mcast.machine.engine import Applied, Engine
from mcast.machine.outcomes import Outcome, decode_outcomes_untrusted
from mcast.wire.frame import Frame, make_frame
from mcast.wire.records import RecordKind, encode_record


class Notebook(StateMachine):
    """Remembers what it was told, and misbehaves on demand."""

    def __init__(self) -> None:
        self.notes: list[Any] = []

    @command
    def note(self, ctx: Context, item: Any) -> int:
        self.notes.append(item)
        return len(self.notes)

    @command
    def stamp(self, ctx: Context) -> list[int]:
        return [ctx.seq, ctx.time]

    @command
    def draw(self, ctx: Context) -> list[int]:
        return [ctx.random.getrandbits(62), ctx.random.getrandbits(62)]

    @command
    def all(self, ctx: Context) -> list[Any]:
        return self.notes

    @command
    def refuse(self, ctx: Context, *why: Any) -> None:
        raise Rejected(*why)

    @command
    def fail(self, ctx: Context, how: str) -> Any:
        raise {"zero": ZeroDivisionError, "key": KeyError, "memory": MemoryError, "exit": SystemExit}[how]("at 0x7f")

    @command
    def recurse(self, ctx: Context) -> Any:
        return self.recurse(ctx)

    @command
    def give(self, ctx: Context, what: str, size: int = 0) -> Any:
        return {"object": object(), "set": {1}, "big": 1 << 70, "text": "x" * size, "tuple": (1, [2])}[what]

    @query
    def count(self) -> int:
        return len(self.notes)

    @query
    def broken(self, why: str = "") -> int:
        if why:
            raise Rejected(why)
        raise ZeroDivisionError("at 0x7f")


class Log:
    """Numbers records one frame at a time and applies each to `engine`."""

    def __init__(self, engine: Engine) -> None:
        self.engine = engine
        self.epoch = 1
        self.time = 0
        self.frames: list[Frame] = []

    def add(self, *records: bytes, count: int | None = None) -> list[Applied]:
        engine = self.engine
        counts = sum(int.from_bytes(record[4:8], "big") for record in records) if count is None else count
        frame = make_frame(
            self.epoch, engine.applied_seq + 1, counts, engine.applied_seq, self.time, engine.chain, b"".join(records)
        )
        self.frames.append(frame)
        return engine.apply([frame])

    def open(self, nonce: bytes = bytes(16)) -> int:
        """Open a session and watch it; its id."""
        self.engine.watch_nonce(nonce)
        [opened] = self.add(encode_record(RecordKind.OPEN, 1, 0, 0, 0, nonce))
        if opened.session:
            self.engine.watch(opened.session)
        return opened.session

    def send(self, session: int, request: int, *commands: Sequence[Any], lowest: int = 1) -> Applied:
        """One record of commands; what became of it."""
        [applied] = self.add(record(session, request, *commands, lowest=lowest))
        return applied

    def outcomes(self, session: int, request: int, *commands: Sequence[Any]) -> list[Outcome]:
        return decode_outcomes_untrusted(self.send(session, request, *commands).outcomes)


def whole(outcomes: bytes | None) -> list[Outcome]:
    """What a record came to whose time was not over."""
    assert outcomes is not None
    return decode_outcomes_untrusted(outcomes)


def record(session: int, request: int, *commands: Sequence[Any], lowest: int = 1) -> bytes:
    payload = b"".join(encode_command(name, *args) for name, *args in commands)
    return encode_record(RecordKind.COMMANDS, len(commands), session, request, lowest, payload)


@pytest.fixture(name="record")
def _record() -> Callable[..., bytes]:
    return record


@pytest.fixture
def notebook() -> Notebook:
    return Notebook()


@pytest.fixture
def log(notebook: Notebook) -> Log:
    return Log(Engine(notebook))


@pytest.fixture
def log_of() -> Callable[..., Log]:
    return lambda machine=None, **rules: Log(Engine(machine or Notebook(), **rules))
