"""Loss, duplication, reordering, corruption and delay on purpose, seeded, on what a node receives.

On receive, so that each node loses different datagrams; per datagram, after a GRO burst was cut up. Each datagram has
at most one fate besides delay. The fates of first-sent DATA are reported to the ledger, so that injected and detected
losses reconcile. The same seed, node and datagrams give the same fates.
"""

from __future__ import annotations

import heapq
import random
import re
import struct
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Final, Literal

from mcast.errors import ConfigError
from mcast.wire.envelope import (
    ENVELOPE_BYTES,
    INCARNATION_OFFSET,
    KIND_OFFSET,
    MAGIC,
    SENDER,
    STREAM,
    VERSION,
    name_hash,
)
from mcast.wire.messages import Kind

SPEC_CHARACTERS_MAX: Final = 200
DELAY_S_MAX: Final = 10.0
DELAYED_MAX: Final = 65_536  # datagrams delayed at a time; what comes beyond is lost, and counted so
REORDER_LATER_MAX: Final = 3  # datagrams that overtake a reordered one ...
REORDER_S: Final = 0.002  # ... or this long, when traffic stops
_FIX: Final = 'write for example "loss=5%,dup=1%,reorder=2%,corrupt=0.1%,delay=5ms,seed=7", or "clear"'
_NUMBER: Final = re.compile(r"(\d{1,9}(?:\.\d{0,9})?)(%|ms|s|)")
_FIRST_SENT: Final = bytes((*MAGIC, VERSION, Kind.DATA, STREAM))
_IDENTITY: Final = struct.Struct("!16sQ")  # incarnation and counter
_NODE: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")

InjectedFate = Literal["lost", "duplicated", "reordered", "corrupted"]
Note = Callable[[InjectedFate, bytes, int], None]


@dataclass(frozen=True, slots=True)
class FaultSpec:
    """What `--fault` asks for. Shares are 0 to 1 of all datagrams received; `delay_s` applies to every one.

    Nothing comes through from the nodes named in `cut`.
    """

    loss: float = 0.0
    dup: float = 0.0
    reorder: float = 0.0
    corrupt: float = 0.0
    delay_s: float = 0.0
    seed: int = 0
    cut: frozenset[str] = frozenset()

    def __str__(self) -> str:
        shares = [(name, getattr(self, name)) for name in ("loss", "dup", "reorder", "corrupt")]
        parts = [f"{name}={share * 100:g}%" for name, share in shares if share]
        parts += [f"delay={self.delay_s * 1000:g}ms"] if self.delay_s else []
        parts += [f"cut={'+'.join(sorted(self.cut))}"] if self.cut else []
        return ",".join([*parts, f"seed={self.seed}"])


def parse_faults(spec: str) -> FaultSpec | None:
    """Read a fault specification; None for "clear".

    Raises:
        ConfigError: too long, an unknown or repeated name, a number out of range, shares beyond 100 % in all, or a
            `cut` that is no list of node ids such as n2+n3.
    """
    if len(spec) > SPEC_CHARACTERS_MAX:
        raise ConfigError("fault", spec[:40] + "...", f"longer than {SPEC_CHARACTERS_MAX} characters", _FIX)
    if spec.strip() == "clear":
        return None
    values: dict[str, float] = {}
    cut: frozenset[str] = frozenset()
    for part in spec.split(","):
        name, _, text = (each.strip() for each in part.partition("="))
        if name not in ("loss", "dup", "reorder", "corrupt", "delay", "cut", "seed"):
            raise ConfigError("fault", spec, f"unknown fault {name!r}", _FIX)
        if name in values or (name == "cut" and cut):
            raise ConfigError("fault", spec, f"{name} is given twice", _FIX)
        if name == "cut":
            cut = _read_nodes(spec, text)
        else:
            values[name] = _read_value(spec, name, text)
    shares = {name: values.get(name, 0.0) for name in ("loss", "dup", "reorder", "corrupt")}
    if sum(shares.values()) > 1.0:
        raise ConfigError("fault", spec, "the shares add up to more than 100%", _FIX)
    return FaultSpec(**shares, delay_s=values.get("delay", 0.0), seed=int(values.get("seed", 0)), cut=cut)


def _read_nodes(spec: str, text: str) -> frozenset[str]:
    nodes = text.split("+")
    if not all(_NODE.fullmatch(node) for node in nodes):
        raise ConfigError("fault", spec, f"cut wants node ids, such as n2+n3, not {text!r}", _FIX)
    return frozenset(nodes)


def _read_value(spec: str, name: str, text: str) -> float:
    match = _NUMBER.fullmatch(text)
    units = {"delay": ("ms", "s"), "seed": ("",)}.get(name, ("%",))
    if match is None or match[2] not in units:
        raise ConfigError("fault", spec, f"{name} wants a number with {units[0] or 'no unit'}, not {text!r}", _FIX)
    value = float(match[1]) * {"%": 0.01, "ms": 0.001}.get(match[2], 1.0)
    limit = {"delay": DELAY_S_MAX, "seed": 2.0**31}.get(name, 1.0)
    if value > limit or (name == "seed" and "." in match[1]):
        raise ConfigError("fault", spec, f"{name} = {text} is out of range", _FIX)
    return value


