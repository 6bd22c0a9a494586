"""One replica without a network: numbers commands itself and applies them at once. For tests of machines.

The frames are what a sequencer would number, so the same commands give the same result chain and digest in any process;
a machine whose two rehearsals differ (under two PYTHONHASHSEEDs, say) would diverge on its replicas.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, Final

from mcast.machine.api import StateMachine
from mcast.machine.commands import encode_command
from mcast.machine.engine import Engine
from mcast.machine.outcomes import Outcome, decode_outcomes_untrusted
from mcast.wire.frame import Frame, make_frame
from mcast.wire.messages import Configuration, Genesis, encode_message
from mcast.wire.records import RecordKind, encode_record

RECORD_COMMANDS: Final = 64  # commands packed into one record, one record a frame
RECORD_BYTES: Final = 60_000  # ... or as many as fit here: a frame's length is bounded
STEP_NS: Final = 1_000_000  # what the clock moves with each frame


class Rehearsal:
    """An engine with one open session. `engine` may be queried, digested and looked into. `runs` as for `Engine`."""

    def __init__(self, machine: StateMachine, *, seed: int = 0, start_ns: int = 0, runs: bool = True) -> None:
        self.engine = Engine(machine, runs=runs)
        self._time = start_ns
        self._request = 1
        genesis = encode_message(Genesis(seed.to_bytes(16, "big"), Configuration(1, ())))
        self.apply([(RecordKind.GENESIS, 1, 0, 0, genesis)])
        self.session = self.engine.applied_seq + 1
        self.apply([(RecordKind.OPEN, 1, 0, 0, seed.to_bytes(16, "big"))])
        self.engine.watch(self.session)

    def run(self, commands: Iterable[Sequence[Any]]) -> list[Outcome]:
        """Apply commands, each (name, argument, ...); their outcomes, in order.

        Raises:
            Halted: a handler ran out of memory or stack.
            ValueError: a command beyond RECORD_BYTES; rehearsals don't fragment.
        """
        outcomes: list[Outcome] = []
        packed: list[bytes] = []
        size = 0
        for name, *arguments in commands:
            command = encode_command(name, *arguments)
            if len(command) > RECORD_BYTES:
                raise ValueError(f"a command of {len(command)} bytes; a rehearsal takes {RECORD_BYTES}")
            if len(packed) == RECORD_COMMANDS or size + len(command) > RECORD_BYTES:
                outcomes += self._submit(packed)
                packed, size = [], 0
            packed.append(command)
            size += len(command)
        if packed:
            outcomes += self._submit(packed)
        return outcomes

    def query(self, name: str, *arguments: Any) -> Any:
        """Ask the machine. Raises Refused or QueryFailed."""
        return self.engine.query(name, arguments)

    def proof(self) -> tuple[bytes, bytes]:
        """Result chain and state digest: equal for equal commands, in any process."""
        return self.engine.result_chain, self.engine.digest()

    def apply(self, records: Sequence[tuple[RecordKind, int, int, int, bytes]]) -> Frame:
        """Number and apply one frame of records, each (kind, count, session, request, payload); the frame."""
        engine = self.engine
        self._time += STEP_NS
        body = b"".join(
            encode_record(kind, count, session, request, request, payload)
            for kind, count, session, request, payload in records
        )
        count = sum(record[1] for record in records)
        frame = make_frame(1, engine.applied_seq + 1, count, engine.applied_seq, self._time, engine.chain, body)
        self._applied = engine.apply([frame])
        return frame

    def _submit(self, packed: list[bytes]) -> list[Outcome]:
        self.apply([(RecordKind.COMMANDS, len(packed), self.session, self._request, b"".join(packed))])
        self._request += len(packed)
        [applied] = self._applied
        return decode_outcomes_untrusted(applied.outcomes)
