"""A simulated run in words: one short line for each thing a node hears, does or notices."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Final

from mcast.protocol.effects import (
    Append,
    Apply,
    CatchUp,
    Effect,
    FetchEpochs,
    Multicast,
    Notice,
    Relay,
    Repair,
    Send,
    Stream,
)
from mcast.wire.frame import Frame
from mcast.wire.messages import EpochEntry, Heartbeat, Kind, Nak

_NODES: Final = frozenset({"to", "sequencer", "voted_for"})
_DULL: Final = frozenset({"stamp", "window", "cluster_uuid"})


class Words:
    """Says node hashes by name. `names` maps hash -> id."""

    def __init__(self, names: Mapping[int, str]) -> None:
        self._names = names

    def arrival(self, kind: int, sender: int, promised: int, body: object) -> str:
        """A datagram that came in."""
        frames = body if isinstance(body, list) else [body] if isinstance(body, Frame) else []
        what = f"{Kind(kind).name} {', '.join(map(self._frame, frames))}" if frames else self._value(body)
        return f"<- {self._name(sender)} [{promised}] {what}"

    def effect(self, effect: Effect) -> str:
        """An effect in words."""
        if isinstance(effect, Stream | Append | Apply):
            ticket = f" #{effect.ticket}" if isinstance(effect, Append) else ""
            return f"-> {type(effect).__name__}{ticket} {', '.join(map(self._frame, effect.frames))}"
        if isinstance(effect, Repair):
            return f"-> Repair to {self._name(effect.to)} {', '.join(map(self._frame, effect.frames))}"
        if isinstance(effect, Relay):
            return f"-> {self._name(effect.to)} over TCP {self._value(effect.message)}"
        if isinstance(effect, Send | Multicast):
            to = self._name(effect.to) if isinstance(effect, Send) else "all"
            return f"-> {to} {self._value(effect.message)}"
        if isinstance(effect, CatchUp):
            peers = ", ".join(map(self._name, effect.peers)) or "nobody"
            return f"-> CatchUp {effect.first}..{effect.until} from {peers}"
        if isinstance(effect, FetchEpochs):
            return f"-> FetchHistory from {', '.join(map(self._name, effect.peers)) or 'nobody'}"
        return f"-> {self._value(effect)}"

    def notice(self, notice: Notice) -> str:
        """A notice in words."""
        return f"!! {self._value(notice)}"

    def _name(self, node: int | None) -> str:
        return "all" if node is None else self._names.get(node, f"{node:016x}")

    def _frame(self, frame: Frame) -> str:
        return f"{frame.first}..{frame.last}/{frame.epoch}"

    def _value(self, value: object) -> str:
        if isinstance(value, bytes):
            return value[:3].hex()
        if isinstance(value, EpochEntry):
            return f"{value.epoch}@{value.first}"
        if isinstance(value, tuple):
            return "[" + " ".join(map(self._value, value)) + "]"
        if not dataclasses.is_dataclass(value):
            return str(value)
        parts = []
        for field in dataclasses.fields(value):
            item = getattr(value, field.name)
            if field.name in _DULL or (field.name == "peers" and isinstance(value, Heartbeat)):
                continue
            if isinstance(value, Nak) and field.name == "ranges":
                parts.append(" ".join(f"{wanted.first}..{wanted.last}" for wanted in value.ranges))
            elif field.name in _NODES:
                parts.append(f"{field.name}={self._name(item)}")
            else:
                parts.append(f"{field.name}={self._value(item)}")
        return f"{type(value).__name__}({' '.join(parts)})"