class Faults:
    """Decides each received datagram's fate. `node` is mixed into the seed: nodes of one seed differ.

    `note` hears (fate, incarnation, counter) of each first-sent DATA datagram that it does not simply deliver.
    """

    def __init__(self, spec: FaultSpec, node: str, note: Note) -> None:
        self.spec = spec
        self._note = note
        self._random = random.Random(f"{spec.seed}/{node}")
        self._fates = _thresholds(spec)
        self._cut = frozenset(name_hash(node).to_bytes(8, "big") for node in spec.cut)
        self._order = 0
        self._delayed: list[tuple[float, int, bytes]] = []
        """Heap of (due, order of arrival, datagram)."""
        self._overtaken: list[tuple[float, int, bytes]] = []
        """(due, number of the arrival that frees it, datagram), oldest first: REORDER_LATER_MAX at most."""

    def receive(self, datagrams: Iterable[memoryview | bytes], now: float) -> list[memoryview | bytes]:
        """The datagrams of a burst that come through, after held ones that are due. `now` in seconds."""
        out: list[memoryview | bytes] = self._take_due(now)
        delay_s, draw = self.spec.delay_s, self._random.random
        for datagram in datagrams:
            self._order += 1
            fate = self._fate(draw())
            if self._cut and bytes(datagram[SENDER]) in self._cut:
                fate = "lost"
            if fate is not None:
                self._tell(fate, datagram)
                for changed in self._suffer(fate, datagram, now):
                    self._pass(changed, now, out)
            elif delay_s:
                self._pass(datagram, now, out)
            else:
                out.append(datagram)
            while self._overtaken and self._overtaken[0][1] <= self._order:
                self._pass(self._overtaken.pop(0)[2], now, out)
        return out

    def cuts(self, datagram: bytes) -> bool:
        """Whether its sender is cut off, over TCP as well; all other faults concern UDP alone."""
        return datagram[SENDER] in self._cut

    def next_due(self) -> float | None:
        """When `receive` should be called next even if nothing arrives; None: need not be."""
        dues = [heap[0][0] for heap in (self._delayed, self._overtaken) if heap]
        return min(dues) if dues else None

    def release(self) -> list[bytes]:
        """Everything still held, in the order in which it would have come out: faults are being cleared."""
        held = [*sorted(self._delayed), *self._overtaken]
        self._delayed, self._overtaken = [], []
        return [datagram for _, _, datagram in held]

    def _fate(self, draw: float) -> InjectedFate | None:
        for below, fate in self._fates:
            if draw < below:
                return fate
        return None

    def _suffer(self, fate: InjectedFate, datagram: memoryview | bytes, now: float) -> tuple[memoryview | bytes, ...]:
        """The copies of a datagram that come through at once: none, one or two."""
        if fate == "duplicated":
            return datagram, datagram
        if fate == "corrupted" and len(datagram):
            changed = bytearray(datagram)
            bit = self._random.randrange(8 * len(changed))
            changed[bit >> 3] ^= 1 << (bit & 7)
            return (bytes(changed),)
        if fate == "reordered":
            frees = self._order + self._random.randint(1, REORDER_LATER_MAX)
            self._overtaken.append((now + REORDER_S, frees, bytes(datagram)))
        return ()

    def _pass(self, datagram: memoryview | bytes, now: float, out: list[memoryview | bytes]) -> None:
        if not self.spec.delay_s:
            out.append(datagram)
        elif len(self._delayed) < DELAYED_MAX:
            heapq.heappush(self._delayed, (now + self.spec.delay_s, self._order, bytes(datagram)))
        else:
            self._tell("lost", datagram)

    def _take_due(self, now: float) -> list[memoryview | bytes]:
        out: list[memoryview | bytes] = []
        while self._delayed and self._delayed[0][0] <= now:
            out.append(heapq.heappop(self._delayed)[2])
        while self._overtaken and self._overtaken[0][0] <= now:
            self._pass(self._overtaken.pop(0)[2], now, out)
        return out

    def _tell(self, fate: InjectedFate, datagram: memoryview | bytes) -> None:
        """Report the fate of a first-sent DATA datagram; the ledger counts no repairs and no control messages."""
        if len(datagram) >= ENVELOPE_BYTES and datagram[: KIND_OFFSET + 2] == _FIRST_SENT:
            incarnation, counter = _IDENTITY.unpack_from(datagram, INCARNATION_OFFSET)
            self._note(fate, incarnation, counter)


def _thresholds(spec: FaultSpec) -> tuple[tuple[float, InjectedFate], ...]:
    """The ends of the slices that the fates take of one draw from 0 to 1."""
    slices: tuple[tuple[float, InjectedFate], ...] = (
        (spec.loss, "lost"), (spec.dup, "duplicated"), (spec.reorder, "reordered"), (spec.corrupt, "corrupted"),
    )  # fmt: skip
    ends, below = [], 0.0
    for share, fate in slices:
        below += share
        if share:
            ends.append((below, fate))
    return tuple(ends)
