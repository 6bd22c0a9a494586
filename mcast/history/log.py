"""What a log executed, read from its bytes alone: not through the engine, which is among the things to be checked.

A second reading of the rules of sessions, in their plainest form: a record takes effect when its session is open and it
follows the session's last request, else not at all. Sessions idle for so long that they are evicted are not modelled:
histories are shorter than that.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import msgpack

from mcast.errors import DecodeError
from mcast.history.findings import Finding
from mcast.wire.frame import CHAIN_ZERO, Frame, follows
from mcast.wire.records import Record, RecordKind, decode_fragment_untrusted, decode_records_untrusted


class LoggedEvent(NamedTuple):
    """A command that took effect; `command` is [name, arg, ...]."""

    seq: int
    epoch: int
    command: list[Any]


@dataclass(frozen=True, slots=True)
class ReplicaLog:
    """One log from event 1 on. `epochs` by event number; `chains` by those that end a frame."""

    events: Mapping[int, LoggedEvent]
    epochs: Mapping[int, int]
    chains: Mapping[int, bytes]
    last: int


def read_log(node: str, frames: Iterable[Frame]) -> tuple[ReplicaLog, list[Finding]]:
    """Read a node's log, up to the first thing that is wrong with it."""
    reader = _LogReader()
    findings = []
    try:
        for frame in frames:
            reader.read(frame)
    except DecodeError as error:
        findings.append(Finding("one log", f"the log of {node}: {error}"))
    return ReplicaLog(reader.events, reader.epochs, reader.chains, reader.last), findings


def compare_logs(logs: Mapping[str, ReplicaLog]) -> list[Finding]:
    """Whether every log is the beginning of the longest one."""
    findings = []
    longest = max(logs, key=lambda node: logs[node].last)
    chains = logs[longest].chains
    for node, log in logs.items():
        differs = next((seq for seq, chain in log.chains.items() if chains.get(seq) != chain), None)
        if differs is not None:
            findings.append(Finding("one log", f"the logs of {node} and {longest} differ at event {differs}"))
    return findings


class _LogReader:
    def __init__(self) -> None:
        self.events: dict[int, LoggedEvent] = {}
        self.epochs: dict[int, int] = {}
        self.chains: dict[int, bytes] = {}
        self.last = 0
        self._epoch = 0
        self._chain = CHAIN_ZERO
        self._time = 0
        self._requests: dict[int, int] = {}
        """Open session -> its last request."""
        self._nonces: dict[bytes, int] = {}
        self._pieces: list[bytes] = []
        self._whole = (0, 0, 0)

    def read(self, frame: Frame) -> None:
        if frame.first != self.last + 1 or not follows(frame, self._chain):
            raise DecodeError("broken chain", f"event {frame.first} does not follow {self.last}")
        if frame.epoch < self._epoch or frame.time < self._time:
            raise DecodeError("going back", f"epoch {frame.epoch} after {self._epoch}, or time, at event {frame.first}")
        seq = frame.first
        for record in decode_records_untrusted(frame.body):
            self._record(record, seq, frame.epoch)
            seq += record.count
        if seq != frame.first + frame.count:
            raise DecodeError("bad frame", f"event {frame.first}: {frame.count} events claimed, not held")
        self.last, self._epoch, self._chain, self._time = frame.last, frame.epoch, frame.chain, frame.time
        self.epochs.update(dict.fromkeys(range(frame.first, seq), frame.epoch))
        self.chains[self.last] = frame.chain

    def _record(self, record: Record, seq: int, epoch: int) -> None:
        if record.kind != RecordKind.FRAGMENT:
            self._pieces = []
        if record.kind == RecordKind.COMMANDS:
            self._execute(record, record.payload, seq, epoch)
        elif record.kind == RecordKind.FRAGMENT:
            command = self._assemble(record)
            if command is not None:
                self._execute(record, command, seq, epoch)
        elif record.kind == RecordKind.NOOP:
            self._take(record)
        elif record.kind == RecordKind.OPEN:
            nonce = bytes(record.payload)
            if self._nonces.get(nonce) not in self._requests:
                self._nonces[nonce] = seq
                self._requests[seq] = 0
        elif record.kind == RecordKind.CLOSE:
            self._requests.pop(record.session, None)

    def _take(self, record: Record) -> bool:
        """Whether the record is its session's next one."""
        if self._requests.get(record.session) != record.request - 1:
            return False
        self._requests[record.session] = record.request + record.count - 1
        return True

    def _execute(self, record: Record, payload: bytes | memoryview, seq: int, epoch: int) -> None:
        if self._take(record):
            unpacker = msgpack.Unpacker(max_buffer_size=max(len(payload), 1), strict_map_key=False)
            unpacker.feed(payload)
            commands: Sequence[list[Any]] = list(unpacker)
            if len(commands) != record.count:
                raise DecodeError("bad record", f"event {seq}: {record.count} commands claimed, {len(commands)} held")
            for place, command in enumerate(commands):
                self.events[seq + place] = LoggedEvent(seq + place, epoch, command)

    def _assemble(self, record: Record) -> bytes | None:
        index, total, piece = decode_fragment_untrusted(record.payload)
        whole = (record.session, record.request, total)
        if index == 0:
            self._pieces, self._whole = [], whole
        if index != len(self._pieces) or whole != self._whole:
            self._pieces = []
            return None
        self._pieces.append(bytes(piece))
        return b"".join(self._pieces) if len(self._pieces) == total else None
