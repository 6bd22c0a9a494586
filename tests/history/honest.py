"""Histories and logs of a service that keeps every promise, to be accepted as they are and rejected once corrupted."""

from __future__ import annotations

import copy
from dataclasses import dataclass, field
from typing import Any

import msgpack

from mcast.history.calls import RecordedCall
from mcast.history.model import KeyValueModel
from mcast.wire.frame import CHAIN_ZERO, Frame, make_frame
from mcast.wire.levels import Consistency
from mcast.wire.records import RecordKind, encode_record, split_fragments

MS = 1_000_000  # ns
STEP_NS = MS  # between the moments at which two calls take effect


@dataclass(frozen=True)
class Entry:
    """One frame of a log: a client's command, cut into fragments or repeated without effect; None: a new epoch."""

    client: str
    command: list[Any] | None
    fragments: int = 1
    resent: bool = False


def make_log(entries: list[Entry]) -> tuple[list[Frame], dict[int, int]]:
    """The frames, each client's OPEN before its first command; and entry -> (last) event number."""
    writer = _Writer()
    writer.write(RecordKind.EPOCH_START, [encode_record(RecordKind.EPOCH_START, 1, 0, 0, 0, b"")])
    places = {}
    for at, entry in enumerate(entries):
        writer.enter(entry)
        places[at] = writer.last
    return writer.frames, places


@dataclass
class Service:
    """Makes calls that take effect one after the other, STEP_NS apart, each within its window."""

    entries: list[Entry] = field(default_factory=list)
    calls: list[RecordedCall] = field(default_factory=list)
    values: list[dict[str, Any]] = field(default_factory=lambda: [{}])
    """The state after each entry; one more than there are entries."""
    ends_ns: list[int] = field(default_factory=lambda: [0])
    """When each state began."""
    now_ns: int = 1_000 * MS
    model: KeyValueModel = field(default_factory=KeyValueModel)

    def submit(self, client: str, *command: Any, early: int = 1, late: int = 1, fate: str = "ok", **log: Any) -> None:
        """A command; `fate` unknown takes effect, lost does not and is unknown, not_sent does not."""
        self.now_ns += STEP_NS
        name, *args = command
        call = RecordedCall(
            client=client, kind="submit", name=name, args=tuple(args), invoked_ns=self.now_ns - early, outcome="unknown"
        )
        if fate == "not_sent":
            call = changed(call, outcome="not_sent", returned_ns=self.now_ns + late)
        if fate in ("lost", "not_sent"):
            self.calls.append(call)
            return
        outcome, value = self.model.apply(name, args)
        self._enter(Entry(client, list(command), **log))
        if fate == "ok":
            call = changed(
                call, outcome=outcome, value=value, returned_ns=self.now_ns + late, seq=len(self.entries), epoch=0
            )
        self.calls.append(copy.deepcopy(call))

    def begin_epoch(self) -> None:
        """A new sequencer."""
        self._enter(Entry("", None))

    def resend(self, client: str, *command: Any) -> None:
        """The client's last command once more, under its old number."""
        self._enter(Entry(client, list(command), resent=True))

    def query(  # what a call may say, each by name
        self, client: str, *query: Any, level: Consistency = "session", early: int = 1, late: int = 1, back: int = 0,
        **more: Any,
    ) -> None:  # fmt: skip
        """An answer from the state `back` entries ago, saying honestly how old that is."""
        self.now_ns += STEP_NS
        name, *args = query
        at = max(len(self.entries) - back, 0)
        model = KeyValueModel()
        model.values = copy.deepcopy(self.values[at])
        outcome, value = model.answer(name, args)
        over_ns = self.ends_ns[at + 1] if at < len(self.entries) else self.now_ns
        call = RecordedCall(
            client=client, kind="query", name=name, args=tuple(args), invoked_ns=self.now_ns - early, outcome="ok",
            value=value, returned_ns=self.now_ns + late, seq=at, epoch=0, node="n1", level=level, served=level,
            lag_ms=(self.now_ns - over_ns) / MS, **more,
        )  # fmt: skip
        assert outcome == "ok"
        self.calls.append(call)

    def history(self, entries: list[Entry] | None = None) -> tuple[list[RecordedCall], list[Frame]]:
        """Calls with the numbers of the log (that of `entries` instead, if given), and its frames."""
        frames, places = make_log(self.entries)
        epochs = {frame.last: frame.epoch for frame in frames}
        calls = []
        for call in self.calls:
            if call.seq is None:
                calls.append(call)
            else:
                seq = places[call.seq - 1] if call.seq else 1
                calls.append(changed(call, seq=seq, epoch=epochs[seq]))
        return calls, frames if entries is None else make_log(entries)[0]

    def _enter(self, entry: Entry) -> None:
        self.entries.append(entry)
        self.values.append(copy.deepcopy(self.model.values))
        self.ends_ns.append(self.now_ns)


def changed(call: RecordedCall, **fields: Any) -> RecordedCall:
    """The call with other fields."""
    return RecordedCall(**{name: getattr(call, name) for name in RecordedCall.__struct_fields__} | fields)


class _Writer:
    def __init__(self) -> None:
        self.frames: list[Frame] = []
        self.last = 0
        self._chain = CHAIN_ZERO
        self._epoch = 0
        self._sessions: dict[str, tuple[int, int]] = {}
        """Client -> its session and last request."""

    def enter(self, entry: Entry) -> None:
        if entry.command is None:
            self.write(RecordKind.EPOCH_START, [encode_record(RecordKind.EPOCH_START, 1, 0, 0, 0, b"")])
            return
        opening = []
        if entry.client not in self._sessions:
            opening = [encode_record(RecordKind.OPEN, 1, 0, 0, 0, entry.client.encode().ljust(16))]
            self._sessions[entry.client] = self.last + 1, 0
        session, request = self._sessions[entry.client]
        request += not entry.resent
        self._sessions[entry.client] = session, request
        packed = msgpack.packb(entry.command)
        if entry.fragments == 1:
            records = [encode_record(RecordKind.COMMANDS, 1, session, request, request, packed)]
        else:
            records = split_fragments(session, request, request, packed, 44 + -(-len(packed) // entry.fragments))
        self.write(RecordKind.COMMANDS, opening + records)

    def write(self, kind: RecordKind, records: list[bytes]) -> None:
        self._epoch += kind == RecordKind.EPOCH_START
        body = b"".join(records)
        frame = make_frame(self._epoch, self.last + 1, len(records), 0, self.last, self._chain, body)
        self.frames.append(frame)
        self._chain, self.last = frame.chain, frame.last
